"""Degradation steps of the file, decoded, and the checks that they lead downwards.

A step that is dearer than what it replaces, that changes nothing, or that is never reached is
hardly meant: near a cap nobody looks at the file any more, so it is said here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from itertools import pairwise
from typing import Protocol

from metering.money import PPM, to_ppm
from metering.prices import PriceBook
from metering.steps import DWELL_MS, HYSTERESIS_PPM, Step, Steps
from metering.tenants import Tenant
from metering.usage import INPUT_UNCACHED, OUTPUT_TEXT
from proxy.config_decode import Findings, suggest_model
from proxy.config_degrade_shape import StepShape
from proxy.config_models_shape import ModelShape
from proxy.config_yaml import Path
from routing.degrade import cycle_of
from routing.upstreams import Model

INSTRUCT_LENGTH_MAX = 4_000
"""Characters: it is sent, and paid for, with every request at its stage."""


class Written(Protocol):
    """The three keys wherever they stand."""

    @property
    def degrade(self) -> tuple[StepShape, ...] | None:
        """The steps; None where none are written."""
        ...

    @property
    def degrade_hysteresis(self) -> Decimal | None:
        """Share of the cap."""
        ...

    @property
    def degrade_min_dwell_s(self) -> Decimal | None:
        """Seconds."""
        ...


def build_steps(
    path: Path, written: Written, models: Mapping[str, ModelShape], findings: Findings
) -> Steps | None:
    """The steps written at `path`; None where none are, and no steps at all for an empty list."""
    if written.degrade is None:
        for key in ("degrade_hysteresis", "degrade_min_dwell_s"):
            if getattr(written, key) is not None:
                findings.fault((*path, key), "belongs to `degrade`, which is not written here")
        return None
    at = (*path, "degrade")
    steps = [
        _step((*at, index), each, models, findings) for index, each in enumerate(written.degrade)
    ]
    _check_order(at, steps, findings)
    hysteresis_ppm = _hysteresis_ppm((*path, "degrade_hysteresis"), written, steps, findings)
    dwell_s = written.degrade_min_dwell_s
    return Steps(
        steps=tuple(steps),
        hysteresis_ppm=hysteresis_ppm,
        dwell_ms=DWELL_MS if dwell_s is None else int(dwell_s * 1000),
    )


def _step(
    path: Path, written: StepShape, models: Mapping[str, ModelShape], findings: Findings
) -> Step:
    if written.to is not None and written.to not in models:
        if models:
            hint = suggest_model(written.to, models)
            findings.fault((*path, "to"), f"unknown model {written.to!r}", hint)
        else:  # a template of limits only, as for `fallback_model`
            findings.warn((*path, "to"), f"unknown model {written.to!r}", "add it to `models`")
    text = written.instruct
    if text is not None and not 0 < len(text.strip()) <= len(text) <= INSTRUCT_LENGTH_MAX:
        findings.fault((*path, "instruct"), f"must have 1 to {INSTRUCT_LENGTH_MAX} characters")
    if (
        not written.cache_only
        and written.to is None
        and written.max_tokens is None
        and text is None
        and not any(
            findings.is_broken((*path, key))
            for key in ("to", "max_tokens", "instruct", "cache_only")
        )
    ):
        findings.fault(
            path, "changes nothing", "write one of to, max_tokens, instruct and cache_only"
        )
    return Step(
        at_ppm=_share_ppm((*path, "at"), written.at, findings),
        to=written.to,
        max_tokens=written.max_tokens,
        cache_only=written.cache_only,
        instruct=text,
    )


def _share_ppm(path: Path, share: Decimal, findings: Findings) -> int:
    if not 0 < share <= 1:
        hint = "80 % of the cap is 0.8"
        findings.fault(path, f"must be above 0 and at most 1, not {share}", hint)
        return PPM
    try:
        return to_ppm(share)
    except ValueError as error:
        findings.fault(path, str(error))
        return PPM


def _check_order(path: Path, steps: Sequence[Step], findings: Findings) -> None:
    """Shares rise, and no step repeats or loosens what holds already."""
    bound: int | None = None
    for index, (before, step) in enumerate(pairwise(steps), start=1):
        if step.at_ppm <= before.at_ppm:
            findings.fault(
                (*path, index, "at"), "does not rise", "write the steps in the order of `at`"
            )
        if before.cache_only:
            findings.warn((*path, index), "is never reached: the step before sends nothing")
            return
    for index, step in enumerate(steps):
        earlier = steps[index - 1] if index else None
        if earlier is not None and step.to is not None and step.to == _target(steps[:index]):
            findings.fault((*path, index, "to"), f"{step.to!r} serves from an earlier step on")
        if step.max_tokens is None:
            continue
        if bound is not None and step.max_tokens >= bound:
            findings.fault(
                (*path, index, "max_tokens"), f"changes nothing: {bound} holds from before"
            )
        bound = step.max_tokens if bound is None else min(bound, step.max_tokens)


def _target(steps: Sequence[Step]) -> str | None:
    named = [step.to for step in steps if step.to is not None]
    return named[-1] if named else None


def _hysteresis_ppm(path: Path, written: Written, steps: Sequence[Step], findings: Findings) -> int:
    if written.degrade_hysteresis is None:
        lowest = min((step.at_ppm for step in steps), default=PPM)
        return min(HYSTERESIS_PPM, lowest - 1)
    try:
        hysteresis_ppm = to_ppm(written.degrade_hysteresis)
    except ValueError as error:
        findings.fault(path, str(error))
        return HYSTERESIS_PPM
    if steps and hysteresis_ppm >= steps[0].at_ppm:
        findings.fault(
            path,
            f"the first step begins at {steps[0].at_ppm / PPM:g} and would never end",
            "make it smaller than `at` of the first step",
        )
    return hysteresis_ppm


# -- what spans sections ----------------------------------------------------------------------


def targets_of(tenant: Tenant, models: Mapping[str, Model]) -> list[str]:
    """Every model that a step may send this tenant's requests to."""
    writers = [tenant.limits.steps, *tenant.project_steps.values()]
    writers += [model.steps for name, model in models.items() if tenant.may_use(name)]
    found = [step.to for steps in writers if steps for step in steps.steps if step.to]
    if tenant.limits.fallback_model is not None:
        found.append(tenant.limits.fallback_model)
    return list(dict.fromkeys(found))


