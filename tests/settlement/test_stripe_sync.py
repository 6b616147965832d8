"""Stripe's total is the ledger's, whatever goes wrong between them."""

from __future__ import annotations

import contextlib

from fixtures_ledger import NOVEMBER_NS
from fixtures_stripe import HOUR, Bench

from metering.events import Kind

DAY = 24 * HOUR


def test_usage_reaches_stripe(bench: Bench) -> None:
    """Each meter of each customer has what the ledger says, and a second turn sends nothing."""
    bench.use()
    bench.use(occurred_at=NOVEMBER_NS - 5 * HOUR)
    bench.use(tenant="beta")
    bench.use(tenant="nobody")

    turn = bench.turn()
    again = bench.turn()

    assert bench.have() == bench.want()
    assert bench.have()["cus_acme", "llm_tokens"] == 1_400
    assert turn.outcomes == {"taken": 6}
    assert (again.outcomes, again.waiting) == ({}, 0)


def test_what_comes_later_is_added(bench: Bench) -> None:
    """New usage of an hour that was sent, a correction, and an hour that is back at nothing."""
    first = bench.use()
    gone = bench.use(occurred_at=NOVEMBER_NS - 3 * HOUR)
    bench.turn()
    bench.use()
    for event in (first, gone):
        back = {unit: -amount for unit, amount in event.units.items()}
        bench.use(
            kind=Kind.CORRECTION,
            corrects=event.event_id,
            units=back,
            occurred_at=event.occurred_at,
            admission_nano=-event.admission_nano,
            cost_nano=-event.cost_nano,
        )

    bench.turn(later=HOUR // 60)

    assert bench.have() == bench.want()
    assert bench.have()["cus_acme", "llm_tokens"] == 700


def test_usage_before_the_first_day_stays_here(bench: Bench) -> None:
    bench.use(occurred_at=NOVEMBER_NS - 2 * HOUR)
    bench.change(since_ns=NOVEMBER_NS - HOUR)

    bench.turn()

    assert bench.stripe.applied == []


def test_a_lost_answer_is_asked_for_again(bench: Bench) -> None:
    """Applied or not: the same request goes again, and counts once."""
    troubles = iter(["drop_after", "500_after", "drop_before", "500_before", "straggles"])
    bench.stripe.trouble = lambda _number: next(troubles, None)
    bench.use()
    bench.use(tenant="beta")

    for _ in range(6):
        bench.turn(later=60_000_000_000)
    bench.stripe.deliver_late()

    assert bench.have() == bench.want()
    assert len(bench.stripe.applied) == 4
    assert sum(bench.stripe.seen.values()) > 5


def test_a_server_error_is_not_kept_for_ever(bench: Bench) -> None:
    """Stripe repeats its 500 under the same Idempotency-Key, so the next try has another."""
    bench.stripe.trouble = lambda number: "500_before" if number <= 2 else None
    bench.use()

    bench.turn()
    turn = bench.turn(later=60_000_000_000)

    assert turn.outcomes == {"taken": 2}
    assert bench.have() == bench.want()


def test_too_many_requests_wait_as_long_as_stripe_says(bench: Bench) -> None:
    bench.stripe.retry_after_s = 90
    bench.stripe.trouble = lambda _number: "429"
    bench.use()

    bench.turn()
    bench.stripe.trouble = lambda _number: None
    early = bench.turn(later=60_000_000_000)
    late = bench.turn(later=31_000_000_000)

    assert early.outcomes == {}
    assert late.outcomes == {"taken": 2}
    assert bench.have() == bench.want()


def test_one_request_of_a_meter_is_under_way(bench: Bench) -> None:
    """Hours of one customer's meter go one after another: Stripe answers 409 to others."""
    for hours in range(8):
        bench.use(occurred_at=NOVEMBER_NS - hours * HOUR)

    turn = bench.turn()

    assert turn.outcomes == {"taken": 16}
    assert bench.stripe.collisions == 0


def test_nothing_passes_a_request_whose_fate_is_unknown(bench: Bench) -> None:
    """A newer total waits, or the straggler would overwrite it."""
    bench.stripe.trouble = lambda number: "straggles" if number <= 2 else None
    bench.use()
    bench.turn()
    bench.use()
    bench.turn()  # not due yet

    assert bench.stripe.applied == []
    bench.turn(later=60_000_000_000)
    bench.stripe.deliver_late()
    bench.turn(later=60_000_000_000)

    assert bench.have() == bench.want()
    assert bench.have()["cus_acme", "llm_tokens"] == 1_400


def test_after_a_day_the_summary_decides(bench: Bench) -> None:
    """Stripe has forgotten the identifier: what it applied is not sent again, the rest is."""
    troubles = iter(["drop_after", "drop_before"])
    bench.stripe.trouble = lambda _number: next(troubles, None)
    bench.use()
    bench.turn()

    turn = bench.turn(later=30 * HOUR)
    bench.turn(later=60_000_000_000)

    assert bench.have() == bench.want()
    assert len(bench.stripe.applied) == 2
    assert turn.held == 0


def test_what_is_too_old_for_stripe_waits_for_a_person(bench: Bench) -> None:
    """36 days back nothing is sent; an alert says how much is missing."""
    bench.turn()
    bench.use()
    bench.turn()
    bench.use(occurred_at=NOVEMBER_NS - 36 * DAY)

    turn = bench.turn(later=60_000_000_000)

    assert turn.held == 2
    assert "stripe_too_late" in bench.alerts()
    assert bench.have()["cus_acme", "llm_tokens"] == 700


def test_a_refusal_is_held_and_can_be_tried_again(bench: Bench) -> None:
    bench.stripe.customers.discard("cus_acme")
    bench.use()
    bench.use(tenant="beta")

    turn = bench.turn()
    idle = bench.turn(later=HOUR)
    bench.stripe.customers.add("cus_acme")
    bench.turn(reopen=True)

    assert turn.held == 2
    assert idle.outcomes == {}
    assert bench.alerts().count("stripe_held") == 2
    assert bench.have() == bench.want()


def test_a_meter_of_the_other_kind_is_sent_nothing(hourly: Bench) -> None:
    """Totals sent to a meter that sums would be billed over and over."""
    hourly.stripe.add_meter("llm_tokens", event_time_window=None)
    hourly.use()

    turn = hourly.turn()

    assert {each.event_name for each in hourly.stripe.applied} == {"api_calls"}
    assert (turn.waiting, hourly.alerts()) == (1, ["stripe_unfit"])


def test_what_stripe_rejected_behind_our_back_is_found(hourly: Bench) -> None:
    """It said 200 and applied nothing: the summaries show it, and the total is sent again."""
    hourly.stripe.trouble = lambda number: "rejects" if number == 1 else None
    hourly.use()
    hourly.turn()

    early = hourly.turn(later=HOUR // 2, verify=True)
    turn = hourly.turn(later=HOUR, verify=True)

    assert early.differing == 0
    assert turn.differing == 1
    assert "stripe_differs" in hourly.alerts()
    assert hourly.have() == hourly.want()


def test_a_raw_meter_that_differs_is_told_and_left(raw: Bench) -> None:
    """What lacks there may be somebody else's doing: a person says that it is to be sent."""
    raw.stripe.trouble = lambda number: "rejects" if number == 1 else None
    raw.use()
    raw.turn()

    turn = raw.turn(later=2 * HOUR, verify=True)

    assert turn.differing == 1
    assert raw.alerts() == ["stripe_differs"]
    assert len(raw.stripe.applied) == 1


def test_a_key_that_stripe_refuses_stops_the_turn(bench: Bench) -> None:
    bench.stripe.refuses_keys = True
    bench.use()

    turn = bench.turn()
    bench.stripe.refuses_keys = False
    bench.turn(later=HOUR)

    assert turn.trouble == "401 AuthenticationError"
    assert bench.have() == bench.want()


def test_one_syncs_at_a_time(bench: Bench) -> None:
    """Another takes over when the first has been silent for longer than its lease."""
    other = bench.new_sync("two", at=_die_at("frozen"))
    bench.use()
    with contextlib.suppress(DeadError):
        other.turn()

    refused = bench.turn()
    taken = bench.turn(later=121_000_000_000)

    assert not refused.had_lease
    assert taken.had_lease
    assert bench.have() == bench.want()


class DeadError(Exception):
    """The process died here."""


def _die_at(step: str):
    def at(reached: str) -> None:
        if reached == step:
            raise DeadError(step)

    return at
