"""A user's id out of everything, and the chain as provable as before."""

from __future__ import annotations

from pathlib import Path

import pytest
from fixtures_ledger import KEYS, NOW_NS, book, make_entry, make_event
from sqlalchemy import select, text

from metering.events import UsageEvent, encode
from metering.settlement.ledger import archive as archiving
from metering.settlement.ledger import erasing, tables
from metering.settlement.ledger.archive import archive
from metering.settlement.ledger.archive_files import ArchiveError, read_segment
from metering.settlement.ledger.archive_tables import erasure
from metering.settlement.ledger.erasing import Erased, erase_user
from metering.settlement.ledger.store import Ledger
from metering.settlement.ledger.verify import examine

USER = "anna@example.com"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(archiving, "SEGMENT_EVENTS", 2)
    made = tmp_path / "old"
    made.mkdir()
    return made


def use(ledger: Ledger) -> list[UsageEvent]:
    """Three events of hers, one of another, and one of her namesake at another tenant."""
    events = [
        make_event(user=USER, upstream_request_id="req_a1"),
        make_event(user="bob", upstream_request_id="req_b1"),
        make_event(user=USER, upstream_request_id="req_a2"),
        make_event(user=USER),
    ]
    book(ledger, events)
    book(ledger, [make_event(tenant="zeta", user=USER)])
    return events


def erase(ledger: Ledger, folder: Path | None = None) -> Erased:
    return erase_user(ledger, "acme", USER, folder=folder, by="ada", reason="asked", now_ns=NOW_NS)


def everything(ledger: Ledger, tenant: str, folder: Path | None = None) -> str:
    """Every text and bytes that the ledger and its files hold of a tenant's events."""
    found = []
    with ledger.read() as connection:
        for table in tables.metadata.tables.values():
            if table.name not in ("price_body",):
                for row in connection.execute(select(table)).mappings():
                    if row.get("tenant", tenant) == tenant:
                        found += [str(value) for value in row.values()]
    for path in [] if folder is None else folder.iterdir():
        _, lines = read_segment(path.read_bytes(), path.name)
        found += [line.payload.decode() for line in lines if tenant in line.payload.decode()]
    return "\n".join(found)


def scope_ids(ledger: Ledger, tenant: str) -> list[str | None]:
    event = tables.usage_event.c
    with ledger.read() as connection:
        query = select(event.user_scope).where(event.tenant == tenant).order_by(event.seq)
        return list(connection.execute(query).scalars())


def test_a_user_is_gone_and_the_chain_holds(ledger: Ledger) -> None:
    """From payloads and from the column; others, and other tenants, are untouched."""
    use(ledger)
    with ledger.read() as connection:
        money = connection.execute(select(tables.balance)).all()

    done = erase(ledger)

    assert (done.events, done.files) == (3, 0)
    assert USER not in everything(ledger, "acme")
    assert "req_a1" not in everything(ledger, "acme")
    assert "req_b1" in everything(ledger, "acme")
    assert USER in everything(ledger, "zeta")
    assert [each is None for each in scope_ids(ledger, "acme")] == [True, False, True, True]
    assert examine(ledger).findings == []
    with ledger.read() as connection:
        assert connection.execute(select(tables.balance)).all() == money
        assert connection.execute(select(erasure.c.reason)).scalars().all() == ["asked"]
    assert erase(ledger).events == 0


def test_archives_are_written_again(ledger: Ledger, folder: Path) -> None:
    """Only those that hold the user; their events stay where the ledger says."""
    use(ledger)
    archive(ledger, folder, before_ns=NOW_NS + 1, now_ns=NOW_NS)

    done = erase(ledger, folder)

    assert (done.events, done.files) == (3, 2)
    assert USER not in everything(ledger, "acme", folder)
    assert examine(ledger, folder).findings == []
    assert [each is None for each in scope_ids(ledger, "acme")] == [True, False, True, True]


def test_what_was_erased_can_be_archived(ledger: Ledger, folder: Path) -> None:
    use(ledger)
    erase(ledger)
    archive(ledger, folder, before_ns=NOW_NS + 1, now_ns=NOW_NS)

    assert USER not in everything(ledger, "acme", folder)
    assert examine(ledger, folder).findings == []


