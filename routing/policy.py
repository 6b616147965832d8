"""Ranking: which upstreams a request may go to, in which order, and why the others may not.

Pure and synchronous: takes values, returns values with reasons; the caller logs them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from metering.caps import Candidate, Stage, Stairs, Vector
from metering.money import PPM
from metering.prices import Price
from routing.upstreams import Upstream


@dataclass(frozen=True, slots=True)
class Option:
    """An upstream that could serve this request: its price and what it would hold."""

    upstream: Upstream
    price: Price | None
    hold: Vector


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
    """The candidates to reserve for, in order; `steps[i]` is True when taking the i-th is a
    degradation (a deliberate step to something cheaper near a cap)."""

    options: tuple[Option, ...]
    candidates: tuple[Candidate, ...]
    steps: tuple[bool, ...]
    stairs: Stairs | None = None


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
        if reason is None and must_be_priced and price is None:
            reason = "it has no price"
        if reason is None:
            kept.append(upstream)
        else:
            losers.append(Loser(upstream, reason))
    return Ranking(tuple(kept), tuple(losers))


def admission(
    own: Sequence[Option], degraded: Sequence[Option], *, threshold_ppm: int
) -> Admission:
    """The candidates for one reserve: the model's own options, then those to degrade to.

    With something cheaper and priced to degrade to, the threshold's share of a cap is a stage in
    which the own options are passed over; without, they are allowed up to the cap itself.
    """
    usual = own[0].hold.nano if own else 0
    cheaper = [option for option in degraded if option.price and option.hold.nano < usual]
    stage = Stage(threshold_ppm, threshold_ppm) if cheaper and threshold_ppm < PPM else None
    return Admission(
        options=(*own, *cheaper),
        candidates=(
            *[Candidate(option.upstream.label, option.hold) for option in own],
            *[Candidate(option.upstream.label, option.hold, stage=1) for option in cheaper],
        ),
        steps=(False,) * len(own) + (True,) * len(cheaper),
        stairs=Stairs(name="burst", stages=(stage,)) if stage else None,
    )
