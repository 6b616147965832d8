"""Books payments: asks Stripe what a callback is about, and brings the ledger up to it. A shell.

A turn: the callbacks that are due, then the payments that somebody wants to be looked at again.
What a payment comes to is booked in one transaction, with its grant and the rows that make a second
booking impossible; so a death at any point leaves all of it, or nothing and the callback. What
cannot be decided here is kept and told. Synchronous: it belongs in a thread.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from metering.clock import now_ns as clock_ns
from metering.settlement.credits import Grant
from metering.settlement.ledger import payment_book as book
from metering.settlement.ledger.credit_books import (
    GrantConflictError,
    UnknownGrantError,
    add_grant,
    give_again,
    take_back,
)
from metering.settlement.ledger.outbox import put_alerts
from metering.settlement.ledger.payment_book import Waiting
from metering.settlement.ledger.store import Ledger
from metering.settlement.payments import (
    EVENT_TYPES,
    GIVES,
    GOES_BACK_TYPES,
    Booked,
    Payment,
    Standing,
    State,
    Step,
    standing_of,
    steps_due,
    unless_from_before,
)
from metering.settlement.payments_port import PaymentsPort
from metering.settlement.stripe_port import StripeAwayError

PRIORITY = 100
"""Of grants that were paid for: what was given is used up first."""

LOOK_EVERY_NS = 900_000_000_000
"""Events that never came (Redis lost them, or we were away for days) are found this late."""
LOOK_BACK_NS = 3_600_000_000_000
"""Stripe lists an event a moment after it has made it, and clocks differ."""
_EVENTS_KEPT_NS = 29 * 86_400_000_000_000
"""Stripe forgets events after 30 days."""


@dataclass(slots=True)
class PaymentTurn:
    """What a turn came to: how many steps were booked, by name, and what stood in the way."""

    steps: Counter[str] = field(default_factory=Counter)
    looked_at: int = 0
    trouble: str | None = None


class _Under(Ledger):
    """The transaction that is under way, for what would begin one of its own."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """The transaction; whoever began it commits it."""
        yield self._connection


class Payments:
    """Turns of one process. `at` is told each step, for tests that die there."""

    def __init__(
        self,
        ledger: Ledger,
        port: PaymentsPort,
        *,
        customers: Mapping[str, str],
        tenants: Collection[str],
        clock: Callable[[], int] = clock_ns,
        at: Callable[[str], None] = lambda _step: None,
    ) -> None:
        self._ledger, self._port = ledger, port
        self._customers, self._tenants = customers, tenants
        self._clock, self._at = clock, at

    def turn(self) -> PaymentTurn:
        """Look into what is due. Trouble with Stripe ends a turn; what is left waits."""
        turn = PaymentTurn()
        try:
            self._look(turn)
        except StripeAwayError as error:
            turn.trouble = str(error)
            return turn
        callbacks = book.take_callbacks(self._ledger, self._clock())
        self._at("taken")
        for number, each in enumerate(callbacks):
            try:
                self._look_into(each, turn)
            except StripeAwayError as error:
                turn.trouble = str(error)
                book.put_off(self._ledger, each, turn.trouble, self._clock())
                book.give_back(self._ledger, callbacks[number + 1 :], self._clock())
                return turn
            except SQLAlchemyError:  # the leases end by themselves
                raise
            except Exception as error:  # noqa: BLE001 - one that nobody understands stops no other
                turn.trouble = f"{each.id}: {type(error).__name__}"
                book.put_off(self._ledger, each, turn.trouble, self._clock())
        for payment_id, attempts in book.take_due_payments(self._ledger, self._clock()):
            try:
                self._settle(payment_id, turn)
            except StripeAwayError as error:
                turn.trouble = str(error)
                book.put_off_payment(self._ledger, payment_id, attempts, self._clock())
            except SQLAlchemyError:
                raise
            except Exception as error:  # noqa: BLE001 - as above: the worker goes on
                turn.trouble = f"{payment_id}: {type(error).__name__}"
                book.put_off_payment(self._ledger, payment_id, attempts, self._clock())
        return turn

    def _look(self, turn: PaymentTurn) -> None:
        """From time to time: which events there were, whether we were called back or not."""
        now_ns, last = self._clock(), book.last_look(self._ledger)
        if last is not None and now_ns - last < LOOK_EVERY_NS:
            return
        if last is not None:  # what was paid before all this began may be booked elsewhere
            since = max(last - LOOK_BACK_NS, now_ns - _EVENTS_KEPT_NS)
            found = self._port.events_since(since // 1_000_000_000)
            book.keep_callbacks(self._ledger, found, now_ns)
            turn.looked_at += 1
        book.note_look(self._ledger, now_ns)
        self._at("looked")

    def _look_into(self, callback: Waiting, turn: PaymentTurn) -> None:
        state, reason = "ignored", None
        if callback.type in EVENT_TYPES:
            about = self._port.about(callback.id)
            self._at("asked")
            if about is None:
                state, reason = "review", "unknown_event"
            elif about.payments:
                state = "done"
                for payment_id in about.payments:
                    self._settle(payment_id, turn, told_paid=callback.type not in GOES_BACK_TYPES)
        with self._ledger.write() as connection:
            book.close_callback(connection, callback.id, state, reason)
            if reason is not None:
                key = f"payment_review:event:{callback.id}"
                self._tell(connection, key, {"event_id": callback.id, "reason": reason})
        self._at("closed")

    def _settle(self, payment_id: str, turn: PaymentTurn, *, told_paid: bool = False) -> None:
        """Bring the books to what Stripe says of this payment now; `told_paid` when it was told by
        an event that says that it was paid."""
        payment = self._port.payment(payment_id)
        self._at("fetched")
        if payment is None:  # an event names it, so it was there: another account's key?
            raise StripeAwayError("a payment that an event names is not there")
        try:
            with self._ledger.write() as connection:
                steps = self._book(connection, payment, told_paid=told_paid)
                self._at("booking")
        except (GrantConflictError, UnknownGrantError, ValueError) as error:
            with self._ledger.write() as connection:  # somebody has changed its grant by hand
                self._refuse(connection, payment, str(error))
            steps = []
        self._at("booked")
        turn.steps.update(step.step.value for step in steps)

    def _book(self, connection: Connection, payment: Payment, *, told_paid: bool) -> list[Booked]:
        now_ns = self._clock()
        book.lock_payment(connection, payment, now_ns)
        if (known := book.tenant_of(connection, payment.id)) is not None:
            tenant, credit_nano = known  # what is booked stays whose it is
            standing = Standing(State.BOOKED, tenant, credit_nano)
        else:
            decided = book.decided(connection, payment.id)
            standing = standing_of(
                payment, decided, customers=self._customers, tenants=self._tenants
            )
            if not told_paid and not book.waits_for_owner(connection, payment.id):
                first_s = book.first_told_s(connection)
                standing = unless_from_before(standing, payment, decided, first_s)
        book.note_payment(connection, payment, standing, now_ns)
        if standing.state in (State.UNASSIGNED, State.REVIEW):
            self._alert(connection, payment, standing)
        if standing.tenant is None:
            return []
        steps = steps_due(payment, standing.credit_nano, book.booked(connection, payment.id))
        for step in steps:
            self._book_step(connection, payment, standing, step, now_ns)
        return steps

    def _book_step(
        self,
        connection: Connection,
        payment: Payment,
        standing: Standing,
        step: Booked,
        now_ns: int,
    ) -> None:
        assert standing.tenant is not None, "only what is somebody's has steps"
        under, grant_id = _Under(connection), grant_id_of(payment.id)
        key = f"stripe:{step.id}"
        book.note_step(
            connection,
            payment.id,
            step,
            tenant=standing.tenant,
            grant_id=grant_id,
            now_ns=now_ns,
        )
        if step.step is Step.PAID:
            add_grant(under, _grant(payment, standing), now_ns)
        elif not step.amount_nano:  # nothing is left that it could be taken from
            return
        elif step.step in GIVES:
            give_again(under, grant_id, step.amount_nano, idem_key=key, now_ns=now_ns)
        else:
            take_back(
                under,
                grant_id,
                step.amount_nano,
                idem_key=key,
                reason="refund" if step.step is Step.REFUNDED else "dispute",
                now_ns=now_ns,
            )

    def _refuse(self, connection: Connection, payment: Payment, reason: str) -> None:
        now_ns = self._clock()
        book.lock_payment(connection, payment, now_ns)
        standing = Standing(State.REVIEW, reason=reason)
        if (known := book.tenant_of(connection, payment.id)) is not None:
            booked = Standing(State.BOOKED, known[0], known[1], reason)
            book.note_payment(connection, payment, booked, now_ns)
        else:
            book.note_payment(connection, payment, standing, now_ns)
        self._alert(connection, payment, standing)

    def _alert(self, connection: Connection, payment: Payment, standing: Standing) -> None:
        kind = f"payment_{standing.state}"
        body = {
            "payment": payment.id,
            "customer": payment.customer,
            "amount_minor": payment.received_minor,
            "currency": payment.currency,
            "reason": standing.reason,
        }
        self._tell(connection, f"{kind}:{payment.id}:{standing.reason}", body)

    def _tell(self, connection: Connection, key: str, body: Mapping[str, Any]) -> None:
        put_alerts(connection, [(key, body)], self._clock())


def grant_id_of(payment_id: str) -> str:
    """The grant that a payment was credited as."""
    return f"stripe:{payment_id}"


def _grant(payment: Payment, standing: Standing) -> Grant:
    assert standing.tenant is not None, "only what is somebody's is granted"
    return Grant(
        id=grant_id_of(payment.id),
        tenant=standing.tenant,
        kind="paid",
        priority=PRIORITY,
        amount_nano=standing.credit_nano,
        effective_at=payment.paid_s * 1_000_000_000,
        expires_at=None,
        source="stripe",
        note=payment.id,
    )
