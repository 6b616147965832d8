"""Caps behind a tracer answer as they do without one, and their answers are spans."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from caps_samples import ask, cap, hold

from metering.caps import Candidate, Commit, Denial, Hold, Reservation, Vector
from metering.caps import CapsUnavailableError as Unavailable
from metering.memory_caps import MemoryCaps
from proxy.spans import Histograms, Span
from proxy.traced_caps import TracedCaps
from proxy.tracing import Tracer


class Away(MemoryCaps):
    """Caps that do not answer a commit."""

    async def commit(self, hold: Hold, actual: Vector, events: Sequence[bytes]) -> Commit:
        raise Unavailable("gone")


async def test_answers_are_passed_on_and_told() -> None:
    """What was held and where, what refused, and what a commit came to."""
    spans: list[Span] = []
    tracer = Tracer(spans.append, Histograms())
    caps = TracedCaps(MemoryCaps(), tracer)
    one = hold(cap(100))
    tracer.begin([], "/v1/chat/completions")

    held = await caps.reserve(one, [ask(60)], owner="p", ttl_ms=1000)
    grown = await caps.swap(one, ask(101))
    assert (await caps.renew(one, ttl_ms=1000)).is_held
    looked = await caps.look(one, [ask(1)])
    await caps.commit(one, Vector(nano=50, requests=1), [b"{}"])

    assert isinstance(held, Reservation)
    assert isinstance(grown, Denial)
    assert isinstance(looked.answer, Reservation)
    assert [(span.name, span.error) for span in spans] == [
        ("reserve", None),
        ("swap", str(grown.reason)),
        ("commit", None),
    ]
    assert spans[0].attributes["weir.upstream"] == ask(60).upstream
    assert spans[2].attributes == {"weir.sell_nano": 50, "weir.events": 1}


async def test_what_they_raise_is_raised() -> None:
    """A span of it failed; nothing is swallowed, and giving back goes through."""
    spans: list[Span] = []
    tracer = Tracer(spans.append, Histograms())
    caps = TracedCaps(Away(), tracer)
    tracer.begin([], "/v1/chat/completions")
    candidates: list[Candidate] = [ask(60)]
    one = hold(cap(100))
    await caps.reserve(one, candidates, owner="p", ttl_ms=1000)

    with pytest.raises(Unavailable):
        await caps.commit(one, Vector(nano=1), [])
    await caps.release(one)
    again = await caps.reserve(hold(one.caps[0]), [ask(100)], owner="p", ttl_ms=1000)

    assert [span.error for span in spans[:2]] == [None, "unavailable"]
    assert isinstance(again, Reservation)
