"""What a model lacks for a request: only what is known counts against it."""

from __future__ import annotations

import pytest

from routing.abilities import ANY, Abilities, Needs, lacks

TABLE = {
    "nothing known": (ANY, Needs(tools=True, vision=True, json_schema=True), 10**9, ()),
    "tools": (Abilities(tools=False), Needs(tools=True), 1, ("tools",)),
    "tools unused": (Abilities(tools=False), Needs(vision=True), 1, ()),
    "all": (
        Abilities(tools=False, vision=False, json_schema=False, max_context_tokens=5),
        Needs(tools=True, vision=True, json_schema=True),
        5,
        ("tools", "vision", "json_schema", "context"),
    ),
    "thinking and sound": (
        Abilities(reasoning=False, audio=False),
        Needs(reasoning=True, audio=True),
        1,
        ("reasoning", "audio"),
    ),
    "a long answer": (Abilities(max_output_tokens=1), Needs(), 1, ("output",)),
    "an answer that just fits": (Abilities(max_output_tokens=2), Needs(), 1, ()),
    "has them": (Abilities(tools=True, vision=True), Needs(tools=True, vision=True), 1, ()),
    "just fits": (Abilities(max_context_tokens=12), Needs(), 10, ()),
    "one too long": (Abilities(max_context_tokens=12), Needs(), 11, ("context",)),
}


@pytest.mark.parametrize("name", TABLE)
def test_what_is_lacking(name: str) -> None:
    """Each ability is weighed by itself; two tokens of output belong to the context, too."""
    abilities, needs, prompt_tokens, missing = TABLE[name]

    assert lacks(abilities, needs, prompt_tokens=prompt_tokens, output_tokens=2) == missing


def test_what_is_written_goes_before_what_is_known() -> None:
    """And what neither says stays unknown."""
    written = Abilities(tools=False, max_context_tokens=5)
    known = Abilities(tools=True, vision=True, max_context_tokens=9)

    assert written.over(known) == Abilities(tools=False, vision=True, max_context_tokens=5)
    assert written.over(ANY) is written
    assert ANY.over(known) == known
