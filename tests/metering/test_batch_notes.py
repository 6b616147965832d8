"""Notes of batches answer alike in memory and in Redis, and say what is still to be done."""

from __future__ import annotations

import asyncio

import pytest
from fixtures_ledger import make_event

from metering.batch_notes import (
    DONE,
    BatchNotes,
    Made,
    MemoryBatchNotes,
    made_note,
    open_note,
    read_note,
)
from metering.caps import Vector
from metering.events import encode
from metering.redis_batch_notes import RedisBatchNotes


@pytest.fixture(params=["memory", "redis"])
def notes(request: pytest.FixtureRequest) -> BatchNotes:
    if request.param == "memory":
        return MemoryBatchNotes()
    link, keys = request.getfixturevalue("redis_link"), request.getfixturevalue("redis_keys")
    return RedisBatchNotes(link, keys)


async def test_what_was_written_is_read(notes: BatchNotes) -> None:
    """In the order that was asked for; another tenant has no such note."""
    await notes.swap("acme", "one/batch_1", was=b"", becomes=b"\x00a")
    await notes.swap("acme", "one/batch_2", was=b"", becomes=b"b")

    found = await notes.look("acme", ["one/batch_2", "two/batch_1", "one/batch_1"])

    assert found == [b"b", b"", b"\x00a"]
    assert await notes.look("globex", ["one/batch_1"]) == [b""]
    assert await notes.look("acme", []) == []


async def test_more_names_than_are_read_together(notes: BatchNotes) -> None:
    """Every one is answered, in its place."""
    await notes.swap("acme", "one/batch_399", was=b"", becomes=b"last")

    found = await notes.look("acme", [f"one/batch_{n}" for n in range(400)])

    assert found == [b""] * 399 + [b"last"]


async def test_of_many_who_take_a_step_one_does(notes: BatchNotes) -> None:
    """Everybody is told what is there; what is there was written by one of them."""
    await notes.swap("acme", "one/batch_1", was=b"", becomes=b"open")

    said = await asyncio.gather(
        *(notes.swap("acme", "one/batch_1", was=b"open", becomes=b"%d" % n) for n in range(20))
    )

    assert len(set(said)) == 1
    assert await notes.look("acme", ["one/batch_1"]) == [said[0]]


async def test_an_open_note_is_not_opened_again(notes: BatchNotes) -> None:
    """What was made of it stays, and so does that it is done."""
    await notes.swap("acme", "one/batch_1", was=b"", becomes=DONE)

    there = await notes.swap("acme", "one/batch_1", was=b"", becomes=b"open")

    assert there == DONE


def test_a_note_says_what_is_still_to_be_done() -> None:
    """The event to take back; or what takes its place; or nothing."""
    event = make_event()
    made = Made(Vector(nano=7, tokens=3), (b'{"a":1}', b'{"b":2}'))

    assert read_note(open_note(encode(event))) == event
    assert read_note(made_note(made)) == made
    assert (read_note(DONE), read_note(b"")) == (None, None)


def test_a_note_of_another_version() -> None:
    """It is not guessed at."""
    with pytest.raises(ValueError, match="not known to this version"):
        read_note(b"later\n{}")
