"""What is read in an answer, and that nothing of it is for nothing."""

from __future__ import annotations

from typing import Any

import pytest

from metering.meter import Meter
from metering.tokenizer import tokenizer_for
from proxy.reply import Reply, read_object

TEXT = "word " * 100


def read(*deltas: dict[str, Any], part: str = "delta", **fields: Any) -> tuple[int, Reply, Meter]:
    meter, reply = Meter(tokenizer_for("gpt-4o"), 1), Reply()
    for delta in deltas:
        read_object({"choices": [{"index": 0, part: delta, **fields}]}, reply, meter, part)
    return meter.output_tokens, reply, meter


ONCE = read({"content": TEXT})[0]


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ({"content": [{"type": "text", "text": TEXT}]}, "output_text"),
        ({"content": [TEXT]}, "output_text"),
        ({"content": [{"type": "thinking", "thinking": TEXT}]}, "output_reasoning"),
        (
            {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": TEXT}]}]},
            "output_reasoning",
        ),
        ({"reasoning": TEXT}, "output_reasoning"),
        ({"reasoning": TEXT, "reasoning_content": TEXT}, "output_reasoning"),
    ],
)
def test_parts_are_counted_as_what_they_are(said: dict[str, Any], kind: str) -> None:
    """Content in parts is text and thinking like any other, and two names for one are one."""
    _, _, meter = read(said)

    assert meter.final().units[kind] == ONCE
    assert meter.final().suspect is None


@pytest.mark.parametrize(
    "said",
    [
        {"content": [{"type": "odd", "body": TEXT}]},
        {"content": {"a": TEXT}},
        {"audio": {"transcript": TEXT}},
        {"reasoning_details": [{"type": "reasoning.text", "text": TEXT}]},
        {"thinking_blocks": [{"type": "thinking", "thinking": TEXT, "signature": "s"}]},
        {"anything": [TEXT]},
    ],
)
def test_what_is_not_known_is_not_free(said: dict[str, Any]) -> None:
    """Text in any other place is estimated, and said to be."""
    tokens, _, meter = read(said)

    assert tokens >= ONCE
    assert meter.final().suspect is not None


def test_thinking_that_is_repeated_is_counted_once() -> None:
    """Blocks that say again what was thought are nothing new, in the same chunk or a later one."""
    blocks = [{"type": "thinking", "thinking": TEXT * 2, "signature": "s" * 9000}]
    details = {"reasoning_details": [{"text": TEXT}]}

    tokens, _, meter = read({"reasoning_content": TEXT}, {"reasoning_content": TEXT})
    again, _, other = read(
        {"reasoning_content": TEXT},
        {"reasoning_content": TEXT, "thinking_blocks": blocks},
    )
    both, _, third = read(*[{"reasoning": TEXT, **details}] * 2)

    assert tokens == again == both
    assert meter.final().suspect is other.final().suspect is third.final().suspect is None


def test_two_thoughts_under_two_names_are_two() -> None:
    """Nothing hides behind the other name of thinking."""
    assert read({"reasoning": TEXT, "reasoning_content": "x"})[0] > ONCE


def test_a_message_within_a_stream_counts_for_what_is_new_in_it() -> None:
    """Some servers tell in each chunk all that was said; others say nothing elsewhere."""
    repeated, _, meter = read({"content": TEXT}, message={"role": "a", "content": TEXT[:-1]})
    only, _, _ = read({}, message={"content": TEXT})
    text, _, _ = read({}, text=TEXT)

    assert repeated == ONCE and meter.final().suspect is None
    assert only >= ONCE and text >= ONCE


def test_the_end_alone_is_none_for_who_needs_a_reason() -> None:
    """Where an answer is written anew, somebody has to have said why it ended."""
    reply = Reply(is_done=True, needs_reason=True)

    assert not reply.is_finished
    reply.finished.add(0)
    assert reply.is_finished
    assert Reply(is_done=True).is_finished
