"""What can be written of choosing among upstreams and is hardly meant: warnings, for each is legal.

A condition that no request meets, or a weight that nobody reads, fails silently: the upstream just
never serves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from itertools import groupby

from metering.prices import PriceBook
from proxy.config_decode import Findings
from proxy.config_models_shape import ModelShape, UpstreamShape
from proxy.config_yaml import Path
from routing.affinity import Affinity
from routing.upstreams import Model, Strategy, Upstream


def check_routing(path: Path, model: Model, written: ModelShape, findings: Findings) -> None:
    """Warn of what is hardly meant in one model."""
    at: Path = (*path, "upstreams")
    if written.upstreams and not any(each.enabled for each in written.upstreams):
        findings.warn(at, "none is enabled: every request for the model is refused")
    _warn_of_weights(at, model, written.upstreams, findings)
    for index, (upstream, each) in enumerate(zip(model.upstreams, written.upstreams, strict=True)):
        _warn_of_never((*at, index, "when"), upstream, each, findings)


def _warn_of_weights(
    at: Path, model: Model, written: Sequence[UpstreamShape], findings: Findings
) -> None:
    policy = model.policy
    reads_none = policy.strategy is Strategy.PRIORITY and policy.affinity is Affinity.NONE
    weighed = [index for index, each in enumerate(written) if each.weight != 1]
    if reads_none and weighed:
        findings.warn(
            (*at, weighed[0], "weight"),
            "nobody reads it: the strategy is `priority`, and there is no affinity",
            "write `strategy: weighted`",
        )
    if reads_none:
        return
    enabled = [each for each in written if each.enabled]
    by_priority = sorted(enabled, key=lambda each: each.priority)
    for priority, group in groupby(by_priority, key=lambda each: each.priority):
        members = list(group)
        if len(members) > 1 and not any(each.weight for each in members):
            findings.warn(
                at,
                f"every weight of priority {priority} is 0: they are asked in the order of the "
                "file",
                "give those that are to share the requests a weight above 0",
            )


def _warn_of_never(
    path: Path, upstream: Upstream, written: UpstreamShape, findings: Findings
) -> None:
    """A `when` that no request can meet."""
    when = upstream.terms.when
    if when is None:
        return
    least, most = when.min_prompt_tokens, when.max_prompt_tokens
    if least is not None and most is not None and least > most:
        findings.warn(
            (*path, "min_prompt_tokens"),
            f"can never match: above max_prompt_tokens ({most})",
        )
    longest = upstream.terms.abilities.max_context_tokens
    if least is not None and longest is not None and least >= longest:
        findings.warn(
            (*path, "min_prompt_tokens"),
            f"can never match: the model there takes {longest} tokens in all",
        )
    if when.tags and upstream.terms.tags.isdisjoint(when.tags):
        findings.warn(
            (*path, "tags"),
            "can never match: a request that asks for one of these needs an upstream that has it",
            f"add {when.tags[0]!r} to `tags` of this upstream",
        )
    for name, patterns in (*when.labels, *when.metadata):
        if not patterns:
            findings.warn((*path, name), "can never match: no value is written")


def check_choices(
    models: Mapping[str, Model],
    prices: PriceBook,
    tenants: Mapping[str, Sequence[str]],
    findings: Findings,
) -> None:
    """What spans sections: `least_cost` without a price, conditions on tenants or keys that are not
    there, regions that are nowhere, windows that are no larger. `tenants` has the ids of keys by
    tenant."""
    for name, model in models.items():
        _warn_of_no_room(("models", name, "context_fallbacks"), model, models, findings)
        for index, upstream in enumerate(model.upstreams):
            at: Path = ("models", name, "upstreams", index)
            if model.policy.strategy is Strategy.LEAST_COST and upstream.terms.is_enabled:
                _warn_of_no_price(at, upstream, prices, findings)
            _warn_of_nobody((*at, "when"), upstream, tenants, findings)


def _warn_of_no_price(at: Path, upstream: Upstream, prices: PriceBook, findings: Findings) -> None:
    price = prices.find(
        provider=upstream.provider, model=upstream.model, public_name=upstream.public_name
    )
    if price is None:
        findings.warn(
            (*at, "model"),
            f"`least_cost` cannot compare {upstream.label}, which has no price: it goes last",
            f"add to pricing.rules: {{model: {upstream.model}, input_per_mtok: ..., "
            "output_per_mtok: ...}",
        )


def _warn_of_nobody(
    path: Path, upstream: Upstream, tenants: Mapping[str, Sequence[str]], findings: Findings
) -> None:
    when = upstream.terms.when
    if when is None or not tenants:
        return
    known = {"tenant": list(tenants), "key": [key for keys in tenants.values() for key in keys]}
    for name, patterns in when.labels:
        ids = known.get(name)
        if ids is not None and not any(fnmatchcase(id_, each) for id_ in ids for each in patterns):
            findings.warn((*path, name), f"can never match: there is no such {name} in this file")


def _warn_of_no_room(
    path: Path, model: Model, models: Mapping[str, Model], findings: Findings
) -> None:
    """A model for prompts that are too long, with a window that is no larger than any of ours."""
    own = _windows(model)
    for index, name in enumerate(model.on_failure.context_fallbacks):
        theirs = _windows(models[name]) if name in models else []
        if own and theirs and max(theirs) <= min(own):
            findings.warn(
                (*path, index),
                f"nothing goes there: it takes {max(theirs)} tokens, and this model {min(own)}",
                "name a model with a larger window",
            )


def _windows(model: Model) -> list[int]:
    """How much each upstream takes; nothing where that is not known of all."""
    found = [each.terms.abilities.max_context_tokens for each in model.upstreams]
    known = [each for each in found if each is not None]
    return known if len(known) == len(found) else []
