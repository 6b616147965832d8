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
    "has them": (Abilities(tools=True, vision=True), Needs(tools=True, vision=True), 1, ()),
    "just fits": (Abilities(max_context_tokens=12), Needs(), 10, ()),
    "one too long": (Abilities(max_context_tokens=12), Needs(), 11, ("context",)),
}


@pytest.mark.parametrize("name", TABLE)
def test_what_is_lacking(name: str) -> None:
    """Each ability is weighed by itself; two tokens of output belong to the context, too."""
    abilities, needs, prompt_tokens, missing = TABLE[name]

    assert lacks(abilities, needs, prompt_tokens=prompt_tokens, output_tokens=2) == missing
