"""T-26, T-58: usage that cannot be, contradicts itself, comes early, often, or not at all.

Believable numbers are billed, odd ones flagged beside it. Unbelievable ones are not billed: our
own count is, at most what was held for the attempt. Never negative, never a float.
"""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from fixtures_door import OpenDoor, RunningDoor, held, settings
from fixtures_upstream import (
    DONE,
    FINISH,
    ScriptedUpstream,
    body,
    delta,
    event,
    streamed,
)

from metering.events import UsageEvent

TEXT = "Hello world"
COUNTED = 2
PROMPT = {"prompt_tokens": 10}


def both(**fields: Any) -> dict[str, Any]:
    return {"prompt_tokens": 10, "completion_tokens": 7, "total_tokens": 17, **fields}


NO_COUNT = ["12", True, None, [], {}, 1.0, 1e308, -1, 2**53 + 1, 2**63, 2**64, 10**9 + 1]

UNBELIEVABLE: dict[str, dict[str, Any]] = {
    **{
        f"completion={lie!r}": {**PROMPT, "completion_tokens": lie}
        for lie in NO_COUNT
        if lie is not None
    },
    "completion_false": {**PROMPT, "completion_tokens": False},
    "cached_over_prompt": both(prompt_tokens_details={"cached_tokens": 11}),
    "audio_over_what_is_left": both(prompt_tokens_details={"cached_tokens": 6, "audio_tokens": 5}),
    "zero_with_content": {**PROMPT, "completion_tokens": 0, "total_tokens": 10},
    "all_zero_with_content": {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0},
}
"""Usage whose output is not billed as it stands."""

ODD: dict[str, dict[str, Any]] = {
    "total_too_large": both(total_tokens=99),
    "total_too_small": both(total_tokens=1),
    "total_a_float": both(total_tokens=17.0),
    "total_text": both(total_tokens="17"),
    "reasoning_over_completion": both(completion_tokens_details={"reasoning_tokens": 8}),
    "audio_over_completion": both(completion_tokens_details={"audio_tokens": 8}),
}
"""Usage that is billed and flagged."""

SOUND: dict[str, dict[str, Any]] = {
    "plain": both(),
    "no_total": {**PROMPT, "completion_tokens": 7},
    "details_null": both(prompt_tokens_details=None, completion_tokens_details=None),
    "details_no_object": both(prompt_tokens_details=[1], completion_tokens_details="x"),
    "details_not_counts": both(prompt_tokens_details={"cached_tokens": -3, "audio_tokens": 1.5}),
    "unknown_fields": both(cost=1e9, cost_nano=-5),
}


def streamed_with(*usages: dict[str, Any]) -> list[Any]:
    chunks = [
        b"data: " + json.dumps({"choices": [], "usage": usage}).encode() + b"\n\n"
        for usage in usages
    ]
    return streamed(delta(TEXT), FINISH, *chunks, DONE)


def whole_with(usage: dict[str, Any]) -> list[Any]:
    message = {"role": "assistant", "content": TEXT}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return [body(json.dumps({"model": "m-1", "choices": [choice], "usage": usage}).encode())]


async def settled(
    door: RunningDoor, upstream: ScriptedUpstream, script: list[Any], *, stream: bool = True
) -> UsageEvent:
    """The event of one exchange; whatever was reported, it holds numbers that can be."""
    upstream.scripts = [script]
    answer = await door.chat(stream=stream, max_tokens=100)
    await answer.read()
    assert answer.status == 200
    assert held(door) == []
    said = door.events[-1]
    for number in (*said.units.values(), said.admission_nano, said.cost_nano):
        assert type(number) is int
        assert number >= 0
    return said


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "json"])
@pytest.mark.parametrize("name", UNBELIEVABLE)
async def test_t26_what_cannot_be_is_not_billed(
    door: RunningDoor, upstream: ScriptedUpstream, name: str, *, stream: bool
) -> None:
    """Billed is our own count; the event says why."""
    usage = UNBELIEVABLE[name]
    script = streamed_with(usage) if stream else whole_with(usage)

    said = await settled(door, upstream, script, stream=stream)

    assert said.units["output_text"] == COUNTED
    assert said.usage_suspect
    assert said.usage_source in ("counted", "mixed")


@pytest.mark.parametrize("name", ODD)
async def test_t26_what_contradicts_itself_is_flagged(
    door: RunningDoor, upstream: ScriptedUpstream, name: str
) -> None:
    """The two numbers that are charged stand; that others do not fit them is said."""
    said = await settled(door, upstream, streamed_with(ODD[name]))

    units = {unit: count for unit, count in said.units.items() if unit.startswith("output")}
    assert sum(units.values()) == 7
    assert said.usage_suspect


