"""The command line: exit codes, what goes to which stream, and the JSON that programs read."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from proxy.api_keys import key_sha256, public_id
from proxy.cli import weir
from proxy.config import load

ROOT = Path(__file__).parents[2]
EXAMPLE = str(ROOT / "config.yaml")
NO_ENV: dict[str, str | None] = {"OPENAI_API_KEY": None, "WEIR_CONFIG": None}


def run(*words: str, **env: str) -> Result:
    return CliRunner().invoke(weir, list(words), env=NO_ENV | env)


@pytest.fixture
def bad(tmp_path: Path) -> Path:
    path = tmp_path / "bad.yaml"
    path.write_text("server:\n  prot: 80\nmodles: {}\n")
    return path


def test_config_check_of_the_example() -> None:
    """The example passes, with its warning and one line of summary."""
    result = run("config", "check", EXAMPLE)

    *warnings, summary = result.stdout.splitlines()
    assert result.exit_code == 0
    assert [each.split(" warning: ")[1].split(":")[0] for each in warnings] == [
        "providers.openai.api_key"
    ]
    assert re.fullmatch(
        r".*config\.yaml: ok, 16 models, 1 tenant, prices cost [0-9a-f]{12} sell [0-9a-f]{12}",
        summary,
    )


def test_config_check_of_a_bad_file(bad: Path) -> None:
    """Every fault is a line `file:line:col path: message (suggestion)`; exit 2."""
    result = run("config", "check", str(bad))

    assert result.exit_code == 2
    assert result.stdout.splitlines() == [
        f"{bad}:2:3 server.prot: unknown key (did you mean 'port'?)",
        f"{bad}:3:1 modles: unknown key (did you mean 'models'?)",
        f"{bad}: 2 faults",
    ]


def test_config_check_as_json(bad: Path) -> None:
    """The same as JSON, for editors and pipelines; good and bad have the same keys."""
    good, failed = (
        run("config", "check", EXAMPLE, "--json"),
        run("config", "check", str(bad), "--json"),
    )

    fine, body = json.loads(good.stdout), json.loads(failed.stdout)
    assert (good.exit_code, fine["ok"], fine["summary"]["models"]) == (0, True, 16)
    assert (failed.exit_code, body["ok"], body["summary"]) == (2, False, None)
    assert fine.keys() == body.keys()
    assert body["faults"][0] == {
        "path": "server.prot",
        "line": 2,
        "column": 3,
        "message": "unknown key",
        "suggestion": "did you mean 'port'?",
    }


def test_config_check_finds_the_file_by_the_environment() -> None:
    """$WEIR_CONFIG names the file, --config goes before it."""
    assert run("config", "check", WEIR_CONFIG=EXAMPLE).exit_code == 0
    assert run("config", "check", "--config", "missing.yaml", WEIR_CONFIG=EXAMPLE).exit_code == 2


def test_unenforced_keys_are_listed(tmp_path: Path) -> None:
    """A key without effect is named with the reason, and is no fault."""
    path = tmp_path / "c.yaml"
    path.write_text("metering: {consumer_concurrency: 9}\n")

    result = run("config", "check", str(path))

    assert result.exit_code == 0
    assert f"{path}:1:34 not enforced yet: metering.consumer_concurrency: " in result.stdout


@pytest.mark.parametrize(
    "command",
    [
        ["serve"],
        ["worker"],
        ["config", "check"],
        ["keys", "new", "--tenant", "t"],
        ["usage"],
        ["invoice", "--tenant", "t"],
    ],
    ids=" ".join,
)
def test_no_configuration(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every command says where it looked, and exits 2."""
    monkeypatch.chdir(tmp_path)
    if Path("/etc/tokenweir/config.yaml").exists():
        pytest.skip("this machine has a configuration of its own")

    result = run(*command, HOME=str(tmp_path))

    assert result.exit_code == 2
    assert result.stderr.startswith(f"weir: no configuration file; tried {tmp_path}/config.yaml, ")
    assert "/etc/tokenweir/config.yaml" in result.stderr


@pytest.mark.parametrize(
    "command",
    [
        ["serve"],
        ["worker"],
        ["keys", "new", "--tenant", "t"],
        ["usage"],
        ["invoice", "--tenant", "t"],
    ],
    ids=" ".join,
)
def test_a_bad_configuration_stops_every_command(command: list[str], bad: Path) -> None:
    """No command starts with half a configuration: faults on stderr, exit 2, nothing on stdout."""
    result = run(*command, "--config", str(bad))

    assert (result.exit_code, result.stdout) == (2, "")
    assert f"{bad}:2:3 server.prot: unknown key" in result.stderr


def test_a_bad_configuration_as_json(bad: Path) -> None:
    """With --json the refusal is one JSON line."""
    error = json.loads(run("usage", "--config", str(bad), "--json").stderr)["error"]

    assert (error["exit_code"], len(error["faults"])) == (2, 2)


def test_keys_new() -> None:
    """A key has its form, is shown once, and the printed line holds its hash, not the key."""
    result = run("keys", "new", "--tenant", "demo", "--id", "laptop", "--config", EXAMPLE)

    keys = re.findall(r"sk-weir-[0-9A-Za-z]{12}-[0-9A-Za-z]{43}\b", result.stdout)
    assert (result.exit_code, len(keys)) == (0, 1)
    assert f'- {{id: "laptop", sha256: "{key_sha256(keys[0])}"}}' in result.stdout


