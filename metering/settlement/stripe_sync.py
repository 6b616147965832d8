"""Keeps Stripe's meters at what the ledger says. A shell: `stripe_moves` decides, rows remember.

A turn: take the lease, write down what the ledger says, then for each customer's meter one request
after another, each stored before it is sent and after it is answered. A death at any point leaves a
row that says where to go on. Everything here is synchronous and belongs in a thread; meters are
worked on side by side, at most `LANES` at once.
"""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from metering.clock import now_ns as clock_ns
from metering.settlement.ledger import stripe_book as book
from metering.settlement.ledger.leases import LeaseLostError
from metering.settlement.ledger.outbox import put_alerts
from metering.settlement.ledger.rollups import update_rollups
from metering.settlement.ledger.store import Ledger
from metering.settlement.ledger.stripe_totals import follow, is_behind, survey
from metering.settlement.stripe_moves import (
    DAY_NS,
    HOUR_NS,
    OLDEST_NS,
    TOO_OLD,
    Became,
    Hour,
    Next,
    State,
    answered,
    can_verify,
    compared,
    freeze,
    hold,
    next_step,
    release,
    verified,
)
from metering.settlement.stripe_port import MeterAtStripe, StripeAwayError, StripePort, fault_of
from metering.stripe_settings import StripeMode, StripeSettings

LANES = 4
"""Requests at once, over all customers: about 40 a second, a tenth of what Stripe takes."""

VERIFY_EVERY_NS = 6 * HOUR_NS

Alerts = list[tuple[str, Mapping[str, Any]]]


class _StopTurn(Exception):
    """Nothing more can be done in this turn."""


@dataclass(slots=True)
class Turn:
    """What a turn came to. `outcomes` counts answers by what became of the requests."""

    had_lease: bool = True
    outcomes: Counter[str] = field(default_factory=Counter)
    waiting: int = 0
    """Hours that Stripe does not have as the ledger has them."""
    held: int = 0
    differing: int = 0
    """Hours in which a verification found another total than was sent."""
    verified: int = 0
    next_at: int | None = None
    """When the next retry is due, if one is."""
    trouble: str | None = None
    """Why Stripe could not be asked."""


