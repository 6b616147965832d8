"""How answers, events and metrics tell of degradation: what was done, what was not, what would be.

Pure. `reservation.stage` is the stage in force as Redis saw it; the plan knows what that means for
the request.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from metering.caps import CapState, Denial, DenialReason, Reservation
from metering.money import PPM
from proxy.errors import CachedOnly
from proxy.limit_words import limit_headers, metadata_of
from proxy.planning import Plan
from routing.degrade import Skip


@dataclass(frozen=True, slots=True)
class Degraded:
    """A degradation as it was admitted."""

    text: str
    """The model stepped down to, and what else changed: `cheap; max_tokens=512; instruct`."""
    changes: tuple[str, ...]
    """What else changed, each in a word."""
    reason: str
    """`cap` when what was asked for did not fit; else the word of the stage in force."""


@dataclass(frozen=True, slots=True)
class Steps:
    """What became of the steps near a cap in one exchange."""

    taken: Degraded | None = None
    would: str | None = None
    """What steps in shadow would have made of it: as `Degraded.text`, or `cache_only`."""
    skipped: tuple[str, ...] = ()
    """Models that a step in force names and that were passed over: `cheap; lacks=tools`."""
    lacking: tuple[str, ...] = ()
    """Fallback models that cannot serve the request, in the same words."""


NOTHING = Steps()

_SKIPPED = "x-weir-degrade-skipped"
_BY_A_CAP = frozenset({DenialReason.SPENT, DenialReason.HELD, DenialReason.NEVER})


def steps_taken(plan: Plan, reservation: Reservation) -> Steps:
    """What became of the steps, by the answer to the reserve."""
    steps = _by_stairs(plan, reservation)
    if plan.rerouted_by is None or plan.admission.steps[reservation.index]:
        return steps
    text = plan.admission.options[reservation.index].text_for(plan.model)
    return steps if text is None else replace(steps, taken=Degraded(text, (), plan.rerouted_by))


def _by_stairs(plan: Plan, reservation: Reservation) -> Steps:
    stairs, stage, lacking = plan.stairs, reservation.stage, _told(plan.spare_skips)
    if stairs is None:
        return Steps(lacking=lacking) if lacking else NOTHING
    if stairs.is_shadow:
        return Steps(would=_would_be(plan, stage), lacking=lacking)
    skips = plan.skips[min(stage, len(plan.skips) - 1)] if plan.skips else ()
    return Steps(
        taken=_taken(plan, reservation),
        skipped=_told(skips),
        lacking=lacking,
    )


def step_headers(
    steps: Steps, *, asked: str, served: str, has_failed: bool = False
) -> dict[str, str]:
    """`x-weir-degraded` and what was passed over, where there is something to say; of fallbacks
    there is when an attempt `has_failed`."""
    headers = {}
    if has_failed and steps.lacking:
        headers["x-weir-fallback-skipped"] = ", ".join(steps.lacking)
    if steps.taken is not None:
        taken = steps.taken
        parts = [f"from={asked}", f"to={served}", *taken.changes, f"reason={taken.reason}"]
        headers["x-weir-degraded"] = "; ".join(parts)
    if steps.skipped:
        headers[_SKIPPED] = ", ".join(steps.skipped)
    return headers


def passed_over(plan: Plan, denial: Denial) -> dict[str, str]:
    """For a refusal by a cap: the models of steps that could not serve the request, so that the
    client learns what stood between it and a cheaper answer."""
    stairs = plan.stairs
    if stairs is None or stairs.is_shadow or not plan.skips or denial.reason not in _BY_A_CAP:
        return {}
    told = _told(plan.skips[-1])
    return {_SKIPPED: ", ".join(told)} if told else {}


def only_cached(plan: Plan, denial: Denial, tenant: str) -> CachedOnly | None:
    """The refusal of a stage at which nothing is sent; None when it was a cap that refused."""
    closed, stairs, state = plan.closed, plan.stairs, denial.state
    if closed is None or stairs is None or stairs.is_shadow:
        return None
    if denial.reason not in {DenialReason.SPENT, DenialReason.HELD}:
        return None
    is_closed = state is None or _is_at(state, stairs.stages[closed - 1].enter_ppm)
    if denial.stage < closed and not is_closed:
        return None
    if state is None or state.cap.limit.nano is None:
        return CachedOnly(_ONLY_CACHED)
    return CachedOnly(
        _ONLY_CACHED,
        metadata=metadata_of(state, "usd", tenant=tenant, remedy=_REMEDY),
        headers=limit_headers([state]),
    )


_ONLY_CACHED = (
    "This near to a cap only cached answers are given (a degradation step with `cache_only`), and "
    "there is none for this request. Wait until there is room again, or ask for a higher cap."
)
_REMEDY = "wait until resets_at, or ask for a higher cap"


def _is_at(state: CapState, share_ppm: int) -> bool:
    if state.cap.limit.nano is None:
        return False
    return (state.spent.nano + state.held.nano) * PPM >= share_ppm * state.cap.limit.nano


def _told(skips: Sequence[Skip]) -> tuple[str, ...]:
    return tuple([f"{skip.model}; {skip.reason}" for skip in skips])


def _taken(plan: Plan, reservation: Reservation) -> Degraded | None:
    index, made = reservation.index, plan.admission
    option = made.options[index]
    text = option.text_for(plan.model)
    if not made.steps[index] or text is None:
        return None
    is_called_for = made.is_in_force(index, reservation.stage)
    reason = plan.reason if is_called_for else "cap"
    return Degraded(text, tuple(option.changes.parts()), reason)


def _would_be(plan: Plan, stage: int) -> str | None:
    if not stage:
        return None
    if plan.closed is not None and stage >= plan.closed:
        return "cache_only"
    return plan.texts[min(stage, len(plan.texts) - 1)]
