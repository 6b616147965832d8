"""Old payloads in files: nothing else changes, and the ledger still proves what it says."""

from __future__ import annotations

import gzip
import itertools
from pathlib import Path

import pytest
from fixtures_ledger import NOW_NS, allow_changes, book, make_event
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError

from metering.settlement.ledger import archive as archiving
from metering.settlement.ledger import tables
from metering.settlement.ledger.archive import archive, kept_of
from metering.settlement.ledger.archive_files import ArchiveError, read_segment
from metering.settlement.ledger.archive_tables import MOVABLE, archive_segment
from metering.settlement.ledger.provider_usage import own_usage
from metering.settlement.ledger.rollups import rebuild_rollups
from metering.settlement.ledger.store import Ledger
from metering.settlement.ledger.verify import examine

LATER = NOW_NS + 1


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "old"
    made.mkdir()
    return made


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file holds two events, so that there are several."""
    monkeypatch.setattr(archiving, "SEGMENT_EVENTS", 2)


def use(ledger: Ledger, events: int = 5) -> None:
    told = [make_event(user=f"u{n % 2}", service_tier="priority") for n in range(events)]
    book(ledger, told)
    book(ledger, [make_event(tenant="zeta")])


def rows(ledger: Ledger) -> list[tuple[object, ...]]:
    """Everything of every event but what may be moved."""
    columns = [each for each in tables.usage_event.c if each.name not in MOVABLE]
    with ledger.read() as connection:
        return [tuple(row) for row in connection.execute(select(*columns).order_by("event_id"))]


def move(ledger: Ledger, folder: Path) -> archiving.Archived:
    return archive(ledger, folder, before_ns=LATER, now_ns=LATER)


def test_payloads_move_and_everything_else_stays(ledger: Ledger, folder: Path) -> None:
    """Rows, chain, sums and what comparisons read are as before; the ledger verifies."""
    use(ledger)
    before = rows(ledger)
    with ledger.read() as connection:
        told = own_usage(connection, "openai", "2026-11-01", "2026-12-01")
        came = dict(
            connection.execute(
                select(tables.usage_event.c.event_id, tables.usage_event.c.payload)
            ).all()
        )

    done = move(ledger, folder)

    found = examine(ledger, folder)
    assert (done.events, done.files) == (6, 4)
    assert (found.findings, found.events, found.archived) == ([], 6, 6)
    assert examine(ledger).findings == []
    assert rows(ledger) == before
    assert rebuild_rollups(ledger) == 6
    with ledger.read() as connection:
        assert own_usage(connection, "openai", "2026-11-01", "2026-12-01") == told
        left = set(connection.execute(select(tables.usage_event.c.payload)).scalars())
    assert {bytes(each) for each in left} == {b'{"service_tier":"priority"}', b"{}"}
    files = [read_segment(path.read_bytes(), path.name) for path in sorted(folder.iterdir())]
    lines = [line for _, each in files for line in each]
    assert {line.event_id: line.payload for line in lines} == {
        event_id: bytes(payload) for event_id, payload in came.items()
    }


def test_only_what_is_old_goes_and_a_repeat_moves_nothing(ledger: Ledger, folder: Path) -> None:
    use(ledger)

    young = archive(ledger, folder, before_ns=NOW_NS, now_ns=LATER)
    first, again = move(ledger, folder), move(ledger, folder)
    use(ledger, events=1)
    more = move(ledger, folder)

    assert [each.events for each in (young, first, again, more)] == [0, 6, 0, 2]
    assert examine(ledger, folder).findings == []


def test_long_work_tells_how_far_it_is(
    ledger: Ledger, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Archiving tells the events of its files so far, and verifying those of all there are."""
    use(ledger)
    archived: list[tuple[int, int | None]] = []
    verified: list[tuple[int, int | None]] = []
    monkeypatch.setattr("metering.settlement.ledger.verify.EVERY", 2)

    archive(
        ledger,
        folder,
        before_ns=LATER,
        now_ns=LATER,
        tell=lambda done, total: archived.append((done, total)),
    )
    examine(ledger, folder, lambda done, total: verified.append((done, total)))

    assert (len(archived), archived[-1]) == (4, (6, None))
    assert verified == [(2, 6), (4, 6), (6, 6)]


def test_what_may_be_turned_round_keeps_its_payload(ledger: Ledger, folder: Path) -> None:
    """Usage of a dead process: its true event takes it back, from what it said."""
    book(ledger, [make_event(usage_source="recovered"), make_event()])
    move(ledger, folder)

    with ledger.read() as connection:
        payload = select(tables.usage_event.c.payload).where(
            tables.usage_event.c.usage_source == "recovered"
        )
        kept = bytes(connection.execute(payload).scalar_one())
    assert b"recovered" in kept
    assert examine(ledger, folder).findings == []


