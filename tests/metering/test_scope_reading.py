"""Reading a scope gives what admission would see, and changes nothing."""

from __future__ import annotations

import random
from dataclasses import replace

from caps_samples import NOW_MS, RedisSubject, ask, cap, hold

from metering.caps import (
    ROLLING_DAY,
    CalendarUnit,
    CalendarWindow,
    Cap,
    Limit,
    Reservation,
    Scope,
    ScopeKind,
    Vector,
)
from metering.redis_keys import RedisKeys
from metering.redis_link import RedisLink
from metering.scope_reading import ScopeReading, read_scope, read_totals
from metering.window import is_rate, plus, rolling

DAY = cap(10_000)
HOURS = rolling(2 * 3_600)
RUN = Scope(ScopeKind.RUN, "r.1")
PARIS = CalendarWindow(CalendarUnit.DAY, "Europe/Paris")
CAPS = (
    DAY,
    Cap(DAY.scope, PARIS, Limit(nano=12_000)),
    Cap(RUN, HOURS, Limit(nano=9_000)),
    Cap(RUN, ROLLING_DAY, Limit(tokens=9_000)),
    Cap(RUN, rolling(600), Limit(requests=40, concurrent=20)),
)


async def read(link: RedisLink, keys: RedisKeys, scope: Scope, now_ms: int) -> ScopeReading:
    """As `weir limits` does it."""
    pairs = await link.call("HGETALL", keys.scope("acme", scope))
    scores = await link.call("ZRANGE", keys.scope_holds("acme", scope), 0, -1, "WITHSCORES")
    expiries = dict(zip(scores[::2], map(float, scores[1::2]), strict=True))
    windows = [each.window for each in CAPS if each.scope == scope]
    return read_scope(windows, dict(zip(pairs[::2], pairs[1::2], strict=True)), expiries, now_ms)


async def test_what_is_read_is_what_admission_sees(
    redis_link: RedisLink, redis_keys: RedisKeys
) -> None:
    """Through two days of holds, commits and lapses: the same spend, holds and times."""
    random_ = random.Random(11)
    subject = RedisSubject(redis_link, redis_keys)
    await subject.mark()
    compared = 0

    for _ in range(300):
        subject.clock.ms += random_.choice([1, 50_000, 900_000, 3_000_000])
        exchange = hold(*CAPS)
        before = {
            scope: await read(redis_link, redis_keys, scope, subject.clock.ms)
            for scope in (DAY.scope, RUN)
        }
        looked = await subject.caps.look(exchange, [ask(1)])
        for state in looked.states:  # by totals and the buckets alone
            found = before[state.cap.scope]
            window = found.windows[state.cap.window.label]
            held = replace(found.held, requests=state.held.requests)
            assert (state.spent, state.held) == (window.spent, held)
            assert state.reset_ms == window.reset_ms()
        asked = random_.randrange(1, 1_500)
        answer = await subject.caps.reserve(exchange, [ask(asked)], owner="p", ttl_ms=400_000)
        if not isinstance(answer, Reservation):
            continue
        for state in answer.states:
            found = before[state.cap.scope]
            window = found.windows[state.cap.window.label]
            begun = Vector(requests=1) if is_rate(state.cap.window) else Vector()
            assert plus(window.spent, begun) == state.spent
            assert found.held.nano == state.held.nano - asked
            if window.reset_ms() is not None:
                assert window.reset_ms() == state.reset_ms
            compared += 1
        if random_.random() < 0.7:
            await subject.caps.commit(exchange, Vector(asked // 2, asked, 1), [])

    assert compared > 200
    assert subject.clock.ms > NOW_MS + 2 * 86_400_000


def test_totals_and_buckets_say_the_same() -> None:
    """What has left the window, or lapsed, is left out; a bucket without spend may be missing."""
    bucket = NOW_MS // 300_000
    values = [str(bucket - 289).encode(), b"9", b"9", b"9", *[b""] * 3, b"4", b"", b"1"]

    reading = read_totals(
        [b"12", b"20", b"3"], 3, [b"5 6 1", b""], [(ROLLING_DAY, values), (HOURS, [])], NOW_MS
    )

    assert (reading.held, reading.holds) == (Vector(7, 14, 2), 1)
    assert reading.windows["24h"].spent == Vector(4, 0, 1)
    assert reading.windows["2h"].spent == Vector()


def test_an_empty_scope_is_read() -> None:
    """A scope that nobody has used has spent nothing and frees nothing."""
    reading = read_scope([ROLLING_DAY], {}, {}, NOW_MS)

    assert (reading.held, reading.holds) == (Vector(), 0)
    assert reading.windows["24h"].spent == Vector()
    assert reading.windows["24h"].reset_ms() is None


def test_holds_whose_time_is_over_are_not_held() -> None:
    """A hold counts until it expires, and not when its expiry is gone."""
    fields = {b"h:a": b"5 6 1", b"h:b": b"7 8 1", b"h:c": b"9 9 1", b"held:n": b"21"}

    reading = read_scope([], fields, {b"a": NOW_MS + 1.0, b"b": float(NOW_MS)}, NOW_MS)

    assert (reading.held, reading.holds) == (Vector(5, 6, 1), 1)