def check_degradation(
    tenants: Mapping[Path, Tenant],
    models: Mapping[str, Model],
    prices: PriceBook,
    findings: Findings,
) -> None:
    """Every step leads to something cheaper, in no circle; `tenants` by where they stand."""
    check = _Check(models, prices, findings)
    for name, model in models.items():
        if model.steps is not None:
            check.model(name, model.steps)
    cycle = cycle_of({name: list(_named(model.steps)) for name, model in models.items()})
    if cycle is not None and cycle[0] != cycle[1]:
        findings.fault(
            ("models", cycle[0], "degrade"), f"the steps run in a circle: {' -> '.join(cycle)}"
        )
    for path, tenant in tenants.items():
        for at, steps in _writers(path, tenant, findings):
            check.tenant(at, tenant, steps)


def _named(steps: Steps | None) -> Iterator[str]:
    for step in steps.steps if steps else ():
        if step.to is not None:
            yield step.to


def _writers(path: Path, tenant: Tenant, findings: Findings) -> Iterator[tuple[Path, Steps]]:
    """The steps of a tenant and of its projects, with where they were written."""
    own: Path = (*path, "limits", "tenant", "degrade")
    if tenant.limits.steps is not None and tenant.limits.steps.steps:
        is_own = findings.document.at(own) is not None
        yield own if is_own else ("limits", "tenant", "degrade"), tenant.limits.steps
    projects = findings.document.at((*path, "projects"))
    ids = [each["id"] for each in projects] if isinstance(projects, list) else []
    for project, steps in tenant.project_steps.items():
        if steps.steps:
            yield (*path, "projects", ids.index(project), "degrade"), steps


class _Check:
    """The comparison of models by what tenants pay for them."""

    def __init__(self, models: Mapping[str, Model], prices: PriceBook, findings: Findings) -> None:
        self._models, self._prices, self._findings = models, prices, findings

    def model(self, name: str, steps: Steps) -> None:
        """Steps of a model: each target is cheaper than it and than the one before."""
        before = name
        for index, step in enumerate(steps.steps):
            path: Path = ("models", name, "degrade", index, "to")
            if step.to == name:
                self._findings.fault(path, f"{name!r} steps down to itself")
            elif step.to is not None and step.to in self._models and step.to != before:
                before = step.to if self._is_cheaper(path, before, step.to) else before

    def tenant(self, path: Path, tenant: Tenant, steps: Steps) -> None:
        """Steps for any model: each target is cheaper than the one before, and than some model
        that may be asked for."""
        findings, before = self._findings, None
        if not tenant.has_money_cap:
            findings.warn(
                path,
                f"tenant {tenant.id!r} has no cap in money: its spend reaches no step",
                "set daily_cap, or a cap with usd",
            )
        asked = [name for name in self._models if tenant.may_use(name)]
        for index, step in enumerate(steps.steps):
            at, target = (*path, index, "to"), step.to
            if target is None or target not in self._models or target == before:
                continue
            if before is not None:
                before = target if self._is_cheaper(at, before, target) else before
            elif any(self._may_be_cheaper(target, name) for name in asked):
                before = target
            else:
                message = f"{target!r} is cheaper than no model that tenant {tenant.id!r} may use"
                findings.fault(at, message, "name a cheaper one")

    def _is_cheaper(self, path: Path, before: str, target: str) -> bool:
        """Whether `target` is cheaper than `before` for some requests; says so if not for all."""
        dear, cheap = self._sell(before), self._sell(target)
        if dear is None or cheap is None:
            return True  # a missing price is reported by itself
        if not _is_lower(cheap, dear):
            message = f"{target!r} is not cheaper than {before!r}"
            self._findings.fault(path, message, "steps lead to cheaper models")
            return False
        if _is_lower(dear, cheap):
            side = "input" if cheap[0] > dear[0] else "output"
            self._findings.warn(
                path,
                f"{side} is dearer at {target!r} than at {before!r}: a request for which that "
                "outweighs the rest is not sent there",
            )
        return True

    def _may_be_cheaper(self, target: str, name: str) -> bool:
        if target == name:
            return False
        dear, cheap = self._sell(name), self._sell(target)
        return dear is None or cheap is None or _is_lower(cheap, dear)

    def _sell(self, name: str) -> tuple[int, int] | None:
        """What tokens of input and output cost the tenant at the model's first upstream, in its
        region, at the tier that is usual there. How long prompts are is not known here."""
        for each in self._models[name].upstreams[:1]:
            price = self._prices.find(
                provider=each.provider, model=each.model, public_name=each.public_name
            )
            if price is not None:
                rates = price.at({}, tier=price.usual_tier, region=each.region).sell.rates_pico
                return rates[INPUT_UNCACHED], rates[OUTPUT_TEXT]
        return None


def _is_lower(one: tuple[int, int], other: tuple[int, int]) -> bool:
    """Whether one is lower than the other on either side."""
    return one[0] < other[0] or one[1] < other[1]
