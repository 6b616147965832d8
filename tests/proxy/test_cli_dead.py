"""`weir dead`, as a finance operator uses it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from fixtures_ledger import KEYS, PRICES, book, make_event
from sqlalchemy import select

from metering.events import UsageEvent, encode
from metering.settlement.entries import Entry
from metering.settlement.ledger import tables
from metering.settlement.ledger.store import Ledger, insert_rows, open_ledger
from proxy.cli import weir


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A configuration whose Redis is not there: what is asked lies in the ledger."""
    path = tmp_path / "config.yaml"
    path.write_text(f"data_dir: {tmp_path / 'data'}\n", encoding="utf-8")
    (tmp_path / "data").mkdir(mode=0o700)
    return path


@pytest.fixture
def ledger(config: Path) -> Ledger:
    opened = open_ledger(f"sqlite:///{config.parent / 'data' / 'ledger.db'}")
    opened.migrate()
    with opened.write() as connection:
        rows = [{"version": v, "body": body, "stored_at": 1} for v, body in PRICES.items()]
        insert_rows(connection, tables.price_body, rows)
    return opened


def _bury(ledger: Ledger, *bodies: bytes) -> None:
    shard = KEYS.shard("acme")
    book(ledger, [Entry(shard, f"{n + 1}-0", body, "other") for n, body in enumerate(bodies)])


def _run(config: Path, *words: str) -> Result:
    return CliRunner().invoke(weir, ["dead", *words, "--config", str(config)])


def _json(config: Path, *words: str) -> Any:
    result = _run(config, *words, "--json")
    return json.loads(result.stdout or result.stderr)


def _booked(ledger: Ledger) -> Sequence[Any]:
    with ledger.read() as connection:
        return connection.execute(select(tables.usage_event)).all()


def _mended(tmp_path: Path, event: UsageEvent) -> str:
    path = tmp_path / "mended.json"
    path.write_bytes(encode(event) + b"\n")
    return str(path)


def test_dead_letters_are_listed_and_shown(config: Path, ledger: Ledger) -> None:
    _bury(ledger, b"no event \xff", encode(make_event()))

    rows = _json(config, "list")["dead_letters"]
    shown = _json(config, "show", "--id", "1")
    text = _run(config, "list")

    assert [row["id"] for row in rows] == [1, 2]
    assert rows[0]["reason"] == "the body does not hash to the entry's h"
    assert (shown["raw"], shown["bytes"], shown["outcome"]) == ("no event \\xff", 10, None)
    assert text.exit_code == 0
    assert "waits" in text.stdout
    assert _json(config, "list", "--reason", "nothing like it") == {"dead_letters": []}
    assert "raw: no event" in _run(config, "show", "--id", "1").stdout


def test_a_mended_event_is_booked_once_and_its_letter_resolved(
    config: Path, ledger: Ledger, tmp_path: Path
) -> None:
    event = make_event()
    _bury(ledger, encode(event).replace(b'"attempt":1', b'"attempt":"x"'))
    words = ("replay", "--id", "1", "--file", _mended(tmp_path, event), "--by", "ann")

    first, second = _run(config, *words), _run(config, *words)

    assert (first.exit_code, first.stdout) == (0, "1 booked\n1 dead letter, 0 refused\n")
    assert second.stdout == "1 booked: resolved before, by ann\n1 dead letter, 0 refused\n"
    assert [row.event_id for row in _booked(ledger)] == [event.event_id]
    assert _json(config, "list") == {"dead_letters": []}
    [resolved] = _json(config, "list", "--all")["dead_letters"]
    assert (resolved["outcome"], resolved["resolved_by"]) == ("booked", "ann")
    assert resolved["event_id"] == event.event_id


def test_another_events_bytes_need_force(config: Path, ledger: Ledger, tmp_path: Path) -> None:
    _bury(ledger, encode(make_event()))
    words = ("replay", "--id", "1", "--file", _mended(tmp_path, make_event()))

    refused = _run(config, *words)

    assert refused.exit_code == 1
    assert "could bill something twice" in refused.stdout
    assert _booked(ledger) == []
    assert _run(config, *words, "--force").exit_code == 0
    assert len(_booked(ledger)) == 1


def test_all_are_replayed_and_those_that_cannot_be_are_named(config: Path, ledger: Ledger) -> None:
    _bury(ledger, b"no event", b"", encode(make_event()))

    result = _run(config, "replay", "--all", "--json")
    report = json.loads(result.stdout)

    assert result.exit_code == 1
    assert report["refused"] == 3
    assert [each["id"] for each in report["replayed"]] == [1, 2, 3]
    assert _json(config, "replay", "--all", "--reason", "nothing")["replayed"] == []


@pytest.mark.parametrize(
    "words",
    [
        ("replay",),
        ("replay", "--all", "--id", "1"),
        ("replay", "--all", "--force"),
        ("replay", "--id", "1", "--reason", "x"),
    ],
    ids=" ".join,
)
def test_what_contradicts_itself_is_wrong_usage(config: Path, words: tuple[str, ...]) -> None:
    assert _run(config, *words).exit_code == 2


def test_a_letter_or_a_ledger_that_is_not_there_is_not_found(config: Path) -> None:
    assert _run(config, "list").exit_code == 3  # nobody serves, and there is no ledger

    ledger = open_ledger(f"sqlite:///{config.parent / 'data' / 'ledger.db'}")
    ledger.migrate()
    assert _run(config, "show", "--id", "7").exit_code == 3


def test_a_ledger_of_another_version_is_left_to_its_worker(config: Path, ledger: Ledger) -> None:
    with ledger.write() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '0001'")

    result = _run(config, "list")

    assert result.exit_code == 1
    assert "start a worker of the same version" in result.stderr


def test_junk_is_closed_once_and_stays_in_the_books(config: Path, ledger: Ledger) -> None:
    _bury(ledger, b"junk")
    words = ("close", "--id", "1", "--reason", "a test wrote it", "--by", "ann")

    closed, again = _run(config, *words), _run(config, *words)

    assert (closed.exit_code, closed.stdout) == (0, "1 closed: a test wrote it\n")
    assert again.exit_code == 1
    assert "resolved before: closed: a test wrote it, by ann" in again.stderr
    assert _json(config, "list") == {"dead_letters": []}
    [row] = _json(config, "list", "--all")["dead_letters"]
    assert (row["outcome"], row["event_id"]) == ("closed: a test wrote it", None)
    assert _json(config, "show", "--id", "1")["raw"] == "junk"


def test_a_closing_needs_a_reason(config: Path, ledger: Ledger) -> None:
    _bury(ledger, b"junk")

    assert _run(config, "close", "--id", "1", "--reason", " ").exit_code == 2
    assert _run(config, "close", "--id", "2", "--reason", "x").exit_code == 3
    assert len(_json(config, "list")["dead_letters"]) == 1


def test_an_entry_without_a_body_says_what_it_lacks(config: Path, ledger: Ledger) -> None:
    _bury(ledger, b"")

    [row] = _json(config, "list")["dead_letters"]

    assert "no field `e`" in row["reason"]
