"""`weir prices update`: the package's list prices, made anew from the data of `genai-prices`.

Nothing is fetched: the prices are those of the `genai-prices` that is installed. What cannot be
expressed in our rates without loss (a price by the hour of day, by seconds of sound, by pages) is
left out and told, because a price that lacks a part bills too little.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import date
from decimal import Decimal
from importlib import import_module
from importlib.metadata import version
from typing import Any

import orjson

from metering.list_prices import SCHEMA, content_hash
from metering.usage import (
    FILE_SEARCH,
    INPUT_AUDIO,
    INPUT_CACHE_READ,
    INPUT_CACHE_WRITE_1H,
    INPUT_CACHE_WRITE_5M,
    INPUT_IMAGE,
    INPUT_UNCACHED,
    OUTPUT_AUDIO,
    OUTPUT_IMAGE,
    OUTPUT_REASONING,
    OUTPUT_TEXT,
    WEB_SEARCH,
)

PROVIDERS = (
    "anthropic",
    "aws",
    "azure",
    "cerebras",
    "cohere",
    "deepseek",
    "fireworks",
    "google",
    "groq",
    "minimax",
    "mistral",
    "moonshotai",
    "openai",
    "perplexity",
    "together",
    "voyageai",
    "x-ai",
)
"""Whose prices are taken: vendors with a public list. Resellers whose prices change by the hour
are not."""

_MTOK = {
    "input_mtok": INPUT_UNCACHED,
    "output_mtok": OUTPUT_TEXT,
    "cache_read_mtok": INPUT_CACHE_READ,
    "cache_write_mtok": INPUT_CACHE_WRITE_5M,
    "cache_write_1h_mtok": INPUT_CACHE_WRITE_1H,
    "input_audio_mtok": INPUT_AUDIO,
    "input_image_mtok": INPUT_IMAGE,
    "output_audio_mtok": OUTPUT_AUDIO,
    "output_image_mtok": OUTPUT_IMAGE,
    "output_reasoning_mtok": OUTPUT_REASONING,
}
_THOUSAND = {"web_searches_kcount": WEB_SEARCH, "storage_searches_kcount": FILE_SEARCH}
_CHEAPER_READS = {"cache_audio_read_mtok", "cache_image_read_mtok"}
"""Cached sound and pictures: all that is read from a cache is one class of ours, so these go."""

_PICO_PER_USD = 10**12
_CLAUSES = ("equals", "starts_with", "ends_with", "contains", "regex")


class NoPricesError(Exception):
    """`genai-prices` is not installed; the message says how it is."""


class _Left(Exception):
    """A model that is left out, and why."""


def make_list_prices(today: date) -> tuple[bytes, list[str]]:
    """The file, and what was left out of it and why, in words."""
    try:
        found = import_module("genai_prices.data").providers
    except ImportError:
        raise NoPricesError(
            "`genai-prices` is not installed: pip install 'tokenweir[prices]'"
        ) from None
    return encode_list_prices(found, source=f"genai-prices {version('genai-prices')}", today=today)


def encode_list_prices(
    found: Iterable[Any], *, source: str, today: date
) -> tuple[bytes, list[str]]:
    """`make_list_prices` of these providers, as `genai-prices` has them."""
    left: list[str] = []
    providers = [_provider(each, left) for each in found if each.id in PROVIDERS]
    head = {"schema": SCHEMA, "source": source, "generated": today.isoformat()}
    head["sha256"] = content_hash(providers)
    return _laid_out(head, providers), left


def _laid_out(head: dict[str, Any], providers: list[dict[str, Any]]) -> bytes:
    """One model in a line, so that a change of prices reads as such."""
    lines = [orjson.dumps(head)[:-1] + b',"providers":[']
    for at, each in enumerate(providers):
        models = [orjson.dumps(one, option=orjson.OPT_SORT_KEYS) for one in each["models"]]
        begin = orjson.dumps({name: each[name] for name in each if name != "models"})[:-1]
        lines.append(begin + b',"models":[')
        lines.append(b",\n".join(models))
        lines.append(b"]}" + (b"," if at + 1 < len(providers) else b""))
    return b"\n".join([*lines, b"]}"]) + b"\n"


def _provider(found: Any, left: list[str]) -> dict[str, Any]:
    models = []
    for model in found.models:
        try:
            models.append(
                {
                    "id": model.id,
                    "match": _clause(model.match),
                    "prices": list(_prices(model.prices)),
                }
            )
        except _Left as reason:
            left.append(f"{found.id} {model.id}: {reason}")
    likewise = list(found.fallback_model_providers or ())
    body = {"id": found.id, "address": found.api_pattern, "models": models}
    return body | ({"likewise": likewise} if likewise else {})


def _clause(found: Any) -> dict[str, Any]:
    for kind in ("or", "and"):
        if (several := getattr(found, f"{kind}_", None)) is not None:
            return {kind: [_clause(each) for each in several]}
    for kind in _CLAUSES:
        if (wanted := getattr(found, kind, None)) is not None:
            return {kind: wanted if kind == "regex" else wanted.lower()}
    raise _Left(f"its names are matched by {type(found).__name__}")


def _prices(found: Any) -> Iterator[dict[str, Any]]:
    if not isinstance(found, list):
        yield _price(found, None)
        return
    dated: dict[str, Any] = {}
    for each in found:
        since = getattr(each.constraint, "start_date", None)
        if each.constraint is not None and since is None:
            raise _Left("its price depends on the hour of the day")
        is_first = each is found[0]  # it holds where no date does
        dated["" if is_first or since is None else since.isoformat()] = each.prices
    for since in sorted(dated):
        yield _price(dated[since], since or None)


def _price(found: Any, since: str | None) -> dict[str, Any]:
    said = {name: value for name, value in vars(found).items() if value is not None}
    strange = said.keys() - _MTOK.keys() - _THOUSAND.keys() - _CHEAPER_READS
    if strange:
        raise _Left(f"it is billed by {', '.join(sorted(strange))}, too")
    if "input_mtok" not in said:
        raise _Left("it has no price of input")
    borders = sorted(
        {tier.start for value in said.values() for tier in getattr(value, "tiers", ())}
    )
    body: dict[str, Any] = {"rates_pico": _rates(said, 0)}
    if since is not None:
        body["from"] = since
    if borders:
        # `start` is a border of "more than": the same as our `above_tokens`
        body["above"] = [[start, _tokens_only(_rates(said, start + 1))] for start in borders]
    return body


def _rates(said: dict[str, Any], tokens: int) -> dict[str, int]:
    """Every rate for a prompt of so many tokens, in pico-USD per unit."""
    rates = {_MTOK[name]: _pico(_at(said[name], tokens), 10**6) for name in _MTOK if name in said}
    rates.setdefault(OUTPUT_TEXT, 0)  # embeddings and the like answer no token
    if INPUT_CACHE_WRITE_5M in rates:  # dearer than input: an hour is no cheaper than five minutes
        rates.setdefault(INPUT_CACHE_WRITE_1H, rates[INPUT_CACHE_WRITE_5M])
    for name, unit in _THOUSAND.items():
        if name in said:
            rates[unit] = _pico(_at(said[name], tokens), 1_000)
    return rates


def _tokens_only(rates: dict[str, int]) -> dict[str, int]:
    return {unit: rate for unit, rate in rates.items() if unit in _MTOK.values()}


def _at(value: Any, tokens: int) -> Decimal:
    found: Decimal = getattr(value, "base", value)
    for tier in getattr(value, "tiers", ()):
        if tokens > tier.start:
            found = tier.price
    return found


def _pico(usd: Decimal, units: int) -> int:
    pico = usd * _PICO_PER_USD / units
    if pico != int(pico):
        raise _Left(f"its rate of {usd} is finer than a pico-dollar")
    return int(pico)
