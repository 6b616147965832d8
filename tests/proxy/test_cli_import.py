"""`weir import litellm`: a sound file and a report, or neither."""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner, Result

from proxy.cli import weir
from proxy.config import load

SOUND = """\
model_list:
  - model_name: a
    litellm_params: {model: openai/gpt-4o, api_key: sk-hidden, extra: 1}
  - model_name: b
    litellm_params: {model: hosted_vllm/own, api_base: os.environ/VLLM_BASE}
litellm_settings: {max_budget: 10, budget_duration: 7d}
"""


def _import(directory: Path, text: str, *words: str) -> Result:
    (directory / "theirs.yaml").write_text(text, encoding="utf-8")
    out = str(directory / "out.yaml")
    return CliRunner().invoke(
        weir, ["import", "litellm", str(directory / "theirs.yaml"), "--out", out, *words]
    )


def test_a_file_and_a_report(tmp_path: Path) -> None:
    """What has no price under a cap is left out, and told."""
    result = _import(tmp_path, SOUND)
    settings = load(tmp_path / "out.yaml", {"VLLM_BASE": "http://gpu/v1"}).settings

    assert result.exit_code == 0, result.output
    assert list(settings.models) == ["a"]
    assert "not carried  model b: it has no price" in result.output
    assert "set 2 variables before you start: OPENAI_API_KEY, VLLM_BASE" in result.output
    assert "hidden" not in result.output + (tmp_path / "out.yaml").read_text(encoding="utf-8")


def test_for_programs(tmp_path: Path) -> None:
    """The same as JSON."""
    told = json.loads(_import(tmp_path, SOUND, "--json").output)

    assert {"key": "model_list[0].litellm_params.extra", "why": "has no counterpart here"} in told[
        "not_carried"
    ]
    assert told["set_in_the_environment"] == ["OPENAI_API_KEY", "VLLM_BASE"]


def test_nothing_is_written_over(tmp_path: Path) -> None:
    """Without --force."""
    (tmp_path / "out.yaml").write_text("kept", encoding="utf-8")

    assert _import(tmp_path, SOUND).exit_code == 2
    assert (tmp_path / "out.yaml").read_text(encoding="utf-8") == "kept"
    assert _import(tmp_path, SOUND, "--force").exit_code == 0


def test_what_would_not_be_sound_is_not_written(tmp_path: Path) -> None:
    """Exit code 1, and the faults."""
    text = SOUND.replace("os.environ/VLLM_BASE", "not-an-address")

    result = _import(tmp_path, text)

    assert result.exit_code == 1
    assert "base_url" in result.output
    assert not (tmp_path / "out.yaml").exists()


def test_what_is_no_file_of_litellm(tmp_path: Path) -> None:
    """Exit code 2."""
    assert _import(tmp_path, "a: 1\n").exit_code == 2
