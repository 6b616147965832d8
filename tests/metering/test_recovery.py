"""What is made of a lost hold: the same bytes each time, and what would take them back."""

from __future__ import annotations

from dataclasses import replace

import pytest
from fixtures_ledger import CARDS, make_event

from metering.caps import Hold, Vector
from metering.events import Reason, UnknownSchemaError, decode, encode
from metering.ids import uuid7
from metering.recovery import (
    LostHold,
    encode_checkpoint,
    encode_facts,
    recovery,
    reversal,
)

LABELS = {"request_id": "r", "project": "p", "api_key_id": "k", "occurred_at": 5, "step": 2}
DEAR = ("openai", "one", "public", "dear", "o200k_base", "c1", "s1", 30, 900)
CHEAP = ("openai", "one", "public-mini", "cheap", "o200k_base", "c1", "s1", 31, 90)
LOST = LostHold(
    hold=Hold("acme", uuid7(1_800_000_000_000, bytes(10)), ()),
    owner="p-0",
    upstream="one/cheap",
    expires_ms=1_800_000_180_000,
    facts=encode_facts(LABELS, [DEAR, CHEAP]),
)


def test_without_a_checkpoint_the_admitted_upstream_may_have_read_the_input() -> None:
    """A cost of ours at the price of the upstream that was admitted, and billed to nobody."""
    made = recovery(LOST)

    [event] = [decode(body) for body in made.events]
    assert (event.provider, event.model_upstream, event.model_public) == (
        "one",
        "cheap",
        "public-mini",
    )
    assert (event.units, event.cost_nano) == ({"input_uncached": 31}, 90)
    assert (event.billable, event.reason_code) == (False, Reason.RECOVERED_UNCONFIRMED)
    assert (event.exchange_id, event.step) == (LOST.hold.exchange_id, 2)
    assert event.completed_at == LOST.expires_ms * 1_000_000
    assert made.actual == Vector(tokens=31, requests=1)


def test_the_same_record_gives_the_same_bytes() -> None:
    """Whoever recovers it, and however often."""
    assert recovery(LOST) == recovery(replace(LOST))


def test_a_checkpoint_is_recorded_as_it_was_written() -> None:
    """To the byte, however many attempts it has."""
    events = tuple(encode(make_event(user="a\nb", attempt=number)) for number in (1, 2))
    noted = encode_checkpoint(Vector(7, 8, 1), events)

    made = recovery(replace(LOST, checkpoint=noted))

    assert made.actual == Vector(7, 8, 1)
    assert made.events == events


@pytest.mark.parametrize("billable", [True, False])
def test_a_reversal_is_rated_to_the_opposite(billable: bool) -> None:
    """Every unit, amount and posting of both adds up to nothing; half a nano included."""
    event = make_event(
        model_upstream="cheap-1", units={"input_uncached": 7, "output_text": 3}, billable=billable
    )

    back = reversal(event)

    there, undone = CARDS.rate(event), CARDS.rate(back)
    assert (undone.sell_nano, undone.cost_nano) == (-there.sell_nano, -there.cost_nano)
    assert (back.admission_nano, back.cost_nano) == (-event.admission_nano, -event.cost_nano)
    assert not undone.differs
    assert (back.corrects, back.occurred_at) == (event.event_id, event.occurred_at)
    assert back.event_id not in (event.event_id, reversal(make_event()).event_id)
    assert reversal(event) == back


def test_what_cannot_be_read_says_which_exchange() -> None:
    """A record of another version, or one that was cut."""
    broken = (b"", b"{", b'{"v":9}', encode_facts(LABELS, [DEAR]), encode_facts({}, [CHEAP]))
    for facts in broken:
        with pytest.raises(ValueError, match=LOST.hold.exchange_id):
            recovery(replace(LOST, facts=facts))
    with pytest.raises(ValueError, match=LOST.hold.exchange_id):
        recovery(replace(LOST, checkpoint=b'{"nano":1,"tokens":1\n{"half"'))
    with pytest.raises(UnknownSchemaError, match=LOST.hold.exchange_id):
        recovery(replace(LOST, facts=b'{"v":9}'))


def test_an_event_we_cannot_read_is_passed_on_without_a_reversal() -> None:
    """The stream is where events are judged; the ledger takes this one back, should it have to."""
    event = encode(make_event())
    lines = [b'{"nano":1,"tokens":2,"requests":1}', event, b'{"schema":2}']

    made = recovery(replace(LOST, checkpoint=b"\n".join(lines)))

    assert (made.actual, made.events) == (Vector(1, 2, 1), tuple(lines[1:]))
    assert made.reversals == (encode(reversal(decode(event))),)
