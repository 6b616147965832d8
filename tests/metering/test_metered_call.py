"""What a metered call comes to, however it ends."""

from __future__ import annotations

from typing import Any

import pytest

from metering.caps import Denial, DenialReason, Hold, Scope, ScopeKind
from metering.events import decode
from metering.meter import Meter
from metering.metered_call import CallFacts, CallStoppedError, Ending, MeteredCall
from metering.money import PPM
from metering.price_variants import Overlay, Variants
from metering.prices import PriceBook, PriceRule
from metering.recovery import LostHold, recovery
from metering.tenant_caps import Labels
from metering.tokenizer import tokenizer_for

NOW_NS = 1_790_000_000 * 10**9
EXCHANGE = "018f0000-0000-7000-8000-000000000001"
BOOK = PriceBook((PriceRule("gpt-4o", 1_000_000, 4_000_000),))


CONDITIONS = Variants(
    tiers={"flex": Overlay(None, 500_000, 500_000), "priority": Overlay(None, 2 * PPM, 2 * PPM)},
    regions={"eu": Overlay(None, 1_100_000, 1_100_000)},
)
VARIED = PriceBook((PriceRule("gpt-4o", 1_000_000, 4_000_000, variants=CONDITIONS),))


def call(*, input_tokens: int = 10, book: PriceBook = BOOK, **more: Any) -> MeteredCall:
    tokenizer = tokenizer_for("gpt-4o")
    facts = CallFacts(
        exchange_id=EXCHANGE,
        event_id="018f0000-0000-7000-8000-000000000002",
        tenant="acme",
        project="default",
        key_id="library",
        labels=Labels(feature="batch"),
        step=None,
        vendor="",
        provider="own",
        model="gpt-4o",
        price=book.find(provider="own", model="gpt-4o", public_name="gpt-4o"),
        tokenizer=tokenizer.name,
        input_tokens=input_tokens,
        occurred_at=NOW_NS - 2_000_000,
        owner="lib-1",
        **more,
    )
    return MeteredCall(facts, Meter(tokenizer, input_tokens), lambda: NOW_NS)


def test_what_was_fed_is_counted_and_billed() -> None:
    """Input and output at the model's rates, as the proxy would."""
    made = call()
    for piece in ("Hello", " wor", "ld"):
        made.feed(piece)

    actual, body = made.bill(Ending.SERVED)

    event = decode(body)
    assert event.units == {"input_uncached": 10, "output_text": 2, "api_call": 1, "inference": 1}
    assert (actual.nano, actual.tokens, actual.requests) == (18_000, 12, 1)
    assert (event.admission_nano, event.status, event.usage_source) == (
        18_000,
        "success",
        "counted",
    )
    assert (event.feature, event.latency_ms, event.ttft_ms) == ("batch", 2, 2)


def test_what_the_provider_says_goes_first() -> None:
    """The last word of it, by token class."""
    made = call()
    made.feed("Hello world")
    made.usage(input={"input_uncached": 5, "input_cache_read": 4}, output={"output_text": 7})

    event = decode(made.bill(Ending.SERVED)[1])

    assert event.units["output_text"] == 7
    assert event.units["input_cache_read"] == 4
    assert event.usage_source == "provider"


@pytest.mark.parametrize(
    ("ending", "sends", "feeds", "is_billed", "status"),
    [
        (Ending.SERVED, False, False, True, "success"),
        (Ending.FAILED, False, False, False, None),
        (Ending.FAILED, True, False, True, "error"),
        (Ending.FAILED, False, True, True, "truncated"),
        (Ending.CANCELLED, False, True, True, "cancelled"),
        (Ending.CANCELLED, False, False, False, None),
    ],
)
def test_what_failed_before_it_was_sent_is_not_billed(
    ending: Ending, *, sends: bool, feeds: bool, is_billed: bool, status: str | None
) -> None:
    """What was sent is billed at least for its input, what was delivered for that, too."""
    made = call()
    if sends:
        made.sent()
    if feeds:
        made.feed("Hello")

    assert made.is_billed(ending) is is_billed
    if is_billed:
        event = decode(made.bill(ending)[1])
        assert (event.status, event.units["input_uncached"]) == (status, 10)


def test_a_stop_is_raised_where_the_answer_is_fed() -> None:
    """What came with it is counted all the same: it was delivered."""
    made = call()
    made.stop = CallStoppedError(DenialReason.KILLED, Scope(ScopeKind.RUN, "r1"))

    with pytest.raises(CallStoppedError, match="run r1 was killed"):
        made.feed("Hello")

    assert made.output_tokens == 1
    assert isinstance(Denial(DenialReason.KILLED), Denial)


def lost(made: MeteredCall, checkpoint: bytes) -> LostHold:
    return LostHold(
        Hold("acme", EXCHANGE, ()),
        "lib-1",
        made.facts.upstream,
        NOW_NS // 1_000_000,
        facts=made.facts.hold_facts(),
        checkpoint=checkpoint,
    )


def test_a_killed_process_leaves_what_can_be_recovered() -> None:
    """From its checkpoint what was delivered; from its facts that the input may have cost us."""
    made = call()
    made.feed("Hello")

    noted = recovery(lost(made, made.checkpoint()))
    unnoted = recovery(lost(made, b""))

    [event] = [decode(body) for body in noted.events]
    assert (event.usage_source, event.units["output_text"]) == ("recovered", 1)
    assert event.event_id != made.facts.event_id
    [event] = [decode(body) for body in unnoted.events]
    assert (event.billable, event.units, event.cost_nano) == (False, {"input_uncached": 10}, 10_000)


@pytest.mark.parametrize(
    ("asked", "reported", "region", "nano", "tier"),
    [
        (None, None, None, 10_000, None),
        ("flex", None, None, 5_000, "flex"),
        ("flex", "priority", "eu", 22_000, "priority"),
        ("flex", "default", None, 10_000, None),
        ("flex", "turbo", None, 5_000, "flex"),
        (None, "turbo", None, 20_000, "priority"),
    ],
)
def test_tier_and_region_decide_on_the_price(
    asked: str | None, reported: str | None, region: str | None, nano: int, tier: str | None
) -> None:
    """What is reported goes before what was asked for, as in the proxy."""
    made = call(book=VARIED, asked_tier=asked, region=region)
    made.sent()
    made.service_tier = reported

    actual, body = made.bill(Ending.SERVED)

    event = decode(body)
    assert (actual.nano, event.cost_nano, event.admission_nano) == (nano, nano, nano)
    assert (event.service_tier, event.price_tier, event.region) == (reported, tier, region)
    assert (event.usage_suspect is not None) == (reported == "turbo")


def test_a_lost_call_is_recovered_at_its_tier_and_region() -> None:
    """What the worker rates is what the facts of the hold say."""
    noted = call(book=VARIED, asked_tier="flex", region="eu").facts.hold_facts()

    lost = LostHold(Hold("acme", EXCHANGE, ()), "lib-1", "own/gpt-4o", 10**12, facts=noted)
    (found,) = map(decode, recovery(lost).events)

    assert (found.cost_nano, found.price_tier, found.region) == (5_500, "flex", "eu")
