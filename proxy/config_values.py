"""The kinds of single values in the configuration file, each read strictly.

A number written in the file is never text and text is never a number, but what a variable gave is
read as the type of its field.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Annotated

from pydantic import BeforeValidator, ConfigDict, Field, WithJsonSchema

from metering.money import parse_decimal
from proxy.config_yaml import EnvText

FORBID = ConfigDict(extra="forbid", use_attribute_docstrings=True)
"""Stands in every class: without it pydantic drops unknown keys of plain dataclasses silently."""

_EXPONENT_MAX = 30
"""Amounts and rates lie within 1e-30 and 1e30; what does not is a slip, and slow to add."""


def text(value: object) -> object:
    """Text, and nothing that YAML reads as something else."""
    if isinstance(value, str):
        return str(value)
    raise ValueError("must be text; put it in quotes")


def whole(value: object) -> object:
    """A whole number."""
    if isinstance(value, EnvText) and re.fullmatch(r"[-+]?[0-9]{1,18}", value):
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise ValueError("must be a whole number")


_SIGNS_MAX = 64
"""Of a number from the environment, as many as one in the file can have, about."""


def number(value: object) -> object:
    """A number, exact to its digits; finite and of a believable size."""
    if isinstance(value, EnvText):
        if len(value) > _SIGNS_MAX:
            raise ValueError("is not an amount of this world")
        value = parse_decimal(value)
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        raise ValueError("must be a number, without quotes")
    exact = Decimal(value)
    if abs(exact.adjusted()) > _EXPONENT_MAX:
        raise ValueError("is not an amount of this world")
    return exact


def flag(value: object) -> object:
    """True or false."""
    if isinstance(value, EnvText) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    if isinstance(value, bool):
        return value
    raise ValueError("must be true or false")


def moment_ns(written: str) -> int:
    """Unix nanoseconds of a date or an RFC 3339 time, UTC where it names no zone; ValueError for
    what is neither, and for what is before 1970."""
    moment = datetime.fromisoformat(written)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    found = (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) * 1_000
    if found < 0:
        raise ValueError("before 1970")
    return found


Text = Annotated[str, BeforeValidator(text)]
Whole = Annotated[int, BeforeValidator(whole)]
Number = Annotated[Decimal, BeforeValidator(number), WithJsonSchema({"type": "number"})]
Seconds = Annotated[
    Decimal,
    Field(gt=0, le=86_400),
    BeforeValidator(number),
    WithJsonSchema({"type": "number", "exclusiveMinimum": 0, "maximum": 86_400}),
]
SecondsOrNone = Annotated[
    Decimal,
    Field(ge=0, le=86_400),
    BeforeValidator(number),
    WithJsonSchema({"type": "number", "minimum": 0, "maximum": 86_400}),
]
"""Seconds, of which 0 stands for never."""
Share = Annotated[
    Decimal,
    Field(ge=0, le=1),
    BeforeValidator(number),
    WithJsonSchema({"type": "number", "minimum": 0, "maximum": 1}),
]
Flag = Annotated[bool, BeforeValidator(flag)]
Port = Annotated[int, Field(ge=0, le=65_535), BeforeValidator(whole)]
Count = Annotated[int, Field(ge=1, le=1_000_000_000), BeforeValidator(whole)]
