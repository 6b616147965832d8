"""Which requests an upstream takes: conditions on labels, tags, the body's metadata, the prompt.

Pure. Everything that is written has to hold; of several values of one thing, one is enough.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

LABELS = ("feature", "user", "session", "project", "tenant", "key")
"""What a request runs under, by the names that conditions use."""

_VALUE_CHARS_MAX = 256
"""A value in a body's metadata that is longer matches nothing: no pattern is."""


@dataclass(frozen=True, slots=True)
class Traits:
    """What a request says for itself, as far as conditions go."""

    labels: Mapping[str, str | None] = field(default_factory=dict)
    """By the names of `LABELS`."""
    tags: frozenset[str] = frozenset()
    """Those that it asks for: `x-weir-tags`."""
    stream: bool = False
    metadata: Mapping[str, object] = field(default_factory=dict)
    """`metadata` of its body."""


NO_TRAITS = Traits()

Patterns = tuple[tuple[str, tuple[str, ...]], ...]
"""Names, each with the values that are taken; `*`, `?` and `[...]` as in file names."""


@dataclass(frozen=True, slots=True)
class When:
    """`models.NAME.upstreams[].when`."""

    labels: Patterns = ()
    metadata: Patterns = ()
    tags: tuple[str, ...] = ()
    """The request has to ask for one of these."""
    stream: bool | None = None
    min_prompt_tokens: int | None = None
    max_prompt_tokens: int | None = None

    def unmet(self, traits: Traits, prompt_tokens: int) -> str | None:
        """The name of the first condition that does not hold; None when all do."""
        if self.stream is not None and self.stream is not traits.stream:
            return "stream"
        if self.min_prompt_tokens is not None and prompt_tokens < self.min_prompt_tokens:
            return "min_prompt_tokens"
        if self.max_prompt_tokens is not None and prompt_tokens > self.max_prompt_tokens:
            return "max_prompt_tokens"
        if self.tags and traits.tags.isdisjoint(self.tags):
            return "tags"
        for name, patterns in self.labels:
            if not _is_one_of(traits.labels.get(name), patterns):
                return name
        for name, patterns in self.metadata:
            if not _is_one_of(_text(traits.metadata.get(name)), patterns):
                return f"metadata.{name}"
        return None


def _is_one_of(value: str | None, patterns: tuple[str, ...]) -> bool:
    return value is not None and any(fnmatchcase(value, each) for each in patterns)


def _text(value: object) -> str | None:
    """A value of the body as a pattern is compared with it; numbers and flags as JSON has them."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value) if abs(value) < 10**18 else None
    return value if isinstance(value, str) and len(value) <= _VALUE_CHARS_MAX else None
