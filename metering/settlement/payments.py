"""What a payment at Stripe means for a tenant's credit. Pure.

Rules: nothing is concluded from the order in which events came. What Stripe has now is compared
with what was booked, and the difference is booked; so an event that comes twice, late or before its
cause changes nothing. What was booked stays: money that went back is a booking of its own, and so
is money that came again. A refund or a dispute takes its share of what was credited.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

NANO_PER_CENT = 10_000_000
CURRENCY = "usd"

EVENT_TYPES = (
    "charge.dispute.closed",
    "charge.dispute.created",
    "charge.dispute.updated",
    "charge.refunded",
    "checkout.session.async_payment_succeeded",
    "checkout.session.completed",
    "invoice.paid",
    "payment_intent.succeeded",
    "refund.created",
    "refund.failed",
    "refund.updated",
)
"""What is looked into; other events are noted and left alone."""

GOES_BACK_TYPES = frozenset(
    each
    for each in EVENT_TYPES
    if each.startswith(("charge.dispute.", "charge.refunded", "refund."))
)
"""These may be about a payment from before anybody told us of payments."""

_GOING_BACK = frozenset({"pending", "requires_action", "succeeded"})
"""A refund on its way cannot be spent any more."""
_NOT_GOING_BACK = frozenset({"failed", "canceled"})
_WITHDRAWN = frozenset({"needs_response", "under_review", "lost"})
"""Stripe takes the money when a dispute begins. Inquiries (`warning_...`) take nothing."""

_TOLD_WITHIN_S = 3_600
"""From a payment to its first event, where it was not begun long before."""


class Step(StrEnum):
    """What is booked, once for each payment, refund or dispute."""

    PAID = "paid"
    REFUNDED = "refunded"
    REFUND_FAILED = "refund_failed"
    DISPUTED = "disputed"
    DISPUTE_WON = "dispute_won"


GIVES = frozenset({Step.REFUND_FAILED, Step.DISPUTE_WON})


class State(StrEnum):
    """Where a payment stands here."""

    OPEN = "open"
    """Not paid yet."""
    BOOKED = "booked"
    UNASSIGNED = "unassigned"
    """Paid by nobody that is known."""
    REVIEW = "review"
    """Something is wrong with it, and a person has to say what it is."""
    NOT_CREDIT = "not_credit"
    """It pays an invoice of a subscription: for what was used, not for what will be."""


@dataclass(frozen=True, slots=True)
class GoneBack:
    """A refund or a dispute, as Stripe has it; `amount_minor` in the payment's currency."""

    id: str
    amount_minor: int
    status: str
    created_s: int


@dataclass(frozen=True, slots=True)
class Payment:
    """A payment as Stripe has it now. Its id is that of the payment intent."""

    id: str
    is_paid: bool
    currency: str
    received_minor: int
    paid_s: int
    customer: str | None
    told: frozenset[str] = frozenset()
    """Tenants named by `weir_tenant` in the metadata of the payment, its session or invoice."""
    tax_minor: int = 0
    is_subscription: bool = False
    refunds: tuple[GoneBack, ...] = ()
    disputes: tuple[GoneBack, ...] = ()


@dataclass(frozen=True, slots=True)
class Decided:
    """What a person said about a payment; None for what they left open."""

    tenant: str | None = None
    credit_nano: int | None = None


@dataclass(frozen=True, slots=True)
class Standing:
    """What is to become of a payment, before anything is booked."""

    state: State
    tenant: str | None = None
    credit_nano: int = 0
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Booked:
    """A step that was booked: of which object, and how much."""

    step: Step
    id: str
    amount_nano: int


def standing_of(
    payment: Payment,
    decided: Decided,
    *,
    customers: Mapping[str, str],
    tenants: Collection[str],
) -> Standing:
    """Whose credit it is, and how much. `customers` are Stripe's ids by tenant.

    What a person decided goes first, then the customer, then the metadata; they may not disagree.
    """
    if not payment.is_paid:
        return Standing(State.OPEN)
    credit_nano = decided.credit_nano
    if credit_nano is None:
        if payment.currency != CURRENCY:
            return Standing(State.REVIEW, reason=f"currency_{payment.currency}")
        credit_nano = max(0, payment.received_minor - payment.tax_minor) * NANO_PER_CENT
    if credit_nano <= 0:
        return Standing(State.REVIEW, reason="nothing_to_credit")
    if decided.tenant is not None:
        return Standing(State.BOOKED, decided.tenant, credit_nano)
    if payment.is_subscription:
        return Standing(State.NOT_CREDIT, reason="pays_a_subscription")
    return _owned(payment, credit_nano, customers, tenants)


