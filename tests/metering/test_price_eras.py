"""Rules with dates make books, each in force for its time."""

from __future__ import annotations

from metering.price_eras import DatedRule, book_at
from metering.prices import PriceBook, PriceRule


def _rule(rate: int, model: str = "m", provider: str | None = None) -> PriceRule:
    return PriceRule(model, rate, rate, provider=provider)


def _cost(book: PriceBook, at: int, model: str = "m") -> int | None:
    price = book.at(at).find(provider="p", model=model, public_name="public")
    return None if price is None else price.cost.rates_pico["input_uncached"]


def test_rules_without_dates_make_the_book_they_always_made() -> None:
    """Nobody's versions change; nor do those of a section with a date of its own."""
    for date_ns in (0, 50):
        rules = (_rule(1), _rule(2, "n"))

        book = book_at(
            [DatedRule(date_ns, each) for each in rules], (), usual_ns=date_ns, now_ns=60
        )

        before = PriceBook(rules, date_ns)
        assert (book.sell_version, book.bodies) == (before.sell_version, before.bodies)
    assert book_at((), (), usual_ns=7, now_ns=9) == PriceBook((), 7)


def test_the_newest_that_has_begun_holds() -> None:
    """At the nanosecond at which it begins; before the first one there is no price."""
    dated = [DatedRule(10, _rule(1)), DatedRule(30, _rule(3)), DatedRule(20, _rule(2))]

    book = book_at(dated, (), usual_ns=0, now_ns=25)

    assert [_cost(book, at) for at in (9, 10, 19, 20, 29, 30, 99)] == [None, 1, 1, 2, 2, 3, 3]
    assert book.effective_from_ns == 20
    assert [each.effective_from_ns for each in book.eras] == [0, 10, 20, 30]


def test_other_models_go_on() -> None:
    """A rule takes the place of the one for the same model and provider, and of no other."""
    dated = [
        DatedRule(0, _rule(1)),
        DatedRule(0, _rule(7, "n")),
        DatedRule(0, _rule(5, provider="p")),
        DatedRule(10, _rule(2)),
    ]

    book = book_at(dated, (), usual_ns=0, now_ns=0)

    assert (_cost(book, 0), _cost(book, 10)) == (5, 5)
    assert [_cost(book, at, "n") for at in (0, 10)] == [7, 7]
    assert len(book.at(10).rules) == 3


def test_every_book_is_published_by_its_own_name() -> None:
    """All that events may name, in both sides; a book without a rule is named by none."""
    book = book_at([DatedRule(10, _rule(1)), DatedRule(20, _rule(2))], (), usual_ns=0, now_ns=15)

    named = {each.sell_version for each in book.eras if each.rules}
    assert named <= set(book.bodies)
    assert len(book.bodies) == 4


def test_list_prices_fill_the_gaps() -> None:
    """Until a rule for the model begins, by any of its names; in the list's own order of time."""
    listed = [
        DatedRule(0, _rule(100, provider="p"), "public"),
        DatedRule(5, _rule(105, provider="p"), "public"),
    ]
    dated = [DatedRule(10, _rule(1, "publ*"))]

    book = book_at(dated, listed, usual_ns=0, now_ns=0)

    assert [_cost(book, at) for at in (0, 4, 5, 9, 10)] == [100, 100, 105, 105, 1]