def test_a_recovered_event_in_an_archive_is_erased_in_both(ledger: Ledger, folder: Path) -> None:
    """Its payload stays in the ledger, so it goes from there, too."""
    book(ledger, [make_event(user=USER, usage_source="recovered"), make_event()])
    archive(ledger, folder, before_ns=NOW_NS + 1, now_ns=NOW_NS)
    erase(ledger, folder)

    assert USER not in everything(ledger, "acme", folder)
    assert examine(ledger, folder).findings == []


def test_a_crash_after_the_file_is_repaired_by_asking_again(
    ledger: Ledger, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until then verify says which file is not the one that the ledger knows."""
    use(ledger)
    archive(ledger, folder, before_ns=NOW_NS + 1, now_ns=NOW_NS)

    class KilledError(BaseException):
        pass

    def killed(*_: object) -> None:
        raise KilledError

    with monkeypatch.context() as patched:
        patched.setattr(erasing, "_note", killed)
        with pytest.raises(KilledError):
            erase(ledger, folder)

    assert "is not the file that was written" in " ".join(examine(ledger, folder).findings)
    assert erase(ledger, folder).events == 3
    assert USER not in everything(ledger, "acme", folder)
    assert examine(ledger, folder).findings == []


def test_a_file_that_is_not_to_be_had_is_said(ledger: Ledger, folder: Path) -> None:
    """Nothing is noted of events that still hold the user."""
    use(ledger)
    archive(ledger, folder, before_ns=NOW_NS + 1, now_ns=NOW_NS)

    with pytest.raises(ArchiveError, match="no folder is configured"):
        erase(ledger)
    for path in folder.iterdir():
        path.rename(path.with_suffix(".away"))
    with pytest.raises(ArchiveError, match="cannot be read"):
        erase(ledger, folder)
    assert [each is None for each in scope_ids(ledger, "acme")] == [False] * 4


def test_second_bodies_and_dead_letters_are_erased_too(ledger: Ledger) -> None:
    """What is no JSON and holds the id is left to a person, and named."""
    [first, *_] = use(ledger)
    first.session = "another"
    book(ledger, [make_entry(first)])
    bad = make_event(user=USER, status="none such")
    bad.occurred_at = -1
    broken = encode(make_event(user=USER))[:-1]
    shard = KEYS.shard("acme")
    with ledger.write() as connection:
        for n, raw in enumerate((encode(bad), broken)):
            row = {"shard": shard, "stream_id": f"9-{n}", "raw_hash": str(n), "raw": raw}
            row |= {"reason": "x", "received_at": NOW_NS, "deliveries": 1}
            connection.execute(tables.dead_letter.insert(), [row])

    done = erase(ledger)

    assert (done.events, done.conflicts, done.dead_letters) == (3, 1, 1)
    assert len(done.unreadable) == 1
    assert everything(ledger, "acme").count(USER) == 1  # the broken one
    assert examine(ledger).findings == []


def test_events_from_before_there_was_a_column_are_found(ledger: Ledger) -> None:
    """By what they say."""
    use(ledger)
    with ledger.write() as connection:
        from fixtures_ledger import allow_changes

        allow_changes(connection, "usage_event")
        connection.execute(text("UPDATE usage_event SET user_scope = NULL"))

    assert erase(ledger).events == 3
    assert USER not in everything(ledger, "acme")


def test_a_forged_payload_is_no_erasure(ledger: Ledger) -> None:
    """Who may write the column may not write what he likes: the erasure has its hash."""
    use(ledger)
    erase(ledger)
    with ledger.write() as connection:
        connection.execute(
            text(
                "UPDATE usage_event SET payload = :other WHERE event_id IN "
                "(SELECT event_id FROM event_erasure)"
            ),
            {"other": b'{"tenant":"acme"}'},
        )

    findings = examine(ledger).findings
    assert len(findings) == 3
    assert all("has another payload than was received" in each for each in findings)
