"""Payments of a Stripe on a real socket, in the ledger: once each, in whatever order."""

from __future__ import annotations

import contextlib
import random

import pytest
from fixtures_payments import USD, Till

from metering.settlement.credits import Grant
from metering.settlement.ledger.credit_books import add_grant, take_back
from metering.settlement.ledger.payment_book import assign, retry
from metering.settlement.ledger.verify import verify

MINUTE = 60_000_000_000
HOUR = 60 * MINUTE


class DeadError(BaseException):
    """The process died here."""


def die_after(count: int):
    left = count

    def at(_step: str) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise DeadError

    return at


def test_a_payment_becomes_credit_once(till: Till) -> None:
    """Told by three events, each of them twice."""
    payment = till.stripe.pay(10_000)
    till.stripe.session(payment)
    till.stripe.invoice(payment)
    till.call_back(till.stripe.events * 2)

    turn = till.turn()

    assert dict(turn.steps) == {"paid": 1}
    assert (till.left(), till.states()) == (100 * USD, {payment: ("booked", None)})
    assert till.callbacks() == ["done"] * 3
    assert verify(till.ledger) == []


def test_refunds_and_disputes_take_and_give(till: Till) -> None:
    payment = till.stripe.pay(10_000)
    refund = till.stripe.refund(payment, 2_500, status="pending")
    dispute = till.stripe.dispute(payment, 5_000)
    till.settle()
    assert till.left() == 25 * USD

    till.stripe.become(refund, "failed", "refund.failed")
    till.stripe.become(dispute, "won", "charge.dispute.closed")
    till.settle()

    assert till.left() == 100 * USD
    assert till.turn(later=HOUR).steps == {}
    assert verify(till.ledger) == []


def test_a_payment_that_is_not_made_yet_is_no_credit(till: Till) -> None:
    payment = till.stripe.pay(status="processing")
    till.stripe.session(payment)
    till.settle()
    assert (till.left(), till.states()) == (0, {payment: ("open", None)})

    intent = till.stripe.objects[payment]
    intent.update(status="succeeded", amount_received=10_000)
    till.stripe._tell("payment_intent.succeeded", intent)
    till.settle()

    assert till.left() == 100 * USD


def test_what_an_event_says_is_not_believed(till: Till) -> None:
    """Only what Stripe has counts; an event that it does not know is for a person."""
    payment = till.stripe.pay(100)
    told = till.stripe.events.pop()
    forged = {**told, "id": "evt_forged"}
    till.call_back([forged])

    till.turn()

    assert (till.left(), till.states()) == (0, {})
    assert (till.callbacks(), till.alerts()) == (["review"], ["payment_review"])
    assert payment not in till.states()


def test_a_payment_of_nobody_waits_for_a_person(till: Till) -> None:
    """It is kept and told, and is credit once somebody says whose."""
    payment = till.stripe.pay(5_000, customer="cus_stranger")
    till.settle()
    assert till.states() == {payment: ("unassigned", "unknown_customer")}
    assert till.alerts() == ["payment_unassigned"]

    assign(till.ledger, payment, "gamma", credit_nano=None, by="ann", now_ns=till.clock())
    till.turn()

    assert (till.left("gamma"), till.states()) == (50 * USD, {payment: ("booked", None)})


def test_metadata_of_the_session_names_the_tenant(till: Till) -> None:
    """Whichever event comes first."""
    payment = till.stripe.pay(5_000, customer=None)
    till.settle()
    till.stripe.session(payment, weir_tenant="gamma")
    till.settle()

    assert till.left("gamma") == 50 * USD


def test_another_currency_waits_for_a_person(till: Till) -> None:
    payment = till.stripe.pay(5_000, currency="eur")
    till.settle()
    assert (till.states()[payment], till.alerts()) == (
        ("review", "currency_eur"),
        ["payment_review"],
    )

    assign(till.ledger, payment, "acme", credit_nano=54 * USD, by="ann", now_ns=till.clock())
    till.turn()
    till.stripe.refund(payment, 2_500)
    till.settle()

    assert till.left() == 27 * USD


@pytest.mark.parametrize("reason", ["subscription_cycle", "subscription_create"])
def test_what_pays_a_subscription_is_no_credit(till: Till, reason: str) -> None:
    """It pays for what was used already."""
    payment = till.stripe.pay()
    till.stripe.invoice(payment, reason=reason)
    till.settle()

    assert (till.left(), till.states()[payment][0]) == (0, "not_credit")


def test_events_that_never_came_are_found(till: Till) -> None:
    """Redis lost them, or nobody was there to take them."""
    till.turn()
    till.clock.now_ns += MINUTE
    till.stripe.pay()

    till.turn(later=20 * MINUTE)

    assert till.left() == 100 * USD


def test_a_stripe_that_is_away_costs_nothing(till: Till) -> None:
    """Callbacks wait, and are looked into later."""
    till.stripe.pay()
    till.stripe.pay()
    till.stripe.trouble = lambda _path: 500
    assert till.settle().trouble is not None
    assert till.callbacks() == ["new", "new"]

    till.stripe.trouble = lambda _path: None
    till.turn(later=MINUTE)

    assert till.left() == 200 * USD


