"""The price book: which rule wins, what a version names, and reading a published book back."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from price_samples import VARIANTS

from metering.price_variants import Overlay, Variants
from metering.prices import PriceBook, PriceRule, RatesByModel, match_rule, version_of
from metering.usage import (
    INPUT_CACHE_READ,
    INPUT_UNCACHED,
    OUTPUT_REASONING,
    OUTPUT_TEXT,
    TOKEN_CLASSES,
)


def _rule(model: str, provider: str | None = None, rate: int = 1) -> PriceRule:
    return PriceRule(model=model, input_rate_pico=rate, output_rate_pico=rate, provider=provider)


ORDER = {
    "exact before glob": (["gpt-*", "gpt-4o"], "gpt-4o"),
    "longest glob": (["*", "gpt-*", "gpt-4*"], "gpt-4*"),
    "exact public name before glob": (["gpt-*", "chat"], "chat"),
    "upstream name before public name": (["chat", "gpt-4o"], "gpt-4o"),
    "the star takes the rest": (["claude-*", "*"], "*"),
    "none": (["claude-*", "gpt-4"], None),
}


@pytest.mark.parametrize(("models", "winner"), ORDER.values(), ids=ORDER)
def test_matching_order(models: list[str], winner: str | None) -> None:
    """Exact goes before glob, the longest glob wins, in whatever order they are written."""
    for rules in (models, models[::-1]):
        found = match_rule(
            tuple(map(_rule, rules)), provider="openai", model="gpt-4o", public_name="chat"
        )

        assert (found.model if found else None) == winner


def test_provider_decides_among_equals() -> None:
    """Of two rules for the same name the one for this provider wins; another's never matches."""
    rules = (_rule("m", rate=1), _rule("m", "a", rate=2), _rule("m", "b", rate=3))

    found = {
        provider: match_rule(rules, provider=provider, model="m", public_name="m")
        for provider in ("a", "b", "c")
    }

    assert {name: rule and rule.input_rate_pico for name, rule in found.items()} == {
        "a": 2,
        "b": 3,
        "c": 1,
    }


def test_the_first_of_two_alike_wins() -> None:
    """Of two rules that are alike in everything, the one written first holds."""
    found = match_rule(
        (_rule("m", rate=1), _rule("m", rate=2)), provider="p", model="m", public_name="m"
    )

    assert found is not None
    assert found.input_rate_pico == 1


def test_a_class_without_a_rate_takes_its_side() -> None:
    """Cached input has its own rate when there is one; reasoning is output."""
    rule = PriceRule("m", 10, 20, class_rates_pico={INPUT_CACHE_READ: 5}, multiplier_ppm=1_500_000)
    price = PriceBook((rule,)).find(provider="p", model="m", public_name="m")

    assert price is not None
    assert [
        price.cost.rates_pico[unit] for unit in (INPUT_UNCACHED, INPUT_CACHE_READ, OUTPUT_REASONING)
    ] == [10, 5, 20]
    assert price.sell.rates_pico[INPUT_UNCACHED] == 15


def test_an_unknown_model_has_no_price() -> None:
    """No rule, no price: never a zero."""
    assert PriceBook((_rule("a"),)).find(provider="p", model="b", public_name="b") is None


RATES = st.integers(min_value=0, max_value=10**9)
RULES = st.builds(
    PriceRule,
    model=st.sampled_from(["a", "b", "a*", "*", "c?"]),
    input_rate_pico=RATES,
    output_rate_pico=RATES,
    provider=st.sampled_from([None, "p", "q"]),
    class_rates_pico=st.dictionaries(
        st.sampled_from([INPUT_CACHE_READ, OUTPUT_REASONING, "image"]), RATES
    ),
    multiplier_ppm=st.integers(min_value=1, max_value=5_000_000),
)
BOOKS = st.lists(RULES, max_size=6).map(tuple).map(PriceBook)


@given(BOOKS, st.randoms(use_true_random=False))
def test_versions_do_not_depend_on_dict_order(book: PriceBook, chance: random.Random) -> None:
    """A version names rates, not the order in which a rule's classes were written."""
    shuffled = []
    for rule in book.rules:
        items = list(rule.class_rates_pico.items())
        chance.shuffle(items)
        shuffled.append(
            PriceRule(
                rule.model,
                rule.input_rate_pico,
                rule.output_rate_pico,
                rule.provider,
                dict(items),
                rule.multiplier_ppm,
            )
        )
    again = PriceBook(tuple(shuffled))

    assert (again.cost_version, again.sell_version) == (book.cost_version, book.sell_version)


def test_a_margin_leaves_the_cost_version_alone() -> None:
    """Changing a multiplier changes what tenants pay and not what models cost."""
    before, after = (
        PriceBook((PriceRule("m", 10, 20),)),
        PriceBook((PriceRule("m", 10, 20, multiplier_ppm=2_000_000),)),
    )

    assert before.cost_version == after.cost_version
    assert before.sell_version != after.sell_version


@given(
    BOOKS, st.sampled_from(["a", "b", "ab", "c1", "z"]), st.sampled_from(["p", "q"]), st.booleans()
)
def test_a_published_book_rates_alike(
    book: PriceBook, model: str, provider: str, sell: bool
) -> None:
    """The worker, from the published body, finds the rates that the proxy used."""
    version = book.sell_version if sell else book.cost_version
    published = RatesByModel(book.body(sell=sell), version=version)

    read = published.find(provider=provider, model=model, public_name=model)
    price = book.find(provider=provider, model=model, public_name=model)

    expected = None if price is None else price.sell if sell else price.cost
    assert (read and dict(read.rates_pico)) == (expected and dict(expected.rates_pico))
    assert read is None or read.version == version


