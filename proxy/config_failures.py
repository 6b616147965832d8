"""What a model says of failures of its upstreams: from its shape to `OnFailure`."""

from __future__ import annotations

from collections.abc import Mapping

from proxy.config_decode import Findings, suggest_model
from proxy.config_models_shape import ModelShape
from proxy.config_yaml import Path
from routing.retries import OnFailure, Retries


def build_on_failure(
    path: Path, written: ModelShape, models: Mapping[str, ModelShape], findings: Findings
) -> OnFailure:
    """Its retries, its deadline and its detours, with their faults noted; `path` is the model's."""
    own = str(path[-1])
    for key in ("context_fallbacks", "content_policy_fallbacks"):
        for index, name in enumerate(getattr(written, key)):
            if name not in models:
                findings.fault(
                    (*path, key, index), f"unknown model {name!r}", suggest_model(name, models)
                )
            elif name == own:
                findings.fault((*path, key, index), "a model is no fallback of its own")
    retries = written.retries
    return OnFailure(
        retries=Retries(retries.max, float(retries.max_wait_s), float(retries.backoff_s)),
        deadline_s=None if written.deadline_s is None else float(written.deadline_s),
        context_fallbacks=written.context_fallbacks,
        content_policy_fallbacks=written.content_policy_fallbacks,
        continue_on_cut=written.continue_on_cut,
    )