def test_what_nobody_understands_stops_no_other(till: Till) -> None:
    """It is put off, and the one behind it is booked."""
    odd = till.stripe.pay()
    till.stripe.objects[odd]["amount_received"] = "many"
    till.clock.now_ns += MINUTE
    till.stripe.pay(500)

    turn = till.settle()

    assert (till.left(), till.callbacks()) == (5 * USD, ["done", "new"])
    assert turn.trouble is not None and "many" not in turn.trouble


def test_what_was_paid_before_we_were_told_of_payments_is_for_a_person(till: Till) -> None:
    """It may be booked otherwise: a refund of a part of it makes no credit of the rest."""
    old = till.stripe.pay(10_000)
    till.told = len(till.stripe.events)
    till.clock.now_ns += 48 * HOUR
    till.turn()
    till.stripe.refund(old, 1_000)
    till.settle()
    assert (till.left(), till.states()) == (0, {old: ("review", "paid_before")})
    assert till.alerts() == ["payment_review"]

    retry(till.ledger, old, till.clock())
    till.turn(later=MINUTE)
    assert till.left() == 0
    assign(till.ledger, old, "acme", credit_nano=None, by="ann", now_ns=till.clock())
    till.turn(later=MINUTE)

    assert till.left() == 90 * USD
    assert verify(till.ledger) == []


def test_a_payment_by_bank_that_took_days_is_booked(till: Till) -> None:
    """It was begun before the first event that was told, and was paid after."""
    payment = till.stripe.pay(status="processing")
    till.clock.now_ns += 48 * HOUR
    till.turn()
    intent = till.stripe.objects[payment]
    intent.update(status="succeeded", amount_received=10_000)
    till.stripe._tell("payment_intent.succeeded", intent)
    till.settle()

    assert till.left() == 100 * USD


def test_a_payment_that_cannot_be_read_again_stops_no_turn(till: Till) -> None:
    """Somebody asked to look at it: it is put off like a callback that nobody understands."""
    odd = till.stripe.pay(customer="cus_stranger")
    till.settle()
    till.stripe.objects[odd]["amount_received"] = "many"
    retry(till.ledger, odd, till.clock())

    turn = till.turn()

    assert turn.trouble is not None and turn.trouble.startswith(odd)
    assert till.turn(later=MINUTE).trouble is not None


def test_a_grant_that_was_changed_by_hand_is_told(till: Till) -> None:
    """A refund of what was taken away already stays for a person; nothing of it is booked."""
    payment = till.stripe.pay()
    till.settle()
    take_back(
        till.ledger,
        f"stripe:{payment}",
        90 * USD,
        idem_key="by-hand",
        reason="void",
        now_ns=till.clock(),
    )
    till.stripe.refund(payment, 5_000)
    till.settle()

    assert (till.left(), till.alerts()) == (10 * USD, ["payment_review"])
    assert till.states()[payment][0] == "booked"


def test_a_grant_of_the_same_name_is_not_replaced(till: Till) -> None:
    payment = till.stripe.pay()
    other = Grant(f"stripe:{payment}", "beta", "paid", 1, 5, till.clock(), None, "manual", "")
    add_grant(till.ledger, other, till.clock())
    till.settle()

    assert (till.left("acme"), till.left("beta")) == (0, 5)
    assert till.states()[payment][0] == "review"


@pytest.mark.slow(20)
@pytest.mark.timeout(120)
def test_a_death_at_each_step_costs_nothing(till: Till) -> None:
    """The turn dies at its n-th step, for every n; the next one goes on from there."""
    died, count, paid = 0, 0, 0
    while died == count:
        payment = till.stripe.pay()
        till.stripe.refund(payment, 4_000)
        till.call_back()
        paid += 1
        try:
            till.payments(die_after(count)).turn()
        except DeadError:
            died += 1
            till.turn(later=5 * MINUTE)
        count += 1

        assert till.left() == paid * 60 * USD, count
    assert died >= 12
    assert verify(till.ledger) == []


@pytest.mark.slow(30)
@pytest.mark.timeout(120)
@pytest.mark.parametrize("seed", range(4))
def test_any_order_comes_to_what_stripe_has(seed: int, till: Till) -> None:
    """Events late, twice, shuffled and lost, deaths, refunds, disputes: the credit is the money."""
    chance = random.Random(seed)
    till.turn()
    money: dict[str, int] = {}
    waiting: list[dict] = []
    for _ in range(12):
        till.clock.now_ns += MINUTE
        payment = till.stripe.pay(1_000)
        money[payment] = 1_000
        kind = chance.choice(["none", "refund", "dispute", "won", "failed"])
        if kind == "refund":
            till.stripe.refund(payment, 300)
            money[payment] -= 300
        elif kind == "dispute":
            till.stripe.dispute(payment, 1_000)
            money[payment] = 0
        elif kind == "won":
            name = till.stripe.dispute(payment, 1_000)
            till.stripe.become(name, "won", "charge.dispute.closed")
        elif kind == "failed":
            name = till.stripe.refund(payment, 700)
            till.stripe.become(name, "failed", "refund.failed")
        waiting += till.stripe.events[till.told :] * chance.randrange(3)
        till.told = len(till.stripe.events)
        chance.shuffle(waiting)
        half = len(waiting) // 2
        till.call_back(waiting[:half])
        del waiting[:half]
        with contextlib.suppress(DeadError):
            till.payments(die_after(chance.randrange(2, 40))).turn()
    for _ in range(4):
        till.turn(later=20 * MINUTE)

    assert till.left() == sum(money.values()) * USD // 100
    assert verify(till.ledger) == []
