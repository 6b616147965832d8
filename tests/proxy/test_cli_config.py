"""`weir config schema`, `show`, `explain` and `diff`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from proxy.cli import weir
from proxy.config import load
from proxy.data_dir import locked, own
from proxy.running_config import write_running

TEXT = """\
data_dir: {data}
providers:
  openai: {{type: openai, api_key: "${{OPENAI_API_KEY:-hidden}}"}}
server: {{port: 8081}}
tenants: [{{id: acme}}]
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(TEXT.format(data=tmp_path / "data"), encoding="utf-8")
    own(tmp_path / "data")
    return path


def _weir(*words: object) -> Result:
    return CliRunner().invoke(weir, [str(word) for word in words])


def _json(*words: object) -> dict[str, Any]:
    result = _weir(*words, "--json")
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.output)
    return found


def test_the_schema_is_printed() -> None:
    """As JSON, whatever configuration there is."""
    assert json.loads(_weir("config", "schema").output)["title"] == "Tokenweir config.yaml"


def test_the_whole_configuration_is_shown(config: Path) -> None:
    """With defaults, without secrets; YAML for people."""
    result = _weir("config", "show", "--config", config)
    tree = _json("config", "show", "--config", config)

    assert "port: 8081" in result.output
    assert "hidden" not in result.output + repr(tree)
    assert tree["server"]["workers"] == 1
    assert tree["providers"]["openai"]["api_key"] == "${OPENAI_API_KEY:-***}"


def test_a_faulty_file_is_not_shown(config: Path) -> None:
    """Exit code 2, with the line."""
    config.write_text("nonsense: 1\n", encoding="utf-8")

    assert _weir("config", "show", "--config", config).exit_code == 2


def test_a_key_is_explained(config: Path) -> None:
    """What it means, may be and is here, and when a change holds."""
    told = _json("config", "explain", "server.port", "--config", config)
    text = _weir("config", "explain", "server.port", "--config", config).output

    assert told["set"] == [{"key": "server.port", "line": 4, "value": 8081}]
    assert (told["default"], told["takes_effect"]) == (8080, "after a restart")
    assert f"{config}:4 server.port 8081" in text


def test_patterns_find_every_place(config: Path) -> None:
    """`tenants[].id` is set for each tenant; a secret is set, and not shown."""
    ids = _json("config", "explain", "tenants[].id", "--config", config)["set"]
    secret = _json("config", "explain", "providers.NAME.api_key", "--config", config)["set"]

    assert [each["key"] for each in ids] == ["tenants[0].id"]
    assert "hidden" not in repr(secret)


def test_sections_and_sleeping_keys(config: Path) -> None:
    """A section says what is in it; a key that does nothing yet says so."""
    section = _weir("config", "explain", "redis", "--config", config).output
    sleeping = _weir("config", "explain", "metering.consumer_concurrency", "--config", config)

    assert "after a restart: redis.url" in section
    assert "not enforced" in sleeping.output


def test_an_unknown_key_is_told_with_a_suggestion(config: Path) -> None:
    """Exit code 3."""
    result = _weir("config", "explain", "server.prot", "--config", config)

    assert (result.exit_code, "did you mean 'port'?" in result.output) == (3, True)


def test_two_files_are_compared(config: Path) -> None:
    """What would change, and what of it waits for a restart."""
    other = config.with_name("other.yaml")
    text = config.read_text(encoding="utf-8")
    other.write_text(text.replace("8081", "8082").replace("acme", "beta"), encoding="utf-8")

    told = _json("config", "diff", other, "--against", config)
    printed = _weir("config", "diff", other, "--against", config).output

    assert told["needs_a_restart"] == ["server.port"]
    assert {each["key"] for each in told["differences"]} == {
        "server.port",
        "tenants[beta].id",
        "tenants[acme].id",
    }
    assert "changed  server.port: 8081 -> 8082  [after a restart]" in printed
    assert "no difference" in _weir("config", "diff", config, "--against", config).output


def test_another_secret_is_a_difference(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told that it is another, not which."""
    loaded = load(config, {"OPENAI_API_KEY": "hidden-1"}, salt=b"salt")
    assert loaded.told is not None
    write_running(config.parent / "data", loaded.told)
    monkeypatch.setenv("OPENAI_API_KEY", "hidden-2")

    with locked(config.parent / "data"):
        result = _weir("config", "diff", "--config", config)

    assert "providers.openai.api_key" in result.output
    assert "(another value)" in result.output
    assert "hidden" not in result.output


def test_nobody_runs(config: Path) -> None:
    """Exit code 3, and what to do."""
    result = _weir("config", "diff", "--config", config)

    assert (result.exit_code, "--against FILE" in result.output) == (3, True)
