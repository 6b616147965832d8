"""The file of list prices out of the data of `genai-prices`, whose shapes are imitated here."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any

import pytest

from metering.list_prices import read_list_prices
from proxy.list_price_update import NoPricesError, encode_list_prices, make_list_prices

TODAY = date(2026, 11, 21)
URL = "https://api.openai.com/v1"


class Like:
    """Something with these attributes, as the data's classes have them."""

    def __init__(self, **fields: Any) -> None:
        vars(self).update(fields)


@dataclass
class Tier:
    """From so many tokens on."""

    start: int
    price: Decimal


def _tiered(base: str, above: str) -> Like:
    return Like(base=Decimal(base), tiers=[Tier(200_000, Decimal(above))])


def _dated(prices: Like, since: date | None) -> Like:
    return Like(constraint=since and Like(start_date=since), prices=prices)


def _read(*models: Like, provider: str = "openai") -> tuple[Any, list[str]]:
    found = Like(
        id=provider,
        api_pattern=r"https://api\.openai\.com",
        fallback_model_providers=None,
        models=models,
    )
    data, left = encode_list_prices([found], source="test", today=TODAY)
    return read_list_prices(data), left


def _model(prices: Any, name: str = "m") -> Like:
    return Like(id=name, match=Like(equals=name.upper()), prices=prices)


def test_rates_are_per_token_and_exact() -> None:
    """USD per million tokens, and per thousand searches, in pico-USD each."""
    prices = Like(
        input_mtok=Decimal("0.075"),
        output_mtok=Decimal("2.5"),
        cache_write_mtok=Decimal(3),
        web_searches_kcount=Decimal(10),
        cache_read_mtok=None,
    )

    found, left = _read(_model(prices))

    [price] = found.find(base_url=URL, model="M")
    assert price.rates_pico == {
        "input_uncached": 75_000,
        "output_text": 2_500_000,
        "input_cache_write_5m": 3_000_000,
        "input_cache_write_1h": 3_000_000,
        "web_search": 10**10,
    }
    assert (left, found.source, found.generated) == ([], "test", "2026-11-21")


def test_long_prompts_and_dates_are_kept() -> None:
    """The first price holds where no date does; a border is one of more than so many tokens."""
    old = Like(input_mtok=Decimal(1), output_mtok=Decimal(1))
    new = Like(input_mtok=_tiered("2", "4"), output_mtok=Decimal(8))

    found, _ = _read(_model([_dated(old, None), _dated(new, date(2026, 1, 1))]))

    first, second = found.find(base_url=URL, model="m")
    assert (first.effective_from_ns, second.effective_from_ns) == (0, 20_454 * 86_400 * 10**9)
    assert second.above == ((200_000, {"input_uncached": 4_000_000, "output_text": 8_000_000}),)


@pytest.mark.parametrize(
    ("prices", "why"),
    [
        (Like(input_mtok=Decimal(1), audio_hours=Decimal(1)), "billed by audio_hours"),
        (Like(output_mtok=Decimal(1)), "no price of input"),
        (Like(input_mtok=Decimal("0.0000001")), "finer than a pico-dollar"),
        (
            [Like(constraint=Like(start_time=1), prices=Like(input_mtok=Decimal(1)))] * 2,
            "hour of the day",
        ),
    ],
)
def test_what_cannot_be_expressed_is_left_out_and_told(prices: Any, why: str) -> None:
    """A price that lacks a part would bill too little."""
    found, left = _read(_model(prices))

    assert found.find(base_url=URL, model="m") == ()
    assert [why in each for each in left] == [True]


def test_a_match_that_is_not_known_is_left_out() -> None:
    """A newer `genai-prices` may have others."""
    found, left = _read(Like(id="m", match=Like(sounds="m"), prices=Like(input_mtok=Decimal(1))))

    assert (found.find(base_url=URL, model="m"), len(left)) == ((), 1)


def test_resellers_are_not_taken() -> None:
    """Their prices change by the hour."""
    found, _ = _read(_model(Like(input_mtok=Decimal(1))), provider="openrouter")

    assert found.providers == ()


def test_without_the_data_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is an extra."""
    monkeypatch.setitem(sys.modules, "genai_prices.data", None)

    with pytest.raises(NoPricesError, match=r"tokenweir\[prices\]"):
        make_list_prices(TODAY)
