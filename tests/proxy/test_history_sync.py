"""What processes tell each other of upstreams, through a real Redis."""

from __future__ import annotations

from typing import Any

import pytest
from fixtures_door import CollectingLog

from metering.caps import CapsUnavailableError
from metering.clock import monotonic_s
from metering.redis_keys import RedisKeys
from metering.redis_link import RedisLink
from proxy.history_sync import (
    KEPT_MS,
    NOTE_BYTES_MAX,
    PROCESSES_MAX,
    HistorySync,
    ended,
    note,
    note_parts,
    read_note,
)
from routing.fallback import Outcome
from routing.history import SAMPLES_MIN, History
from routing.samples import Seen, Tally

LABELS = ("one/m", "two/m")


def one(
    link: Any, keys: RedisKeys, log: CollectingLog | None = None
) -> tuple[History, HistorySync]:
    history = History()
    made = HistorySync(
        history, link, keys, proxy_id="p-0", labels=LABELS, log=log or CollectingLog()
    )
    return history, made


def ask(history: History, *times_ms: int, label: str = "one/m") -> None:
    for took_ms in times_ms:
        is_cold = history.begin(label, monotonic_s())
        history.end(
            label, Outcome.SERVED, monotonic_s(), took_ms=took_ms, stream=True, is_cold=is_cold
        )


async def test_what_one_learns_the_other_knows(
    redis_link: RedisLink, redis_keys: RedisKeys
) -> None:
    """Within a turn of each; telling it again does not add to it."""
    (here, sync_here), (there, sync_there) = [one(redis_link, redis_keys) for _ in range(2)]
    ask(here, *[800] * SAMPLES_MIN)
    await sync_here.turn()  # learns what time it is
    for _ in range(3):
        await sync_here.turn()
        await sync_there.turn()

    assert there.misses("one/m", 700, stream=True)
    assert not there.misses("two/m", 700, stream=True)
    counts = [tally.first.count for tally in there.seen("one/m")[1].slots.values()]
    assert sum(counts) == SAMPLES_MIN


async def test_a_process_after_a_restart_knows_what_it_knew(
    redis_link: RedisLink, redis_keys: RedisKeys
) -> None:
    """From its first turn, under the same id; and what was under way with it is not any more."""
    before, sync = one(redis_link, redis_keys)
    ask(before, *[800] * SAMPLES_MIN)
    before.begin("one/m", monotonic_s())
    await sync.turn()
    await sync.turn()
    assert before.seen("one/m")[0].in_flight == 1

    after, sync = one(redis_link, redis_keys)
    await sync.turn()

    assert after.look("one/m", monotonic_s(), stream=True).p95_ms == 800
    assert after.look("one/m", monotonic_s(), stream=True).in_flight == 0
    gone = await sync_to_gone(redis_link, redis_keys)
    assert gone.seen("one/m")[1].in_flight == 0


async def sync_to_gone(link: RedisLink, keys: RedisKeys) -> History:
    """A process that reads the notes a minute later."""
    for name in await link.call("HKEYS", keys.history):
        raw = await link.call("HGET", keys.history, name)
        at, _, body = raw.partition(b":")
        await link.call("HSET", keys.history, name, b"%d:%b" % (int(at) - 60_000, body))
    history, sync = one(link, keys)
    await sync.turn()
    return history


async def test_notes_expire(redis_link: RedisLink, redis_keys: RedisKeys) -> None:
    """An hour after they were made, each by itself and the hash as a whole; and of too many the
    oldest go."""
    history, sync = one(redis_link, redis_keys)
    ask(history, 100)
    for _ in range(2):
        await sync.turn()
    assert 0 < await redis_link.call("PTTL", redis_keys.history) <= KEPT_MS
    seconds = int((await redis_link.call("TIME"))[0])
    for number in range(PROCESSES_MAX + 5):
        at_ms = (seconds - 1000 + number) * 1000
        await redis_link.call("HSET", redis_keys.history, f"q-{number:03}", f"{at_ms}:{{}}")
    old_ms = seconds * 1000 - KEPT_MS - 1
    await redis_link.call("HSET", redis_keys.history, "old", f"{old_ms}:{{}}")
    await redis_link.call("HSET", redis_keys.history, "odd", "what is this")

    await sync.turn()

    left = {name.decode() for name in await redis_link.call("HKEYS", redis_keys.history)}
    assert len(left) == PROCESSES_MAX
    assert sync.name in left
    assert not left & {"old", "odd", "q-000", "q-005"}


