"""What a payment means for credit: whose it is, and what is still to be booked."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.settlement.payments import (
    GIVES,
    NANO_PER_CENT,
    Booked,
    Decided,
    GoneBack,
    Payment,
    Standing,
    State,
    Step,
    standing_of,
    steps_due,
)

PAID = Payment("pi_1", True, "usd", 10_000, 1_793_491_200, "cus_acme")
CREDIT = 10_000 * NANO_PER_CENT
CUSTOMERS = {"acme": "cus_acme", "beta": "cus_beta"}
TENANTS = {"acme", "beta", "gamma"}


def stand(payment: Payment, decided: Decided | None = None) -> Standing:
    decided = decided or Decided()
    return standing_of(payment, decided, customers=CUSTOMERS, tenants=TENANTS)


@pytest.mark.parametrize(
    ("changes", "state", "tenant", "reason"),
    [
        ({}, "booked", "acme", None),
        ({"is_paid": False}, "open", None, None),
        ({"told": frozenset({"acme"})}, "booked", "acme", None),
        ({"told": frozenset({"beta"})}, "review", None, "tenants_disagree"),
        ({"told": frozenset({"acme", "beta"})}, "review", None, "tenants_disagree"),
        ({"customer": "cus_new"}, "unassigned", None, "unknown_customer"),
        ({"customer": None}, "unassigned", None, "unknown_customer"),
        ({"customer": None, "told": frozenset({"beta"})}, "booked", "beta", None),
        ({"customer": "cus_new", "told": frozenset({"gamma"})}, "booked", "gamma", None),
        (
            {"customer": "cus_new", "told": frozenset({"beta"})},
            "review",
            None,
            "customer_of_nobody",
        ),
        ({"customer": None, "told": frozenset({"nobody"})}, "unassigned", None, "unknown_tenant"),
        ({"currency": "eur"}, "review", None, "currency_eur"),
        ({"tax_minor": 10_000}, "review", None, "nothing_to_credit"),
        ({"is_subscription": True}, "not_credit", None, "pays_a_subscription"),
    ],
)
def test_whose_it_is(changes, state: str, tenant: str | None, reason: str | None) -> None:
    """The customer decides, metadata where there is none, and they may not disagree."""
    found = stand(replace(PAID, **changes))

    assert (found.state, found.tenant, found.reason) == (state, tenant, reason)


def test_tax_is_not_credited() -> None:
    assert stand(replace(PAID, tax_minor=1_900)).credit_nano == 8_100 * NANO_PER_CENT


def test_a_person_decides_before_all_else() -> None:
    """Whose it is, and what another currency is worth."""
    odd = replace(PAID, currency="eur", customer=None)

    assert stand(odd, Decided("beta")).state is State.REVIEW
    assert stand(odd, Decided("beta", 7)) == Standing(State.BOOKED, "beta", 7)
    assert stand(replace(PAID, is_subscription=True), Decided("acme")).state is State.BOOKED


def refund(number: int, cents: int, status: str = "succeeded") -> GoneBack:
    return GoneBack(f"re_{number}", cents, status, number)


def dispute(number: int, cents: int, status: str = "needs_response") -> GoneBack:
    return GoneBack(f"dp_{number}", cents, status, number)


@pytest.mark.parametrize("status", ["pending", "requires_action", "succeeded"])
def test_a_refund_takes_its_share(status: str) -> None:
    """From when it is on its way."""
    payment = replace(PAID, refunds=(refund(1, 2_500, status),))

    assert steps_due(payment, CREDIT, []) == [
        Booked(Step.PAID, "pi_1", CREDIT),
        Booked(Step.REFUNDED, "re_1", CREDIT // 4),
    ]


@pytest.mark.parametrize("status", ["warning_needs_response", "warning_closed", "won", "prevented"])
def test_what_takes_no_money_is_not_booked(status: str) -> None:
    payment = replace(
        PAID, disputes=(dispute(1, 10_000, status),), refunds=(refund(2, 5, "failed"),)
    )

    assert [each.step for each in steps_due(payment, CREDIT, [])] == [Step.PAID]


def test_a_dispute_that_is_won_gives_again_what_it_took() -> None:
    lost = replace(PAID, disputes=(dispute(1, 4_000),))
    booked = steps_due(lost, CREDIT, [])
    won = replace(PAID, disputes=(dispute(1, 4_000, "won"),))

    assert steps_due(won, CREDIT, booked) == [Booked(Step.DISPUTE_WON, "dp_1", CREDIT * 2 // 5)]
    assert steps_due(lost, CREDIT, [*booked, *steps_due(won, CREDIT, booked)]) == []


def test_refund_and_dispute_of_the_same_money_take_it_once() -> None:
    payment = replace(PAID, refunds=(refund(1, 10_000),), disputes=(dispute(2, 10_000),))

    assert [each.amount_nano for each in steps_due(payment, CREDIT, [])] == [CREDIT, CREDIT, 0]


_STATUS = {
    "re": st.sampled_from(["pending", "succeeded", "failed", "canceled"]),
    "dp": st.sampled_from(["needs_response", "under_review", "lost", "won", "warning_closed"]),
}


@given(
    st.integers(1, 10_000),
    st.lists(
        st.lists(
            st.tuples(st.sampled_from(["re", "dp"]), st.integers(1, 4), st.integers(1, 9_999)),
            max_size=4,
        ),
        min_size=1,
        max_size=5,
    ),
    st.data(),
)
def test_credit_is_never_below_nothing(credit: int, histories, data) -> None:
    """Whatever Stripe says, in whatever order: what is left is never below 0 nor above the credit,
    and the same truth twice changes nothing."""
    booked: list[Booked] = []
    for history in histories:
        found = {
            (kind, number): GoneBack(f"{kind}_{number}", cents, data.draw(_STATUS[kind]), number)
            for kind, number, cents in history
        }
        payment = replace(
            PAID,
            refunds=tuple(each for (kind, _), each in found.items() if kind == "re"),
            disputes=tuple(each for (kind, _), each in found.items() if kind == "dp"),
        )
        booked += steps_due(payment, credit, booked)

        assert steps_due(payment, credit, booked) == []
        left = 0
        for each in booked:
            is_added = each.step in GIVES or each.step is Step.PAID
            left += each.amount_nano if is_added else -each.amount_nano
            assert 0 <= left <= credit


def test_refunds_that_make_up_the_whole_leave_nothing() -> None:
    """However the shares were rounded."""
    parts = [refund(number, cents) for number, cents in enumerate((3_333, 3_333, 3_334))]

    for order in itertools.permutations(parts):
        booked: list[Booked] = []
        for count in range(1, 4):
            booked += steps_due(replace(PAID, refunds=order[:count]), 101, booked)
        assert sum(each.amount_nano for each in booked if each.step is Step.REFUNDED) == 101
