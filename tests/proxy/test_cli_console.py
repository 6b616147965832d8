"""`weir console`, as far as it refuses to start."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner
from config_samples import BASE

from proxy.cli import weir


def refused(tmp_path: Path, more: str) -> tuple[int, str]:
    config = tmp_path / "config.yaml"
    config.write_text(BASE + more)
    words = ["console", "--config", str(config), "--data-dir", str(tmp_path / "d")]
    done = CliRunner().invoke(weir, words, env={"WEIR_DATA_DIR": None})
    return done.exit_code, done.output


def test_without_the_section_nobody_asked_for_it(tmp_path: Path) -> None:
    """A port that administers is never opened by a default."""
    code, said = refused(tmp_path, "")

    assert code == 2
    assert "no section `admin`" in said and "add `admin: {}`" in said


def test_a_ledger_that_can_never_be_opened_is_said_at_the_start(tmp_path: Path) -> None:
    """And not at the first question."""
    code, said = refused(tmp_path, "admin: {}\nledger: {url: 'nothing://here'}\n")

    assert code in (1, 2)
    assert "ledger" in said
    assert not (tmp_path / "d").exists()
