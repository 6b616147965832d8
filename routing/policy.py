"""Ranking: which upstreams a request may go to, in which order, and why the others may not.

Pure and synchronous: takes values, returns values with reasons; the caller logs them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from metering.caps import Candidate, Elastic, Vector
from metering.prices import Price, Rates
from metering.usage import INPUT_UNCACHED
from routing.degrade import NO_CHANGES, Changes
from routing.upstreams import Upstream

NOTHING_SPENT = Vector()


@dataclass(frozen=True, slots=True)
class Option:
    """An upstream that could serve this request: its price and what it would hold.

    `changes` is what is changed in the request when it goes there; `prompt_tokens` is its prompt
    after that, `output_tokens` what the hold covers over all choices; `elastic` says how far the
    hold may shrink.
    """

    upstream: Upstream
    price: Price | None
    hold: Vector
    changes: Changes = NO_CHANGES
    prompt_tokens: int = 0
    output_tokens: int = 0
    elastic: Elastic | None = None
    context_tokens_max: int | None = None
    """Most tokens of prompt and answer that its model takes, where that is known."""
    held_at: Rates | None = None
    """What it is held by, where that is not the list price."""
    asked_tier: str | None = None
    """The service tier that the request names."""
    certain: Mapping[str, int] | None = None
    """Uses of the provider's tools that every answer has and none reports."""
    asked_region: str | None = None
    """The region that the request names."""
    spent: Vector = NOTHING_SPENT
    """What attempts before it are billed, and what its hold covers, too: a stream goes on here."""

    @property
    def rates(self) -> Rates | None:
        """What it is held by; None where it has no price."""
        if self.held_at is not None or self.price is None:
            return self.held_at
        return self.price.sell

    @property
    def region(self) -> str | None:
        """Where it is served, as far as that is known before it is."""
        return self.asked_region or self.upstream.region

    @property
    def price_asked(self) -> Price | None:
        """The price of what is known of the request: the tier it names, the region, the length of
        its prompt."""
        price = self.price
        if price is None or price.sell.variants is None:
            return price
        tier = price.choose_tier(reported=None, asked=self.asked_tier).tier
        units = {INPUT_UNCACHED: self.prompt_tokens}
        return price.at(units, tier=tier, region=self.region)

    def text_for(self, model: str) -> str | None:
        """How this differs from the request for `model`: `cheap; max_tokens=512; instruct`."""
        served = self.upstream.public_name
        parts = [served] if served != model else []
        return "; ".join([*parts, *self.changes.parts()]) or None


DISABLED = "it is switched off"
"""The reason against an upstream with `enabled: false`."""


@dataclass(frozen=True, slots=True)
class Loser:
    """An upstream that was passed over, and why, in words for a person."""

    upstream: Upstream
    reason: str


@dataclass(frozen=True, slots=True)
class Ranking:
    """`upstreams` in the order to try them, `losers` with their reasons."""

    upstreams: tuple[Upstream, ...]
    losers: tuple[Loser, ...] = ()


@dataclass(frozen=True, slots=True)
class Admission:
    """The candidates to reserve for, in order.

    `steps[i]` is 0 when the i-th serves the request as it was asked, else the number of the
    degradation that taking it is: options of one number are alternatives to each other.
    """

    options: tuple[Option, ...]
    candidates: tuple[Candidate, ...]
    steps: tuple[int, ...]

    def is_in_force(self, index: int, stage: int) -> bool:
        """Whether the degradation of the admitted option was called for by the stage in force;
        else it was taken because what is asked for did not fit."""
        above = self.steps[index] - 1
        return above >= 0 and stage > self.candidates[self.steps.index(above)].stage


def rank(
    priced: Mapping[Upstream, Price | None],
    *,
    unavailable: Mapping[str, str],
    must_be_priced: bool,
) -> Ranking:
    """The upstreams that can be called, in the order given, and the reasons against the rest.

    `unavailable` maps a provider's name to why it cannot be called; `must_be_priced` is set for
    tenants under a money cap, who are never served at a price nobody knows.
    """
    kept: list[Upstream] = []
    losers: list[Loser] = []
    for upstream, price in priced.items():
        reason = unavailable.get(upstream.provider)
        if not upstream.terms.is_enabled:
            reason = DISABLED
        if reason is None and must_be_priced and price is None:
            reason = "it has no price"
        if reason is None:
            kept.append(upstream)
        else:
            losers.append(Loser(upstream, reason))
    return Ranking(tuple(kept), tuple(losers))


def admission(stages: Sequence[Sequence[Option]]) -> Admission:
    """The candidates for one reserve, from what would serve at each degradation stage, 0 first.

    Stages that come to the same are one: an option is allowed up to the last stage that has it.
    """
    if len(stages) == 1:  # as nearly always
        only = tuple(stages[0])
        found = [Candidate(each.upstream.label, each.hold, 0, each.elastic) for each in only]
        return Admission(only, tuple(found), (0,) * len(only))
    options: list[Option] = []
    candidates: list[Candidate] = []
    steps: list[int] = []
    step = 0
    for number, stage in enumerate(stages):
        following = stages[number + 1] if number + 1 < len(stages) else None
        if following is not None and tuple(following) == tuple(stage):
            continue
        for option in stage:
            options.append(option)
            candidates.append(Candidate(option.upstream.label, option.hold, number, option.elastic))
            steps.append(step)
        step += 1
    return Admission(tuple(options), tuple(candidates), tuple(steps))
