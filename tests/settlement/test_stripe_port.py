"""Stripe's answers in our own words."""

from __future__ import annotations

from dataclasses import replace

import pytest
import stripe
from fake_stripe import KEY
from fixtures_stripe import METERS, Bench

from metering.settlement.stripe_moves import Became
from metering.settlement.stripe_port import (
    MeterAtStripe,
    Sdk,
    StripeAwayError,
    answer_to,
    fault_of,
)
from metering.stripe_settings import StripeMode, StripeSettings

METER = MeterAtStripe("mtr_1", "tokens", "hour", "sum", True)


@pytest.mark.parametrize(
    ("status", "code", "became"),
    [
        (None, None, Became.UNKNOWN),
        (500, None, Became.UNKNOWN),
        (503, "api_error", Became.UNKNOWN),
        (400, "duplicate_meter_event", Became.TAKEN),
        (409, "idempotency_key_in_use", Became.LATER),
        (409, None, Became.LATER),
        (429, "rate_limit", Became.LATER),
        (400, "rate_limit", Became.LATER),
        (401, None, Became.STOPPED),
        (403, None, Became.STOPPED),
        (400, "timestamp_too_far_in_past", Became.REFUSED),
        (404, "resource_missing", Became.REFUSED),
        (400, "idempotency_error", Became.REFUSED),
        (418, None, Became.REFUSED),
    ],
)
def test_every_answer_has_a_class(status: int | None, code: str | None, became: Became) -> None:
    error = stripe.StripeError("no", http_status=status, code=code)

    answer = answer_to(error)

    assert answer.became is became
    assert answer.has_answered is (status is not None)


def test_a_duplicate_without_a_code_is_known_by_its_text() -> None:
    text = "An event already exists with identifier abc"

    assert answer_to(stripe.StripeError(text, http_status=400)).became is Became.TAKEN


@pytest.mark.parametrize(("said", "seconds"), [("7", 7.0), ("0.5", 0.5), ("Mon, 1 Jan", None)])
def test_retry_after_is_read_in_seconds(said: str, seconds: float | None) -> None:
    error = stripe.StripeError("no", http_status=429, headers={"Retry-After": said})

    assert answer_to(error).retry_after_s == seconds
    assert answer_to(error).is_for_all


@pytest.mark.parametrize(
    ("meter", "mode", "says"),
    [
        (METER, StripeMode.HOURLY, None),
        (replace(METER, window=None), StripeMode.RAW, None),
        (METER, StripeMode.RAW, "event_time_window is hour"),
        (replace(METER, window=None), StripeMode.HOURLY, "event_time_window is none"),
        (replace(METER, window="day"), StripeMode.HOURLY, "event_time_window is day"),
        (replace(METER, formula="count"), StripeMode.HOURLY, "formula is count"),
        (replace(METER, is_active=False), StripeMode.HOURLY, "archived"),
        (None, StripeMode.HOURLY, "no such meter"),
    ],
)
def test_a_meter_that_would_bill_wrongly_is_named(
    meter: MeterAtStripe | None, mode: StripeMode, says: str | None
) -> None:
    fault = fault_of(meter, mode)

    assert fault is None if says is None else says in (fault or "")


def test_summaries_come_page_by_page(raw: Bench) -> None:
    """More hours than a page holds, each with its own total."""
    for hours in range(130):
        raw.use(occurred_at=raw.clock() - hours * 3_600_000_000_000)
    raw.turn()
    port = Sdk(raw.settings)
    end_s = raw.clock.seconds() // 3_600 * 3_600 + 3_600

    meter = port.meters()["llm_tokens"]
    found = port.totals(meter, "cus_acme", start_s=end_s - 130 * 3_600, end_s=end_s)

    assert len(found) == 130
    assert set(found.values()) == {700}


def test_a_stripe_that_is_away_says_so_without_the_key() -> None:
    settings = StripeSettings(KEY, METERS, {}, 0, timeout_s=1.0, api_base="http://127.0.0.1:9")

    with pytest.raises(StripeAwayError) as failure:
        Sdk(settings).meters()

    assert KEY not in str(failure.value)
    assert KEY not in repr(settings)
