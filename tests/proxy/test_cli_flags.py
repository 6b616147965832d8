"""`weir stop`, `allow`, `pause`, `resume`, `flags`, against a real Redis."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from fixtures_redis import RedisServer

from metering.redis_keys import RedisKeys
from proxy.cli import weir

SHA = "0" * 64


@pytest.fixture
def config(tmp_path: Path, redis_server: RedisServer, redis_keys: RedisKeys) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(
        f"data_dir: {tmp_path / 'data'}\n"
        f"redis: {{url: '{redis_server.url}', prefix: '{redis_keys.prefix}'}}\n"
        "tenants:\n"
        "  - id: acme\n"
        "    projects: [{id: web}]\n"
        f"    keys: [{{id: k1, project: web, sha256: '{SHA}'}}]\n",
        encoding="utf-8",
    )
    return path


def _run(config: Path, *words: str) -> Result:
    return CliRunner().invoke(weir, [*words, "--config", str(config)])


def _flags(config: Path) -> list[dict[str, Any]]:
    result = _run(config, "flags", "--tenant", "acme", "--json")
    assert result.exit_code == 0, result.output
    found: list[dict[str, Any]] = json.loads(result.stdout)["flags"]
    return found


def test_a_run_is_stopped_and_allowed_again(config: Path) -> None:
    """`flags` says who, why and when, until `allow`; the second `allow` finds nothing."""
    words = ("--tenant", "acme", "--run", "r-1")

    stopped = _run(config, "stop", *words, "--reason", "it loops", "--by", "ann")
    [flag] = _flags(config)
    allowed = _run(config, "allow", *words)
    again = _run(config, "allow", *words)

    assert (stopped.exit_code, stopped.stdout) == (0, "run:r-1 of tenant acme: killed\n")
    assert (flag["scope"], flag["flag"]) == ("run:r-1", "killed")
    assert (flag["by"], flag["why"]) == ("ann", "it loops")
    assert flag["at"].endswith("Z")
    assert (allowed.exit_code, _flags(config)) == (0, [])
    assert again.exit_code == 3
    assert "weir flags" in again.stderr


def test_a_tenant_is_paused_and_resumed(config: Path) -> None:
    """Without a name within the tenant the whole of it is meant."""
    paused = _run(config, "pause", "--tenant", "acme", "--reason", "unpaid", "--by", "bob")
    table = _run(config, "flags", "--tenant", "acme")
    resumed = _run(config, "resume", "--tenant", "acme", "--json")

    assert paused.stdout == "tenant acme: paused\n"
    assert "bob" in table.stdout
    assert json.loads(resumed.stdout) == {
        "tenant": "acme",
        "scope": "tenant:acme",
        "now": "not paused",
    }
    assert "nothing is paused" in _run(config, "flags", "--tenant", "acme").stdout


@pytest.mark.parametrize(
    ("words", "exit_code", "said"),
    [
        (["--tenant", "nobody"], 3, "no tenant 'nobody'"),
        (["--tenant", "acme", "--key", "k9"], 3, "no key 'k9'"),
        (["--tenant", "acme", "--project", "x"], 3, "no project 'x'"),
        (["--tenant", "acme", "--run", "a", "--session", "b"], 2, "name one of --run, --session"),
        (["--tenant", "acme", "--run", ""], 2, "--run needs a name"),
        (["--tenant", "acme", "--run", "a b"], 2, "--run takes 1 to 64 letters"),
        (["--tenant", "acme", "--session", "a/b"], 2, "as `x-weir-session` does"),
        (["--tenant", "acme", "--feature", "x" * 65], 2, "--feature takes 1 to 64"),
        (["--tenant", "acme", "--reason", " "], 2, "say with --reason why"),
        (["--tenant", "acme", "--scope", "planet:mars"], 2, "is no scope"),
        (["--tenant", "acme", "--scope", "run:a b"], 2, "--run takes 1 to 64 letters"),
        (["--tenant", "acme", "--scope", "key/k9"], 3, "no key 'k9'"),
        (["--tenant", "acme", "--scope", "run:a", "--run", "a"], 2, "name one of --run, --scope"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_cannot_be_meant(config: Path, words: list[str], exit_code: int, said: str) -> None:
    """A name that is misspelt stops nothing, and says so."""
    result = _run(config, "stop", "--reason", "x", "--by", "ann", *words)

    assert result.exit_code == exit_code
    assert said in result.stderr
    assert _flags(config) == []


@pytest.mark.parametrize("scope", ["run:r-1", "run/r-1", "tenant:acme", "user:ann@x.org"])
def test_a_scope_is_named_as_it_is_shown(config: Path, scope: str) -> None:
    """What `flags` says can be copied to take the flag down; other tools write a slash."""
    words = ("--tenant", "acme", "--scope")
    stopped = _run(config, "stop", *words, scope, "--reason", "r", "--by", "b")
    [flag] = _flags(config)

    allowed = _run(config, "allow", *words, flag["scope"])

    assert (stopped.exit_code, allowed.exit_code) == (0, 0)
    assert _flags(config) == []


def test_a_user_may_have_any_name(config: Path) -> None:
    """A user's flag stands where the proxy looks for a user of that name."""
    _run(config, "stop", "--tenant", "acme", "--user", "ann@x.org", "--reason", "r", "--by", "b")
    [flag] = _flags(config)

    assert flag["scope"].startswith("user:h.")
    assert _run(config, "allow", "--tenant", "acme", "--user", "ann@x.org").exit_code == 0


def test_redis_that_is_away(tmp_path: Path) -> None:
    """Somebody who stops a run hears that it is not stopped."""
    path = tmp_path / "config.yaml"
    path.write_text(
        f"data_dir: {tmp_path}\nredis: {{url: 'unix://{tmp_path}/none.sock'}}\n"
        "tenants: [{id: acme}]\n",
        encoding="utf-8",
    )

    result = _run(path, "stop", "--tenant", "acme", "--reason", "x", "--by", "ann")

    assert result.exit_code == 1
    assert "Redis cannot be asked" in result.stderr


def test_flags_of_nobody_are_a_typing_error(config: Path) -> None:
    """A tenant that is not in the file and has no flag is exit code 3."""
    asked = _run(config, "flags", "--tenant", "acmee")

    assert (asked.exit_code, asked.stdout) == (3, "")
    assert "no tenant 'acmee'" in asked.stderr


def test_flags_of_a_tenant_that_left_the_file_are_shown(config: Path) -> None:
    """They stand until somebody takes them down."""
    _run(config, "pause", "--tenant", "acme", "--reason", "unpaid", "--by", "bob")
    config.write_text(config.read_text("utf-8").replace("id: acme", "id: other"), encoding="utf-8")

    asked = _run(config, "flags", "--tenant", "acme")

    assert asked.exit_code == 0
    assert "unpaid" in asked.stdout
