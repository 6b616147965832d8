"""Stripe beside settlement: on when it is configured, off when it is not."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from fixtures_stripe import Bench
from fixtures_worker import CollectingLog

from metering.clock import now_ns
from metering.settlement.stripe_loop import StripeLoop
from metering.settlement.watch import Unwatched


class Counting(Unwatched):
    """A watch that remembers turns with Stripe, and ends the loop after some."""

    def __init__(self, over: asyncio.Event, turns: int) -> None:
        self.over, self.left = over, turns
        self.told: list[tuple[dict[str, int], int]] = []

    def synced(self, outcomes, *, waiting: int, held: int) -> None:
        self.told.append((dict(outcomes), waiting))
        self.left -= 1
        if not self.left:
            self.over.set()


async def test_turns_are_told_and_a_retry_does_not_wait_for_the_next(hourly: Bench) -> None:
    """What failed is tried again after a second, although turns are a minute apart."""
    hourly.stripe.trouble = lambda number: "500_after" if number == 1 else None
    hourly.clock.now_ns = now_ns()
    hourly.use()
    over = asyncio.Event()
    watch, log = Counting(over, turns=2), CollectingLog()
    loop = StripeLoop(
        hourly.ledger,
        lambda: replace(hourly.settings, since_ns=0),
        log=log,
        watch=watch,
    )

    async with asyncio.timeout(9):
        await loop.run(over)

    assert watch.told == [({"unknown": 1, "taken": 1}, 1), ({"taken": 1}, 0)]
    assert len(hourly.stripe.applied) == 2


async def test_nothing_is_done_without_a_section(hourly: Bench) -> None:
    over = asyncio.Event()
    loop = StripeLoop(hourly.ledger, lambda: None, log=CollectingLog(), watch=Unwatched())
    hourly.use()

    async with asyncio.TaskGroup() as group:
        group.create_task(loop.run(over))
        await asyncio.sleep(0)
        over.set()

    assert hourly.stripe.applied == []
