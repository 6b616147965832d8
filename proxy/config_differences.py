"""Two configurations side by side: what would change, and when. Pure.

Values are those of `proxy.config_leaves`, so nothing secret is told.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from proxy.config_keys import effect_of
from proxy.config_leaves import Leaf


@dataclass(frozen=True, slots=True)
class Difference:
    """One value that differs; None where the key is left out, so that its default holds."""

    key: str
    before: Leaf | None
    after: Leaf | None
    effect: str

    @property
    def kind(self) -> str:
        """`added`, `removed` or `changed`."""
        if self.before is None:
            return "added"
        return "removed" if self.after is None else "changed"

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "key": self.key,
            "kind": self.kind,
            "before": None if self.before is None else self.before.shown,
            "after": None if self.after is None else self.after.shown,
            "effect": self.effect,
        }


def differences(before: Mapping[str, Leaf], after: Mapping[str, Leaf]) -> list[Difference]:
    """What a reload of `after` would change where `before` runs, in the order of the files."""
    found = []
    for key in _merged(before, after):
        old, new = before.get(key), after.get(key)
        if old is None or new is None or old.same != new.same:
            found.append(Difference(key, old, new, _effect(key)))
    return found


def _merged(before: Iterable[str], after: Iterable[str]) -> list[str]:
    return list(dict.fromkeys([*after, *before]))


def _effect(key: str) -> str:
    effect, _ = effect_of(_pattern(key))
    if key.startswith("server.tls"):
        return "at once; to begin or end TLS after a restart"
    return effect


def _pattern(key: str) -> str:
    """`tenants[acme].keys[a].id` as `tenants[].keys[].id`; the first steps are all that count."""
    return re.sub(r"\[[^\]]*\]", "[]", key)
