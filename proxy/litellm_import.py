"""A LiteLLM proxy's config.yaml as one of ours, with a report of what became of each key. Pure.

Rules: a key is carried, changed or not carried, and the report says which and why; none is dropped
in silence. No secret is copied, neither into the file nor into the report.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any

import yaml

from proxy.litellm_budgets import TENANT, take_budgets
from proxy.litellm_routing import take_routing
from proxy.litellm_vendors import PRICES, NotHere, Params, account_of, prices_of


@dataclass(slots=True)
class Report:
    """What became of the keys: `carried`, `changed` and `dropped`, each with a reason."""

    carried: list[str] = field(default_factory=list)
    changed: list[tuple[str, str]] = field(default_factory=list)
    dropped: list[tuple[str, str]] = field(default_factory=list)

    def rest(self, where: str, left: Mapping[str, Any], reasons: Mapping[str, str]) -> None:
        """Everything in `left` was not carried."""
        for key in left:
            self.dropped.append((f"{where}{key}", reasons.get(key, "has no counterpart here")))


@dataclass(frozen=True, slots=True)
class Imported:
    """The configuration as plain data, and the report."""

    tree: dict[str, Any]
    report: Report


class NotLiteLLM(Exception):
    """The text is no configuration of LiteLLM's proxy; the message says why."""


class _Loader(yaml.SafeLoader):
    """Numbers with a point stay exact: prices are among them."""


