"""What is asked of Stripe about payments: its SDK, and its answers in our own words.

Rules: a callback is a hint and no more. Everything that is booked was read from Stripe over our own
connection, with our key. Nothing is changed there. What is not there is None; when it could not be
asked, StripeAwayError.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from metering.callbacks import Callback
from metering.settlement.payments import EVENT_TYPES, GoneBack, Payment
from metering.settlement.stripe_port import StripeAwayError, open_client, words_of
from metering.stripe_settings import StripeSettings

TENANT = "weir_tenant"
"""The metadata that names a tenant, on a payment intent, a checkout session or an invoice."""

_PAGE = 100
_ALL_MAX = 1_000
"""Refunds of one payment, or events of one look: beyond that something else is wrong."""


@dataclass(frozen=True, slots=True)
class About:
    """What an event is about: the payments, none where it is about no payment."""

    payments: tuple[str, ...] = ()


class PaymentsPort(Protocol):
    """What the driver needs of Stripe."""

    def about(self, event_id: str) -> About | None:
        """What an event is about; None where Stripe knows none of that id."""

    def payment(self, payment_id: str) -> Payment | None:
        """A payment with everything that happened to it."""

    def events_since(self, since_s: int) -> list[Callback]:
        """Every event of our types that was made since, Unix s."""


class PaymentsSdk:
    """Stripe by its SDK."""

    def __init__(self, settings: StripeSettings) -> None:
        """StripeMissingError without the SDK."""
        self._stripe, client = open_client(settings)
        self._v1 = client.v1

    def about(self, event_id: str) -> About | None:
        """See `PaymentsPort`."""
        event = self._one(lambda: self._v1.events.retrieve(event_id))
        if event is None:
            return None
        if event.type not in EVENT_TYPES:
            return About()
        found = event.data.object
        if event.type.startswith("payment_intent."):
            return About((str(_get(found, "id")),))
        if event.type == "invoice.paid":
            asked = {"invoice": str(_get(found, "id")), "limit": _PAGE}
            payments = [_get(each, "payment") for each in self._list("invoice_payments", asked)]
            names = [_id_of(payment, "payment_intent") for payment in payments]
            return About(tuple(name for name in names if name is not None))
        name = _id_of(found, "payment_intent")
        return About(() if name is None else (name,))

    def payment(self, payment_id: str) -> Payment | None:
        """See `PaymentsPort`."""
        intents = self._v1.payment_intents
        intent = self._one(lambda: intents.retrieve(payment_id, {"expand": ["latest_charge"]}))
        if intent is None:
            return None
        by_intent = {"payment_intent": payment_id, "limit": _PAGE}
        sessions = list(self._list("checkout.sessions", by_intent))
        invoices = list(self._invoices(payment_id))
        charge = _get(intent, "latest_charge")
        paid_s = _get(charge, "created") if charge is not None else None
        return Payment(
            id=payment_id,
            is_paid=intent.status == "succeeded" and intent.amount_received > 0,
            currency=intent.currency.lower(),
            received_minor=int(intent.amount_received),
            paid_s=int(intent.created if paid_s is None else paid_s),
            customer=_id_of(intent, "customer"),
            told=frozenset(
                name
                for each in (intent, *sessions, *invoices)
                if (name := _get(_get(each, "metadata"), TENANT))
            ),
            tax_minor=max((_tax(each) for each in (*sessions, *invoices)), default=0),
            is_subscription=any(_is_subscription(each) for each in invoices),
            refunds=tuple(_gone_back(each) for each in self._list("refunds", by_intent)),
            disputes=tuple(_gone_back(each) for each in self._list("disputes", by_intent)),
        )

    def events_since(self, since_s: int) -> list[Callback]:
        """See `PaymentsPort`."""
        asked = {"types": list(EVENT_TYPES), "created": {"gte": since_s}, "limit": _PAGE}
        events = self._list("events", asked, at_most=None)
        return [Callback(each.id, each.type, int(each.created)) for each in events]

    def _invoices(self, payment_id: str) -> Iterator[Any]:
        payment = {"type": "payment_intent", "payment_intent": payment_id}
        for each in self._list("invoice_payments", {"payment": payment, "limit": _PAGE}):
            name = _id_of(each, "invoice")
            if name is None:
                continue
            invoice = self._one(partial(self._v1.invoices.retrieve, name))
            if invoice is not None:
                yield invoice

    def _one(self, ask: Callable[[], Any]) -> Any:
        try:
            return ask()
        except self._stripe.InvalidRequestError as error:
            if error.http_status == 404:
                return None
            raise StripeAwayError(words_of(error)) from None
        except self._stripe.StripeError as error:
            raise StripeAwayError(words_of(error)) from None

    def _list(
        self, name: str, params: dict[str, Any], *, at_most: int | None = _ALL_MAX
    ) -> Iterator[Any]:
        service: Any = self._v1
        for part in name.split("."):
            service = getattr(service, part)
        try:
            for number, each in enumerate(service.list(params).auto_paging_iter()):
                if number == at_most:
                    raise StripeAwayError(f"more than {at_most} {name} of one payment")
                yield each
        except self._stripe.StripeError as error:
            raise StripeAwayError(words_of(error)) from None


def _gone_back(found: Any) -> GoneBack:
    return GoneBack(found.id, int(found.amount), str(found.status), int(found.created))


def _tax(found: Any) -> int:
    """Of a session or an invoice, which both may tell it: tax is not what was bought."""
    details = _get(found, "total_details")
    if details is not None:
        return int(_get(details, "amount_tax") or 0)
    return sum(int(_get(each, "amount") or 0) for each in _get(found, "total_taxes") or ())


def _is_subscription(invoice: Any) -> bool:
    """Whether Stripe made it for a subscription, and so for usage that was told to its meters."""
    parent = _get(invoice, "parent")
    if parent is not None and _get(parent, "type") == "subscription_details":
        return True
    return str(_get(invoice, "billing_reason") or "").startswith("subscription")


def _get(found: Any, name: str) -> Any:
    """A field; None where Stripe leaves it out."""
    return getattr(found, name, None)


def _id_of(found: Any, name: str) -> str | None:
    """The id of what a field refers to, whether it was expanded or not."""
    value = _get(found, name)
    if value is None or isinstance(value, str):
        return value or None
    return str(_get(value, "id"))
