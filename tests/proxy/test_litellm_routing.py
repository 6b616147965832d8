"""LiteLLM's router: strategies, aliases, fallbacks."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.litellm_import import Report
from proxy.litellm_routing import take_routing


def _models() -> dict[str, Any]:
    two = [{"provider": "a", "model": "m"}, {"provider": "b", "model": "m"}]
    return {"x": {"upstreams": two}, "y": {"upstreams": two[:1]}}


@pytest.mark.parametrize(
    ("written", "strategy"),
    [(None, "weighted"), ("least-busy", "least_busy"), ("cost-based-routing", "least_cost"),
     ("usage-based-routing", "weighted")],
)  # fmt: skip
def test_strategies(written: str | None, strategy: str) -> None:
    """What chooses among several; without a word it is LiteLLM's own default."""
    out = {"models": _models(), "providers": {}}

    take_routing(out, {"routing_strategy": written}, {}, Report())

    assert out["models"]["x"]["strategy"] == strategy
    assert "strategy" not in out["models"]["y"]


def test_default_fallbacks() -> None:
    """They hold for every model that has none, and never lead in a circle."""
    out, report = {"models": _models(), "providers": {}}, Report()

    take_routing(out, {"default_fallbacks": ["y"]}, {}, report)

    assert out["models"]["x"]["fallbacks"] == ["y"]
    assert "fallbacks" not in out["models"]["y"]


def test_unknown_names_are_told() -> None:
    """Aliases of nothing and fallbacks to nothing."""
    out, report = {"models": _models(), "providers": {}}, Report()
    router = {"model_group_alias": {"z": "nobody"}, "fallbacks": [{"x": ["no"]}, {"no": ["x"]}]}

    take_routing(out, router, {}, report)

    assert len(report.dropped) == 3
