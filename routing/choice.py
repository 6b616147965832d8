"""In which order the upstreams of one model are asked, and why each stands where it stands. Pure.

Rules, the first that tells two upstreams apart decides:
- What cannot serve the request is left out, with the reason.
- What is failing goes last: it may be all there is.
- What is known to miss the target for the request's latency goes behind what is not.
- A lower `priority` goes first.
- Then the strategy, and among those it holds for equal the affinity; without one they are drawn by
  their weights.

Nothing is drawn by chance: the exchange id stands for the dice, so that a decision can be repeated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from routing.affinity import scores, share
from routing.history import NOTHING_KNOWN, Observed
from routing.upstreams import USUAL_TERMS, Policy, Strategy, Terms

ALIKE_PERCENT = 120
"""Upstreams up to a fifth slower than the fastest count as equally fast: less is noise, and all
requests of every process would follow it to one upstream at once."""

CROWDED_PERCENT = 125
"""A home is kept until it has a quarter more under way than the least busy, and one more."""

EXPLORED_PER_MILLE, REVISITED_PER_MILLE = 100, 20
"""Of a thousand requests so many go to an upstream that was never measured, or, where all were, to
a slower one: it may have become faster, and would never be asked again."""

ONLY = "only"
"""Why the winner won that nothing else could have served in its place."""


@dataclass(frozen=True, slots=True)
class Entrant:
    """An upstream as this request finds it. `reason` is why it cannot serve it, empty if it can;
    `nano` what the provider would charge, None where it has no price."""

    label: str
    terms: Terms = USUAL_TERMS
    reason: str = ""
    nano: int | None = None
    observed: Observed = NOTHING_KNOWN
    is_failing: bool = False


@dataclass(frozen=True, slots=True)
class Dice:
    """What decides among equals: the exchange's own key, and the key of its home if it has one."""

    exchange: bytes = b""
    home: bytes | None = None


@dataclass(frozen=True, slots=True)
class Choice:
    """`order` has the places of the entrants that can serve, the first to ask first.

    `word` is why that one is first; `reasons` say of every entrant why it is not, empty for it.
    """

    order: tuple[int, ...]
    word: str
    reasons: tuple[str, ...]


_Head = tuple[bool, bool, int]
"""What goes before the strategy: whether it is failing, whether it is late, its priority."""

_BEHIND = {
    Strategy.PRIORITY: ("first", "later", "later"),
    Strategy.WEIGHTED: ("drawn", "drawn", "drawn"),
    Strategy.LEAST_COST: ("cheapest", "dearer", "no_price"),
    Strategy.LEAST_LATENCY: ("fastest", "slower", "not_measured"),
    Strategy.LEAST_BUSY: ("least_busy", "busier", "no_weight"),
}
"""Where the strategy decides: a word for the winner, for a loser, and for one that cannot be
compared."""

_WORDS = (("healthy", "failing"), ("in_time", "misses_target"), ("priority", "priority"))
"""The same for what goes before the strategy."""

_LAST = float("inf")


@dataclass(frozen=True, slots=True)
class _Group:
    """Entrants that only the strategy and the dice tell apart, the first to ask first.

    `bands` is how the strategy sees them, in the same order; equal numbers are equal to it.
    """

    head: _Head
    members: list[int]
    bands: list[float]


def choose(
    policy: Policy, entrants: Sequence[Entrant], dice: Dice, *, target_ms: int | None = None
) -> Choice:
    """The order, with a reason for everybody who is not first in it."""
    able = [index for index, each in enumerate(entrants) if not each.reason]
    reasons = [each.reason for each in entrants]
    if len(able) < 2:
        return Choice(tuple(able), ONLY if able else "", tuple(reasons))
    groups = [
        _ranked(policy, entrants, head, members, dice)
        for head, members in _grouped(entrants, able, target_ms)
    ]
    order = [index for group in groups for index in group.members]
    first = groups[0]
    words = _BEHIND[policy.strategy]
    band, drawn = first.bands[0], "drawn" if dice.home is None else "affinity"
    for index, other in zip(first.members, first.bands, strict=True):
        if other == band:
            reasons[index] = drawn
        else:
            reasons[index] = words[1] if other < _LAST else words[2]
    for group in groups[1:]:
        against = _told_apart(first.head, group.head)[1]
        for index in group.members:
            reasons[index] = against
    if len(first.members) == 1:
        word = _told_apart(first.head, groups[1].head)[0]
    else:
        word = drawn if first.bands[1] == band else words[0]
    explored = _explored(policy, entrants, groups, dice)
    if explored is not None:
        word = "explored"
        order.remove(explored)
        for index in order:
            reasons[index] = "another_explored"
        order.insert(0, explored)
    reasons[order[0]] = ""
    return Choice(tuple(order), word, tuple(reasons))


