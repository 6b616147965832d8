"""What is read the quick way is what the slow way gives."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from fixtures_ledger import make_event

from metering.events import FIELDS, UsageEvent, decode, encode
from metering.settlement import usual_events
from metering.settlement.event_checks import check_event
from metering.settlement.usual_events import read_usual

ODD: tuple[Any, ...] = (
    *(
        None,
        "",
        "x",
        "a\0b",
        "\u00e9",
        "correction",
        True,
        False,
        0,
        1,
        -1,
        2,
        3,
        1.0,
        2**31,
        -(2**31),
    ),
    *(2**53 - 1, 2**53, -(2**53), 2**63 - 1, 2**63, 2**64, [], [1], {}, {"input_uncached": 1}),
    *({"input_uncached": True}, {"input_uncached": 2**53}, {"a\0b": 1}, {"x": None}, {"x": -3}),
)
"""What a field may hold, in events of other versions, of strangers, and of ours."""


def _slow(body: bytes) -> UsageEvent | None:
    try:
        event = decode(body)
        check_event(event)
    except ValueError:
        return None
    return event


def _body(**changes: object) -> bytes:
    changed = {**orjson.loads(encode(make_event())), **changes}
    return json.dumps(changed, ensure_ascii=False).encode()  # orjson writes no 2**64


@pytest.mark.parametrize("corrects", [None, "an-id"])
def test_whatever_stands_in_a_field_both_ways_agree(corrects: str | None) -> None:
    """Each value comes after all others, too, when their shapes are known."""
    given = {"kind": "usage" if corrects is None else "correction", "corrects": corrects}
    bodies = [_body(**{**given, name: odd}) for name in FIELDS for odd in ODD]
    read = 0

    for body in [*bodies, *reversed(bodies)]:
        event = read_usual(body)
        if event is not None:
            assert repr(event) == repr(_slow(body)), body
            read += 1
    assert read > len(bodies) // 2


def test_an_event_as_ours_are_is_read_the_quick_way() -> None:
    event = make_event(user="someone", ttft_ms=5, spool_seq=4, proxy_id="p")

    assert [read_usual(encode(event)) for _ in range(2)] == [event, event]


@pytest.mark.parametrize(
    "body",
    [
        b"nope",
        b"[]",
        b"5",
        b'{"event_id": "x"}',
        orjson.dumps({**orjson.loads(_body()), "later": 1}),
        orjson.dumps(dict(reversed(list(orjson.loads(_body()).items())))),
    ],
)
def test_of_what_looks_otherwise_nothing_is_said(body: bytes) -> None:
    assert read_usual(body) is None


def test_shapes_do_not_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever can write into a stream could fill the memory with them."""
    monkeypatch.setattr(usual_events, "SHAPES_MAX", 2)
    monkeypatch.setattr(usual_events, "_SOUND", set())

    odd: object
    for odd in (None, 1, "x", 1.0, [], {}):
        assert read_usual(_body(step=odd)) is not None
        assert len(usual_events._SOUND) <= 2
