"""Stripe's payments, as far as they matter to credit, and the events that tell of them.

`fake_stripe`'s server answers for them too.

Whatever happens makes events, as at Stripe; a test delivers them in any order, twice, or never.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from metering.stripe_signature import sign

WEBHOOK_SECRET = "whsec_0123456789abcdef0123"


@dataclass
class FakePayments:
    """`trouble(path)` gives a status to fail a request with, or None."""

    clock_s: Callable[[], int]
    objects: dict[str, dict[str, Any]] = field(default_factory=dict)
    events: list[dict[str, Any]] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    trouble: Callable[[str], int | None] = lambda _path: None

    def __post_init__(self) -> None:
        self._ids = itertools.count(1)

    # what happens there

    def pay(
        self,
        cents: int = 10_000,
        *,
        customer: str | None = "cus_acme",
        currency: str = "usd",
        status: str = "succeeded",
        **metadata: str,
    ) -> str:
        """A payment intent; its id."""
        name = self._new("pi")
        charge = {"id": self._new("ch"), "object": "charge", "created": self.clock_s()}
        intent = {
            "id": name,
            "object": "payment_intent",
            "status": status,
            "currency": currency,
            "amount": cents,
            "amount_received": cents if status == "succeeded" else 0,
            "created": self.clock_s(),
            "customer": customer,
            "metadata": metadata,
            "latest_charge": charge,
        }
        self.objects[name] = intent
        if status == "succeeded":
            self._tell("payment_intent.succeeded", intent)
        return name

    def session(self, payment: str, *, tax: int = 0, **metadata: str) -> str:
        """The checkout session that the payment was made in."""
        name = self._new("cs")
        found = {
            "id": name,
            "object": "checkout.session",
            "payment_intent": payment,
            "metadata": metadata,
            "total_details": {"amount_tax": tax},
        }
        self.objects[name] = found
        self._tell("checkout.session.completed", found)
        return name

    def invoice(self, payment: str, *, reason: str = "manual", **metadata: str) -> str:
        """The invoice that the payment was for."""
        name, link = self._new("in"), self._new("inpay")
        found = {
            "id": name,
            "object": "invoice",
            "billing_reason": reason,
            "metadata": metadata,
            "total_taxes": [],
        }
        self.objects[name] = found
        self.objects[link] = {
            "id": link,
            "object": "invoice_payment",
            "invoice": name,
            "payment": {"type": "payment_intent", "payment_intent": payment},
        }
        self._tell("invoice.paid", found)
        return name

    def refund(self, payment: str, cents: int, *, status: str = "succeeded") -> str:
        name = self._new("re")
        found = self._gone(name, "refund", payment, cents, status)
        self._tell("charge.refunded", {**self.objects[payment]["latest_charge"], **_of(payment)})
        self._tell("refund.created", found)
        return name

    def dispute(self, payment: str, cents: int, *, status: str = "needs_response") -> str:
        name = self._new("dp")
        self._tell("charge.dispute.created", self._gone(name, "dispute", payment, cents, status))
        return name

    def become(self, name: str, status: str, event: str) -> None:
        """A refund or a dispute goes on."""
        self.objects[name]["status"] = status
        self._tell(event, self.objects[name])

    def _gone(self, name: str, kind: str, payment: str, cents: int, status: str) -> dict[str, Any]:
        found = {
            "id": name,
            "object": kind,
            "amount": cents,
            "status": status,
            "created": self.clock_s(),
            **_of(payment),
        }
        self.objects[name] = found
        return found

    def _tell(self, kind: str, about: dict[str, Any]) -> None:
        self.events.append(
            {
                "id": self._new("evt"),
                "object": "event",
                "type": kind,
                "created": self.clock_s(),
                "data": {"object": json.loads(json.dumps(about))},  # as it was then
            }
        )

    def _new(self, prefix: str) -> str:
        return f"{prefix}_{next(self._ids):04d}"

    def callback(self, event: dict[str, Any], *, at_s: int | None = None) -> tuple[bytes, str]:
        """The body and the header of the request that tells of it."""
        body = json.dumps(event).encode()
        return body, sign(body, WEBHOOK_SECRET, at_s=self.clock_s() if at_s is None else at_s)

    # what is asked there

    def answer(self, path: str, asked: dict[str, str]) -> tuple[int, dict[str, Any]] | None:
        """The answer to a GET; None where the path is none of these."""
        parts = path.removeprefix("/v1/").split("/")
        kinds = {
            "payment_intents": "payment_intent",
            "refunds": "refund",
            "disputes": "dispute",
            "invoices": "invoice",
            "invoice_payments": "invoice_payment",
            "events": "event",
        }
        if parts[:2] == ["checkout", "sessions"]:
            parts = ["checkout.session", *parts[2:]]
        elif parts[0] in kinds:
            parts = [kinds[parts[0]], *parts[1:]]
        else:
            return None
        self.asked.append(path)
        if (status := self.trouble(path)) is not None:
            return status, {"error": {"type": "api_error", "message": "no", "code": None}}
        if len(parts) > 1:
            return self._one(parts[0], parts[1])
        return 200, self._list(path, parts[0], asked)

    def _one(self, kind: str, name: str) -> tuple[int, dict[str, Any]]:
        among = {each["id"]: each for each in self.events} if kind == "event" else self.objects
        found = among.get(name)
        if found is None:
            error = {"type": "invalid_request_error", "code": "resource_missing", "message": "no"}
            return 404, {"error": error}
        return 200, found

    def _list(self, path: str, kind: str, asked: dict[str, str]) -> dict[str, Any]:
        rows = [each for each in self.objects.values() if each["object"] == kind]
        if kind == "event":
            since = int(asked["created[gte]"])
            types = {value for name, value in asked.items() if name.startswith("types[")}
            rows = [
                each for each in self.events if each["created"] >= since and each["type"] in types
            ]
        if (intent := asked.get("payment_intent")) is not None:
            rows = [each for each in rows if each["payment_intent"] == intent]
        if (intent := asked.get("payment[payment_intent]")) is not None:
            rows = [each for each in rows if each["payment"]["payment_intent"] == intent]
        if (invoice := asked.get("invoice")) is not None:
            rows = [each for each in rows if each["invoice"] == invoice]
        rows = rows[::-1]  # the newest first, as at Stripe
        if (after := asked.get("starting_after")) is not None:
            rows = rows[[row["id"] for row in rows].index(after) + 1 :]
        limit = int(asked["limit"])
        return {"object": "list", "url": path, "data": rows[:limit], "has_more": len(rows) > limit}


def _of(payment: str) -> dict[str, str]:
    return {"payment_intent": payment}