def _grouped(
    entrants: Sequence[Entrant], able: Sequence[int], target_ms: int | None
) -> list[tuple[_Head, list[int]]]:
    """Those that can serve by what goes before the strategy; the group to ask first is first."""
    groups: dict[_Head, list[int]] = {}
    for index in able:
        each = entrants[index]
        is_late = False
        if target_ms is not None:
            p95_ms = each.observed.p95_ms
            is_late = p95_ms is not None and p95_ms > target_ms
        head = (each.is_failing, is_late, each.terms.priority)
        if head in groups:
            groups[head].append(index)
        else:
            groups[head] = [index]
    return sorted(groups.items())


def _ranked(
    policy: Policy, entrants: Sequence[Entrant], head: _Head, members: list[int], dice: Dice
) -> _Group:
    """A group in its order: by the strategy, and those alike to it by what was drawn.

    A draw costs more than the rest of the choice, so nothing is drawn where nothing is alike.
    """
    found = [entrants[index] for index in members]
    bands = _bands(policy, found, dice)
    alike = len(bands) - len(set(bands))
    places = range(len(members))
    if not alike:
        order = sorted(places, key=bands.__getitem__)
    else:
        key = dice.exchange if dice.home is None else dice.home
        won = scores(key, [(each.label, each.terms.weight) for each in found])
        order = sorted(places, key=won.__getitem__, reverse=True)
        if alike < len(bands) - 1:
            order.sort(key=bands.__getitem__)  # stable: what was drawn stands among those alike
    return _Group(head, [members[place] for place in order], [bands[place] for place in order])


def _bands(policy: Policy, group: Sequence[Entrant], dice: Dice) -> list[float]:
    """How the strategy sees each entrant of a group; equal numbers are equal to it."""
    if policy.strategy is Strategy.WEIGHTED:
        return [0.0] * len(group)
    if policy.strategy is Strategy.PRIORITY:
        return [0.0 if dice.home is not None else float(index) for index in range(len(group))]
    if policy.strategy is Strategy.LEAST_COST:
        return [_LAST if each.nano is None else float(each.nano) for each in group]
    if policy.strategy is Strategy.LEAST_LATENCY:
        times = [each.observed.p95_ms for each in group]
        fastest = min([each for each in times if each is not None], default=0)
        return [_slowness(each, fastest) for each in times]
    loads = [_load(each) for each in group]
    if dice.home is None:
        return loads
    most = min(loads) * CROWDED_PERCENT / 100
    return [
        0.0 if load <= most + 1 / max(each.terms.weight, 1) else load
        for load, each in zip(loads, group, strict=True)
    ]


def _slowness(p95_ms: int | None, fastest_ms: int) -> float:
    if p95_ms is None:
        return _LAST
    return 0.0 if p95_ms * 100 <= fastest_ms * ALIKE_PERCENT else float(p95_ms)


def _load(entrant: Entrant) -> float:
    weight = entrant.terms.weight
    return entrant.observed.in_flight / weight if weight else _LAST


def _explored(
    policy: Policy, entrants: Sequence[Entrant], groups: Sequence[_Group], dice: Dice
) -> int | None:
    """Who goes first this once, to be measured again; None for most requests."""
    if policy.strategy is not Strategy.LEAST_LATENCY:
        return None
    is_failing, _, priority = groups[0].head
    first = groups[0].members[0]
    if is_failing or entrants[first].observed.p95_ms is None:  # nothing is known: it is drawn
        return None
    drawn = share(dice.exchange, "explore") * 1000
    if drawn >= max(EXPLORED_PER_MILLE, REVISITED_PER_MILLE):
        return None
    others = [
        (index, band > 0 or group.head[1])
        for group in groups
        if not group.head[0] and group.head[2] == priority
        for index, band in zip(group.members, group.bands, strict=True)
        if index != first and entrants[index].terms.weight
    ]
    unknown = [index for index, _ in others if entrants[index].observed.p95_ms is None]
    wanted = unknown or [index for index, is_slower in others if is_slower]
    if not wanted or drawn >= (EXPLORED_PER_MILLE if unknown else REVISITED_PER_MILLE):
        return None
    won = scores(dice.exchange, [(entrants[index].label, 1) for index in wanted])
    return wanted[won.index(max(won))]


def _told_apart(winner: _Head, loser: _Head) -> tuple[str, str]:
    """What told two groups apart, in a word for the one and for the other."""
    return next(words for place, words in enumerate(_WORDS) if winner[place] != loser[place])
