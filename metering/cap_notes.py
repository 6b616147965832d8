"""What caps have to tell: a mark was crossed, a cap began to refuse. Once per crossing.

Rules:
- A mark is a share of a money limit. It is told when spend reaches it, and armed again when spend
  has fallen under 95 % of it. The marks of one window stand on one line, whoever's caps they are:
  what is remembered is how far it was told.
- A refusal for what is spent is told once, and armed again under 95 % of what was spent then. One
  that was told before 95 % of the limit were spent was about a large request: it is told once more
  when the cap is that full.

Pure; the scripts do the same and put the notes into the shard's stream.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from metering.caps import AnyWindow, Cap, CapState, Scope, ScopeKind
from metering.caps_choice import share_nano
from metering.money import PPM

REARM_PPM = 950_000
"""Spend falls and rises by itself as a window slides: without room between, each turn is news."""


@dataclass(frozen=True, slots=True)
class Mark:
    """A mark of one cap as an amount."""

    at_nano: int
    ppm: int
    limit_nano: int


def marks_of(caps: Sequence[Cap], scope: Scope, window: AnyWindow) -> tuple[Mark, ...]:
    """The marks over one window, lowest first."""
    found = [
        Mark(share_nano(cap.limit.nano, ppm), ppm, cap.limit.nano)
        for cap in caps
        if cap.scope == scope and cap.window == window and cap.limit.nano is not None
        for ppm in cap.marks_ppm
    ]
    return tuple(sorted(found, key=lambda mark: mark.at_nano))


def rearmed(told_nano: int, marks: Sequence[Mark], spent_nano: int) -> int:
    """How far it counts as told once spend has fallen to this."""
    if not told_nano or spent_nano >= share_nano(told_nano, REARM_PPM):
        return told_nano
    still = [
        mark.at_nano
        for mark in marks
        if mark.at_nano <= told_nano and spent_nano >= share_nano(mark.at_nano, REARM_PPM)
    ]
    return max(still, default=0)


def crossed(told_nano: int, marks: Sequence[Mark], spent_nano: int) -> list[Mark]:
    """The marks to tell now, lowest first."""
    return [mark for mark in marks if told_nano < mark.at_nano <= spent_nano]


def scope_name(scope: Scope) -> str:
    """A scope in keys, flags and notes: `tenant`, `run/abc`."""
    return scope.kind if scope.kind is ScopeKind.TENANT else f"{scope.kind}/{scope.id}"


def note(kind: str, mark: Mark, tenant: str, state: CapState) -> dict[str, Any]:
    """One entry of the notes stream; `kind` is cap_mark or cap_refuses."""
    return {
        "v": 1,
        "kind": kind,
        "tenant": tenant,
        "scope": scope_name(state.cap.scope),
        "window": state.cap.window.label,
        "mark_ppm": mark.ppm,
        "limit_nano": str(mark.limit_nano),
        "spent_nano": str(state.spent.nano),
        "at_ms": state.now_ms,
    }


def whole(limit_nano: int) -> Mark:
    """The limit itself, as a mark."""
    return Mark(limit_nano, PPM, limit_nano)
