"""`weir ledger backup`: what it says, and when it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from fixtures_ledger import book, make_event, new_ledger

from proxy.cli import weir


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A configuration whose ledger holds an event."""
    path = tmp_path / "config.yaml"
    path.write_text("data_dir: .\n", encoding="utf-8")
    ledger = new_ledger(tmp_path)
    book(ledger, [make_event()])
    ledger.close()
    return path


def run(config: Path, *words: str) -> Result:
    words = ("ledger", "backup", *words, "--config", str(config))
    return CliRunner().invoke(weir, words, env={"WEIR_CONFIG": None})


def test_the_ledger_is_copied(config: Path) -> None:
    """The file and its size; for programs as JSON."""
    target, other = config.parent / "a.db", config.parent / "b.db"

    said = run(config, str(target))
    told = run(config, str(other), "--json")

    assert (said.exit_code, said.stdout) == (0, f"{target}: {target.stat().st_size:,} bytes\n")
    assert json.loads(told.stdout) == {"file": str(other), "bytes": other.stat().st_size}


def test_a_second_backup_needs_another_name(config: Path) -> None:
    """Exit 1, and the first one stays."""
    target = config.parent / "a.db"
    run(config, str(target))
    before = target.read_bytes()

    again = run(config, str(target))

    assert again.exit_code == 1
    assert f"{target} is there already" in again.stderr
    assert target.read_bytes() == before


def test_postgresql_is_backed_up_by_its_own_tools(config: Path) -> None:
    """Exit 2, with the tool's name and nothing of the URL."""
    config.write_text("ledger: {url: 'postgresql://weir:secret@127.0.0.1/weir'}\n")

    refused = run(config, str(config.parent / "a.db"))

    assert refused.exit_code == 2
    assert "pg_dump" in refused.stderr
    assert "secret" not in refused.stderr
