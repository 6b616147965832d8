"""What LiteLLM's router does, as our routes say it: order, retries, fallbacks, aliases. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any, Protocol

from proxy.litellm_vendors import Params

_STRATEGIES = {
    "simple-shuffle": "weighted",
    "least-busy": "least_busy",
    "latency-based-routing": "least_latency",
    "cost-based-routing": "least_cost",
}

RETRIES_MAX = 5


class _Report(Protocol):
    carried: list[str]
    changed: list[tuple[str, str]]
    dropped: list[tuple[str, str]]


def take_routing(out: dict[str, Any], router: Params, litellm: Params, report: _Report) -> None:
    """Takes what it uses out of both sections."""
    models: dict[str, Any] = out["models"]
    aliases = _aliases(models, router, report)
    _strategy(models, router, report)
    _retries(models, router, litellm, report)
    _timeout(out["providers"], router, report)
    for theirs, ours in (
        ("fallbacks", "fallbacks"),
        ("context_window_fallbacks", "context_fallbacks"),
        ("content_policy_fallbacks", "content_policy_fallbacks"),
    ):
        for where, section in (("router_settings", router), ("litellm_settings", litellm)):
            for name, others in _pairs(section.pop(theirs, None)):
                _fall_back(models, name, others, ours, where=f"{where}.{theirs}", report=report)
    for where, section in (("router_settings", router), ("litellm_settings", litellm)):
        for others in [section.pop("default_fallbacks", None)]:
            for name in list(models) if isinstance(others, list) else ():
                if "fallbacks" not in models[name]:
                    rest = [each for each in others if each != name]
                    _fall_back(
                        models,
                        name,
                        rest,
                        "fallbacks",
                        where=f"{where}.default_fallbacks",
                        report=report,
                    )
    for alias, name in aliases.items():  # it falls back as what it stands for, too
        for key in ("fallbacks", "context_fallbacks", "content_policy_fallbacks"):
            if key in models[name] and key not in models[alias]:
                where = f"model_group_alias {alias}"
                _fall_back(models, alias, models[name][key], key, where=where, report=report)


def _aliases(models: dict[str, Any], router: Params, report: _Report) -> dict[str, str]:
    """Alias -> model, of those that became routes."""
    found = {}
    for alias, target in (router.pop("model_group_alias", None) or {}).items():
        name = target.get("model") if isinstance(target, dict) else target
        where = f"router_settings.model_group_alias.{alias}"
        if name not in models:
            report.dropped.append((where, f"there is no model {name!r}"))
        elif alias not in models:
            copies = [dict(each) for each in models[name]["upstreams"]]
            models[alias] = {"upstreams": copies}
            found[alias] = name
            report.changed.append((where, "is a route of its own to the same upstreams"))
        else:
            report.dropped.append((where, "a model of that name exists"))
    return found


def _strategy(models: dict[str, Any], router: Params, report: _Report) -> None:
    given = router.pop("routing_strategy", None)
    strategy = _STRATEGIES.get(given or "simple-shuffle", "weighted")
    for model in models.values():
        if len(model["upstreams"]) > 1:
            model["strategy"] = strategy
    if given in _STRATEGIES:
        report.carried.append(f"router_settings.routing_strategy (models.NAME.strategy {strategy})")
    elif given is not None:
        why = f"{given} has no counterpart; deployments share by weight"
        report.changed.append(("router_settings.routing_strategy", why))


def _retries(models: dict[str, Any], router: Params, litellm: Params, report: _Report) -> None:
    theirs = litellm.pop("num_retries", None)
    ours = router.pop("num_retries", None)
    count = theirs if ours is None else ours
    if not isinstance(count, int) or isinstance(count, bool):
        if count is not None:
            report.dropped.append(("num_retries", "is no whole number"))
        return
    for model in models.values():
        model["retries"] = {"max": max(0, min(count, RETRIES_MAX))}
    if count > RETRIES_MAX:
        report.changed.append(("num_retries", f"{RETRIES_MAX} is the most there can be"))
    else:
        report.carried.append("num_retries (models.NAME.retries.max)")


def _timeout(providers: dict[str, Any], router: Params, report: _Report) -> None:
    value = router.pop("timeout", None)
    if isinstance(value, int | Decimal) and 0 < value <= 86_400:
        for body in providers.values():
            body.setdefault("timeout_s", value)
        why = "is timeout_s of each provider: a silence, not the whole answer"
        report.changed.append(("router_settings.timeout", why))
    elif value is not None:
        report.dropped.append(("router_settings.timeout", "is no number of seconds"))


def _pairs(listed: Any) -> Iterator[tuple[str, list[Any]]]:
    """`[{a: [b, c]}, {d: [e]}]`."""
    for each in listed if isinstance(listed, list) else ():
        for name, others in each.items() if isinstance(each, dict) else ():
            yield str(name), others if isinstance(others, list) else [others]


def _fall_back(
    models: dict[str, Any],
    name: str,
    others: list[Any],
    key: str,
    *,
    where: str,
    report: _Report,
) -> None:
    if name not in models:
        report.dropped.append((f"{where} of {name}", "there is no such model"))
        return
    kept: list[str] = list(models[name].get(key, ()))
    for other in others:
        if other not in models:
            report.dropped.append((f"{where} {name} -> {other}", "there is no such model"))
        elif other == name or _leads_to(models, other, name, key):
            report.dropped.append((f"{where} {name} -> {other}", "it would close a circle"))
        elif other not in kept:
            kept.append(other)
    if kept:
        models[name][key] = kept
        report.carried.append(f"{where} of {name}")


def _leads_to(models: dict[str, Any], start: str, goal: str, key: str) -> bool:
    waiting, seen = [start], set()
    while waiting:
        here = waiting.pop()
        if here == goal:
            return True
        if here not in seen:
            seen.add(here)
            waiting += models[here].get(key, ())
    return False
