"""What a shell is offered: commands and options by the parser, names from the configuration."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from proxy.cli import weir
from proxy.cli_completion import SHELLS, names_for

ROOT = Path(__file__).parents[2]

FILE = """
models: {fast: {}, "strange; rm": {}, slow-1: {}}
plans: [{id: pro}, {id: free}]
jobs: [{job: close}, {job: verify, name: nightly}]
tenants:
  - {id: acme, projects: [{id: web}], keys: [{id: k1}]}
  - {id: asta, projects: [{id: app}]}
  - not a tenant
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with a file that no `config check` would pass."""
    (tmp_path / "config.yaml").write_text(FILE, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("WEIR_CONFIG", raising=False)
    return tmp_path


def offered(line: str) -> list[str] | None:
    *args, incomplete = line.split(" ")
    return names_for(weir, args, incomplete)


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("usage --tenant ", ["acme", "asta"]),
        ("usage --tenant ac", ["acme"]),
        ("usage --tenant=as", ["asta"]),
        ("usage --tenant = as", ["asta"]),
        ("usage --limit 3 --tenant z", []),
        ("explain --model ", ["fast", "slow-1"]),
        ("keys new --tenant acme --project ", ["web"]),
        ("limits --project ", ["app", "web"]),
        ("plans show ", ["free", "pro"]),
        ("plans show pro ", None),
        ("plans show --version 1 p", ["pro"]),
        ("jobs run ", ["close", "nightly"]),
        ("usage --sort ", None),
        ("usage --te", None),
        ("us", None),
    ],
)
def test_names_come_from_the_configuration(line: str, names: list[str] | None) -> None:
    """Where an option or argument names something of the file; elsewhere the parser knows."""
    assert offered(line) == names


def test_tenants_and_keys_of_the_registry_are_completed(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the copy that a proxy keeps in its directory, wherever that is; nonsense there is no
    reason to complete nothing."""
    monkeypatch.delenv("WEIR_DATA_DIR", raising=False)
    kept = here / "elsewhere" / "registry.json"
    kept.parent.mkdir()
    kept.write_text('{"tenants": [{"id": "arden", "keys": [{"id": "r1"}, {"id": "r2"}]}, 7]}')

    assert offered("usage --tenant ") == ["acme", "asta"]
    assert offered("tenants show --data-dir elsewhere ") == ["acme", "arden", "asta"]
    assert offered("keys revoke --data-dir elsewhere --tenant arden ") == ["r1", "r2"]
    monkeypatch.setenv("WEIR_DATA_DIR", str(kept.parent))
    assert offered("usage --tenant ar") == ["arden"]
    kept.write_text("[]")
    assert offered("usage --tenant a") == ["acme", "asta"]


def test_a_file_that_cannot_be_read_completes_nothing(here: Path) -> None:
    """No file, one that is no YAML and one that is no mapping: no names, and no trace."""
    for text in ("{", "- 1", ""):
        (here / "config.yaml").write_text(text, encoding="utf-8")
        assert offered("usage --tenant ") == []
    (here / "other.yaml").write_text("tenants: [{id: elsewhere}]", encoding="utf-8")
    assert offered("usage --config other.yaml --tenant ") == ["elsewhere"]
    assert offered("usage --config missing.yaml --tenant ") == []


@pytest.mark.parametrize("shell", SHELLS)
def test_every_shell_has_its_script(shell: str) -> None:
    """The script asks the command that it completes, in the form of its shell."""
    done = CliRunner().invoke(weir, ["completion", shell])

    assert done.exit_code == 0
    assert f"_WEIR_COMPLETE={shell}_complete" in done.stdout


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_the_shell_takes_it(here: Path, shell: str) -> None:
    """The real shell loads the script and is given words by the real command."""
    binary = shutil.which(shell)
    if binary is None:
        pytest.skip(f"no {shell} here")
    program = here / "weir"
    program.write_text(
        f"#!/bin/sh\nexec {sys.executable} -c 'from proxy.cli import main; main()' \"$@\"\n"
    )
    program.chmod(0o755)
    script = CliRunner().invoke(weir, ["completion", shell]).stdout
    ask = {
        "bash": "COMP_WORDS=(weir usage --tenant a); COMP_CWORD=3; _weir_completion weir; "
        'echo "${COMPREPLY[@]}"',
        "zsh": 'compdef() { :; }; _describe() { :; }; compadd() { echo "$@"; }; '
        "words=(weir usage --tenant a); CURRENT=4; _weir_completion",
    }[shell]

    done = subprocess.run(
        [binary, "-c", f"{script}\n{ask}"],
        cwd=here,
        capture_output=True,
        text=True,
        check=False,
        env={
            **os.environ,
            "PATH": f"{here}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
        },
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert {"acme", "asta"} <= set(done.stdout.split())
