"""What a model can take, what a request asks for, and what is missing between the two. Pure.

Only what is known counts against a model: an ability that nobody wrote down is taken to be there.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Abilities:
    """`models.X.supports` and `max_context_tokens`; None where nothing was written."""

    tools: bool | None = None
    vision: bool | None = None
    json_schema: bool | None = None
    max_context_tokens: int | None = None


ANY = Abilities()
"""Those of a model of which nothing was written."""


@dataclass(frozen=True, slots=True)
class Needs:
    """What a request uses beside plain text."""

    tools: bool = False
    vision: bool = False
    json_schema: bool = False


def lacks(
    abilities: Abilities, needs: Needs, *, prompt_tokens: int, output_tokens: int
) -> tuple[str, ...]:
    """What the request needs and the model has not, by name; `output_tokens` are those of one
    choice, as far as the request bounds them."""
    missing = [
        name
        for name in ("tools", "vision", "json_schema")
        if getattr(needs, name) and getattr(abilities, name) is False
    ]
    if is_too_long(abilities, prompt_tokens=prompt_tokens, output_tokens=output_tokens):
        missing.append("context")
    return tuple(missing)


def is_too_long(abilities: Abilities, *, prompt_tokens: int, output_tokens: int) -> bool:
    """Whether prompt and output are more than the model's context holds."""
    longest = abilities.max_context_tokens
    return longest is not None and prompt_tokens + output_tokens > longest