def test_keys_new_prints_a_line_that_loads(tmp_path: Path) -> None:
    """The printed line is what the loader takes, and the key is the tenant's from then on."""
    path = tmp_path / "config.yaml"
    path.write_text("tenants:\n  - id: t\n    projects: [{id: web}]\n")

    body = json.loads(
        run(
            "keys", "new", "--tenant", "t", "--project", "web", "--config", str(path), "--json"
        ).stdout
    )
    path.write_text(path.read_text() + "    keys:\n      " + body["config"] + "\n")

    (key,) = load(path, {}).settings.tenants["t"].keys
    assert (key.id, key.project, key.sha256) == (
        public_id(body["key"]),
        "web",
        key_sha256(body["key"]),
    )


def test_keys_are_never_the_same() -> None:
    """Two keys share nothing but their form."""
    made = {
        json.loads(run("keys", "new", "--tenant", "demo", "--config", EXAMPLE, "--json").stdout)[
            "key"
        ]
        for _ in range(3)
    }

    assert len(made) == 3


NOT_MADE = {
    "unknown tenant": (["--tenant", "nobody"], 3, "no tenant 'nobody'"),
    "unknown project": (["--tenant", "demo", "--project", "web"], 3, "has no project 'web'"),
    "bad id": (["--tenant", "demo", "--id", "a/b"], 2, "cannot be an id"),
    "no tenant": ([], 2, "Missing option '--tenant'"),
}


@pytest.mark.parametrize(("words", "code", "message"), NOT_MADE.values(), ids=NOT_MADE)
def test_keys_that_are_not_made(words: list[str], code: int, message: str) -> None:
    """What does not exist is 3, what is written wrongly 2; no key is printed."""
    result = run("keys", "new", *words, "--config", EXAMPLE)

    assert (result.exit_code, result.stdout) == (code, "")
    assert message in result.stderr


@pytest.mark.parametrize(
    "words",
    [
        ["usage", "--since", "yesterday"],
        ["invoice", "--tenant", "demo", "--period", "May"],
        ["invoice"],
        ["serve", "--port", "99999"],
        ["frobnicate"],
    ],
    ids=" ".join,
)
def test_wrong_usage(words: list[str]) -> None:
    """A wrong option is exit 2, before anything is opened."""
    assert run(*words).exit_code == 2


@pytest.mark.parametrize(
    "words",
    [
        ["usage", "--since", "yesterday"],
        ["invoice"],
        ["invoice", "--tenant", "demo", "--period", "9999-12"],
        ["serve", "--port", "99999"],
        ["usage", "--frobnicate"],
        ["frobnicate"],
    ],
    ids=" ".join,
)
def test_wrong_usage_as_json(words: list[str]) -> None:
    """With --json a usage error is one line of JSON too, and stdout stays empty."""
    result = run(*words, "--json")

    (line,) = result.stderr.splitlines()
    assert (result.exit_code, result.stdout) == (2, "")
    assert json.loads(line)["error"]["exit_code"] == 2


def test_serve_needs_the_ledgers_driver(tmp_path: Path) -> None:
    """Without it the worker could not live, so that is said before anything is opened."""
    path = tmp_path / "config.yaml"
    path.write_text("ledger: {url: 'postgresql+nodriver://u:secret@h/db'}\n")

    result = run("serve", "--config", str(path))

    assert (result.exit_code, "secret" in result.stderr) == (1, False)
    assert result.stderr.startswith("weir: cannot use the ledger: ")


def test_a_name_too_long_is_not_found() -> None:
    """A path that the system does not take is a file that is not there."""
    assert run("config", "check", "x" * 5_000).exit_code == 2


def test_help_with_json_is_help() -> None:
    """Asking for help is no error, whatever else is asked for."""
    result = run("usage", "--json", "--help")

    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith("Usage: ")


def test_draining_what_never_was(tmp_path: Path) -> None:
    """A data directory that does not exist has nothing to drain: exit 3, and none is made."""
    elsewhere = tmp_path / "elsewhere"

    result = run("worker", "--drain", "--config", EXAMPLE, "--data-dir", str(elsewhere))

    assert (result.exit_code, elsewhere.exists()) == (3, False)
    assert result.stderr == f"weir: no data_dir {elsewhere}: `weir serve` makes it\n"


def test_every_command_takes_the_shared_options() -> None:
    """--config, --data-dir and --json work everywhere."""
    for command in ("serve", "worker", "config check", "keys new", "usage", "invoice"):
        text = run(*command.split(), "--help").stdout

        assert all(option in text for option in ("--config FILE", "--data-dir", "--json"))


def test_help_loads_next_to_nothing() -> None:
    """`weir --help` imports none of the heavy libraries."""
    code = (
        "import sys, proxy.cli\n"
        "heavy = {'aiohttp', 'asyncio', 'pydantic', 'redis', 'rich', 'sqlalchemy', 'yaml'}\n"
        "heavy |= {'tiktoken'}\n"
        "sys.exit(', '.join(heavy & sys.modules.keys()) or 0)"
    )

    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert (done.returncode, done.stderr) == (0, "")
