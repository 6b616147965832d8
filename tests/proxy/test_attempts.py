"""What an attempt is billed for: one row per way it can end."""

from __future__ import annotations

import pytest
from fixtures_door import rule, tenant

from metering.caps import Hold, Vector
from metering.events import Reason, Status, decode
from metering.ids import uuid7
from metering.meter import Meter
from metering.prices import PriceBook
from metering.recovery import LostHold, recovery
from metering.tenants import Principal
from metering.tokenizer import tokenizer_for
from metering.usage import ReportedUsage
from proxy.attempts import Attempt, Facts
from proxy.billing import bill, checkpoint
from proxy.charging import charge, charge_now
from routing.fallback import Outcome
from routing.policy import Option
from routing.upstreams import Upstream

PRICE = PriceBook((rule("*"),)).find(provider="p", model="m", public_name="m")


def attempt(outcome: Outcome | None, *, sent: bool = True, status: int | None = 200) -> Attempt:
    made = Attempt(
        number=1,
        event_id=uuid7(1, bytes(10)),
        option=Option(Upstream("p", "m", "m"), PRICE, Vector()),
        vendor="openai",
        meter=Meter(tokenizer_for("gpt-4o"), 10),
        started_at=0,
    )
    made.is_sent, made.http_status, made.outcome = sent, status, outcome
    return made


ROWS = {
    "served": (attempt(Outcome.SERVED), Reason.SERVED, True),
    "truncated": (attempt(Outcome.TRUNCATED), Reason.PARTIAL, True),
    "client_gone": (attempt(Outcome.CLIENT_GONE), Reason.PARTIAL, True),
    "client_gone_before_an_answer": (
        attempt(Outcome.CLIENT_GONE, status=None),
        Reason.PARTIAL,
        True,
    ),
    "client_gone_before_sending": (
        attempt(Outcome.CLIENT_GONE, sent=False, status=None),
        Reason.NOT_SENT,
        False,
    ),
    "client_gone_in_an_error_body": (
        attempt(Outcome.CLIENT_GONE, status=400),
        Reason.UPSTREAM_ERROR,
        False,
    ),
    "refused": (attempt(Outcome.REFUSED, status=400), Reason.UPSTREAM_REFUSED, False),
    "server_error": (attempt(Outcome.SERVER_ERROR, status=500), Reason.UPSTREAM_ERROR, False),
    "timeout": (attempt(Outcome.TIMEOUT, status=None), Reason.UPSTREAM_ERROR, False),
    "unreachable": (
        attempt(Outcome.UNREACHABLE, sent=False, status=None),
        Reason.NOT_SENT,
        False,
    ),
    "our_own_failure": (attempt(None, status=None), Reason.INTERNAL_ERROR, False),
}


@pytest.mark.parametrize("name", ROWS)
def test_how_an_attempt_is_billed(name: str) -> None:
    """T-57: every end of an attempt has a reason, and is billed or not by the table."""
    made, reason, is_billed = ROWS[name]

    charged = charge(made)

    assert (charged.reason, charged.billable) == (reason, is_billed)
    assert (charged.sell_nano > 0) == is_billed
    assert bool(charged.units) == is_billed


def test_an_interim_report_does_not_undercut_what_was_delivered() -> None:
    """A placeholder of one token on the first chunk is not what a cut stream is billed."""
    made = attempt(Outcome.CLIENT_GONE)
    made.meter.report(ReportedUsage(input={"input_uncached": 10}, output={"output_text": 1}))
    made.meter.text((0, "content"), "Hello world " * 50)

    charged = charge(made)

    assert charged.units["output_text"] >= 100
    assert charged.usage.source == "mixed"


def test_a_report_after_the_last_text_is_believed() -> None:
    """A running total that came with the last chunk is the provider's word, below ours or not."""
    made = attempt(Outcome.CLIENT_GONE)
    made.meter.text((0, "content"), "Hello world " * 50)
    made.meter.report(ReportedUsage(input={"input_uncached": 10}, output={"output_text": 90}))

    assert charge(made).units["output_text"] == 90


def delivered(made: Attempt) -> Attempt:
    made.first_byte_at = 1
    made.meter.text((0, "content"), "Hello world " * 50)
    return made


NOW_ROWS = {
    "not_sent": (attempt(None, sent=False, status=None), Reason.NOT_SENT, 0, 0),
    "sent": (attempt(None, status=None), Reason.RECOVERED_UNCONFIRMED, 10, 0),
    "answering": (attempt(None), Reason.RECOVERED_UNCONFIRMED, 10, 0),
    "refusing": (attempt(None, status=429), Reason.UPSTREAM_ERROR, 0, 0),
    "delivering": (delivered(attempt(None)), Reason.PARTIAL, 10, 100),
    "served": (delivered(attempt(Outcome.SERVED)), Reason.SERVED, 10, 100),
    "failed": (attempt(Outcome.SERVER_ERROR, status=500), Reason.UPSTREAM_ERROR, 0, 0),
}


@pytest.mark.parametrize("name", NOW_ROWS)
def test_what_an_attempt_comes_to_if_the_process_dies_now(name: str) -> None:
    """F-01: what was delivered is billed; what only may have been read is a cost of ours."""
    made, reason, input_tokens, output_tokens = NOW_ROWS[name]

    charged = charge_now(made)

    assert (charged.reason, charged.billable) == (reason, output_tokens > 0)
    assert charged.units.get("input_uncached", 0) == input_tokens
    assert charged.units.get("output_text", 0) >= output_tokens
    assert (charged.sell_nano > 0) == (output_tokens > 0)
    assert (charged.cost_nano > 0) == (input_tokens > 0)
    assert (charged.status is Status.ERROR) == (output_tokens == 0)


def test_a_checkpoint_is_the_bill_of_that_moment_and_changes_nothing() -> None:
    """F-01: recovered it is two events with ids of their own; the true bill comes out as ever."""
    failed, open_ = attempt(Outcome.SERVER_ERROR, status=500), delivered(attempt(None))
    failed.event_id, open_.number = uuid7(2, bytes(10)), 2
    key = tenant().keys[0]
    facts = Facts(uuid7(1, bytes(10)), "r", Principal(tenant(), key), "p-0", 5, "m", stream=True)

    noted = checkpoint(facts, [failed, open_], now_ns=9)
    open_.meter.text((0, "content"), "and more " * 50)
    later = checkpoint(facts, [failed, open_], now_ns=10)
    open_.outcome = Outcome.SERVED
    true = bill(facts, [failed, open_], emitted_at=11, spool_seq=7)

    made = [
        recovery(LostHold(Hold("acme", facts.exchange_id, ()), "p-0", "", 1, checkpoint=each))
        for each in (noted, later)
    ]
    events = [[decode(body) for body in each.events] for each in made]
    trues = [decode(body) for body in true.events]
    assert [event.event_id for event in events[0]] == [event.event_id for event in events[1]]
    assert not {event.event_id for event in events[0]} & {event.event_id for event in trues}
    assert {event.usage_source for each in events for event in each} == {"recovered"}
    assert made[0].actual.nano < made[1].actual.nano == true.actual.nano
    assert [sum(event.admission_nano for event in each) for each in events] == [
        each.actual.nano for each in made
    ]
    assert trues[1].usage_source == "counted"
    assert [(event.spool_seq, event.spool_events) for event in trues] == [(7, 2)] * 2
    assert {event.spool_seq for each in events for event in each} == {None}
