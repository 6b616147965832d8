"""A ledger, a clock that is set by hand, and a Stripe to keep in step with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from fake_stripe import KEY, FakeStripe
from fixtures_ledger import NOVEMBER_NS, book, make_event

from metering.plans import API_CALLS, LLM_TOKENS
from metering.settlement.ledger import tables
from metering.settlement.ledger.rollups import update_rollups
from metering.settlement.ledger.store import Ledger
from metering.settlement.ledger.stripe_totals import totals_of
from metering.settlement.stripe_port import Sdk
from metering.settlement.stripe_sync import Sync, Turn
from metering.stripe_settings import StripeMeter, StripeMode, StripeSettings

HOUR = 3_600_000_000_000
CUSTOMERS = {"acme": "cus_acme", "beta": "cus_beta"}
METERS = (StripeMeter(LLM_TOKENS, "llm_tokens"), StripeMeter(API_CALLS, "api_calls"))


class Clock:
    """UTC ns, set by hand."""

    def __init__(self, now_ns: int = NOVEMBER_NS) -> None:
        self.now_ns = now_ns

    def __call__(self) -> int:
        return self.now_ns

    def seconds(self) -> int:
        return self.now_ns // 1_000_000_000


class Bench:
    """Everything together."""

    def __init__(self, ledger: Ledger, mode: StripeMode) -> None:
        self.ledger, self.clock = ledger, Clock()
        self.stripe = FakeStripe(self.clock.seconds, customers=set(CUSTOMERS.values()))
        window = "hour" if mode is StripeMode.HOURLY else None
        for each in METERS:
            self.stripe.add_meter(each.event_name, event_time_window=window)
        self.settings = StripeSettings(
            KEY,
            METERS,
            CUSTOMERS,
            since_ns=NOVEMBER_NS - 40 * 24 * HOUR,
            mode=mode,
            timeout_s=5.0,
            api_base=self.stripe.start(),
        )
        self.sync = self.new_sync()

    def new_sync(self, holder: str = "one", at: Callable[[str], None] | None = None) -> Sync:
        return Sync(
            self.ledger,
            self.settings,
            Sdk(self.settings),
            holder=holder,
            clock=self.clock,
            at=at or (lambda _step: None),
        )

    def use(self, **changes: Any) -> Any:
        """An event in the ledger."""
        units = {"input_uncached": 500, "output_text": 200, "api_call": 1}
        event = make_event(**{"units": units, "occurred_at": self.clock(), **changes})
        book(self.ledger, [event])
        return event

    def turn(self, *, later: int = 0, **how: Any) -> Turn:
        self.clock.now_ns += later
        return self.sync.turn(**how)

    def want(self) -> dict[tuple[str, str], int]:
        """What the ledger says, by customer and meter."""
        update_rollups(self.ledger)
        found = {(who, each.event_name): 0 for who in CUSTOMERS.values() for each in METERS}
        everything = [tables.rollup.c.tenant.in_(list(CUSTOMERS))]
        with self.ledger.read() as connection:
            for (tenant, name, _), total in totals_of(
                connection, self.settings, everything
            ).items():
                found[CUSTOMERS[tenant], name] += total
        return found

    def have(self) -> dict[tuple[str, str], int]:
        """What Stripe would bill."""
        return {
            (customer, each.event_name): self.stripe.total(each.event_name, customer)
            for customer in CUSTOMERS.values()
            for each in METERS
        }

    def alerts(self) -> list[str]:
        with self.ledger.read() as connection:
            rows = connection.execute(tables.outbox.select()).all()
        return sorted(row.key.partition(":")[0] for row in rows)

    def change(self, **changes: Any) -> None:
        self.settings = replace(self.settings, **changes)
        self.sync = self.new_sync()


@pytest.fixture
def hourly(ledger: Ledger) -> Iterator[Bench]:
    made = Bench(ledger, StripeMode.HOURLY)
    yield made
    made.stripe.stop()


@pytest.fixture
def raw(ledger: Ledger) -> Iterator[Bench]:
    made = Bench(ledger, StripeMode.RAW)
    yield made
    made.stripe.stop()


@pytest.fixture(params=list(StripeMode))
def bench(request: pytest.FixtureRequest, ledger: Ledger) -> Iterator[Bench]:
    made = Bench(ledger, request.param)
    yield made
    made.stripe.stop()
