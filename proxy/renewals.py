"""Holds of long exchanges are renewed and checkpointed; those that nobody will use are given back.

A hold expires by itself so that a killed process gives its room back; an exchange that lives
longer than its hold would otherwise lose it while it still spends. What it has come to so far is
noted beside the hold, about a second after it began and then every few seconds in which that has
changed: it is all that is known of it should this process be killed. A hold that lapsed all the
same is placed again, if it still fits, and so is one that Redis has lost with its data; when that
may have happened, `hurry` has all of them looked at. A hold whose reserve was never answered may
have been placed: it is released as soon as Redis answers again. Neither waits for another: one
tenant's broken key, or a part of a Cluster that is away, is in nobody else's way.

A renewal also says when somebody has paused or killed a scope of the exchange: then it is ended,
and so is every other one here in the same scopes. Those that have nothing else to say are asked
about once for all that share their scopes.

The same list says what is open when the process stops, and cuts what does not end by itself.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from dataclasses import dataclass
from typing import Any

from metering.background import spawn
from metering.caps import (
    Caps,
    CapsUnavailableError,
    Denial,
    DenialReason,
    Hold,
    HoldEndedError,
    Reservation,
    Scope,
    WindowsRebuildingError,
)
from metering.clock import monotonic_s
from metering.redis_wire import RedisReplyError
from proxy.door import Holding, HoldTimes
from proxy.room import STOPS

RELEASE_AGAIN_S = 0.5

TURN_EVERY_S = 0.5
RENEW_AGAIN_S = 1.0
"""After a renewal that Redis did not answer, or could not while it is being rebuilt; many tries fit
into the time a hold lives."""

TOGETHER = 64
"""Renewals that are sent at once: one write and one wait, and a bounded one, for all of them."""


Scopes = tuple[str, tuple[Scope, ...]]
"""The tenant and what else can be paused or killed: for all who share them a flag says the same."""


@dataclass(slots=True)
class _Care:
    """When one exchange is looked at next and was last renewed (monotonic s), and what it said."""

    task: asyncio.Task[Any] | None
    due_s: float
    renewed_s: float
    said: tuple[int, ...] | None = None


class Renewals:
    """The open exchanges of this process; `run` cares for them until it is cancelled."""

    def __init__(self, caps: Caps, log: Any, times: HoldTimes | None = None) -> None:
        self._caps = caps
        self._log = log
        self._times = times or HoldTimes()
        self._open: dict[Holding, _Care] = {}
        self._looked: dict[Scopes, float] = {}
        self._hurries = 0
        self._hurried = asyncio.Event()
        self._unused: deque[tuple[float, Hold]] = deque()
        self._releasing: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self._open)

    @property
    def open(self) -> list[Holding]:
        """The exchanges that are cared for now."""
        return list(self._open)

    @property
    def ttl_ms(self) -> int:
        """How long a hold lives that nobody renews."""
        return self._times.ttl_ms

    def add(self, exchange: Holding, task: asyncio.Task[Any] | None = None) -> None:
        """Start caring for this exchange, right after reserve; run by `task`, or by this one."""
        now_s = monotonic_s()
        due_s = now_s + self._times.first_checkpoint_s
        self._open[exchange] = _Care(task or asyncio.current_task(), due_s, now_s)

    def discard(self, exchange: Holding) -> None:
        """It has ended."""
        self._open.pop(exchange, None)

    def look(self, exchange: Holding) -> None:
        """It has come far since it was looked at: the next turn renews it, if it is still open."""
        care = self._open.get(exchange)
        if care is not None:
            care.due_s = 0.0

    def hurry(self) -> None:
        """Redis may have lost what it was told: all are renewed, with a checkpoint, from now on.

        What is under way meanwhile may have been answered before the loss, and counts for nothing.
        """
        self._hurries += 1
        self._hurried.set()
        for care in self._open.values():
            care.due_s, care.said = 0.0, None

    def cut(self) -> int:
        """Cancel every open exchange, which settles what it has counted; how many there were."""
        cut = [care.task for care in self._open.values() if care.task is not None]
        for task in cut:
            task.cancel()
        return len(cut)

    def give_back(self, hold: Hold) -> None:
        """Release a hold that nobody will use, as soon as Redis takes it."""
        self._unused.append((monotonic_s(), hold))
        if self._releasing is None:
            self._releasing = spawn(self._release(), name="release-unused")

    async def _release(self) -> None:
        """Release what is unused, oldest first; one that fails goes to the end of the line.

        A Redis that stood still applies late what lies in its socket, so a hold may begin long
        after it was asked for: it is given up only past its time and with Redis answering. The
        pause comes when all have failed, or so many in a row that Redis must be away.
        """
        failed = 0
        try:
            while self._unused:
                if failed >= min(TOGETHER, len(self._unused)):
                    await asyncio.sleep(RELEASE_AGAIN_S)
                    failed = 0
                since_s, hold = self._unused[0]
                try:
                    await self._caps.release(hold)
                except CapsUnavailableError as error:
                    is_over = monotonic_s() - since_s >= self.ttl_ms / 1000
                    if not (is_over and isinstance(error, RedisReplyError)):
                        self._unused.rotate(-1)
                        failed += 1
                        continue
                except Exception as error:  # noqa: BLE001 - the top of a task; it lapses by itself
                    self._log.error(
                        "release_failed", exchange_id=hold.exchange_id, cause=repr(error)
                    )
                self._unused.popleft()
                failed = 0
        finally:
            self._releasing = None

    async def run(self) -> None:
        """Do what is due, forever."""
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._hurried.wait(), TURN_EVERY_S)
            self._hurried.clear()
            try:
                await self.turn(monotonic_s())
            except Exception as error:  # noqa: BLE001 - the top of a task; the next turn tries again
                self._log.error("renewals_failed", cause=repr(error))

    async def turn(self, now_s: float) -> None:
        """Renew the exchanges that are due and have something new to say, or have not for long.

        Those that have waited longest come first: who was not asked for because Redis was away is
        not overtaken by those that fail again and again.
        """
        stale_s = now_s - self._times.checkpoint_every_s
        self._looked = {scopes: at_s for scopes, at_s in self._looked.items() if at_s > stale_s}
        due = [one for one, care in self._open.items() if care.due_s <= now_s]
        due.sort(key=lambda one: self._open[one].due_s)
        failures: list[CapsUnavailableError] = []
        for exchanges in _chunks([one for one in due if self._is_news(one, now_s)]):
            answers = await asyncio.gather(*(self._renew(one, now_s) for one in exchanges))
            failed = [error for error in answers if error is not None]
            failures += failed
            if len(failed) == len(exchanges) and not any(error.is_its_own for error in failed):
                break  # Redis is away: the rest is still due, and the next turn asks for it again
        if failures:
            self._log.warning("renewal_failed", holds=len(failures), cause=str(failures[-1]))

    def _is_news(self, exchange: Holding, now_s: float) -> bool:
        """Whether a renewal is worth its round trip; if not, it is looked at again later."""
        care = self._open[exchange]
        if exchange.is_ending:
            return False
        scopes = _scopes(exchange.hold)
        is_old = now_s - care.renewed_s >= self._times.renew_every_s
        if is_old or exchange.progress != care.said or scopes not in self._looked:
            self._looked[scopes] = now_s
            return True
        care.due_s = now_s + self._times.checkpoint_every_s
        return False

    async def _renew(self, exchange: Holding, now_s: float) -> CapsUnavailableError | None:
        """Renew one, with a checkpoint if it has changed; why Redis did not take it, if so."""
        care = self._open.get(exchange)
        if care is None or exchange.is_ending:
            return None
        hurries, progress = self._hurries, exchange.progress
        pause_s = self._times.checkpoint_every_s
        care.due_s = now_s + pause_s  # first of all: one that fails oddly is not in others' way
        noted = exchange.checkpoint() if progress and progress != care.said else None
        try:
            renewal = await self._caps.renew(exchange.hold, ttl_ms=self.ttl_ms, checkpoint=noted)
            is_held = renewal.is_held
            if renewal.stop is not None:
                self._stop(exchange.hold, Denial(renewal.stop, scope=renewal.scope))
            elif not is_held and self._is_open(exchange):
                is_held = await self._place_again(exchange)
            if hurries == self._hurries and is_held:
                care.said = progress
            elif not is_held:
                pause_s = self._times.renew_every_s
        except WindowsRebuildingError:  # said by others, and no reason for those behind to wait
            care.due_s = now_s + RENEW_AGAIN_S
            return None
        except CapsUnavailableError as error:
            care.due_s = now_s + RENEW_AGAIN_S
            return error
        except (HoldEndedError, ValueError) as error:
            self._tell_lapsed(exchange, str(error))
            pause_s = self._times.renew_every_s
        if hurries == self._hurries:
            care.renewed_s, care.due_s = now_s, now_s + pause_s
        return None

    async def _place_again(self, exchange: Holding) -> bool:
        """What has lapsed or was lost is placed again, or the cap could be passed, and nobody would
        recover it; whether it was.

        What has lapsed has to fit; what was lost is placed in any case, and while windows are
        rebuilt: it runs, and would leave no trace should this process die.
        """
        held = exchange.held
        if held is None:
            self._tell_lapsed(exchange, "what it held is not known")
            return False
        answer: Reservation | Denial | None = None
        with contextlib.suppress(HoldEndedError):  # lost, or ended after all, which reserve knows
            answer = await self._caps.swap(exchange.hold, held)
        if answer is None or _is_rebuilding(answer):
            if not self._is_open(exchange):
                return False
            try:
                answer = await exchange.place([held])
            except HoldEndedError:
                if answer is None:
                    raise
                raise WindowsRebuildingError(
                    "it has lapsed; its windows are being rebuilt"
                ) from None
            if exchange not in self._open:  # its end has not seen what was placed for it
                self.give_back(exchange.hold)
                return False
        while isinstance(answer, Reservation) and (grown := exchange.held) not in (held, None):
            held = grown  # by a slice that was asked for before, and which this has undone
            answer = await self._caps.swap(exchange.hold, held)
        if isinstance(answer, Denial):
            if answer.reason is DenialReason.REBUILDING:
                raise WindowsRebuildingError("its windows are being rebuilt")
            if answer.reason in STOPS:
                self._stop(exchange.hold, answer)
                return False
            self._tell_lapsed(exchange, f"it does not fit any more: {answer.reason}")
            return False
        self._log.warning("hold_placed_again", exchange_id=exchange.hold.exchange_id)
        if exchange.progress:
            noted = exchange.checkpoint()
            await self._caps.renew(exchange.hold, ttl_ms=self.ttl_ms, checkpoint=noted)
        return True

    def _stop(self, hold: Hold, denial: Denial) -> None:
        """End every exchange in the same scopes that is still under way."""
        scopes = _scopes(hold)
        for each in [one for one in self._open if _scopes(one.hold) == scopes]:
            if not each.is_ending:
                each.stop(denial)

    def _is_open(self, exchange: Holding) -> bool:
        return exchange in self._open and not exchange.is_ending

    def _tell_lapsed(self, exchange: Holding, cause: str) -> None:
        if self._is_open(exchange):  # one that ended meanwhile has lost nothing
            self._log.warning("hold_lapsed", exchange_id=exchange.hold.exchange_id, cause=cause)


def _scopes(hold: Hold) -> Scopes:
    return hold.tenant, hold.stops


def _is_rebuilding(answer: Reservation | Denial) -> bool:
    return isinstance(answer, Denial) and answer.reason is DenialReason.REBUILDING


def _chunks(exchanges: list[Holding]) -> list[list[Holding]]:
    return [exchanges[at : at + TOGETHER] for at in range(0, len(exchanges), TOGETHER)]
