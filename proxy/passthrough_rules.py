"""On which terms paths are relayed as they are: the settings of `passthrough`. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from metering.money import PICO_PER_NANO
from metering.ownership import OBJECTS_MAX
from metering.prices import PriceRule
from proxy.passthrough_paths import FAMILIES, ROWS, SECRETS, Row, Spend

ALLOWED = tuple(family for family in FAMILIES if family != SECRETS)
"""What is relayed unless `allow` says otherwise: all but what lets clients past us."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What is held for a request of a family, and its flat price; nano-USD, per unit of its row."""

    hold_nano: int | None = None
    price_nano: int | None = None


NO_TERMS = Terms()


@dataclass(frozen=True, slots=True)
class Passthrough:
    """`own_accounts` are providers that serve one tenant alone, by its id."""

    provider: str
    hold_nano: int | None = None
    terms: Mapping[str, Terms] = field(default_factory=dict)
    allowed: frozenset[str] = frozenset(ALLOWED)
    own_accounts: Mapping[str, str] = field(default_factory=dict)
    objects_max: int = OBJECTS_MAX

    def provider_for(self, tenant: str) -> str:
        """The account that this tenant's objects live in."""
        return self.own_accounts.get(tenant, self.provider)

    def is_own(self, tenant: str, provider: str) -> bool:
        """Whether nobody else has objects there."""
        return self.own_accounts.get(tenant) == provider

    def hold_of(self, row: Row) -> int | None:
        """What is held per unit of this row; None where nothing was said that could be held."""
        if row.spend is Spend.NOTHING:
            return 0
        own = self.terms.get(row.family, NO_TERMS)
        if own.hold_nano is not None:
            return own.hold_nano
        return self.hold_nano if row.spend is Spend.ANSWER else None

    def price_rules(self) -> tuple[PriceRule, ...]:
        """The flat prices as rules of the price book, which the ledger rates by, too.

        A price that was left out is what is held: nobody pays nothing because an answer was mute.
        """
        found = [_rule(free_name("*"), "api_call", 0)]
        for family in FAMILIES:
            own = self.terms.get(family, NO_TERMS)
            nano = own.price_nano
            if nano is None:
                nano = own.hold_nano
            if nano is None and family in _BY_ANSWER:
                nano = self.hold_nano
            if nano is not None:
                found.append(_rule(flat_name(family), _UNITS.get(family, "api_call"), nano))
        return tuple(found)


def _rule(model: str, unit: str, nano: int) -> PriceRule:
    return PriceRule(
        model=model,
        input_rate_pico=0,
        output_rate_pico=0,
        class_rates_pico={unit: nano * PICO_PER_NANO},
        has_token_rates=False,
    )


def flat_name(family: str) -> str:
    """The name under which the flat price of a family is found."""
    return f"path:{family}"


def free_name(family: str) -> str:
    """The name under which events record what spends nothing."""
    return f"path:{family}:free"


_UNITS = {row.family: row.unit for row in ROWS if row.unit is not None}
_BY_ANSWER = frozenset(row.family for row in ROWS if row.spend is Spend.ANSWER)