def test_a_body_that_was_changed_is_refused() -> None:
    """A published body must hash to its version."""
    body = PriceBook((_rule("m"),)).body(sell=True)

    with pytest.raises(ValueError, match="does not hash"):
        RatesByModel(body + b" ", version=version_of(body))


@given(st.integers(0, 10**6), st.integers(0, 10**6), BOOKS)
def test_a_hold_covers_the_amount(prompt: int, answer: int, book: PriceBook) -> None:
    """Whatever classes the tokens turn out to be, the hold was enough."""
    price = book.find(provider="p", model="a", public_name="a")
    if price is None:
        return
    held = price.sell.hold_nano(input_tokens=prompt, output_tokens=answer)

    for unit in (INPUT_UNCACHED, INPUT_CACHE_READ):
        for side in (OUTPUT_TEXT, OUTPUT_REASONING):
            assert price.sell.total_nano({unit: prompt, side: answer}) <= held


def test_a_book_without_conditions_keeps_its_version() -> None:
    """The version of this book was published before there were conditions."""
    assert PriceBook((PriceRule("m", 2_500_000, 10_000_000),)).sell_version == "d770a26fb244"


def test_a_worker_waits_for_a_schema_it_does_not_know() -> None:
    """To rate by the part that is understood would bill the list price for something else."""
    body = PriceBook((_rule("m"),)).body(sell=True).replace(b'"schema":1', b'"schema":3')

    with pytest.raises(ValueError, match="schema 3"):
        RatesByModel(body, version=version_of(body))


CONDITIONS = st.builds(replace, RULES, variants=VARIANTS)
UNITS = st.dictionaries(
    st.sampled_from([INPUT_UNCACHED, INPUT_CACHE_READ, OUTPUT_TEXT, OUTPUT_REASONING, "image"]),
    st.integers(-1500, 1500),
)
TIERS = st.sampled_from([None, "flex", "priority", "otherwise", "unknown"])
REGIONS = st.sampled_from([None, "eu", "us", "mars"])


@given(CONDITIONS, UNITS, TIERS, REGIONS)
def test_conditions_are_published_and_rate_alike(
    rule: PriceRule, units: dict[str, int], tier: str | None, region: str | None
) -> None:
    """Worker and proxy come to the same nano on both sides, and to the same words."""
    book = PriceBook((replace(rule, model="a", provider=None),))
    price = book.find(provider="p", model="a", public_name="a")
    assert price is not None
    here = price.at(units, tier=tier, region=region)

    for sell, rates, version in (
        (False, here.cost, book.cost_version),
        (True, here.sell, book.sell_version),
    ):
        published = RatesByModel(book.body(sell=sell), version=version)
        read = published.find(provider="p", model="a", public_name="a")
        assert read is not None
        there = read.at(units, tier=tier, region=region)
        assert there.total_nano(units) == rates.total_nano(units)
        assert there.variant == rates.variant


@given(CONDITIONS, st.integers(0, 1200), st.integers(0, 300), TIERS, REGIONS, st.data())
def test_a_hold_covers_whatever_length_it_turns_out_to_be(
    rule: PriceRule,
    least: int,
    more: int,
    tier: str | None,
    region: str | None,
    data: st.DataObject,
) -> None:
    """Any length in between, at whatever class, is within the hold for the longest of them."""
    rule = replace(rule, model="a", provider=None)
    price = PriceBook((rule,)).find(provider="p", model="a", public_name="a")
    assert price is not None
    tokens = data.draw(st.integers(least, least + more))
    rates = price.sell.dearest(tier=tier, region=region, tokens=(least, least + more), fees_nano=5)
    held = rates.hold_nano(input_tokens=least + more, output_tokens=50)

    for unit in (INPUT_UNCACHED, INPUT_CACHE_READ):
        units = {unit: tokens, OUTPUT_REASONING: 50}
        spent = price.at(units, tier=tier, region=region).sell.total_nano(units)
        assert spent + 5 <= held


def test_rates_without_conditions_are_themselves() -> None:
    """The usual case makes nothing new."""
    price = PriceBook((_rule("m"),)).find(provider="p", model="m", public_name="m")

    assert price is not None
    assert price.at({INPUT_UNCACHED: 10**6}, tier="flex", region="eu") is price
    assert price.sell.dearest(tier="flex", region="eu", tokens=(0, 10**6)) is price.sell


def test_a_class_that_is_younger_than_a_version_changes_no_name() -> None:
    """A rule that does not name `output_image` is published as it always was, its tiers too; it
    has the output rate of each, and its own where it names one."""
    tiers = {"flex": Overlay({unit: 5_000 for unit in TOKEN_CLASSES if unit != "output_image"})}
    plain = PriceRule("m", 1_000_000, 4_000_000, variants=Variants(tiers=tiers))
    named = replace(plain, class_rates_pico={"output_image": 30_000_000})
    found = [
        PriceBook((each,)).find(provider="p", model="m", public_name="m") for each in (plain, named)
    ]
    book = PriceBook((plain,))
    read = RatesByModel(book.body(sell=True), version=book.sell_version)

    assert book.sell_version == "eb49caea04b1"
    assert b"output_image" not in book.body(sell=True)
    assert [each and each.sell.rates_pico["output_image"] for each in found] == [
        4_000_000,
        30_000_000,
    ]
    at = [each.at({}, tier="flex").sell.rates_pico["output_image"] for each in found if each]
    assert at == [5_000, 5_000]
    rates = read.find(provider="p", model="m", public_name="m")
    assert rates is not None
    assert rates.rates_pico["output_image"] == 4_000_000
