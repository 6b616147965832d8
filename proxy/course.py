"""The course of one exchange from upstream to upstream: which is next, what is waited for first,
and when it has to be over.

`routing.fallback` decides; this gathers what it needs, waits, and plans detours when they are
needed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from metering.clock import monotonic_s
from proxy import detours
from proxy.attempts import Attempt, Facts
from proxy.continuing import Continuing
from proxy.door import Door
from proxy.planning import Plan
from proxy.stream_clock import StreamClock
from routing.fallback import DETOURS, FallbackPlan, Outcome, Stop, Try, Wait
from routing.policy import Option
from routing.retries import ON_FAILURE

THREAD_ABOVE_TOKENS = 4_000
"""A prompt longer than this is counted in a thread, as at the door."""

_SPREAD = 0.6180339887498949
"""The golden section: its multiples lie far from each other."""


class Course:
    """Gives one attempt after another: `next`, then `record`, or `pass_over` where the caps had no
    room. `ping` tells the client that its stream goes on."""

    def __init__(
        self,
        door: Door,
        facts: Facts,
        plan: Plan,
        options: Sequence[Option],
        *,
        until_s: float | None,
        ping: Callable[[], None] | None,
        going: Continuing | None = None,
    ) -> None:
        """`going` is the stream, where another upstream may go on with it."""
        model = door.settings.models.get(facts.model_requested)
        self._door, self._facts, self._plan, self._ping = door, facts, plan, ping
        self._going = going
        self._steps = FallbackPlan(
            options,
            retries=(ON_FAILURE if model is None else model.on_failure).retries,
            budget=door.budgets,
            standing=door.health,
            until_s=until_s,
        )
        self._tried: list[Attempt] = []
        self.is_waiting = False
        """Whether nothing is under way: an upstream is to be asked again later."""

    async def next(self) -> Try | Stop:
        """The next attempt, once it is time for it."""
        step = self._steps.next(monotonic_s(), self._jitter() if self._tried else 0.0)
        if isinstance(step, Wait):
            self.is_waiting = True
            await self._wait(step)
            self.is_waiting = False
            step = self._steps.next(monotonic_s())
            assert not isinstance(step, Wait)  # nobody waits twice
        return step

    async def record(self, attempt: Attempt) -> None:
        """Note how an attempt ended, and plan what its end makes possible."""
        self._tried.append(attempt)
        outcome = attempt.outcome
        assert outcome is not None  # else it has raised
        if outcome is Outcome.SERVED:
            self._steps.record(outcome)
            return
        answered = attempt.http_status is not None
        self._steps.record(outcome, after_s=attempt.retry_after_s, answered=answered)
        going = self._going
        if going is not None and going.is_due:
            self._steps.detour(await self._others(going, attempt))
        elif outcome in DETOURS and (going is None or not going.is_on):
            self._steps.detour(await self._detour(attempt))

    def pass_over(self) -> None:
        """The caps had no room for what `next` gave last."""
        self._steps.pass_over()

    def end(self) -> None:
        """The exchange is over."""
        for label in self._steps.unpaid:
            self._door.metrics.unpaid(label)

    async def _wait(self, wait: Wait) -> None:
        server = self._door.settings.server
        if self._ping is None:
            await asyncio.sleep(wait.seconds)
            return
        async with StreamClock(
            first_s=None,
            stall_s=None,
            quiet_after_s=server.keepalive_after_s,
            quiet_s=server.keepalive_s,
            on_quiet=self._ping,
        ):
            await asyncio.sleep(wait.seconds)

    async def _others(self, going: Continuing, attempt: Attempt) -> list[Option]:
        """Those that may go on with its stream."""
        wanted = (self._steps.waiting, self._door.calibration)
        seen = attempt.option.prompt_tokens + attempt.meter.output_seen
        if seen > THREAD_ABOVE_TOKENS:
            return await asyncio.to_thread(going.options, *wanted)
        return going.options(*wanted)

    async def _detour(self, attempt: Attempt) -> list[Option]:
        outcome, option, plan = attempt.outcome, attempt.option, self._plan
        assert outcome is not None
        named: list[Option] = []
        if plan.detours is not None:
            wanted = (outcome, option.changes, self._door.calibration)
            if option.prompt_tokens > THREAD_ABOVE_TOKENS:
                named = await asyncio.to_thread(plan.detours.options, *wanted)
            else:
                named = plan.detours.options(*wanted)
        return detours.after(
            outcome,
            [(each.option, each.outcome) for each in self._tried],
            named=named,
            waiting=self._steps.waiting,
        )

    def _jitter(self) -> float:
        """Within 0 and 1, from the random end of the exchange's id: the same once more."""
        seed = int(self._facts.exchange_id[-8:], 16) / 2**32
        return (seed + len(self._tried) * _SPREAD) % 1.0
