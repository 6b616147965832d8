"""`weir explain`: a request that is not sent, and what would become of it. Pure.

The same code decides here as in the proxy: route, plan and choice. What only a running process
knows is left out, and said to be: what it has under way itself.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence, Set
from dataclasses import asdict, dataclass
from decimal import Decimal
from typing import Any

from metering.caps import Cap, Vector
from metering.clock import now_ns
from metering.money import PPM, format_usd
from metering.prices import Price
from metering.scope_names import scope_text
from metering.tenants import Principal
from metering.usage import INPUT_UNCACHED, OUTPUT_TEXT
from proxy.admission import Place, PromptCount, Route, Routes, count_prompts, steps_of
from proxy.asked_first import asked_first
from proxy.chat import ChatRequest
from proxy.choosing import Around
from proxy.detours import longer_route
from proxy.errors import ApiError, ContextTooLong
from proxy.limit_words import window_text
from proxy.needs import needs_of
from proxy.planning import Plan, hindrances, plan
from proxy.refusals import balance_unknown
from proxy.settings import Settings
from proxy.stages_report import writer_text
from proxy.wishes import USUAL, Wishes
from routing.health import State
from routing.upstreams import Upstream

_NANO_PER_MTOK = 1_000
"""A pico-USD per token is so many nano-USD for a million."""


@dataclass(frozen=True, slots=True)
class Question:
    """Who asks for what. `caps` are those it stands under, `around` what is known around it."""

    who: Principal
    request: ChatRequest
    around: Around
    caps: tuple[Cap, ...]
    wishes: Wishes = USUAL


@dataclass(frozen=True, slots=True)
class Seen:
    """What was read of the running installation; `cause` is why nothing was."""

    limits: Mapping[str, Any] | None = None
    """The body of `weir limits`."""
    cause: str | None = None


def explanation(settings: Settings, asked: Question, seen: Seen) -> dict[str, Any]:
    """The body of `weir explain --json`."""
    request, tenant = asked.request, asked.who.tenant
    body: dict[str, Any] = {
        "tenant": tenant.id,
        "key": asked.who.key.id,
        "model": request.model,
        "allowed": True,
        "refusal": None,
        "redis": {"is_read": seen.limits is not None, "cause": seen.cause},
        "request": None,
        "caps": _caps(asked, seen),
        "flags": [] if seen.limits is None else seen.limits["flags"],
        "strategy": None,
        "upstreams": [],
        "detours": {},
        "stages": [],
        "stage": None,
        "held": None,
        "fits": None,
    }
    if seen.limits is not None and seen.limits.get("balance_unknown"):
        return body | {"allowed": False, "refusal": _refusal(balance_unknown())}
    try:
        route = Routes(settings).find(tenant, request.model, asked.who.key.project, at_ns=now_ns())
        prompt = count_prompts(request, route)
        body |= _strategy(settings, request.model) | _told(asked, route, prompt)
        against = hindrances(route, request, prompt, asked.wishes, asked.around)
        body["upstreams"] = _unplanned(route, asked, against)
        body["detours"] = _detours(route)
        taken, made = _made(route, prompt, asked)
    except ApiError as error:
        return body | {"allowed": False, "refusal": _refusal(error)}
    first = made.admission.options[0]
    behind = body["upstreams"] if taken is not route else []
    body["upstreams"] = _planned(taken, made, asked) + behind
    body["stages"] = _stages(made)
    body["held"] = _held(first.hold)
    if seen.limits is not None:
        body["stage"] = now = _stage_now(settings, asked, seen.limits)
        forced = 0 if now is None or now["mode"] == "shadow" else now["stage"]
        body["fits"] = _fits(body["caps"], made, asked.around.failing, stage=forced)
    return body | {"allowed": not body["flags"]}


def _made(route: Route, prompt: PromptCount, asked: Question) -> tuple[Route, Plan]:
    """The plan, and the route that it is for: that of the `context_fallbacks` for a prompt that is
    known to be too long."""
    request, wishes, around = asked.request, asked.wishes, asked.around
    try:
        return route, plan(route, request, prompt, wishes, around)
    except ContextTooLong:
        if (longer := longer_route(route)) is None:
            raise
        with contextlib.suppress(ApiError):  # none of them can serve it: that is what is told
            return longer, plan(longer, request, count_prompts(request, longer), wishes, around)
        raise


def _detours(route: Route) -> dict[str, list[str]]:
    """Where else it may go after some refusals, by outcome."""
    return {
        str(outcome): [each.upstream.label for each in places]
        for outcome, places in route.detours.items()
        if places
    }


def _refusal(error: ApiError) -> dict[str, Any]:
    return {"status": error.status, "code": error.label, "message": error.message}


def _strategy(settings: Settings, model: str) -> dict[str, Any]:
    policy = settings.models[model].policy
    return {"strategy": {"strategy": str(policy.strategy), "affinity": str(policy.affinity)}}


def _told(asked: Question, route: Route, prompt: PromptCount) -> dict[str, Any]:
    request = asked.request
    uses = asdict(needs_of(request.chat))
    return {
        "request": {
            "prompt_tokens": prompt.tokens(route.own[0].upstream),
            "output_tokens_max": request.output_bound(route.default_output_tokens),
            "stream": request.stream,
            "uses": [name for name, is_used in uses.items() if is_used],
            "tags": sorted(asked.around.traits.tags),
        }
    }


def _caps(asked: Question, seen: Seen) -> list[dict[str, Any]]:
    """With what is spent and held where Redis was read, else only what they are."""
    if seen.limits is not None:
        caps: list[dict[str, Any]] = seen.limits["caps"]
        return caps
    return [
        {
            "scope": scope_text(cap.scope, asked.who.tenant.id),
            "window": window_text(cap.window),
            "mode": str(cap.mode),
            "usd": {"limit": None if cap.limit.nano is None else format_usd(cap.limit.nano)},
            "tokens": {"limit": cap.limit.tokens},
            "requests": {"limit": cap.limit.requests},
        }
        for cap in asked.caps
    ]


def _stage_now(
    settings: Settings, asked: Question, limits: Mapping[str, Any]
) -> Mapping[str, Any] | None:
    """The degradation stage that holds now for such requests; None where there are no steps."""
    key, tenant = asked.who.key, asked.who.tenant
    written = steps_of(settings.models[asked.request.model], tenant, key.project)
    if written is None:
        return None
    steps = writer_text(written[0])
    return next((row for row in limits.get("degradation", ()) if row["steps"] == steps), None)


def _fits(
    caps: Sequence[Mapping[str, Any]], made: Plan, failing: Set[str], *, stage: int
) -> str | None:
    """The first option of the stage in force whose whole hold every enforced cap has room for, by
    what was read; None where none has. A hold that may shrink can fit all the same."""
    if made.closed is not None and stage >= made.closed:
        return None
    admission = made.admission
    pairs = zip(admission.options, admission.candidates, strict=True)
    options = [option for option, candidate in pairs if candidate.stage >= stage]
    if not stage:
        options.insert(0, asked_first(made, failing).order[0])  # a hold moves with the request
    for option in options:
        if all(_has_room(cap, option.hold) for cap in caps if cap["mode"] == "enforce"):
            return option.upstream.label
    return None


def _has_room(cap: Mapping[str, Any], hold: Vector) -> bool:
    usd, tokens = cap["usd"].get("remaining"), cap["tokens"].get("remaining")
    return (usd is None or Decimal(usd) * PPM * 1_000 >= hold.nano) and (
        tokens is None or tokens >= hold.tokens
    )


def _planned(route: Route, made: Plan, asked: Question) -> list[dict[str, Any]]:
    """Every upstream of the route: those that would be asked, in that order, then the others."""
    places = {place.upstream: place for place in route.places}
    found = asked_first(made, asked.around.failing)
    order, reasons = found.order, found.reasons
    rows = []
    for number, option in enumerate(order, start=1):
        reason = reasons.get(option.upstream, found.word)
        row = _row(option.upstream, places.get(option.upstream), asked)
        rows.append(row | {"asked": number, "reason": reason, "held": _held(option.hold)})
    known = {option.upstream for option in order}
    rest = [each for each in reasons if each not in known]
    rows += [_row(each, places.get(each), asked) | {"reason": reasons[each]} for each in rest]
    targets = [each for each in places if each not in known and each not in reasons]
    return rows + [_row(each, places[each], asked) | {"reason": "degradation"} for each in targets]


def _unplanned(
    route: Route, asked: Question, against: Mapping[Upstream, str]
) -> list[dict[str, Any]]:
    """The same where none of them is asked: no order, only what is `against` each."""
    reasons = {loser.upstream: loser.reason for loser in route.losers}
    rows = [
        _row(place.upstream, place, asked) | {"reason": against.get(place.upstream)}
        for place in route.places
    ]
    return rows + [_row(each, None, asked) | {"reason": reasons[each]} for each in reasons]


def _row(upstream: Upstream, place: Place | None, asked: Question) -> dict[str, Any]:
    around, terms = asked.around, upstream.terms
    state = State.CLOSED
    if around.health is not None:
        state = around.health.state(upstream.label, around.now_s)
    abilities = {} if place is None else asdict(place.abilities)
    return {
        "asked": None,
        "upstream": upstream.label,
        "serves": upstream.public_name,
        "region": upstream.region,
        "priority": terms.priority,
        "weight": terms.weight,
        "tags": sorted(terms.tags),
        "breaker": str(state) if around.health is not None else None,
        "p95_ms": _p95_ms(upstream, asked),
        "price": None if place is None else _price(place.price),
        "abilities": {name: value for name, value in abilities.items() if value is not None},
        "held": None,
        "reason": None,
    }


def _p95_ms(upstream: Upstream, asked: Question) -> int | None:
    """How long it took lately, as least_latency and targets go by it; None of too few."""
    around = asked.around
    if around.history is None:
        return None
    return around.history.look(upstream.label, around.now_s, stream=asked.request.stream).p95_ms


def _price(price: Price | None) -> dict[str, str] | None:
    """USD for a million tokens: what the tenant pays, and what the provider charges."""
    if price is None:
        return None
    rates = {"sell": price.sell.rates_pico, "cost": price.cost.rates_pico}
    return {
        f"{side}_{name}_per_mtok": format_usd(found[unit] * _NANO_PER_MTOK, places=4)
        for side, found in rates.items()
        for name, unit in (("input", INPUT_UNCACHED), ("output", OUTPUT_TEXT))
    }


def _held(hold: Vector) -> dict[str, Any]:
    return {"usd": format_usd(hold.nano, places=9), "tokens": hold.tokens}


def _stages(made: Plan) -> list[dict[str, Any]]:
    """What the request comes to at each degradation stage."""
    if made.stairs is None:
        return []
    rows = []
    for number, stage in enumerate(made.stairs.stages, start=1):
        is_closed = made.closed is not None and number >= made.closed
        text = made.texts[number] if number < len(made.texts) else None
        skips = made.skips[number] if number < len(made.skips) else ()
        rows.append(
            {
                "stage": number,
                "at": stage.enter_ppm / PPM,
                "becomes": "only what is cached" if is_closed else text or "as it was asked",
                "skipped": [f"{skip.model}: {skip.reason}" for skip in skips],
            }
        )
    return rows
