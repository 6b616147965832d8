"""What a comparison comes to: who bears it, which rates are off, what a model earns."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from reconcile_samples import DAYS, FINAL, IN, MODEL, cost, own, theirs

from metering.settlement.reconcile import Account, Terms
from metering.settlement.reconcile_money import UNATTRIBUTED, allocate, report

USD = 10**9


def _report(ours: Any, usage: Any = (), costs: Any = (), **changes: Any) -> dict[str, Any]:
    terms = {"usage_days": FINAL, "cost_days": FINAL, **changes}
    return report(ours, usage, costs, Terms(**terms))


def _proposed(body: dict[str, Any]) -> list[tuple[str, int]]:
    return [(one["tenant"], one["cost_nano"]) for one in body["corrections"]]


@given(
    st.integers(-(10**15), 10**15),
    st.dictionaries(
        st.tuples(*[st.sampled_from("abc")] * 4), st.integers(0, 10**12), min_size=1
    ).filter(lambda weights: any(weights.values())),
)
def test_an_allocation_sums_to_its_amount(amount: int, weights: Any) -> None:
    """To the nano-dollar; who has no weight bears nothing, and nobody bears the other sign."""
    found = allocate(amount, weights)

    assert sum(found.values()) == amount
    assert all(weights[grain] and share * amount > 0 for grain, share in found.items())


def test_a_dearer_bill_is_borne_by_who_spent() -> None:
    """In proportion to what each spent, under the model's name as we send it."""
    ours = [own(75_000, 3 * USD), own(25_000, USD, tenant="zeta", key="k2")]
    body = _report(ours, [theirs()], [cost(6 * USD)])

    assert _proposed(body) == [("acme", 1_500_000_000), ("zeta", 500_000_000)]
    first = body["corrections"][0]
    assert (first["upstream"], first["model"], first["gap"]) == ("gpt-4o", MODEL, "price")


def test_a_cheaper_bill_gives_cost_back() -> None:
    """Corrections have both signs."""
    assert _proposed(_report([own(cost=4 * USD)], [theirs()], [cost(USD)])) == [("acme", -3 * USD)]


def test_what_nobody_caused_is_nobodys() -> None:
    """Traffic with our key that went around the proxy, and charges that name no model."""
    body = _report([own()], [theirs()], [cost(), cost(2 * USD, model="")])

    assert _proposed(body) == [(UNATTRIBUTED, 2 * USD)]


def test_usage_that_cost_nothing_bears_by_its_tokens() -> None:
    """Where there was no price yet there is no spend to go by."""
    ours = [own(30_000, 0, unpriced=1), own(70_000, 0, unpriced=1, tenant="zeta")]

    assert _proposed(_report(ours, [theirs()], [cost(USD)])) == [
        ("acme", 300_000_000),
        ("zeta", 700_000_000),
    ]


def test_what_is_open_is_not_proposed() -> None:
    """Young days, other keys, other money, and what lies within a percent."""
    near = [own(cost=USD), own(cost=USD, day=DAYS[1])]
    costs = [cost(USD + 5_000_000), cost(9 * USD, day=DAYS[1]), cost(USD, currency="EUR")]
    costs.append(cost(USD, key="key_2"))
    account = Account(keys=frozenset({"key_1"}))
    body = _report(near, (), costs, cost_days={DAYS[0]: True, DAYS[1]: False}, account=account)

    assert _proposed(body) == []
    assert body["provisional"] == [DAYS[1]]
    assert body["totals"]["foreign_nano"] == USD


def test_a_rate_is_proposed_where_the_tokens_agree() -> None:
    """From what the provider charged for each class, over its tokens."""
    ours = [own(1_000_000, 2_500_000_000), own(1_000_000, 10 * USD, unit="output_text")]
    usage = [theirs(1_000_000), theirs(1_000_000, unit="output_text")]
    costs = [cost(3 * USD, what="input"), cost(10 * USD, what="output")]
    body = _report(ours, usage, costs)

    assert body["price_changes"] == [
        {
            "model": MODEL,
            "unit": IN,
            "ours_pico": 2_500_000,
            "theirs_pico": 3_000_000,
            "quantity": 1_000_000,
        }
    ]
    assert _report([own(500_000, USD)], usage, costs)["price_changes"] == []


def test_models_over_the_threshold_are_listed() -> None:
    """With what they capture and earn in truth, and whether that makes up for it."""
    ours = [own(cost=USD, sell_nano=4 * USD), own(cost=USD, sell_nano=4 * USD, model="mini")]
    body = _report(ours, (), [cost(2 * USD), cost(USD, model="mini")])
    rows = {row["model"]: row for row in body["models"]}

    assert body["over_alert"] == [MODEL]
    assert rows[MODEL]["drift_ppm"] == 500_000
    assert rows[MODEL]["capture_ppm"] == 2_000_000
    assert rows[MODEL]["booked_margin_ppm"] == 750_000
    assert rows[MODEL]["true_margin_ppm"] == 500_000
    assert rows[MODEL]["is_compensated"]
    assert not rows["mini"]["is_over"]
    assert body["totals"]["provider_nano"] == 3 * USD


def test_a_tenants_cost_is_what_it_would_be_after_the_corrections() -> None:
    """The sum over tenants is the provider's bill."""
    ours = [own(cost=USD), own(cost=3 * USD, tenant="zeta")]
    body = _report(ours, (), [cost(8 * USD), cost(USD, model="")])

    true = {row["tenant"]: row["true_nano"] for row in body["tenants"]}
    assert true == {"acme": 2 * USD, "zeta": 6 * USD, UNATTRIBUTED: USD}
    assert sum(true.values()) == body["totals"]["provider_nano"]
