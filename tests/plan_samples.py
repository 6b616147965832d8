"""Settings with models of rising price, and the plan that a request gets under some steps."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
from fixtures_door import rule, settings, tenant

from metering.steps import Step, Steps
from metering.tenants import Tenant
from proxy.admission import Route, Routes, count_prompts
from proxy.planning import Plan, plan
from proxy.settings import Settings
from proxy.wire.openai_chat.client import parse_request
from proxy.wishes import USUAL, Wishes
from routing.abilities import Abilities
from routing.upstreams import Model, Upstream

PRICES = {"dear": "100.00", "middle": "10.00", "cheap": "1.00"}


def three_models(
    *steps: Step, fallbacks: tuple[str, ...] = (), url: str = "http://x", **abilities: Abilities
) -> Settings:
    """`dear`, `middle` and `cheap` on one provider; `abilities` by model, `fallbacks` of dear."""
    models = {
        name: Model(
            name,
            (Upstream("one", name, name),),
            fallbacks if name == "dear" else (),
            abilities.get(name, Abilities()),
        )
        for name in PRICES
    }
    return settings(
        {"one": url},
        who=steps_tenant(*steps),
        models=models,
        rules=tuple(rule(name, price) for name, price in PRICES.items()),
    )


def steps_tenant(*steps: Step, **written: Any) -> Tenant:
    return tenant("1.00", steps=Steps(tuple(steps), **written) if steps else None)


def route_of(made: Settings, model: str = "dear", project: str = "default") -> Route:
    return Routes(made).find(next(iter(made.tenants.values())), model, project)


def planned(made: Settings, *, wishes: Wishes = USUAL, **fields: Any) -> Plan:
    """The plan for a request for `dear` with these fields."""
    body = {"model": "dear", "messages": [{"role": "user", "content": "hi"}], **fields}
    request = parse_request(orjson.dumps(body))
    route = route_of(made, request.model)
    return plan(route, request, count_prompts(request, route), wishes)


def shadowed(made: Settings) -> Settings:
    """The same with steps in shadow."""
    tenants = {name: replace(who, steps_in_shadow=True) for name, who in made.tenants.items()}
    return replace(made, tenants=tenants)