def unless_from_before(
    standing: Standing, payment: Payment, decided: Decided, first_told_s: int | None
) -> Standing:
    """For a person, where it was paid before anybody told us of payments: it may be booked
    otherwise, and a refund of a part of it would make credit of the rest."""
    is_open = standing.state in (State.BOOKED, State.UNASSIGNED) and decided.tenant is None
    if not is_open or first_told_s is None or payment.paid_s >= first_told_s - _TOLD_WITHIN_S:
        return standing
    return Standing(State.REVIEW, reason="paid_before")


def _owned(
    payment: Payment, credit_nano: int, customers: Mapping[str, str], tenants: Collection[str]
) -> Standing:
    owners = [who for who, customer in customers.items() if customer == payment.customer]
    named = sorted(payment.told)
    if len(named) > 1 or (owners and named and owners != named):
        return Standing(State.REVIEW, reason="tenants_disagree")
    if owners:
        return Standing(State.BOOKED, owners[0], credit_nano)
    if not named:
        return Standing(State.UNASSIGNED, reason="unknown_customer")
    [name] = named
    if name not in tenants:
        return Standing(State.UNASSIGNED, reason="unknown_tenant")
    if payment.customer is not None and customers.get(name, payment.customer) != payment.customer:
        return Standing(State.REVIEW, reason="customer_of_nobody")
    return Standing(State.BOOKED, name, credit_nano)


def steps_due(payment: Payment, credit_nano: int, booked: Iterable[Booked]) -> list[Booked]:
    """What is still to be booked, in order; `credit_nano` is what the payment was credited with."""
    known = {(each.step, each.id): each.amount_nano for each in booked}
    due: list[Booked] = []

    def add(step: Step, of: str, amount_nano: int) -> None:
        known[step, of] = amount_nano
        due.append(Booked(step, of, amount_nano))

    if (Step.PAID, payment.id) not in known:
        add(Step.PAID, payment.id, credit_nano)
    backs = [
        *((each, Step.REFUNDED, Step.REFUND_FAILED) for each in payment.refunds),
        *((each, Step.DISPUTED, Step.DISPUTE_WON) for each in payment.disputes),
    ]
    backs.sort(key=lambda back: (back[0].created_s, back[0].id))
    for each, took, gave in backs:
        was_taken = (took, each.id) in known and (gave, each.id) not in known
        if was_taken and _is_back(each, took):
            add(gave, each.id, known[took, each.id])
    for each, took, _gave in backs:
        if _is_gone(each, took) and (took, each.id) not in known:
            add(took, each.id, _share(each, payment, credit_nano, known, backs))
    return due


def _is_gone(each: GoneBack, took: Step) -> bool:
    return each.status in (_GOING_BACK if took is Step.REFUNDED else _WITHDRAWN)


def _is_back(each: GoneBack, took: Step) -> bool:
    return each.status in _NOT_GOING_BACK if took is Step.REFUNDED else each.status == "won"


def _share(
    each: GoneBack,
    payment: Payment,
    credit_nano: int,
    known: Mapping[tuple[Step, str], int],
    backs: Collection[tuple[GoneBack, Step, Step]],
) -> int:
    """Its part of the credit, never more than what is left; what empties a payment takes all."""
    left = credit_nano
    for (step, _), amount in known.items():
        if step is not Step.PAID:
            left += amount if step in GIVES else -amount
    gone = each.amount_minor + sum(
        other.amount_minor
        for other, took, gave in backs
        if other.id != each.id and (took, other.id) in known and (gave, other.id) not in known
    )
    if gone >= payment.received_minor:
        return max(0, left)
    return min(max(0, left), credit_nano * each.amount_minor // payment.received_minor)