def test_a_crash_before_the_ledger_lets_go_is_made_good(
    ledger: Ledger, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is there, the ledger says nothing of it; the next run writes the same again."""
    use(ledger)

    class KilledError(BaseException):
        pass

    def killed(*_: object, **__: object) -> bool:
        raise KilledError

    with monkeypatch.context() as patched:
        patched.setattr(archiving, "_let_go", killed)
        with pytest.raises(KilledError):
            move(ledger, folder)
    [left] = folder.iterdir()
    data = left.read_bytes()

    assert examine(ledger, folder).findings == []
    assert move(ledger, folder).events == 6
    assert left.read_bytes() == data
    assert examine(ledger, folder).findings == []


def test_it_stops_between_two_files(ledger: Ledger, folder: Path) -> None:
    use(ledger)
    asked = itertools.count()

    done = archive(ledger, folder, before_ns=LATER, now_ns=LATER, is_over=lambda: next(asked) >= 1)

    assert done.files == 1
    assert examine(ledger, folder).findings == []


def test_a_folder_that_takes_nothing_costs_nothing(ledger: Ledger, folder: Path) -> None:
    """The ledger keeps what could not be written."""
    use(ledger)

    with pytest.raises(ArchiveError, match="cannot be written"):
        archive(ledger, folder / "gone", before_ns=LATER, now_ns=LATER)
    assert examine(ledger).archived == 0


CHANGES = {
    "gone": (lambda path: path.unlink(), "cannot be read: No such file"),
    "torn": (lambda path: path.write_bytes(path.read_bytes()[:-9]), "is no archive of a ledger"),
    "another text": (
        lambda path: path.write_bytes(gzip.compress(b'{"format":"x"}\n')),
        "is no archive of a ledger",
    ),
    "another user": (
        lambda path: path.write_bytes(
            gzip.compress(gzip.decompress(path.read_bytes()).replace(b"u0", b"u9"))
        ),
        "has another payload than came",
    ),
}


@pytest.mark.parametrize(("change", "says"), CHANGES.values(), ids=CHANGES)
def test_a_changed_file_is_a_finding(ledger: Ledger, folder: Path, change, says: str) -> None:
    """It names the file; the ledger's own side is whole all the same."""
    use(ledger)
    move(ledger, folder)
    path = min(path for path in folder.iterdir() if b"u0" in gzip.decompress(path.read_bytes()))

    change(path)

    findings = examine(ledger, folder).findings
    assert findings
    assert all(path.name in each for each in findings)
    assert says in " ".join(findings)
    assert examine(ledger).findings == []


@pytest.mark.parametrize("column", [each.name for each in tables.usage_event.c])
def test_nothing_of_an_event_can_be_changed(tmp_path: Path, folder: Path, column: str) -> None:
    """Neither before nor, beside what was moved, after it is archived."""
    from fixtures_ledger import new_ledger

    ledger = new_ledger(tmp_path)
    use(ledger, events=1)
    change = text(f"UPDATE usage_event SET {column} = {column}")

    with pytest.raises(DBAPIError, match="append-only"), ledger.write() as connection:
        connection.execute(change)
    move(ledger, folder)
    if column not in MOVABLE:
        with pytest.raises(DBAPIError, match="append-only"), ledger.write() as connection:
            connection.execute(change)
    ledger.close()


@pytest.mark.parametrize(
    "statement",
    ["UPDATE usage_event SET tenant = 'x'", "DELETE FROM usage_event", "DELETE FROM erasure"],
)
def test_what_is_kept_is_kept_on_both(ledger: Ledger, folder: Path, statement: str) -> None:
    use(ledger)
    move(ledger, folder)
    if "erasure" in statement:
        with ledger.write() as connection:
            values = "'acme', 'ada', 'asked', 1"
            connection.execute(
                text(
                    f"INSERT INTO erasure (tenant, erased_by, reason, erased_at) VALUES ({values})"
                )
            )

    with pytest.raises(DBAPIError, match="append-only"), ledger.write() as connection:
        connection.execute(text(statement))


FORGED = {
    "a gap": ("UPDATE archive_segment SET first_seq = 2 WHERE first_seq = 1", "do not follow"),
    "another place": (
        "UPDATE archive_segment SET last_hash = prev_hash WHERE first_seq = 1",
        "does not stand where the chain says",
    ),
}


@pytest.mark.parametrize(("statement", "says"), FORGED.values(), ids=FORGED)
def test_a_forged_place_is_a_finding(
    ledger: Ledger, folder: Path, statement: str, says: str
) -> None:
    use(ledger)
    move(ledger, folder)
    with ledger.write() as connection:
        allow_changes(connection, archive_segment.name)
        connection.execute(text(statement))

    assert says in " ".join(examine(ledger).findings)


def test_what_stays_is_what_comparisons_read() -> None:
    assert kept_of(b'{"user":"u","service_tier":"flex","price_tier":null}') == (
        b'{"service_tier":"flex"}'
    )
