"""`weir reload` with nobody to ask, or who does not answer; tests/test_reload.py has the rest."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from proxy.cli import weir
from proxy.data_dir import locked, own
from proxy.reload_report import ReloadReport, write_report


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(f"data_dir: {tmp_path / 'data'}\n", encoding="utf-8")
    own(tmp_path / "data")
    return path


def _reload(config: Path, *words: str) -> Result:
    return CliRunner().invoke(weir, ["reload", "--config", str(config), *words])


def test_nobody_serves(config: Path) -> None:
    """Exit code 3, and what to do."""
    result = _reload(config)

    assert result.exit_code == 3
    assert "start `weir serve`" in result.output


def test_a_faulty_file_is_told_and_nobody_is_asked(config: Path) -> None:
    """Exit code 2, with the line, as `weir config check` has it."""
    config.write_text("nonsense: 1\n", encoding="utf-8")
    result = _reload(config)

    assert result.exit_code == 2
    assert "config.yaml:1:1" in result.output


def test_an_old_report_is_no_answer(config: Path) -> None:
    """Who serves does not answer: exit code 1 after the time that was given."""
    data_dir = config.parent / "data"
    write_report(data_dir, ReloadReport("SIGHUP", 1, ok=True))
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # we hold the lock, so it is us
    try:
        with locked(data_dir):
            result = _reload(config, "--timeout", "0.2")
    finally:
        signal.signal(signal.SIGHUP, before)

    assert result.exit_code == 1
    assert "has not answered within 0.2 s" in result.output


@pytest.mark.parametrize(
    ("report", "code"),
    [
        (ReloadReport("SIGHUP", 2**62, ok=True, waiting=["server.port"]), 0),
        (ReloadReport("SIGHUP", 2**62, processes={"worker": "failed: x"}), 1),
        (ReloadReport("SIGHUP", 2**62, faults=[{"key": "a", "message": "b"}]), 2),
    ],
    ids=["ok", "failed", "refused"],
)
def test_the_exit_code_says_how_it_went(config: Path, report: ReloadReport, code: int) -> None:
    """0, 1 for a process that did not follow, 2 for a file that was refused."""
    data_dir = config.parent / "data"
    write_report(data_dir, report)
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with locked(data_dir):
            result, told = _reload(config, "--json"), _reload(config)
    finally:
        signal.signal(signal.SIGHUP, before)

    assert (result.exit_code, told.exit_code) == (code, code)
    assert json.loads(result.stdout)["needs_a_restart"] == report.waiting


def test_a_change_that_was_taken_up_before_is_told(config: Path) -> None:
    """The file is watched, so there is often nothing left to apply; it is no surprise then."""
    data_dir = config.parent / "data"
    before = {"why": "the file has changed", "finished_ns": 10**18, "applied": ["models.m"]}
    write_report(data_dir, ReloadReport("SIGHUP", 2**62, ok=True, before=before))
    handler = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with locked(data_dir):
            told = _reload(config)
    finally:
        signal.signal(signal.SIGHUP, handler)

    assert told.stdout == (
        "nothing to apply: what the file says is in use since 2001-09-09T01:46:40Z "
        "(the file has changed; applied then: models.m)\n"
    )
