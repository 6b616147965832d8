"""What an answer's headers tell of its exchange."""

from __future__ import annotations

from fixtures_door import RunningDoor
from fixtures_upstream import ScriptedUpstream, completion, delta, streamed

from proxy.degraded import NOTHING
from proxy.telling import Told


async def test_the_headers_of_an_answer(door: RunningDoor, upstream: ScriptedUpstream) -> None:
    """An answer in one piece tells what it came to; a stream begins before that is known."""
    upstream.scripts = [[completion(prompt=10, output=5)], streamed(delta("a"))]

    whole = await door.chat()
    stream = await door.chat(stream=True)

    assert whole.headers["x-weir-cost-usd"] == "0.000030000"
    assert "x-weir-cost-usd" not in stream.headers
    for answer in (whole, stream):
        assert answer.headers["x-weir-model"] == "m"
        assert len(answer.headers["x-weir-price-version"]) == 12
        assert "x-weir-degraded" not in answer.headers


async def test_an_exchange_has_one_line(door: RunningDoor, upstream: ScriptedUpstream) -> None:
    """However many attempts it took; none of it is a prompt or an answer."""
    upstream.scripts = [[completion(text="the answer")]]

    await door.chat(messages=[{"role": "user", "content": "the question"}])

    [line] = [fields for name, fields in door.log.lines if name == "exchange"]
    assert (line["outcome"], line["attempts"], line["tenant"]) == ("served", 1, "acme")
    assert "question" not in repr(door.log.lines)
    assert "the answer" not in repr(door.log.lines)


def test_nothing_is_told_before_it_is_known() -> None:
    """At first there is no cost, no clamp and no degradation."""
    assert (Told().sell_nano, Told().clamped_tokens, Told().steps) == (None, None, NOTHING)
