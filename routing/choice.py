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
from routing.upstreams import AS_WRITTEN, USUAL_TERMS, Policy, Strategy, Terms

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


_Rank = tuple[bool, bool, int, float, float]

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


def choose(
    policy: Policy, entrants: Sequence[Entrant], dice: Dice, *, target_ms: int | None = None
) -> Choice:
    """The order, with a reason for everybody who is not first in it."""
    able = [index for index, each in enumerate(entrants) if not each.reason]
    if len(able) < 2:
        return Choice(tuple(able), ONLY if able else "", tuple([each.reason for each in entrants]))
    ranks = _ranks(policy, entrants, able, dice, target_ms)
    order = sorted(able, key=ranks.__getitem__)
    explored = _explored(policy, entrants, order, dice, ranks)
    word = _word(policy, dice, ranks[order[0]], ranks[order[1]])[0]
    if explored is not None:
        order.remove(explored)
        order.insert(0, explored)
        word = "explored"
    first = order[0]
    words = _BEHIND[policy.strategy]
    head, band = ranks[first][:3], ranks[first][3]
    reasons = [each.reason for each in entrants]
    for index in order[1:]:
        rank = ranks[index]
        if explored is not None:
            reasons[index] = "another_explored"
        elif rank[:3] != head:
            reasons[index] = _word(policy, dice, ranks[first], rank)[1]
        elif rank[3] == band:
            reasons[index] = _drawn(dice)
        else:
            reasons[index] = words[1] if rank[3] < _LAST else words[2]
    return Choice(tuple(order), word, tuple(reasons))


def _ranks(
    policy: Policy,
    entrants: Sequence[Entrant],
    able: Sequence[int],
    dice: Dice,
    target_ms: int | None,
) -> dict[int, _Rank]:
    """By place, what puts an entrant where it stands; lower goes first."""
    is_drawn = policy != AS_WRITTEN
    key = dice.exchange if dice.home is None else dice.home
    groups: dict[tuple[bool, bool, int], list[int]] = {}
    for index in able:
        each = entrants[index]
        p95_ms = each.observed.p95_ms
        is_late = target_ms is not None and p95_ms is not None and p95_ms > target_ms
        groups.setdefault((each.is_failing, is_late, each.terms.priority), []).append(index)
    ranks: dict[int, _Rank] = {}
    for group, members in groups.items():
        found = [entrants[index] for index in members]
        bands = _bands(policy, found, dice)
        is_tied = is_drawn and len(set(bands)) < len(bands)
        drawn = (
            scores(key, [(each.label, each.terms.weight) for each in found])
            if is_tied
            else [0.0] * len(found)
        )
        failing, late, priority = group
        for index, band, won in zip(members, bands, drawn, strict=True):
            ranks[index] = (failing, late, priority, band, -won)
    return ranks


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
    policy: Policy,
    entrants: Sequence[Entrant],
    order: Sequence[int],
    dice: Dice,
    ranks: dict[int, _Rank],
) -> int | None:
    """Who goes first this once, to be measured again; None for most requests."""
    if policy.strategy is not Strategy.LEAST_LATENCY:
        return None
    is_failing, _, priority, *_ = ranks[order[0]]
    first = entrants[order[0]]
    if is_failing or first.observed.p95_ms is None:  # nothing is known: it is drawn anyway
        return None
    others = [
        index
        for index in order[1:]
        if not ranks[index][0] and ranks[index][2] == priority and entrants[index].terms.weight
    ]
    unknown = [index for index in others if entrants[index].observed.p95_ms is None]
    slower = [index for index in others if ranks[index][3] or ranks[index][1]]
    per_mille = EXPLORED_PER_MILLE if unknown else REVISITED_PER_MILLE
    wanted = unknown or slower
    if not wanted or share(dice.exchange, "explore") * 1000 >= per_mille:
        return None
    drawn = scores(dice.exchange, [(entrants[index].label, 1) for index in wanted])
    return wanted[drawn.index(max(drawn))]


def _word(policy: Policy, dice: Dice, winner: _Rank, loser: _Rank) -> tuple[str, str]:
    """What told the two apart, in a word for the one and for the other."""
    if winner[:3] != loser[:3]:
        return next(words for place, words in enumerate(_WORDS) if winner[place] != loser[place])
    if winner[3] != loser[3]:
        return _BEHIND[policy.strategy][:2]
    return (_drawn(dice), _drawn(dice))


def _drawn(dice: Dice) -> str:
    return "drawn" if dice.home is None else "affinity"
