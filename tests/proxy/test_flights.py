"""Identical requests at once: who flies, who waits, who goes alone."""

from __future__ import annotations

import asyncio

from metering.replies import Found, Reply
from proxy.flights import Flight, Flights, Landed

ANSWER = Found(Reply(200, b"x", False), 0)


def _nobody() -> None:
    """Nobody is told."""


async def _join(flights: Flights, **times: float) -> Found | Flight | None:
    wait_s, quiet_s = times.get("wait_s", 5.0), times.get("quiet_s", 5.0)
    return await flights.join("n", wait_s=wait_s, quiet_s=quiet_s, on_quiet=_nobody)


async def _led(flights: Flights) -> Flight:
    flight = await _join(flights)
    assert isinstance(flight, Flight)
    return flight


async def test_who_waits_gets_the_answer() -> None:
    """All of them, and the flight is gone."""
    flights = Flights()
    flight = await _led(flights)
    waiting = [asyncio.ensure_future(_join(flights)) for _ in range(3)]
    while flight.followers < 3:
        await asyncio.sleep(0)

    flight.land(ANSWER)

    assert await asyncio.gather(*waiting) == [ANSWER] * 3
    assert len(flights) == 0


async def test_after_a_failure_one_takes_its_place() -> None:
    """The others wait for that one."""
    flights = Flights()
    flight = await _led(flights)
    waiting = [asyncio.ensure_future(_join(flights)) for _ in range(3)]
    while flight.followers < 3:
        await asyncio.sleep(0)
    flight.land(Landed.FAILED)
    done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    second = done.pop().result()
    assert isinstance(second, Flight)
    second.land(ANSWER)

    results = await asyncio.gather(*waiting)

    assert results.count(ANSWER) == 2


async def test_an_answer_for_one_alone_sends_all_their_own_way() -> None:
    """Nobody waits for another one in vain."""
    flights = Flights()
    flight = await _led(flights)
    waiting = [asyncio.ensure_future(_join(flights)) for _ in range(3)]
    while flight.followers < 3:
        await asyncio.sleep(0)

    flight.land(Landed.OWN)
    flight.land(ANSWER)  # the first word counts

    assert await asyncio.gather(*waiting) == [None] * 3


async def test_nobody_waits_for_ever() -> None:
    """Who has waited long enough goes alone, and is told of meanwhile; the flight goes on."""
    flights = Flights()
    flight = await _led(flights)
    told = []

    result = await flights.join("n", wait_s=0.05, quiet_s=0.01, on_quiet=lambda: told.append(1))

    assert result is None
    assert told
    assert flight.followers == 0
    assert len(flights) == 1


async def test_who_is_cancelled_waits_no_more() -> None:
    """It is no reason to read an answer to its end."""
    flights = Flights()
    flight = await _led(flights)
    waiting = asyncio.ensure_future(_join(flights))
    while not flight.followers:
        await asyncio.sleep(0)

    waiting.cancel()
    await asyncio.wait([waiting])

    assert flight.followers == 0
