"""Rules with a date, made into the books that were, are and will be in force. Pure.

Rules: of several for the same model and provider the newest that has begun holds, and none before
the first. Every moment at which one begins begins a book of its own, with a version of its own:
what happened is rated by the book of its time, and a worker needs to know nothing about dates.
A model that no rule is for has its list price, if there is one, until a rule for it begins.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from metering.prices import PriceBook, PriceRule, match_rule


@dataclass(frozen=True, slots=True)
class DatedRule:
    """A rule and the time from which it holds; 0 is since ever.

    A list price has the `public_name` under which its model is served.
    """

    effective_from_ns: int
    rule: PriceRule
    public_name: str = ""


def book_at(
    rules: Sequence[DatedRule], listed: Sequence[DatedRule], *, usual_ns: int, now_ns: int
) -> PriceBook:
    """The book in force now, with all the others. Without any rule `usual_ns`, the date of the
    whole section, still stands in the version, as it did before rules had dates."""
    if not rules and not listed:
        return PriceBook((), usual_ns)
    starts = {0, *(each.effective_from_ns for each in (*rules, *listed))}
    books: list[PriceBook] = []
    for since_ns in sorted(starts):
        held = _book(rules, listed, since_ns)
        if not books or held.rules != books[-1].rules:  # a list price may begin behind a rule
            books.append(held)
    here = max(n for n, each in enumerate(books) if not n or each.effective_from_ns <= now_ns)
    others = tuple([each for n, each in enumerate(books) if n != here])
    return replace(books[here], others=others)


def _book(rules: Sequence[DatedRule], listed: Sequence[DatedRule], since_ns: int) -> PriceBook:
    held = _in_force(rules, since_ns)
    found: dict[tuple[str, str | None], PriceRule] = {}
    for each in listed:
        rule = each.rule
        names = {"model": rule.model, "public_name": each.public_name}
        if match_rule(held, provider=rule.provider or "", **names) is None:
            for newest in _in_force([one for one in listed if _same(one, rule)], since_ns):
                found.setdefault((rule.model, rule.provider), newest)
    return PriceBook((*held, *found.values()), since_ns)


def _same(one: DatedRule, rule: PriceRule) -> bool:
    return (one.rule.model, one.rule.provider) == (rule.model, rule.provider)


def _in_force(rules: Sequence[DatedRule], since_ns: int) -> tuple[PriceRule, ...]:
    """The rules that hold from this time on, in the order of the file."""
    newest: dict[tuple[str, str | None], int] = {}
    begun = [each for each in rules if each.effective_from_ns <= since_ns]
    for each in begun:
        key = (each.rule.model, each.rule.provider)
        newest[key] = max(newest.get(key, 0), each.effective_from_ns)
    return tuple(
        [
            each.rule
            for each in begun
            if each.effective_from_ns == newest[(each.rule.model, each.rule.provider)]
        ]
    )
