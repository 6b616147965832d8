"""What an answer that is given again comes to."""

from __future__ import annotations

from fixtures_door import rule, tenant
from hypothesis import given
from hypothesis import strategies as st

from metering.events import decode
from metering.money import PPM
from metering.prices import PriceBook, RatesByModel
from metering.settlement.rating import rate
from metering.tenants import Principal
from proxy.attempts import Facts
from proxy.hit_billing import bill_of_hit, share_of

FACTS = Facts(
    exchange_id="0190e3a0-0000-7000-8000-000000000001",
    request_id="req_1",
    principal=Principal(tenant(), tenant().keys[0]),
    proxy_id="p-0",
    occurred_at=1_000_000_000,
    model_requested="m",
    stream=False,
)
BOOK = PriceBook((rule("*"),))
PRICE = BOOK.find(provider="one", model="up-m", public_name="m")
KEPT = {"provider": "one", "model_upstream": "up-m", "model_public": "m", "vendor": 5}
UNITS = st.dictionaries(
    st.sampled_from(("input_uncached", "output_text", "input_cache_read")),
    st.integers(0, 10**9),
)


@given(UNITS, st.integers(0, PPM))
def test_a_share_is_never_more_than_it(units: dict[str, int], billed_ppm: int) -> None:
    """Of each unit, rounded down; a call of an API and an inference are none."""
    shared = share_of({**units, "api_call": 1, "inference": 1}, billed_ppm)

    for unit, count in shared.items():
        assert 0 < count <= units[unit]
        assert count * PPM <= units[unit] * billed_ppm
    if billed_ppm == PPM:
        assert shared == {unit: count for unit, count in units.items() if count}


def test_what_is_stored_is_not_believed() -> None:
    """Units that are none are not billed."""
    assert share_of({"a": "x", "b": -5, "c": True, "d": 2.5}, PPM) == {}
    assert share_of(None, PPM) == {}


@given(UNITS)
def test_the_ledger_comes_to_the_same(units: dict[str, int]) -> None:
    """What the caps count is what is booked, at no cost, with nothing unpriced."""
    assert PRICE is not None
    made = bill_of_hit(
        FACTS,
        KEPT,
        event_id="e",
        status="hit",
        units=share_of(units, PPM),
        price=PRICE,
        is_admitted=True,
        now_ns=2_000_000_000,
        spool_seq=None,
    )
    event = decode(made.events[0])
    sell = RatesByModel(BOOK.body(sell=True), version=BOOK.sell_version)
    rated = rate(event, None, sell if event.billable else None)

    assert event.admission_nano == made.actual.nano == rated.sell_nano
    assert (rated.cost_nano, rated.unpriced, rated.differs) == (0, (), False)
    assert event.vendor == ""
    assert made.actual.requests == 1


def test_without_a_charge_nothing_is_billed() -> None:
    """Nor counted: past a cap it is no request either."""
    made = bill_of_hit(
        FACTS,
        KEPT,
        event_id="e",
        status="replay",
        units={},
        price=None,
        is_admitted=False,
        now_ns=2_000_000_000,
        spool_seq=7,
    )
    event = decode(made.events[0])

    assert made.actual == type(made.actual)()
    assert (event.billable, event.reason_code, event.attempt) == (False, "retry", 0)
    assert (event.spool_seq, event.spool_events, made.spool_seq) == (7, 1, 7)