async def test_one_command_a_turn(redis_link: RedisLink, redis_keys: RedisKeys) -> None:
    """However many upstreams there are, and whoever else speaks."""
    calls = []

    class Counting:
        generation = 0

        async def eval(self, *args: Any) -> Any:
            calls.append(args)
            return await redis_link.eval(*args)

    history, sync = one(Counting(), redis_keys)
    ask(history, 100)
    ask(history, 100, label="two/m")
    await sync.turn()
    await sync.turn()

    assert len(calls) == 2


async def test_what_cannot_be_read_is_said_once(
    redis_link: RedisLink, redis_keys: RedisKeys
) -> None:
    """A note of another version, or of somebody else: the others count all the same."""
    log = CollectingLog()
    (here, sync_here), (there, sync_there) = (
        one(redis_link, redis_keys),
        one(redis_link, redis_keys, log),
    )
    ask(here, *[800] * SAMPLES_MIN)
    for _ in range(2):
        await sync_here.turn()
    seconds = int((await redis_link.call("TIME"))[0])
    for name, body in {"q": '{"v":99}', "r": "[", "s": '{"v":1,"upstreams":{"one/m":[1]}}'}.items():
        await redis_link.call("HSET", redis_keys.history, name, f"{seconds}000:{body}")

    for _ in range(2):
        await sync_there.turn()

    assert there.misses("one/m", 700, stream=True)
    assert [event for event, _ in log.lines] == ["history_unreadable"] * 3


async def test_redis_away_leaves_what_is_known(
    redis_link: RedisLink, redis_keys: RedisKeys
) -> None:
    """What was heard last still counts while nobody can be asked, and so does our own."""

    class Away:
        generation = 0
        is_away = False

        async def eval(self, *args: Any) -> Any:
            if self.is_away:
                raise CapsUnavailableError("away")
            return await redis_link.eval(*args)

    (here, sync_here), runner = one(redis_link, redis_keys), Away()
    there, sync_there = one(runner, redis_keys)
    ask(here, *[800] * SAMPLES_MIN)
    for _ in range(2):
        await sync_here.turn()
    await sync_there.turn()
    runner.is_away = True

    with pytest.raises(CapsUnavailableError):
        await sync_there.turn()

    ask(there, *[90] * 10)
    assert there.look("one/m", monotonic_s(), stream=True).p95_ms == 800


def test_a_note_has_its_bounds() -> None:
    """What was used last is told first; the rest is left out before a note grows too long."""
    tally = Tally({f"outcome-{number}": 1 for number in range(60)})
    told = {f"p/{number}": Seen({1: tally}, last_s=float(number)) for number in range(1_000)}

    body = note(note_parts(told))
    read = read_note(body)

    assert len(body) <= NOTE_BYTES_MAX + 2_000
    assert 0 < len(read) < 1_000
    assert set(read) == {f"p/{number}" for number in range(1_000 - len(read), 1_000)}


def test_nothing_is_under_way_from_a_process_that_ended() -> None:
    """What it saw stays."""
    seen = Seen({1: Tally({"served": 1})}, in_flight=3, last_s=5.0)

    assert ended({"one/m": seen}) == {"one/m": Seen(seen.slots, 0, 5.0)}


async def test_another_configuration_has_other_upstreams(
    redis_link: RedisLink, redis_keys: RedisKeys
) -> None:
    """Those that are gone are forgotten, and new ones are learned of from the next turn on."""
    other, telling = one(redis_link, redis_keys)
    ask(other, *[800] * SAMPLES_MIN)
    ask(other, *[800] * SAMPLES_MIN, label="two/m")
    for _ in range(2):
        await telling.turn()
    history, sync = one(redis_link, redis_keys)
    sync.know(["one/m"])
    await sync.turn()
    assert history.in_flight().keys() == {"one/m"}

    sync.know(["two/m"])
    ask(other, 800)
    await telling.turn()
    await sync.turn()

    assert history.in_flight().keys() == {"two/m"}
    assert history.misses("two/m", 700, stream=True)
