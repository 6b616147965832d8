"""`weir ledger archive` and `weir ledger erase-user`, over a real ledger."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from fixtures_ledger import book, make_event, new_ledger

from proxy.cli import weir

USER = "anna@example.com"


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three events that came half a year ago."""
    (tmp_path / "old").mkdir()
    path = tmp_path / "config.yaml"
    path.write_text("data_dir: .\nretention: {events_days: 40, archive: {folder: old}}\n")
    monkeypatch.setattr("fixtures_ledger.NOW_NS", 1_750_000_000_000_000_000)
    ledger = new_ledger(tmp_path)
    book(ledger, [make_event(user=USER), make_event(user="bob"), make_event(user=USER)])
    ledger.close()
    return path


def run(config: Path, *words: str) -> Result:
    words = ("ledger", *words, "--config", str(config))
    return CliRunner().invoke(weir, words, env={"WEIR_CONFIG": None})


def test_archived_then_erased_then_verified(config: Path) -> None:
    """The user is nowhere in the folder, nor in the database's file."""
    moved = run(config, "archive")
    erased = run(config, "erase-user", USER, "--tenant", "acme", "--reason", "asked", "--by", "ada")
    again = run(config, "archive", "--json")
    verified = run(config, "verify")

    assert moved.stdout == "moved: 3 events into 1 file\n"
    assert (erased.exit_code, erased.stdout) == (0, "erased from 2 events, 1 file\n")
    assert json.loads(again.stdout) == {"events": 0, "files": 0, "bytes": 0}
    assert verified.stdout.startswith("ok: 3 events (3 archived), 1 transaction, 1 shard in ")


def test_a_missing_archive_is_said(config: Path) -> None:
    """By erasing, which is not done then, and by verify."""
    run(config, "archive")
    [path] = (config.parent / "old").iterdir()
    path.unlink()

    erased = run(config, "erase-user", USER, "--tenant", "acme", "--reason", "asked", "--by", "ada")
    verified = run(config, "verify")

    assert erased.exit_code == verified.exit_code == 1
    assert "not all is erased" in erased.stderr
    assert path.name in erased.stderr
    assert path.name in verified.stdout


def test_the_id_may_not_be_kept_with_the_erasure(config: Path) -> None:
    result = run(config, "erase-user", USER, "--tenant", "acme", "--reason", f"by {USER}")

    assert result.exit_code == 2
    assert USER not in result.stderr


def test_without_retention_there_is_nothing_to_archive(config: Path) -> None:
    config.write_text("data_dir: .\n")

    result = run(config, "archive")

    assert result.exit_code == 3
    assert "no section retention" in result.stderr
