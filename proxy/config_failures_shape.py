"""The shape of what a model says of failures; the rules are those of `proxy.config_shape`."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated

from pydantic import BeforeValidator, Field, WithJsonSchema

from proxy.config_values import FORBID
from proxy.config_values import number as _number
from proxy.config_values import whole as _whole

WAIT_S_MAX = 60
"""A client that waits longer than this is better told to come back."""

Wait = Annotated[
    Decimal,
    Field(ge=0, le=WAIT_S_MAX),
    BeforeValidator(_number),
    WithJsonSchema({"type": "number", "minimum": 0, "maximum": WAIT_S_MAX}),
]


@dataclass(frozen=True, kw_only=True)
class RetriesShape:
    """How often the same upstream is asked again, and after which wait."""

    __pydantic_config__ = FORBID

    max: Annotated[int, Field(ge=0, le=5), BeforeValidator(_whole)] = 1
    """How often at most; 0 for never."""
    max_wait_s: Wait = Decimal(2)
    """Longest wait before it is asked again; who asks for more is not asked again."""
    backoff_s: Wait = Decimal("0.25")
    """Bound of the first wait where the upstream names none; it doubles, and chance picks below."""


USUAL_RETRIES = RetriesShape()
