"""What an attempt is billed for: one row per way it can end."""

from __future__ import annotations

import pytest
from fixtures_door import rule

from metering.caps import Vector
from metering.events import Reason
from metering.meter import Meter
from metering.prices import PriceBook
from metering.tokenizer import tokenizer_for
from metering.usage import ReportedUsage
from proxy.attempts import Attempt, charge
from routing.fallback import Outcome
from routing.policy import Option
from routing.upstreams import Upstream

PRICE = PriceBook((rule("*"),)).find(provider="p", model="m", public_name="m")


def attempt(outcome: Outcome | None, *, sent: bool = True, status: int | None = 200) -> Attempt:
    made = Attempt(
        number=1,
        event_id="e",
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
