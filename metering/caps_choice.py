"""Choosing among candidates under caps, as specification: what fits, in which stage, and why not.

Rules:
- Only enforced caps refuse. A cap is passed by nobody: spent + held + asked <= limit, each alone.
- The highest stage in force decides who is passed over; then each candidate is tried as it is, and
  in the same order shrunk, as far as its output may shrink.
- A denial is about the candidate that takes least, and names its hardest cap: never before spent
  before held; among the spent the one that ends last, for only then will the request fit.

Pure. The Lua scripts answer as this does; admission without Redis (`outage_caps`) uses it as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from metering.caps import (
    BALANCE,
    Candidate,
    Cap,
    CapMode,
    DenialReason,
    Elastic,
    Stairs,
    Vector,
)
from metering.money import PPM, divide_up

DIMENSIONS = ("nano", "tokens", "requests", "concurrent")
_RANK = {DenialReason.HELD: 1, DenialReason.SPENT: 2, DenialReason.NEVER: 3}
_PICO = 1_000

ELASTIC_TOKENS_MAX = 10**12
"""More output than this is never held by a shrunk candidate: so the script's products are exact."""


@dataclass(frozen=True, slots=True)
class Look:
    """A cap as it stands before this request: spent, held by others, and how many others run."""

    cap: Cap
    spent: Vector
    held: Vector
    running: int = 0
    has_begun: bool = False
    """Whether its own request counts already: it has begun, in a window that is a rate."""

    @property
    def is_enforced(self) -> bool:
        """Whether it may refuse."""
        return self.cap.mode is CapMode.ENFORCE

    @property
    def has_stages(self) -> bool:
        """Whether stages go by its shares: those of a balance, counted for ever, say nothing."""
        cap = self.cap
        return self.is_enforced and cap.limit.nano is not None and cap.window != BALANCE

    @property
    def full_nano(self) -> int:
        """What counts against a share of its money limit."""
        return self.spent.nano + self.held.nano


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a candidate does not fit one cap; `need` is what has to leave first, if it is spent."""

    reason: DenialReason
    place: int
    dimension: str
    need: int = 0


def share_nano(limit_nano: int, ppm: int) -> int:
    """A share of a money limit; what is half a nano short of it is not there yet."""
    return divide_up(limit_nano * ppm, PPM)


# -- stages -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Kept:
    """What is remembered of stairs: the stage in force and when it was entered."""

    level: int = 0
    since_ms: int = 0


def is_remembered(stairs: Stairs) -> bool:
    """Whether a stage can outlive the share that it began with."""
    return stairs.dwell_ms > 0 or any(each.leave_ppm < each.enter_ppm for each in stairs.stages)


def climb(looks: Sequence[Look], stairs: Stairs, kept: Kept, now_ms: int) -> Kept:
    """The stage in force now, and since when. A stage that is left for a lower one began no later,
    so its time is over, too: the time that is remembered stays."""
    money = [look for look in looks if look.has_stages]

    def reaches(ppm: int) -> bool:
        return any(look.full_nano >= share_nano(look.cap.limit.nano or 0, ppm) for look in money)

    for level in range(len(stairs.stages), 0, -1):
        stage = stairs.stages[level - 1]
        if reaches(stage.enter_ppm):
            return Kept(level, now_ms if level > kept.level else kept.since_ms)
        lasts = now_ms < kept.since_ms + stairs.dwell_ms or reaches(stage.leave_ppm)
        if lasts and level <= kept.level and is_remembered(stairs):
            return Kept(level, kept.since_ms)
    return Kept()


# -- fitting ----------------------------------------------------------------------------------


def _bounds(look: Look, vector: Vector) -> Iterator[tuple[str, int, int, int, int]]:
    """Per dimension that the cap bounds: its name, spent, held, what is asked, the limit."""
    limit, spent, held = look.cap.limit, look.spent, look.held
    if limit.nano is not None:
        yield "nano", spent.nano, held.nano, vector.nano, limit.nano
    if limit.tokens is not None:
        yield "tokens", spent.tokens, held.tokens, vector.tokens, limit.tokens
    if limit.requests is not None:
        more = 0 if look.has_begun else vector.requests
        yield "requests", spent.requests, held.requests, more, limit.requests
    if limit.concurrent is not None:
        yield "concurrent", 0, look.running, 1, limit.concurrent


def _reason(spent: int, held: int, more: int, limit: int) -> DenialReason | None:
    if more > limit:
        return DenialReason.NEVER
    if spent + more > limit:
        return DenialReason.SPENT
    if spent + held + more > limit:
        return DenialReason.HELD
    return None


def _refusals(place: int, look: Look, vector: Vector) -> Iterator[Refusal]:
    for dimension, spent, held, more, limit in _bounds(look, vector):
        reason = _reason(spent, held, more, limit)
        if reason is not None:
            yield Refusal(reason, place, dimension, spent + more - limit)


def fits(looks: Sequence[Look], vector: Vector) -> bool:
    """Whether no enforced cap stands in its way."""
    return not any(
        look.is_enforced and any(_refusals(place, look, vector)) for place, look in enumerate(looks)
    )


def with_output(elastic: Elastic, tokens: int) -> Vector:
    """The hold with so many output tokens."""
    return Vector(
        elastic.base.nano + divide_up(tokens * elastic.rate_pico, _PICO),
        elastic.base.tokens + tokens,
        elastic.base.requests,
    )


def shrunk(looks: Sequence[Look], candidate: Candidate) -> Vector | None:
    """The hold with as many output tokens as fit, fewer than asked; None when that is too few."""
    elastic = candidate.elastic
    if elastic is None:
        return None
    tokens = min(candidate.vector.tokens - elastic.base.tokens, ELASTIC_TOKENS_MAX)
    for look in looks:
        if not look.is_enforced:
            continue
        limit, base = look.cap.limit, elastic.base
        if limit.tokens is not None:
            tokens = min(tokens, limit.tokens - look.spent.tokens - look.held.tokens - base.tokens)
        if limit.nano is not None and elastic.rate_pico > 0:
            room = limit.nano - look.full_nano - base.nano
            tokens = min(tokens, room * _PICO // elastic.rate_pico)
    if tokens < elastic.tokens_min or tokens < 0:
        return None
    vector = with_output(elastic, tokens)
    return vector if fits(looks, vector) else None


def choose(
    looks: Sequence[Look], candidates: Sequence[Candidate], level: int
) -> tuple[int, Vector | None] | None:
    """The candidate to admit and, when it had to shrink, what it holds; None when none fits."""
    open_to = [(index, each) for index, each in enumerate(candidates) if each.stage >= level]
    for index, candidate in open_to:
        if fits(looks, candidate.vector):
            return index, None
    for index, candidate in open_to:
        vector = shrunk(looks, candidate)
        if vector is not None:
            return index, vector
    return None


def shadowed(looks: Sequence[Look], vector: Vector) -> tuple[int, ...]:
    """The caps in shadow that would have refused this hold, by their places."""
    return tuple(
        place
        for place, look in enumerate(looks)
        if look.cap.mode is CapMode.SHADOW and any(_refusals(place, look, vector))
    )


# -- denying ----------------------------------------------------------------------------------


def least(candidate: Candidate) -> Vector:
    """The smallest hold that this candidate could be admitted with."""
    elastic = candidate.elastic
    if elastic is None or elastic.tokens_min > candidate.vector.tokens - elastic.base.tokens:
        return candidate.vector
    return with_output(elastic, elastic.tokens_min)


def judge(
    looks: Sequence[Look],
    candidates: Sequence[Candidate],
    stairs: Stairs | None,
    level: int,
    frees_at_ms: Callable[[Refusal], int],
) -> tuple[Refusal, int]:
    """The refusal to tell, of the candidate that takes least, and when it would fit (0: unknown).

    A candidate that is passed over waits until the lowest stage above its own can end.
    """
    cheapest = min(candidates, key=lambda each: least(each).nano)
    found: list[Refusal] = []
    for place, look in enumerate(looks):
        if not look.is_enforced:
            continue
        found += _refusals(place, look, least(cheapest))
        if stairs is not None and cheapest.stage < level and look.has_stages:
            end = share_nano(look.cap.limit.nano or 0, stairs.stages[cheapest.stage].leave_ppm)
            reason = _reason(look.spent.nano, look.held.nano, 0, end - 1)
            if reason is not None:
                found.append(Refusal(reason, place, "nano", look.spent.nano - end + 1))
    if not found:  # the stage lasts, though nothing is as full any more
        return Refusal(DenialReason.HELD, _first_money(looks), "nano"), 0
    timed = [(each, frees_at_ms(each) if each.reason is _SPENT else 0) for each in found]
    return max(timed, key=lambda pair: (_RANK[pair[0].reason], pair[1]))


_SPENT = DenialReason.SPENT


def _first_money(looks: Sequence[Look]) -> int:
    """The cap to show when none refuses; -1 when none bounds money."""
    places = [
        place
        for place, look in enumerate(looks)
        if look.is_enforced and look.cap.limit.nano is not None
    ]
    return places[0] if places else -1
