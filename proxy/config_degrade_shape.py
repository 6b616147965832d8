"""The shape of degradation steps and of what models can take, in the configuration file.

The rules are those of `proxy.config_shape`; a tenant's limits, a project and a model have the same
three keys.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated

from pydantic import BeforeValidator, Field, WithJsonSchema

from proxy.config_values import FORBID, Count, Flag, Number, Text, number

Dwell = Annotated[
    Decimal,
    Field(ge=0, le=86_400),
    BeforeValidator(number),
    WithJsonSchema({"type": "number", "minimum": 0, "maximum": 86_400}),
]
"""Seconds, and none at all."""


@dataclass(frozen=True, kw_only=True)
class StepShape:
    """What changes near a cap."""

    __pydantic_config__ = FORBID

    at: Number
    """Share of a cap (above 0, at most 1) from which on the step holds."""
    to: Text | None = None
    """The cheaper model that serves."""
    max_tokens: Count | None = None
    """Most output tokens of each choice."""
    cache_only: Flag = False
    """Whether only cached answers are given."""
    instruct: Text | None = None
    """A system message that is added, such as a request to be brief."""


@dataclass(frozen=True, kw_only=True)
class SupportsShape:
    """What a model can take; a request that needs what is `false` is not sent there."""

    __pydantic_config__ = FORBID

    tools: Flag | None = None
    """Tools and functions."""
    vision: Flag | None = None
    """Images."""
    json_schema: Flag | None = None
    """Answers in a JSON schema (`response_format`)."""
    reasoning: Flag | None = None
    """Thinking before the answer (`reasoning_effort`, `thinking`)."""
    audio: Flag | None = None
    """Sound in the prompt or as the answer."""


ANYTHING = SupportsShape()
"""What is taken for granted of a model."""
