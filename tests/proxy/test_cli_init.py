"""`weir init`: answers become a file that passes `weir config check`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from config_samples import schema_faults

from proxy.cli import weir
from proxy.config import load


def _init(path: Path, *words: str, says: str | None = None) -> Result:
    return CliRunner().invoke(weir, ["init", str(path), *words], input=says)


def test_without_a_question(tmp_path: Path) -> None:
    """Options for scripts; the result is sound and commented."""
    path = tmp_path / "config.yaml"
    words = ["--yes", "--port", "9000", "--tenant", "a", "--tenant", "b", "--daily-cap", "2.50"]
    for name in ("openai", "anthropic", "gemini", "simulator"):
        words += ["--provider", name]

    result = _init(path, *words, "--key-env", "openai=MY_KEY")
    settings = load(path, {}).settings

    assert result.exit_code == 0
    assert "MY_KEY" in result.output
    assert (settings.server.port, list(settings.tenants)) == (9000, ["a", "b"])
    assert schema_faults(path.read_text(encoding="utf-8")) == []
    assert path.read_text(encoding="utf-8").startswith("# ")


def test_questions_are_asked(tmp_path: Path) -> None:
    """And what is just confirmed is the usual."""
    path = tmp_path / "config.yaml"

    result = _init(path, says="openai\nOTHER_KEY\nacme, beta\n\n8090\n")
    settings = load(path, {}).settings

    assert result.exit_code == 0, result.output
    assert (list(settings.tenants), settings.server.port) == (["acme", "beta"], 8090)
    assert "${OTHER_KEY}" in path.read_text(encoding="utf-8")


def test_nothing_is_written_over(tmp_path: Path) -> None:
    """Without --force; and no question is asked for nothing."""
    path = tmp_path / "config.yaml"
    path.write_text("kept", encoding="utf-8")

    result = _init(path)

    assert (result.exit_code, path.read_text(encoding="utf-8")) == (2, "kept")
    assert _init(path, "--yes", "--force").exit_code == 0
    assert path.read_text(encoding="utf-8") != "kept"


@pytest.mark.parametrize(
    "words",
    [
        ["--provider", "nobody"],
        ["--tenant", "a b"],
        ["--daily-cap", "much"],
        ["--daily-cap", "NaN"],
        ["--key-env", "openai=X"],
        ["--provider", "openai", "--key-env", "openai=sk-hidden"],
    ],
)
def test_wrong_answers(tmp_path: Path, words: list[str]) -> None:
    """Exit code 2; nothing is written, and no key is repeated."""
    path = tmp_path / "config.yaml"

    result = _init(path, "--yes", *words)

    assert result.exit_code == 2
    assert not path.exists()
    assert "hidden" not in result.output


def test_for_programs(tmp_path: Path) -> None:
    """--json asks nothing."""
    result = _init(tmp_path / "c.yaml", "--json", "--provider", "openai")

    assert json.loads(result.output)["set_in_the_environment"] == ["OPENAI_API_KEY"]
