"""The state of one exchange whose stream may be continued: part after part."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from continued_samples import SAID, asked, continuable

from metering.meter import Meter
from metering.tokenizer import tokenizer_for
from proxy.attempts import Attempt
from proxy.continuing import Continuing
from proxy.passage import passage
from proxy.relay import Relayed
from proxy.reply import Reply
from proxy.sse import Event
from proxy.wire import Reading
from routing.fallback import Outcome
from routing.policy import Option


def attempt(option: Option, text: str, outcome: Outcome = Outcome.TRUNCATED) -> Attempt:
    """An attempt that said this, then ended so."""
    meter = Meter(tokenizer_for("gpt-4o"), 10)
    meter.text((0, "content"), text)
    made = Attempt(1, "e", option, "openai", meter, 0)
    made.is_sent, made.outcome, made.http_status = True, outcome, 200
    return made


def begun(**relayed: Any) -> tuple[Continuing, dict[str, Option], Attempt, Relayed]:
    """A stream whose first part has said something and ended."""
    found, options = continuable(asked())
    going = Continuing(found)
    way = passage("openai_chat", ("openai_chat",))
    assert way is not None
    assert going.writer(way) is None
    chunk = {"id": "c", "choices": [{"index": 0, "delta": {"content": SAID}}]}
    going.listen().hear(Event(b"", orjson.dumps(chunk)), chunk, Reading((chunk,)))
    ended = Relayed(Outcome.TRUNCATED, Reply(), **relayed)
    return going, options, attempt(options["one"], SAID), ended


def test_a_part_that_broke_off_is_gone_on_with() -> None:
    """The others are asked, for what is left of the answer."""
    going, options, first, relayed = begun()
    going.after(first, relayed, is_over=False)

    said = first.meter.output_tokens
    found = going.options([options["two"], options["three"]], None)

    assert going.is_due
    assert going.is_on
    assert [each.changes.max_tokens for each in found] == [100 - said, 100 - said]
    assert {each.spent.tokens for each in found} == {10 + said}
    assert going.request_for(found[0]).body["messages"][1]["content"] == SAID.rstrip()
    way = passage("openai_chat", ("openai_chat",))
    assert way is not None
    assert going.writer(way) is not None


def test_nothing_is_left_to_say() -> None:
    """With `max_tokens` used up nobody is asked."""
    going, options, _, relayed = begun()
    going.after(attempt(options["one"], "word " * 120), relayed, is_over=False)
    assert going.options([options["two"]], None) == []


@pytest.mark.parametrize(
    ("fields", "is_over", "due"),
    [
        ({"bound": "stall_timeout_s"}, False, True),
        ({"bound": "timeout_s"}, False, True),
        ({"bound": "max_answer_s"}, False, False),
        ({"bound": "max_answer_mb"}, False, False),
        ({"is_client_gone": True}, False, False),
        ({}, True, False),
    ],
)
def test_what_ends_it(fields: dict[str, Any], is_over: bool, due: bool) -> None:
    """Our own bounds, the client, and whatever ends the exchange."""
    going, _, first, relayed = begun(**fields)
    going.after(first, relayed, is_over=is_over)
    assert going.is_due is due


def test_other_ends_are_none_of_its_business() -> None:
    """An attempt that failed before it said anything is an attempt like any other."""
    going, options, _, relayed = begun()
    going.after(attempt(options["one"], "", Outcome.SERVER_ERROR), relayed, is_over=False)
    assert (going.is_due, going.is_on) == (False, False)
    assert going.ended(Outcome.SERVER_ERROR) is None
    assert going.request_for(options["one"]).body["messages"] == [{"role": "user", "content": "hi"}]


def test_how_it_is_told() -> None:
    """Who fails to go on is nobody the client knows: the stream broke off."""
    going, _, first, relayed = begun(bound="stall_timeout_s")
    going.after(first, relayed, is_over=False)
    broken = going.ended(Outcome.SERVER_ERROR)
    assert broken is not None
    assert "stall_timeout_s" in broken.message
    assert going.ended(Outcome.SERVED) is None
    assert going.ended(Outcome.CLIENT_GONE) is None
