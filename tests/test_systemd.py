"""The units: what systemd says of them, and what the program expects of systemd."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner
from fixtures_needs import need

from proxy.cli import weir

FOLDER = Path(__file__).parents[1] / "deploy" / "systemd"
UNITS = sorted(FOLDER.glob("*.service"))


def settings(path: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if re.match(r"[A-Z]\w*=", line):
            name, _, value = line.partition("=")
            found.setdefault(name, []).append(value)
    return found


def test_every_shape_has_a_unit() -> None:
    names = ["weir-console.service", "weir-worker.service", "weir.service"]
    assert [path.name for path in UNITS] == names


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_systemd_finds_nothing_wrong(path: Path, tmp_path: Path) -> None:
    """Every setting is one, with a value that it can have. The program need not be installed."""
    analyze = need("systemd-analyze")
    copy = tmp_path / path.name
    copy.write_text(path.read_text().replace("/opt/weir/bin/weir", "/bin/true"))

    told = subprocess.run(
        [analyze, "verify", "--man=no", copy], capture_output=True, text=True, check=False
    )

    assert (told.returncode, told.stderr) == (0, "")


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_a_unit_has_few_rights(path: Path) -> None:
    """By systemd's own count, where 10 is a service without any bounds; docs/security.md has it."""
    analyze = need("systemd-analyze")

    told = subprocess.run(
        [analyze, "security", "--offline=true", "--threshold=15", path],
        capture_output=True,
        text=True,
        check=False,
    )

    assert told.returncode == 0, told.stdout[-300:]


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_a_unit_starts_a_command_and_lets_it_end(path: Path) -> None:
    unit = settings(path)
    [start] = unit["ExecStart"]

    assert CliRunner().invoke(weir, [*start.split()[1:], "--help"]).exit_code == 0
    assert CliRunner().invoke(weir, [*unit["ExecStartPre"][0].split()[1:], "--help"]).exit_code == 0
    assert int(unit["TimeoutStopSec"][0]) >= 60
    assert unit["KillMode"] == ["mixed"]
    assert unit["StateDirectoryMode"] == ["0700"]
    assert f"WEIR_DATA_DIR=/var/lib/{unit['StateDirectory'][0]}" in unit["Environment"][0].split()
    assert unit["User"] == ["weir"]


def test_the_user_exists_and_cannot_write_its_configuration() -> None:
    """A service that is taken over cannot give itself keys."""
    assert "\nu weir - " in (FOLDER / "weir.sysusers").read_text()
    lines = (FOLDER / "weir.tmpfiles").read_text().splitlines()
    modes = {words[1]: words[2:5] for line in lines if (words := line.split())[0] in ("d", "z")}

    assert modes == {
        "/etc/weir": ["0750", "root", "weir"],
        "/etc/weir/config.yaml": ["0640", "root", "weir"],
        "/etc/weir/environment": ["0600", "root", "root"],
    }