@pytest.mark.parametrize("name", SOUND)
async def test_t26_what_is_sound_is_billed(
    door: RunningDoor, upstream: ScriptedUpstream, name: str
) -> None:
    """Fields that are missing or unknown make nothing suspect."""
    said = await settled(door, upstream, streamed_with(SOUND[name]))

    assert (said.units["input_uncached"], said.units["output_text"]) == (10, 7)
    assert (said.usage_source, said.usage_suspect) == ("provider", None)


async def test_t26_numbers_that_are_no_json(door: RunningDoor, upstream: ScriptedUpstream) -> None:
    """NaN and Infinity, which lenient writers send, are read and not believed."""
    lie = b'data: {"choices":[],"usage":{"prompt_tokens":NaN,"completion_tokens":Infinity}}\n\n'

    said = await settled(door, upstream, streamed(delta(TEXT), FINISH, lie, DONE))

    assert (said.units["output_text"], said.usage_source) == (COUNTED, "counted")
    assert said.usage_suspect


SEQUENCES: dict[str, tuple[list[Any], int, bool]] = {
    "two_reports_the_last_wins": (streamed_with(both(completion_tokens=3), both()), 7, True),
    "shrinking": (streamed_with(both(), both(completion_tokens=3, total_tokens=13)), 3, True),
    "a_lie_then_the_truth": (streamed_with(both(completion_tokens=-1), both()), 7, True),
    "the_truth_then_a_lie": (streamed_with(both(), both(completion_tokens=-1)), 2, True),
    "before_content": (
        streamed(event({"choices": [], "usage": both()}), delta(TEXT), FINISH, DONE),
        7,
        False,
    ),
    "a_placeholder_before_content": (
        streamed(
            event({"choices": [], "usage": both(completion_tokens=1, total_tokens=11)}),
            delta(TEXT),
            FINISH,
            DONE,
        ),
        2,
        False,
    ),
    "cumulative_on_every_chunk": (
        streamed(
            *[
                delta("word ", usage=both(completion_tokens=n, total_tokens=10 + n))
                for n in (1, 2, 3)
            ],
            FINISH,
            event({"choices": [], "usage": both()}),
            DONE,
        ),
        7,
        False,
    ),
    "of_another_model": (
        streamed(delta(TEXT), FINISH, event({"model": "o9", "choices": [], "usage": both()}), DONE),
        7,
        False,
    ),
    "after_done": (
        streamed(delta(TEXT), FINISH, DONE + event({"choices": [], "usage": both()})),
        7,
        False,
    ),
    "none": (streamed(delta(TEXT), FINISH, DONE), 2, False),
    "null": (streamed(delta(TEXT, usage=None), FINISH, DONE), 2, False),
    "of_the_wrong_type": (streamed(delta(TEXT, usage=[1, 2]), FINISH, DONE), 2, False),
    "zero_without_content": (
        streamed(FINISH, event({"choices": [], "usage": {**PROMPT, "completion_tokens": 0}}), DONE),
        0,
        False,
    ),
}
"""Events, the output that is billed, and whether it is flagged."""


@pytest.mark.parametrize("name", SEQUENCES)
async def test_t26_t58_reports_in_any_order(
    door: RunningDoor, upstream: ScriptedUpstream, name: str
) -> None:
    """Reports replace each other, are never added, and never make content free."""
    script, output_tokens, is_flagged = SEQUENCES[name]
    if name == "two_reports_the_last_wins":
        is_flagged = True  # the first one's total was not its sum

    said = await settled(door, upstream, script)

    assert said.units.get("output_text", 0) == output_tokens
    assert (said.usage_suspect is not None) is is_flagged


async def test_t26_a_count_in_place_of_a_lie_stays_within_the_hold(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """A server that ignores `max_tokens` and lies about it costs no more than was held."""
    door = await open_door(settings({"one": upstream.url}))
    lie = event({"choices": [], "usage": {**PROMPT, "completion_tokens": -1}})

    said = await settled(door, upstream, streamed(delta("word " * 5000), FINISH, lie, DONE))

    assert said.units["output_text"] == 100
    assert said.counted["output_text"] > 5000


async def test_t26_numbers_of_any_size_do_not_break_the_ledgers_json(
    door: RunningDoor, upstream: ScriptedUpstream
) -> None:
    """The largest believable report becomes an event that can be read again, to the unit."""
    usage = {"prompt_tokens": 10**8, "completion_tokens": 2, "total_tokens": 10**8 + 2}

    said = await settled(door, upstream, streamed_with(usage))

    assert said.units["input_uncached"] == 10**8
    assert said.admission_nano == 10**8 * 1000 + 2 * 4000
    assert orjson.loads(orjson.dumps(said.admission_nano)) == said.admission_nano
