"""Section `models`: from its shape to the models that requests may ask for."""

from __future__ import annotations

from collections.abc import Mapping

from proxy.config_decode import Findings, suggest, suggest_model
from proxy.config_degrade import build_steps
from proxy.config_failures import build_on_failure
from proxy.config_models_shape import ModelShape
from proxy.config_shape import FileShape
from proxy.config_yaml import Path
from routing.abilities import Abilities
from routing.upstreams import Model, Upstream, fallback_cycle


def build_model(name: str, written: ModelShape, shape: FileShape, findings: Findings) -> Model:
    """One entry of `models`, with its faults noted."""
    path: Path = ("models", name)
    if not 0 < len(name) <= 256 or not name.isprintable() or name != name.strip():
        findings.fault(path, "a model's name is 1 to 256 printable characters")
    if not written.upstreams:
        findings.fault((*path, "upstreams"), "needs at least one {provider, model}")
    for index, upstream in enumerate(written.upstreams):
        at = (*path, "upstreams", index)
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
    for index, fallback in enumerate(written.fallbacks):
        if fallback not in shape.models:
            findings.fault(
                (*path, "fallbacks", index),
                f"unknown model {fallback!r}",
                suggest_model(fallback, shape.models),
            )
    return Model(
        name=name,
        upstreams=tuple(
            Upstream(provider=each.provider, model=each.model, public_name=name)
            for each in written.upstreams
        ),
        fallbacks=written.fallbacks,
        abilities=Abilities(
            **vars(written.supports), max_context_tokens=written.max_context_tokens
        ),
        steps=build_steps(path, written, shape.models, findings),
        target_latency_ms=written.target_latency_ms,
        drains=None if written.on_disconnect is None else written.on_disconnect == "drain",
        on_failure=build_on_failure(path, written, shape.models, findings),
    )


def check_fallbacks(models: Mapping[str, Model], findings: Findings) -> None:
    """A circle of fallbacks is a fault, told once."""
    cycle = fallback_cycle(models)
    if cycle is not None:
        findings.fault(
            ("models", cycle[0], "fallbacks"),
            f"the fallbacks run in a circle: {' -> '.join(cycle)}",
            f"take {cycle[-1]!r} out of the fallbacks of {cycle[-2]!r}",
        )