class Sync:
    """Turns of one process. `at` is told each step, for tests that die there."""

    def __init__(
        self,
        ledger: Ledger,
        settings: StripeSettings,
        port: StripePort,
        *,
        holder: str,
        clock: Callable[[], int] = clock_ns,
        at: Callable[[str], None] = lambda _step: None,
    ) -> None:
        self._ledger, self._settings, self._port = ledger, settings, port
        self._holder, self._clock, self._at = holder, clock, at
        self._has_surveyed = False
        self._meters: dict[str, MeterAtStripe] = {}
        self._meters_at = 0
        self._over = threading.Event()
        self._pause_until = 0

    def stop(self) -> None:
        """End the turn after the requests that are under way."""
        self._over.set()

    def turn(
        self,
        *,
        verify: bool = False,
        repair: bool = True,
        raw_too: bool = False,
        reopen: bool = False,
        send: bool = True,
    ) -> Turn:
        """Send what Stripe lacks; with `verify`, and every six hours, compare all it has.

        `repair` sends again what differs of hourly meters, and of raw ones with `raw_too`; `reopen`
        tries once more what is held. Without `send` Stripe is only asked.
        """
        turn = Turn()
        if not book.take_lease(self._ledger, self._holder, self._clock()):
            turn.had_lease = False
            return turn
        self._at("leased")
        try:
            self._write_down()
            if reopen:
                self._reopen()
            self._learn_meters()
            if send:
                self._send(turn)
            now_ns = self._clock()
            if verify or now_ns - book.last_verified(self._ledger) >= VERIFY_EVERY_NS:
                self.verify(turn, repair=repair, raw_too=raw_too)
                if send:
                    self._send(turn)
        except (_StopTurn, StripeAwayError) as error:
            turn.trouble = str(error)
        except LeaseLostError:
            turn.had_lease = False
            return turn
        self._at("done")
        self._count(turn)
        book.give_lease(self._ledger, self._holder)
        return turn

    def _write_down(self) -> None:
        """What the ledger says, into the rows."""
        update_rollups(self._ledger)
        now_ns = self._clock()
        if not self._has_surveyed:
            with self._ledger.write() as connection:
                book.keep_lease(connection, self._holder, now_ns)
                survey(connection, self._settings, now_ns)
            self._has_surveyed = True
            self._at("surveyed")
        while True:
            with self._ledger.read() as connection:
                if not is_behind(connection):
                    return
            with self._ledger.write() as connection:
                book.keep_lease(connection, self._holder, self._clock())
                if not follow(connection, self._settings):
                    return
            self._at("followed")

    def _reopen(self) -> None:
        with self._ledger.write() as connection:
            book.keep_lease(connection, self._holder, self._clock())
            for each in book.held(connection):
                book.move(connection, each, release(each))

    def _learn_meters(self) -> None:
        """What Stripe has under our names; a meter that would bill wrongly is told and left out."""
        now_ns = self._clock()
        if self._meters_at and now_ns - self._meters_at < VERIFY_EVERY_NS:
            return
        found = self._port.meters()
        alerts: Alerts = []
        self._meters = {}
        for each in self._settings.meters:
            meter = found.get(each.event_name)
            fault = fault_of(meter, self._settings.mode)
            if meter is not None and fault is None:
                self._meters[each.event_name] = meter
            else:
                key = f"stripe_unfit:{each.event_name}:{now_ns // DAY_NS}"
                alerts.append((key, {"event_name": each.event_name, "cause": fault}))
        self._tell(alerts)
        self._meters_at = now_ns if len(self._meters) == len(self._settings.meters) else 0

    def _send(self, turn: Turn) -> None:
        with self._ledger.read() as connection:
            hours = book.unsettled(connection)
        queues: dict[tuple[str, str], list[Hour]] = {}
        for each in hours:
            if each.event_name in self._meters:
                queues.setdefault((each.customer, each.event_name), []).append(each)
        if not queues:
            return
        with ThreadPoolExecutor(min(LANES, len(queues)), thread_name_prefix="stripe") as threads:
            outcomes = list(threads.map(self._drain, queues.values()))
        for drained in outcomes:
            turn.outcomes.update(drained.outcomes)
        for drained in outcomes:
            if drained.error is not None:
                raise drained.error

    def _drain(self, hours: Sequence[Hour]) -> _Drained:
        """One customer's meter: what is under way goes first, and nothing passes it."""
        drained = _Drained()
        try:
            for hour in sorted(hours, key=lambda each: each.state != State.SENDING):
                if not self._settle(hour, drained):
                    break
        except Exception as error:  # noqa: BLE001 - raised again by whoever waits for the threads
            drained.error = error
        return drained

    def _settle(self, hour: Hour, drained: _Drained) -> bool:
        """Bring one hour as far as it goes; False when the next of its meter has to wait."""
        is_checked = False
        while not self._over.is_set() and self._clock() >= self._pause_until:
            step = next_step(hour, self._clock())
            if step is Next.NOTHING:
                return hour.state != State.SENDING
            if step is Next.HOLD:
                hour = self._move(hour, hold(hour, TOO_OLD))
                continue
            if step is Next.FREEZE:
                hour = self._move(hour, freeze(hour, self._clock()))
                is_checked = True
                self._at("frozen")
                continue
            meter = self._meters[hour.event_name]
            if step is Next.COMPARE:
                start_s = hour.hour // 1_000_000_000
                seen = self._seen(meter, hour.customer, start_s, start_s + 3_600)
                self._at("looked")
                hour = self._move(hour, compared(hour, seen.get(start_s, 0), self._clock()))
                continue
            if not is_checked:
                self._still_ours(hour)
            is_checked = False
            answer = self._port.send(hour, meter)
            self._at("answered")
            drained.outcomes[str(answer.became)] += 1
            jitter = random.random()  # noqa: S311 - spreads retries, guards nothing
            hour = self._move(hour, answered(hour, answer, self._clock(), jitter=jitter))
            self._at("noted")
            if answer.is_for_all:
                self._pause_until = max(self._pause_until, hour.next_at)
            if answer.became is Became.STOPPED:
                raise _StopTurn(f"Stripe refuses us: {answer.code}")
        return False

    def _still_ours(self, hour: Hour) -> None:
        """Right before a call: the lease outlasts it, and the row is what is about to be sent."""
        with self._ledger.write() as connection:
            book.keep_lease(connection, self._holder, self._clock())
            found = book.the_hour(connection, hour.key)
        if found is None or (found.rev, found.state) != (hour.rev, State.SENDING):
            raise LeaseLostError

    def _move(self, before: Hour, after: Hour) -> Hour:
        alerts: Alerts = []
        if after.state == State.HELD and before.state != State.HELD:
            alerts = [held_alert(after, self._clock())]
        with self._ledger.write() as connection:
            book.keep_lease(connection, self._holder, self._clock())
            book.move(connection, before, after)
            put_alerts(connection, alerts, self._clock())
        return after

    def _seen(
        self, meter: MeterAtStripe, customer: str, start_s: int, end_s: int
    ) -> Mapping[int, int]:
        return self._port.totals(meter, customer, start_s=start_s, end_s=end_s)

    def verify(self, turn: Turn, *, repair: bool, raw_too: bool = False) -> None:
        """Compare every hour that Stripe still takes with its summaries. Under the lease."""
        now_ns = self._clock()
        with self._ledger.read() as connection:
            hours = book.hours_since(connection, now_ns - OLDEST_NS)
        queues: dict[tuple[str, str], list[Hour]] = {}
        for each in hours:
            if each.event_name in self._meters and can_verify(each, now_ns):
                queues.setdefault((each.customer, each.event_name), []).append(each)
        for (customer, event_name), queue in queues.items():
            if self._over.is_set():
                return
            first_s, last_s = (at.hour // 1_000_000_000 for at in (queue[0], queue[-1]))
            seen = self._seen(self._meters[event_name], customer, first_s, last_s + 3_600)
            self._at("looked")
            for each in queue:
                amount = seen.get(each.hour // 1_000_000_000, 0)
                mends = repair and (raw_too or each.mode == StripeMode.HOURLY)
                self._note(turn, each, verified(each, amount, now_ns, repair=mends))
        book.note_verified(self._ledger, now_ns)

    def _note(self, turn: Turn, before: Hour, after: Hour) -> None:
        turn.verified += after.verified_at is not None
        if after.verified_at is None:
            turn.differing += 1
            self._tell([differs_alert(before, after)])
        if after != before:
            self._move(before, after)

    def _count(self, turn: Turn) -> None:
        with self._ledger.read() as connection:
            waiting, turn.held = book.unsettled(connection), len(book.held(connection))
        turn.waiting = len(waiting)
        due = [each.next_at for each in waiting if each.next_at]
        turn.next_at = min(due, default=None)

    def _tell(self, alerts: Alerts) -> None:
        if alerts:
            with self._ledger.write() as connection:
                put_alerts(connection, alerts, self._clock())


@dataclass(slots=True)
class _Drained:
    outcomes: Counter[str] = field(default_factory=Counter)
    error: Exception | None = None


def held_alert(hour: Hour, now_ns: int) -> tuple[str, Mapping[str, Any]]:
    """What a person has to decide about; once a day for each tenant, meter and cause."""
    kind = "stripe_too_late" if hour.reason == TOO_OLD else "stripe_held"
    which = f"{hour.tenant}:{hour.event_name}:{hour.reason}"
    body = {**_about(hour), "reason": hour.reason, "lacks": hour.wanted - hour.acked}
    return f"{kind}:{which}:{now_ns // DAY_NS}", body


def differs_alert(before: Hour, after: Hour) -> tuple[str, Mapping[str, Any]]:
    """Stripe shows another total than it took."""
    which = f"{before.tenant}:{before.event_name}:{before.hour}:{before.rev}"
    said = {"sent": before.acked, "seen": after.seen, "is_repaired": after.acked == after.seen}
    return f"stripe_differs:{which}", {**_about(before), **said}


def _about(hour: Hour) -> dict[str, Any]:
    return {
        "tenant": hour.tenant,
        "event_name": hour.event_name,
        "customer": hour.customer,
        "hour_ms": hour.hour // 1_000_000,
    }
