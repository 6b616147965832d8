"""Silence on either side of a stream, on a clock that moves when it is told to."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from proxy.stream_clock import StreamClock


def clock(pings: list[int], **fields: Any) -> StreamClock:
    usual: dict[str, Any] = {"first_s": None, "stall_s": None, "quiet_after_s": 9, "quiet_s": 0}
    return StreamClock(**{**usual, **fields}, on_quiet=lambda: pings.append(1))


async def test_a_first_event_that_is_late_ends_the_wait() -> None:
    """Headers are no event, and the bound that was passed is known."""
    with pytest.raises(TimeoutError):
        async with clock([], first_s=0.02, stall_s=5) as running:
            await asyncio.Event().wait()

    assert running.stalled_s == 0.02


async def test_once_it_has_begun_the_other_bound_counts() -> None:
    """Every event begins the wait anew."""
    running = clock([], first_s=0.2, stall_s=1.0)

    async def stalls() -> None:
        async with running:
            for _ in range(3):
                running.heard()
                await asyncio.sleep(0.25)
                assert running.stalled_s is None
            await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        await stalls()
    assert running.stalled_s == 1.0


async def test_without_bounds_nothing_ends_and_nothing_is_said() -> None:
    pings: list[int] = []
    async with clock(pings) as running:
        await asyncio.sleep(0.05)

    assert (running.stalled_s, pings) == (None, [])


async def test_a_client_is_told_after_the_grace_and_then_again_and_again() -> None:
    """What is told to it puts the next one off."""
    pings: list[int] = []
    async with clock(pings, quiet_after_s=0.05, quiet_s=0.02) as running:
        await asyncio.sleep(0.03)
        assert pings == []
        await asyncio.sleep(0.04)
        assert pings
        running.told()
        before = len(pings)
        await asyncio.sleep(0.005)
        assert len(pings) == before
        await asyncio.sleep(0.1)
        assert len(pings) > before + 1


async def test_what_others_take_is_no_silence_of_the_upstreams() -> None:
    """A client that reads slowly does not make its upstream late; the upstream's own silence
    before and after adds up."""
    async with clock([], first_s=None, stall_s=0.6) as running:
        running.heard()
        for _ in range(3):
            running.turn_away()
            await asyncio.sleep(0.4)
            running.turn_back()
            await asyncio.sleep(0.02)
        assert running.stalled_s is None

    with pytest.raises(TimeoutError):
        async with clock([], first_s=0.05, stall_s=None) as running:
            await asyncio.Event().wait()
