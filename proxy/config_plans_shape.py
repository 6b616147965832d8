"""The shape of the sections `meters`, `plans` and `credits`, and of a tenant's `plan`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from proxy.config_values import FORBID, Count, Flag, Number, Text, Whole
from proxy.config_values import text as _text
from proxy.config_values import whole as _whole

ChargeKindText = Annotated[
    Literal[
        "flat",
        "per_unit",
        "per_request",
        "graduated",
        "volume",
        "package",
        "percentage",
        "matrix",
        "credits",
    ],
    BeforeValidator(_text),
]


@dataclass(frozen=True, kw_only=True)
class MeterShape:
    """A number that is read off the events of a month."""

    __pydantic_config__ = FORBID

    name: Text
    """What plans call it."""
    aggregation: Annotated[Literal["count", "sum", "max", "unique"], BeforeValidator(_text)]
    """Calls, a sum of units, the largest of one event, or how many different names."""
    units: tuple[Text, ...] = ()
    """Units that count, or `input`, `output`, `tokens`; `api_call` for `count` if left out."""
    dimensions: tuple[Text, ...] = ()
    """What it tells apart, such as `model` and `type`."""
    of: Text | None = None
    """What `unique` counts, such as `user`."""
    where: Mapping[Text, tuple[Text, ...]] = field(default_factory=dict)
    """Only events whose dimension is one of these names or globs."""


@dataclass(frozen=True, kw_only=True)
class CellShape:
    """The rate of what fits; the closest cell holds."""

    __pydantic_config__ = FORBID

    model: Text | None = None
    """Upstream model, or a glob."""
    type: Text | None = None
    """A unit such as `output_text`, or `input`, `output`, `tokens`."""
    model_requested: Text | None = None
    """The model that was asked for, or a glob."""
    model_version: Text | None = None
    """Version of the model, or a glob."""
    provider: Text | None = None
    """The provider, or a glob."""
    project: Text | None = None
    """A project, or a glob."""
    feature: Text | None = None
    """A feature, or a glob."""
    api_key: Text | None = None
    """A key by its id, or a glob."""
    status: Text | None = None
    """How the attempt ended, or a glob."""
    rate: Number | None = None
    """USD per unit; in `credits`, credits per unit."""
    per_mtok: Number | None = None
    """The same per million units."""


@dataclass(frozen=True, kw_only=True)
class TierShape:
    """Units up to a border, and what they cost."""

    __pydantic_config__ = FORBID

    up_to: Whole | None = None
    """The last unit of the tier; none in the last tier."""
    rate: Number = Decimal(0)
    """USD per unit."""
    flat: Number = Decimal(0)
    """USD once, when the tier is entered."""


@dataclass(frozen=True, kw_only=True)
class ChargeShape:
    """One charge of a plan; `kind` decides which keys it takes."""

    __pydantic_config__ = FORBID

    id: Text
    """Names it in statements and in the books."""
    kind: ChargeKindText
    """How a quantity becomes money."""
    name: Text | None = None
    """For people; the id if left out."""
    meter: Text | None = None
    """What is counted."""
    amount: Number | None = None
    """USD: the fee, the price of a package, or of a credit."""
    rate: Number | None = None
    """USD per unit."""
    per_mtok: Number | None = None
    """The same per million units."""
    percent: Number | None = None
    """Percent of the meter's money."""
    size: Count | None = None
    """Units in a package."""
    included: Number = Decimal(0)
    """Units (or credits) of a month that cost nothing."""
    tiers: tuple[TierShape, ...] = ()
    """Borders and rates, from the first unit on."""
    cells: tuple[CellShape, ...] = ()
    """Rates by dimension."""
    prorate: Flag = True
    """Whether fee and included units shrink with the days that the plan holds."""
    add_on: Flag = False
    """Only for tenants whose `plan` names it."""


@dataclass(frozen=True, kw_only=True)
class CouponShape:
    """What is taken off for tenants whose `plan` names it."""

    __pydantic_config__ = FORBID

    id: Text
    """Names it in assignments and statements."""
    percent: Number | None = None
    """Percent off."""
    amount: Number | None = None
    """USD off each month, at most what is due."""
    months: Count | None = None
    """In how many months, the first of the assignment included; 1 is once. All if left out."""
    charges: tuple[Text, ...] = ()
    """Only off these charges; off everything if left out."""


@dataclass(frozen=True, kw_only=True)
class PlanShape:
    """What a tenant pays for a month, from a date on."""

    __pydantic_config__ = FORBID

    id: Text
    """Immutable; versions of one plan have the same."""
    name: Text | None = None
    """For people; the id if left out."""
    effective_from: Text | None = None
    """The day (UTC) from which these terms hold."""
    charges: tuple[ChargeShape, ...] = ()
    """What is charged."""
    coupons: tuple[CouponShape, ...] = ()
    """Discounts that a tenant can be given."""
    minimum: Number = Decimal(0)
    """USD that a month comes to at least."""
    trial_days: Annotated[int, Field(ge=0, le=366), BeforeValidator(_whole)] = 0
    """Days from the assignment on in which nothing is charged."""
    other_usage: Annotated[Literal["list_price", "included"], BeforeValidator(_text)] = "list_price"
    """Usage that no charge covers: at the price of its admission, or for nothing."""


@dataclass(frozen=True, kw_only=True)
class AssignmentShape:
    """Which plan a tenant has from a day on."""

    __pydantic_config__ = FORBID

    id: Text
    """The plan."""
    from_: Annotated[Text, Field(alias="from")]
    """The first day (UTC), as 2026-11-01; until the next entry."""
    add_ons: tuple[Text, ...] = ()
    """Charges of the plan that are add-ons and are taken."""
    coupons: tuple[Text, ...] = ()
    """Coupons of the plan, in the order in which they are taken off."""


@dataclass(frozen=True, kw_only=True)
class CreditsShape:
    """Compute credits: how many of them a unit is."""

    __pydantic_config__ = FORBID

    amount: Number | None = None
    """USD per credit, where a plan's charge does not say."""
    rates: tuple[CellShape, ...] = ()
    """Credits per unit by model and type."""


NO_CREDITS = CreditsShape()
"""What a file without `credits` means."""
