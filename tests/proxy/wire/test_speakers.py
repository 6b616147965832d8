"""Names of speakers, where a format has no place for them."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.wire import anthropic_messages, bedrock_converse, gemini
from proxy.wire.anthropic_messages import upstream as anthropic_upstream
from proxy.wire.bedrock_converse import upstream as bedrock_upstream
from proxy.wire.gemini import upstream as gemini_upstream
from proxy.wire.speakers import mixed_speaker

UPSTREAMS = {
    anthropic_messages.__name__: anthropic_upstream,
    bedrock_converse.__name__: bedrock_upstream,
    gemini.__name__: gemini_upstream,
}


def said(role: str, name: Any = None) -> dict[str, Any]:
    return {"role": role, "content": "x", "name": name}


ALIKE = {
    "nobody": [said("user"), said("assistant")],
    "one": [said("user", "ann"), said("user", "ann"), said("user")],
    "one_a_role": [said("system", "rules"), said("user", "ann"), said("assistant", "bot")],
    "empty": [said("user", ""), said("user", "ann")],
    "functions": [said("user", "ann"), said("tool", "f"), said("tool", "g")],
}
MIXED = {
    "two": ([said("user", "ann"), said("assistant"), said("user", "bob")], "messages[2].name"),
    "first_of_many": ([said("user", each) for each in "aabca"], "messages[2].name"),
    "examples": (
        [said("system", "example_user"), said("developer", "example_assistant"), said("user")],
        "messages[1].name",
    ),
}


@pytest.mark.parametrize("case", ALIKE)
def test_a_name_that_tells_nothing_apart_is_left_out(case: str) -> None:
    """One name in a role, or none, is nothing that a model has to know."""
    assert mixed_speaker(ALIKE[case]) is None


@pytest.mark.parametrize("case", MIXED)
def test_two_names_in_one_role_are_named_by_message(case: str) -> None:
    """The first that differs is told, once."""
    messages, path = MIXED[case]

    assert mixed_speaker(messages) == path


@pytest.mark.parametrize("upstream", UPSTREAMS.values(), ids=UPSTREAMS)
@pytest.mark.parametrize("case", MIXED)
def test_every_format_without_names_has_the_same_rule(upstream: Any, case: str) -> None:
    """What one refuses, all refuse, by the same path; and nothing else."""
    messages, path = MIXED[case]

    assert list(upstream.cannot_carry({"messages": messages})) == [path]
    for alike in ("one", "one_a_role"):
        assert list(upstream.cannot_carry({"messages": ALIKE[alike]})) == []


@pytest.mark.parametrize("messages", [None, "x", [None, 1, []], [{"role": [], "name": {}}]])
def test_what_is_malformed_has_no_speakers(messages: object) -> None:
    """It is refused where it is read."""
    assert mixed_speaker(messages) is None
