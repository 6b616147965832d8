"""What a reserve would answer, from what was read: nothing is held, and nothing is changed.

The rules are those of `metering.caps_choice`; the states are those of before the request. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from metering.cap_notes import scope_name
from metering.caps import (
    Candidate,
    CapState,
    Denial,
    DenialReason,
    Hold,
    Looked,
    Reservation,
    Scope,
    Stairs,
)
from metering.caps_choice import Kept, Look, Refusal, choose, climb, judge, shadowed
from metering.scope_reading import ScopeReading
from metering.window import SlidingWindow, is_rate

_FLAGS = (DenialReason.PAUSED, DenialReason.KILLED)


@dataclass(frozen=True, slots=True)
class Reading:
    """A tenant's scopes and state flags at one moment."""

    now_ms: int
    scopes: Mapping[Scope, ScopeReading]
    state: Mapping[str, str]
    is_rebuilding: bool = False


def look(
    hold: Hold, candidates: Sequence[Candidate], stairs: Stairs | None, reading: Reading
) -> Looked:
    """What `Caps.reserve` would answer now."""
    if reading.is_rebuilding:
        return Looked(Denial(DenialReason.REBUILDING))
    states = states_of(hold, reading)
    return Looked(_answer(hold, candidates, stairs, reading, states), states)


def _answer(
    hold: Hold,
    candidates: Sequence[Candidate],
    stairs: Stairs | None,
    reading: Reading,
    states: tuple[CapState, ...],
) -> Reservation | Denial:
    stop = _stop(hold, reading.state)
    if stop is not None:
        return stop
    looks = [_look(hold, place, reading) for place in range(len(hold.caps))]
    stage = _stage(looks, stairs, reading)
    level = 0 if stairs is None or stairs.is_shadow else stage
    choice = choose(looks, candidates, level)
    if choice is not None:
        index, vector = choice
        held = vector or candidates[index].vector
        return Reservation(
            hold.exchange_id, index, states, stage, vector, shadowed=shadowed(looks, held)
        )

    def frees_at_ms(refusal: Refusal) -> int:
        window = _window(hold, refusal.place, reading)
        return window.frees_at_ms(refusal.dimension, refusal.need)

    worst, at_ms = judge(looks, candidates, stairs, level, frees_at_ms)
    if worst.place < 0:
        return Denial(worst.reason, stage=stage)
    state = replace(states[worst.place], reset_ms=at_ms or None)
    return Denial(worst.reason, state, worst.dimension, stage=stage)


def states_of(hold: Hold, reading: Reading) -> tuple[CapState, ...]:
    """Every cap as it stands, in the order asked."""
    states = []
    for place, cap in enumerate(hold.caps):
        found, window = _look(hold, place, reading), _window(hold, place, reading)
        states.append(CapState(cap, found.spent, found.held, reading.now_ms, window.reset_ms()))
    return tuple(states)


def _look(hold: Hold, place: int, reading: Reading) -> Look:
    cap = hold.caps[place]
    scope = reading.scopes[cap.scope]
    held = replace(scope.held, requests=0) if is_rate(cap.window) else scope.held
    return Look(cap, _window(hold, place, reading).spent, held, scope.holds)


def _window(hold: Hold, place: int, reading: Reading) -> SlidingWindow:
    cap = hold.caps[place]
    return reading.scopes[cap.scope].windows[cap.window.label]


def _stage(looks: Sequence[Look], stairs: Stairs | None, reading: Reading) -> int:
    if stairs is None:
        return 0
    level, _, since = reading.state.get(f"stage:{stairs.name}", "0 0").partition(" ")
    now = climb(looks, stairs, Kept(_number(level), _number(since)), reading.now_ms)
    floor = _number(reading.state.get("stage_min", "0"))
    return max(now.level, min(floor, len(stairs.stages)))


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() else 0


def _stop(hold: Hold, state: Mapping[str, str]) -> Denial | None:
    """The flag in the way: the tenant's first, then in the order of the stops."""
    for scope in (None, *hold.stops):
        tail = "" if scope is None else f":{scope_name(scope)}"
        for reason in _FLAGS:
            if state.get(reason + tail, "0") != "0":
                return Denial(reason, scope=scope)
    return None
