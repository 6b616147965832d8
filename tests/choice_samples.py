"""Settings with models of several upstreams, and the plan of a request under some circumstances."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
from fixtures_door import rule, settings, tenant

from metering.tenants import Tenant
from proxy.admission import Routes, count_prompts
from proxy.choosing import Around
from proxy.planning import Plan, plan
from proxy.settings import Settings
from proxy.wire.openai_chat.client import parse_request
from routing.affinity import Affinity
from routing.conditions import Traits
from routing.upstreams import Model, Policy, Strategy, Terms, Upstream

PRICES = {"small": "1.00", "medium": "2.00", "large": "4.00"}
"""Upstream models, and what a million tokens of their input cost us."""


def up(provider: str, model: str, public: str = "auto", **terms: Any) -> Upstream:
    return Upstream(provider, model, public, terms=Terms(**terms))


def choosing(
    *upstreams: Upstream,
    strategy: Strategy = Strategy.PRIORITY,
    affinity: Affinity = Affinity.NONE,
    urls: dict[str, str] | None = None,
    who: Tenant | None = None,
    others: tuple[Model, ...] = (),
    explain: bool = False,
    **model: Any,
) -> Settings:
    """A model `auto` on these upstreams, and the others; every provider at `urls`."""
    auto = Model("auto", upstreams, policy=Policy(strategy, affinity), **model)
    models = {each.name: each for each in (auto, *others)}
    names = {each.provider for found in models.values() for each in found.upstreams}
    made = settings(
        urls or dict.fromkeys(sorted(names), "http://x"),
        who=who or tenant(),
        models=models,
        rules=tuple(rule(name, price) for name, price in PRICES.items()),
    )
    return replace(made, server=replace(made.server, explain=explain))


def plan_of(made: Settings, *, number: int = 1, tags: tuple[str, ...] = (), **said: Any) -> Plan:
    """The plan of the `number`th exchange; `around` replaces parts of what is known around it,
    `labels` those that it runs under; the rest are fields of its body."""
    around = Around(f"exchange-{number}")
    labels = {"tenant": "acme", **said.pop("labels", {})}
    known = said.pop("around", {})
    request = parse_request(
        orjson.dumps({"model": "auto", "messages": [{"role": "user", "content": "hi"}], **said})
    )
    metadata = said.get("metadata", {})
    traits = Traits(labels, frozenset(tags), request.stream, metadata)
    around = replace(around, traits=traits, **known)
    route = Routes(made).find(next(iter(made.tenants.values())), "auto")
    return plan(route, request, count_prompts(request, route), around=around)


def labels_in(made: Plan) -> list[str]:
    """The upstreams in the order in which they are asked."""
    return [each.upstream.label for each in made.order(0)]


def why_not(made: Plan) -> dict[str, str]:
    return {each.upstream.label: each.reason for each in made.losers}
