"""The providers' list prices that come with the package: a dated file, read on demand.

The file is made by `weir prices update` from the data of the `genai-prices` project and never
fetched at run time. A price holds from its date on, until a later one; one without a date holds
since ever. Which provider an account is follows from its address, so that a server of one's own
that speaks a vendor's format is not billed at that vendor's prices.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import orjson

from metering.price_variants import ContextTier, Overlay, Variants
from metering.prices import PriceRule
from metering.usage import INPUT_UNCACHED, OUTPUT_TEXT

SCHEMA = 1
FILE_NAME = "list_prices.json"

_DAY_NS = 86_400 * 10**9


@dataclass(frozen=True, slots=True)
class ListPrice:
    """One price of a model, in pico-USD per unit, from a time on."""

    effective_from_ns: int
    rates_pico: Mapping[str, int]
    above: tuple[tuple[int, Mapping[str, int]], ...] = ()
    """The rates of prompts longer than so many tokens."""

    def rule(self, *, model: str, provider: str, multiplier_ppm: int) -> PriceRule:
        """The price as a rule for one model of one account."""
        context = tuple([ContextTier(tokens, Overlay(rates)) for tokens, rates in self.above])
        return PriceRule(
            model=model,
            provider=provider,
            input_rate_pico=self.rates_pico[INPUT_UNCACHED],
            output_rate_pico=self.rates_pico[OUTPUT_TEXT],
            class_rates_pico=self.rates_pico,
            multiplier_ppm=multiplier_ppm,
            variants=Variants(context=context) if context else None,
        )


@dataclass(frozen=True)
class ListedModel:
    """A model of a provider, and what it cost when; prices go up in time."""

    id: str
    match: Mapping[str, Any]
    prices: tuple[ListPrice, ...]


@dataclass(frozen=True)
class ListedProvider:
    """A provider with an address and its models; the first that matches a name is meant."""

    id: str
    address: re.Pattern[str]
    models: tuple[ListedModel, ...]
    likewise: tuple[str, ...] = ()
    """Whose prices hold for models that are not in its own list."""


@dataclass(frozen=True)
class ListPrices:
    """The whole file. `version` names its content."""

    version: str
    source: str
    generated: str
    providers: tuple[ListedProvider, ...]

    def find(self, *, base_url: str, model: str) -> tuple[ListPrice, ...]:
        """The prices of a model at this address, in the order of time; none where it is unknown."""
        by_id = {each.id: each for each in self.providers}
        for provider in self.providers:
            if provider.address.match(base_url):
                others = [by_id[each] for each in provider.likewise if each in by_id]
                for each in (provider, *others):
                    if (found := _model_of(each, model.lower())) is not None:
                        return found.prices
        return ()


@cache
def packaged_list_prices() -> ListPrices:
    """The list prices of this release."""
    return read_list_prices(packaged_path().read_bytes())


def read_list_prices(data: bytes) -> ListPrices:
    """The file behind these bytes; ValueError says what is wrong with it."""
    found = orjson.loads(data)
    if found.get("schema") != SCHEMA:
        raise ValueError(f"list prices have schema {found.get('schema')!r}, not {SCHEMA}: upgrade")
    kept = content_hash(found["providers"])
    if found["sha256"] != kept:
        raise ValueError(f"list prices hash to {kept[:12]}, and say {found['sha256'][:12]}")
    return ListPrices(
        version=kept[:12],
        source=found["source"],
        generated=found["generated"],
        providers=tuple([_provider(each) for each in found["providers"]]),
    )


def content_hash(providers: Sequence[Mapping[str, Any]]) -> str:
    """Names what the file says, however it is laid out."""
    return hashlib.sha256(orjson.dumps(providers, option=orjson.OPT_SORT_KEYS)).hexdigest()


def matches(clause: Mapping[str, Any], name: str) -> bool:
    """Whether a clause of the file means this name, which is in lower case."""
    [(kind, wanted)] = clause.items()
    match kind:
        case "or":
            return any(matches(each, name) for each in wanted)
        case "and":
            return all(matches(each, name) for each in wanted)
        case "equals":
            return bool(name == wanted)
        case "starts_with":
            return name.startswith(wanted)
        case "ends_with":
            return name.endswith(wanted)
        case "contains":
            return wanted in name
        case "regex":
            return re.search(wanted, name) is not None
        case _:
            raise ValueError(f"list prices have a clause {kind!r}: upgrade")


def _model_of(provider: ListedProvider, name: str) -> ListedModel | None:
    return next((each for each in provider.models if matches(each.match, name)), None)


def _provider(found: Mapping[str, Any]) -> ListedProvider:
    models = [
        ListedModel(each["id"], each["match"], tuple([_price(one) for one in each["prices"]]))
        for each in found["models"]
    ]
    address, likewise = re.compile(found["address"]), tuple(found.get("likewise", ()))
    return ListedProvider(found["id"], address, tuple(models), likewise)


def _price(found: Mapping[str, Any]) -> ListPrice:
    since = found.get("from")
    days = 0 if since is None else (date.fromisoformat(since) - date(1970, 1, 1)).days
    above = tuple([(tokens, rates) for tokens, rates in found.get("above", ())])
    return ListPrice(days * _DAY_NS, found["rates_pico"], above)


def packaged_path() -> Path:
    """Where the file of this release stands."""
    return Path(str(resources.files("metering") / "data" / FILE_NAME))
