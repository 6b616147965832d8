"""Caps of a Redis that must not be used are not asked."""

from __future__ import annotations

import pytest
from caps_samples import ask, cap, hold

from metering.caps import CapsNotAskedError, Reservation, Vector
from metering.checked_caps import CheckedCaps
from metering.memory_caps import MemoryCaps


async def test_nothing_is_asked_while_there_is_a_reason_not_to() -> None:
    """No verb is passed on, and the reason is in the error; without one, all are."""
    why = ["its keys could be evicted"]
    inner = MemoryCaps()
    caps = CheckedCaps(inner, lambda: why[0])
    what = hold(cap(nano=1_000))

    for call in (
        lambda: caps.reserve(what, [ask(10)], owner="p", ttl_ms=1_000),
        lambda: caps.look(what, [ask(10)]),
        lambda: caps.swap(what, ask(10)),
        lambda: caps.commit(what, Vector(nano=1), [b"{}"]),
        lambda: caps.release(what),
        lambda: caps.renew(what, ttl_ms=1_000),
    ):
        with pytest.raises(CapsNotAskedError, match="evicted"):
            await call()
    assert inner.model.events == []

    why[0] = ""
    assert isinstance(await caps.reserve(what, [ask(10)], owner="p", ttl_ms=1_000), Reservation)
    assert (await caps.look(hold(*what.caps), [ask(10)])).states
    assert await caps.renew(what, ttl_ms=1_000)
    assert isinstance(await caps.swap(what, ask(10)), Reservation)
    await caps.commit(what, Vector(nano=1), [b"{}"])
    await caps.release(what)
    assert inner.model.events == [b"{}"]
