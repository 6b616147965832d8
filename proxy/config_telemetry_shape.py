"""The shape of `telemetry` in the configuration file; the rules are those of `config_shape`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from proxy.config_values import FORBID, Share, Text


@dataclass(frozen=True, kw_only=True)
class TelemetryShape:
    """Traces and metrics for an OpenTelemetry collector."""

    __pydantic_config__ = FORBID

    otlp: Text
    """Where a collector takes OTLP over HTTP, `http://localhost:4318`; `/v1/traces` is added."""
    headers: Mapping[Text, Text] = field(default_factory=dict)
    """Headers that it wants to be sent, a credential as `${NAME}`."""
    resource: Mapping[Text, Text] = field(default_factory=dict)
    """What is said of this installation beside its name: `deployment.environment.name: staging`."""
    sample: Share = Decimal(1)
    """Share of requests whose trace is recorded, of those whose client does not say."""
