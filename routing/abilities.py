"""What a model can take, what a request asks for, and what is missing between the two. Pure.

Only what is known counts against a model: an ability that nobody wrote down is taken to be there.
"""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(frozen=True, slots=True)
class Abilities:
    """`supports`, `max_context_tokens` and `max_output_tokens` of an upstream; None where nothing
    is known."""

    tools: bool | None = None
    vision: bool | None = None
    json_schema: bool | None = None
    reasoning: bool | None = None
    audio: bool | None = None
    max_context_tokens: int | None = None
    max_output_tokens: int | None = None
    """Most tokens of one answer."""

    def over(self, others: Abilities) -> Abilities:
        """These, and those of the others where nothing is known of these."""
        if others == ANY:
            return self
        known = {}
        for each in fields(Abilities):
            value = getattr(self, each.name)
            known[each.name] = getattr(others, each.name) if value is None else value
        return Abilities(**known)


ANY = Abilities()
"""Those of a model of which nothing is known."""


@dataclass(frozen=True, slots=True)
class Needs:
    """What a request uses beside plain text."""

    tools: bool = False
    vision: bool = False
    json_schema: bool = False
    reasoning: bool = False
    audio: bool = False


NO_NEEDS = Needs()
"""Those of a request of plain text."""

CONTEXT, OUTPUT = "context", "output"
"""What a request lacks that is too long, or asks for too long an answer."""

_NAMES = tuple(each.name for each in fields(Needs))


def lacks(
    abilities: Abilities, needs: Needs, *, prompt_tokens: int, output_tokens: int
) -> tuple[str, ...]:
    """What the request needs and the model has not, by name; `output_tokens` are those of one
    choice, as far as the request bounds them."""
    missing = []
    if needs is not NO_NEEDS:
        missing = [
            name for name in _NAMES if getattr(needs, name) and getattr(abilities, name) is False
        ]
    if is_too_long(abilities, prompt_tokens=prompt_tokens, output_tokens=output_tokens):
        missing.append(CONTEXT)
    most = abilities.max_output_tokens
    if most is not None and output_tokens > most:
        missing.append(OUTPUT)
    return tuple(missing)


def is_too_long(abilities: Abilities, *, prompt_tokens: int, output_tokens: int) -> bool:
    """Whether prompt and output are more than the model's context holds."""
    longest = abilities.max_context_tokens
    return longest is not None and prompt_tokens + output_tokens > longest
