"""The shape of `cost_to_serve`: its defaults are those of the rules."""

from __future__ import annotations

from dataclasses import fields

from proxy.config_cost_shape import NO_SLA, CostToServeShape


def test_every_key_has_a_default() -> None:
    """A section with one key is whole."""
    made = CostToServeShape()

    assert [field.name for field in fields(made)] == [
        "base_cost_per_token",
        "latency_penalty_multiplier",
        "failure_buffer",
        "margin_threshold",
        "throttle_window_ms",
        "max_requests_per_window",
        "mode",
    ]
    assert NO_SLA.credit_share == 0
