"""The list prices of the package: found by address and name, and what their file must be."""

from __future__ import annotations

import orjson
import pytest

from metering.list_prices import (
    content_hash,
    matches,
    packaged_list_prices,
    packaged_path,
    read_list_prices,
)

OPENAI = "https://api.openai.com/v1"


def test_vendors_models_have_prices() -> None:
    """Those of the big vendors are there, with what a long prompt costs."""
    prices = packaged_list_prices()

    [gpt] = prices.find(base_url=OPENAI, model="gpt-4o-2024-05-13")
    assert (gpt.rates_pico["input_uncached"], gpt.rates_pico["output_text"]) == (
        5_000_000,
        15_000_000,
    )
    gemini = prices.find(
        base_url="https://generativelanguage.googleapis.com/v1beta", model="Gemini-2.5-Pro"
    )[-1]
    assert [tokens for tokens, _ in gemini.above] == [200_000]
    rule = gemini.rule(model="gemini-2.5-pro", provider="g", multiplier_ppm=1_500_000)
    assert rule.variants is not None
    assert rule.variants.borders == (200_000,)


def test_an_own_server_has_none() -> None:
    """A price follows from the address, not from the name of the model."""
    prices = packaged_list_prices()

    assert prices.find(base_url="http://localhost:8000/v1", model="gpt-4o") == ()
    assert prices.find(base_url=OPENAI, model="made-up") == ()
    assert prices.find(base_url="https://ours.openai.azure.com", model="gpt-4o") != ()


def test_every_price_is_usable() -> None:
    """Each model's prices go up in time, and each makes a rule."""
    for provider in packaged_list_prices().providers:
        for model in provider.models:
            starts = [each.effective_from_ns for each in model.prices]
            assert starts == sorted(set(starts)), model.id
            for price in model.prices:
                price.rule(model=model.id, provider="p", multiplier_ppm=10**6).body(sell=True)


@pytest.mark.parametrize(
    ("clause", "name", "fits"),
    [
        ({"equals": "gpt-4o"}, "gpt-4o", True),
        ({"equals": "gpt-4o"}, "gpt-4o-mini", False),
        ({"starts_with": "gpt"}, "gpt-4o", True),
        ({"ends_with": "mini"}, "gpt-4o", False),
        ({"contains": "claude"}, "us.anthropic.claude-3", True),
        ({"regex": "^o[134]"}, "o3-mini", True),
        ({"or": [{"equals": "a"}, {"equals": "b"}]}, "b", True),
        ({"and": [{"starts_with": "a"}, {"ends_with": "b"}]}, "ac", False),
    ],
)
def test_clauses(clause: dict[str, object], name: str, fits: bool) -> None:
    """What a name has to be."""
    assert matches(clause, name) is fits


def test_an_unknown_clause_is_told() -> None:
    """A newer file needs a newer release."""
    with pytest.raises(ValueError, match="upgrade"):
        matches({"sounds_like": "gpt"}, "gpt")


@pytest.mark.parametrize(
    ("change", "why"), [({"schema": 2}, "schema 2"), ({"providers": []}, "hash to")]
)
def test_a_file_that_was_changed_is_refused(change: dict[str, object], why: str) -> None:
    """The content is hashed; another schema is not guessed at."""
    found = orjson.loads(packaged_path().read_bytes())
    assert found["sha256"] == content_hash(found["providers"])

    with pytest.raises(ValueError, match=why):
        read_list_prices(orjson.dumps({**found, **change}))
