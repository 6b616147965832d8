"""How the margin of a request is told: to its log line, to the metrics, and to its caps."""

from __future__ import annotations

from dataclasses import replace

from metering.money import format_usd
from metering.tenants import Tenant
from proxy.attempts import Facts
from proxy.door import Door
from proxy.pace import Asked, Judged, Pace
from proxy.settings import Settings
from proxy.wishes import USUAL, Wishes
from routing.cost_to_serve import Mode, Verdict


def target_ms(settings: Settings, model: str, wishes: Wishes) -> int | None:
    """How fast the answer is to be: what the request says, else what its model says."""
    if wishes.target_ms is not None:
        return wishes.target_ms
    found = settings.models.get(model)
    return None if found is None else found.target_latency_ms


def credit_target_ms(settings: Settings, tenant: Tenant, model: str, wishes: Wishes) -> int | None:
    """How fast the answer has to be for its whole price: what was promised, by its model; what the
    request says, only where its tenant may set that."""
    wished = wishes if tenant.targets_earn_credit else USUAL
    return target_ms(settings, model, wished)


def asked_of(facts: Facts, wishes: Wishes) -> Asked:
    """What margins depend on beside the plan; whoever declines degradation keeps the model."""
    return Asked(facts.target_latency_ms, facts.stream, may_change_model=wishes.degrade)


def paced(door: Door, pace: Pace, facts: Facts, judged: Judged) -> Facts:
    """The facts of a request with the cap of what is throttled, if it is."""
    decision = judged.decision
    if decision is None or decision.verdict is Verdict.ALLOW:
        return facts
    is_shadow = pace.rules.mode is Mode.SHADOW
    door.metrics.margin(facts.model_requested, decision, is_shadow=is_shadow)
    asked = decision.asked
    door.log.info(
        "margin",
        request_id=facts.request_id,
        model=facts.model_requested,
        verdict=decision.verdict,
        is_shadow=is_shadow,
        reason=decision.reason,
        margin_ppm=asked.margin_ppm,
        cost_usd=format_usd(asked.cost_nano, places=9),
    )
    if not judged.is_throttled:
        return facts
    return replace(facts, caps=pace.caps(facts.caps, facts.model_requested))