def _exact(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> Any:
    text = loader.construct_scalar(node)
    try:
        return Decimal(str(text).replace("_", ""))
    except InvalidOperation:
        return text


_Loader.add_constructor("tag:yaml.org,2002:float", _exact)


def read_litellm(text: str) -> Imported:
    """Our configuration for what LiteLLM's `text` says."""
    try:
        tree = yaml.load(text, _Loader)  # noqa: S506 - a SafeLoader
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" on line {mark.line + 1}" if mark else ""
        raise NotLiteLLM(f"not YAML{where}") from None
    if not isinstance(tree, dict) or not isinstance(tree.get("model_list"), list):
        raise NotLiteLLM("there is no model_list in it")
    report = Report()
    out: dict[str, Any] = {"providers": {}, "models": {}, "pricing": {"list_prices": True}}
    settings = {
        name: _section(tree.pop(name, None), name)
        for name in ("litellm_settings", "router_settings", "general_settings")
    }
    _models(tree.pop("model_list"), out, report, settings)
    take_routing(out, settings["router_settings"], settings["litellm_settings"], report)
    take_budgets(out, settings, report)
    _server(out, settings["general_settings"], settings["litellm_settings"], report)
    for name, left in settings.items():
        report.rest(f"{name}.", left, _REASONS)
    report.rest("", tree, _REASONS)
    return Imported(out, report)


def _section(value: Any, name: str) -> Params:
    if value is None or isinstance(value, dict):
        return dict(value or {})
    raise NotLiteLLM(f"{name} is no mapping")


_REASONS: Mapping[str, str] = {
    "environment_variables": "set them in the environment of `weir serve`",
    "master_key": "make keys with `weir keys new --tenant " + TENANT + "`",
    "database_url": "our ledger is another one: see ledger.url",
    "success_callback": "see docs/metrics.md and docs/webhooks.md",
    "failure_callback": "see docs/metrics.md and docs/webhooks.md",
    "callbacks": "see docs/metrics.md and docs/webhooks.md",
    "allowed_fails": "circuit breakers are built in: see docs/upstreams.md",
    "cooldown_time": "circuit breakers are built in: see docs/upstreams.md",
    "redis_host": "write redis.url",
    "redis_port": "write redis.url",
    "redis_password": "write redis.url",
    "provider_budget_config": "caps are of tenants, not of providers",
    "alerting": "see alerts.sinks",
    "set_verbose": "prompts are never logged here",
    "cache_params": "answers are kept in Redis: see docs/caching.md",
    "rpm": "limits of upstreams are learned from their answers",
    "tpm": "limits of upstreams are learned from their answers",
    "vertex_credentials": "the machine's service account is used, or api_key as an access token",
    "organization": "OpenAI's keys belong to a project",
    "mode": "the path of a request says what it is",
    "id": "upstreams are called provider/model",
    "base_model": "prices and tokenizers go by the model's name or a rule of pricing.rules",
}


def _models(
    listed: list[Any], out: dict[str, Any], report: Report, settings: dict[str, Params]
) -> None:
    drops = settings["litellm_settings"].pop("drop_params", None) is True
    if drops:
        report.carried.append("litellm_settings.drop_params (providers.NAME.drop_unsupported)")
    for index, item in enumerate(listed):
        where = f"model_list[{index}]"
        if not isinstance(item, dict) or not isinstance(item.get("model_name"), str):
            report.dropped.append((where, "it has no model_name"))
            continue
        name = item["model_name"]
        params = _section(item.get("litellm_params"), f"{where}.litellm_params")
        info = _section(item.get("model_info"), f"{where}.model_info")
        if "*" in name:
            report.dropped.append((f"{where} ({name})", "models are named one by one here"))
            continue
        try:
            _deployment(name, params, info, where, out=out, report=report, drops=drops)
        except NotHere as reason:
            report.dropped.append((f"{where} ({name})", str(reason)))
            continue
        report.carried.append(f"{where} ({name})")
        others = {k: v for k, v in item.items() if k not in _OF_AN_ITEM}
        report.rest(f"{where}.", others, _REASONS)
        report.rest(f"{where}.litellm_params.", params, _REASONS)
        report.rest(f"{where}.model_info.", info, _REASONS)


_OF_AN_ITEM = frozenset({"model_name", "litellm_params", "model_info"})


def _deployment(
    name: str,
    params: Params,
    info: Params,
    where: str,
    *,
    out: dict[str, Any],
    report: Report,
    drops: bool,
) -> None:
    account = account_of(params)
    for made in account.variables:
        why = f"its credential is not copied: set {made} in the environment"
        report.changed.append((f"{where}.litellm_params", why))
    body = account.body | _timeouts(params, where, report)
    if drops:
        body["drop_unsupported"] = True
    provider = _provider(account.label, body, out["providers"])
    upstream: dict[str, Any] = {"provider": provider, "model": account.model}
    for theirs, ours in (("weight", "weight"), ("order", "priority")):
        if isinstance(value := params.pop(theirs, None), int):
            upstream[ours] = value
    if isinstance(tags := params.pop("tags", None), list):
        upstream["tags"] = [str(each) for each in tags]
    for theirs, ours in (("max_input_tokens", "max_context_tokens"), ("max_output_tokens",) * 2):
        if isinstance(value := info.pop(theirs, None), int):
            upstream[ours] = value
    if "weight" not in upstream and isinstance(rpm := params.get("rpm"), int) and rpm > 0:
        upstream["weight"] = params.pop("rpm")
        why = "is its weight among its like, as with simple-shuffle, and no limit"
        report.changed.append((f"{where}.litellm_params.rpm", why))
    listed = out["models"].setdefault(name, {"upstreams": []})["upstreams"]
    if any((each["provider"], each["model"]) == (provider, account.model) for each in listed):
        raise NotHere("the same provider and model stand there already")
    listed.append(upstream)
    _price(account.model, provider, params, info, where, out=out, report=report)


def _price(
    model: str,
    provider: str,
    params: Params,
    info: Params,
    where: str,
    *,
    out: dict[str, Any],
    report: Report,
) -> None:
    given = {**params, **info}.keys()
    rates = prices_of(params, info)
    if rates is None:
        if given & PRICES.keys():
            why = "a price needs both sides; the list price holds, if there is one"
            report.dropped.append((f"{where} (prices)", why))
        return
    rule: dict[str, Any] = {"model": model, "provider": provider, **rates}
    if not any(rates.values()):
        rule["free"] = True
    rules = out["pricing"].setdefault("rules", [])
    if not any((each["model"], each["provider"]) == (model, provider) for each in rules):
        rules.append(rule)


def _timeouts(params: Params, where: str, report: Report) -> dict[str, Any]:
    found = {}
    for theirs, ours in (("timeout", "timeout_s"), ("stream_timeout", "first_event_timeout_s")):
        value = params.pop(theirs, None)
        if isinstance(value, int | Decimal) and 0 < value <= 86_400:
            found[ours] = value
            why = f"is {ours} of its provider: a silence, not the whole answer"
            report.changed.append((f"{where}.litellm_params.{theirs}", why))
        elif value is not None:
            report.dropped.append((f"{where}.litellm_params.{theirs}", "is no number of seconds"))
    return found


def _provider(label: str, body: dict[str, Any], providers: dict[str, Any]) -> str:
    """The name of an account like this one; a new one if there is none."""
    name, number = re.sub(r"[^A-Za-z0-9._-]", "-", label), 1
    while (there := providers.setdefault(name, body)) != body:
        number += 1
        name = f"{label}-{number}"
        del there
    return name


def _server(out: dict[str, Any], general: Params, litellm: Params, report: Report) -> None:
    size = general.get("max_request_size_mb")
    if isinstance(size, int | Decimal) and size >= 1:
        del general["max_request_size_mb"]
        out["server"] = {"max_body_mb": min(int(size), 1024)}
        report.carried.append("general_settings.max_request_size_mb (server.max_body_mb)")
    if litellm.pop("cache", None) is True:
        params = litellm.get("cache_params") or {}
        out["cache"] = {"enabled": True}
        if isinstance(ttl := params.get("ttl"), int):
            out["cache"]["ttl_seconds"] = max(0, min(ttl, 2_678_400))
        why = "answers are kept in our Redis, by exact match, for each tenant apart"
        report.changed.append(("litellm_settings.cache", why))
    elif "cache_params" in litellm:
        report.dropped.append(("litellm_settings.cache", "is off there"))
    value = litellm.get("request_timeout")
    if isinstance(value, int | Decimal) and 0 < value <= 86_400:
        del litellm["request_timeout"]
        for body in out["providers"].values():
            body.setdefault("timeout_s", value)
        why = "is timeout_s of each provider: a silence, not the whole answer"
        report.changed.append(("litellm_settings.request_timeout", why))


def written(tree: Mapping[str, Any], head: Iterable[str]) -> str:
    """The file: a comment of these lines, then the configuration."""
    comment = "".join(f"# {line}".rstrip() + "\n" for line in head)
    kept = {key: value for key, value in tree.items() if value}
    return comment + yaml.dump(kept, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=99)


class _Dumper(yaml.SafeDumper):
    """Writes exact numbers as numbers, and no anchors."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _number(dumper: yaml.SafeDumper, value: Decimal) -> yaml.ScalarNode:
    text = format(value.normalize(), "f")
    kind = "float" if "." in text else "int"
    return dumper.represent_scalar(f"tag:yaml.org,2002:{kind}", text)


_Dumper.add_representer(Decimal, _number)


def without_models(found: Imported, names: Iterable[str]) -> None:
    """Leave out models that could not be served under a cap, and every way to them."""
    models = found.tree["models"]
    for name in sorted(set(names) & models.keys()):
        del models[name]
        why = "it has no price, and money is capped: write a rule in pricing.rules for it"
        found.report.dropped.append((f"model {name}", why))
    for model in models.values():
        for key in ("fallbacks", "context_fallbacks", "content_policy_fallbacks"):
            kept = [each for each in model.pop(key, ()) if each in models]
            if kept:
                model[key] = kept
