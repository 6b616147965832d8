"""Section `models`: from its shape to the models that requests may ask for."""

from __future__ import annotations

from collections.abc import Mapping

from proxy.config_decode import Findings, suggest, suggest_model
from proxy.config_degrade import build_steps
from proxy.config_failures import build_on_failure
from proxy.config_models_shape import ModelShape, UpstreamShape, WhenShape
from proxy.config_routing import check_routing
from proxy.config_shape import FileShape
from proxy.config_yaml import Path
from proxy.known_models import known_abilities
from proxy.wishes import TAGS_MAX, is_tag
from routing.abilities import Abilities
from routing.affinity import Affinity
from routing.conditions import LABELS, When
from routing.upstreams import Model, Policy, Strategy, Terms, Upstream, fallback_cycle


def build_model(name: str, written: ModelShape, shape: FileShape, findings: Findings) -> Model:
    """One entry of `models`, with its faults noted."""
    path: Path = ("models", name)
    if not 0 < len(name) <= 256 or not name.isprintable() or name != name.strip():
        findings.fault(path, "a model's name is 1 to 256 printable characters")
    if not written.upstreams:
        findings.fault((*path, "upstreams"), "needs at least one {provider, model}")
    for index, upstream in enumerate(written.upstreams):
        _check_upstream((*path, "upstreams", index), upstream, shape, findings)
    _check_doubles(path, written, findings)
    for index, fallback in enumerate(written.fallbacks):
        if fallback not in shape.models:
            findings.fault(
                (*path, "fallbacks", index),
                f"unknown model {fallback!r}",
                suggest_model(fallback, shape.models),
            )
    model = Model(
        name=name,
        upstreams=tuple(
            [_upstream(name, each, written, shape) for each in written.upstreams],
        ),
        fallbacks=written.fallbacks,
        abilities=_abilities(written),
        steps=build_steps(path, written, shape.models, findings),
        target_latency_ms=written.target_latency_ms,
        drains=None if written.on_disconnect is None else written.on_disconnect == "drain",
        on_failure=build_on_failure(path, written, shape.models, findings),
        policy=Policy(Strategy(written.strategy), Affinity(written.affinity)),
    )
    check_routing(path, model, written, findings)
    return model


def _upstream(name: str, written: UpstreamShape, model: ModelShape, shape: FileShape) -> Upstream:
    provider = shape.providers.get(written.provider)
    own = None if provider is None else provider.options.get("region")
    known = known_abilities(written.model)
    return Upstream(
        provider=written.provider,
        model=written.model,
        public_name=name,
        region=written.region or (own if isinstance(own, str) and own else None),
        terms=Terms(
            weight=written.weight,
            priority=written.priority,
            tags=frozenset(written.tags),
            when=None if written.when is None else _when(written.when),
            is_enabled=written.enabled,
            abilities=_abilities(written).over(_abilities(model)).over(known),
        ),
    )


def _abilities(written: ModelShape | UpstreamShape) -> Abilities:
    return Abilities(
        **vars(written.supports),
        max_context_tokens=written.max_context_tokens,
        max_output_tokens=written.max_output_tokens,
    )


def _when(written: WhenShape) -> When | None:
    when = When(
        labels=tuple(
            [(name, values) for name in LABELS if (values := getattr(written, name))],
        ),
        metadata=tuple(written.metadata.items()),
        tags=written.tags,
        stream=written.stream,
        min_prompt_tokens=written.min_prompt_tokens,
        max_prompt_tokens=written.max_prompt_tokens,
    )
    return None if when == When() else when


def _check_upstream(
    at: Path, upstream: UpstreamShape, shape: FileShape, findings: Findings
) -> None:
    if upstream.provider not in shape.providers:
        findings.fault(
            (*at, "provider"),
            f"unknown provider {upstream.provider!r}",
            suggest(upstream.provider, shape.providers),
        )
    if not upstream.model:
        findings.fault((*at, "model"), "must not be empty")
    elif not {".", ".."}.isdisjoint(upstream.model.split("/")):
        findings.fault(
            (*at, "model"), "must have no `.` or `..`: they would be steps of the URL's path"
        )
    region = upstream.region
    if region is not None and not is_tag(region):
        findings.fault((*at, "region"), f"{region!r} is no name of a region")
    if len(upstream.tags) > TAGS_MAX:
        findings.fault((*at, "tags"), f"has more than {TAGS_MAX}: no request can ask for all")
    for index, tag in enumerate(upstream.tags):
        if not is_tag(tag):
            findings.fault(
                (*at, "tags", index),
                f"{tag!r} cannot stand in the header `x-weir-tags`",
                "use 1 to 64 letters, digits, dots, dashes or underscores",
            )


def _check_doubles(path: Path, written: ModelShape, findings: Findings) -> None:
    """One place stands once: health, history and holds know it by provider and model."""
    seen: set[tuple[str, str]] = set()
    for index, each in enumerate(written.upstreams):
        place = (each.provider, each.model)
        if place in seen and each.model:
            findings.fault(
                (*path, "upstreams", index),
                f"{each.provider}/{each.model} stands here twice",
                "use `weight` for a larger share, or a provider of its own for another account",
            )
        seen.add(place)


def check_fallbacks(models: Mapping[str, Model], findings: Findings) -> None:
    """A circle of fallbacks is a fault, told once."""
    cycle = fallback_cycle(models)
    if cycle is not None:
        findings.fault(
            ("models", cycle[0], "fallbacks"),
            f"the fallbacks run in a circle: {' -> '.join(cycle)}",
            f"take {cycle[-1]!r} out of the fallbacks of {cycle[-2]!r}",
        )
