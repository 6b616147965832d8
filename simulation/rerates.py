"""What is rated again in a world, by which prices and when: drawn from the seed, plain values."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from simulation.grants import DAY_NS
from simulation.prices import Prices, make_prices

STAGES = ("before", "between", "after")
"""Before November is closed, right after it, and before December is: when nothing waits, so that
it is the same in whatever order things came."""


@dataclass(frozen=True)
class Rerating:
    """Somebody rates events again, those admitted in this time; of everybody, or of one tenant."""

    stage: str
    since_ns: int
    until_ns: int
    tenant: str | None
    books: tuple[Prices, ...]
    """Each from its own moment on."""
    sides: tuple[str, ...]
    """`cost`, `sell`, or both."""

    def prices_at(self, time_ns: int) -> Prices:
        begun = [each for each in self.books if each.since_ns <= time_ns]
        return begun[-1] if begun else self.books[0]


def make_reratings(
    seed: int, tenants: Sequence[str], own: Sequence[Prices], start_ns: int
) -> list[Rerating]:
    """None in some worlds; by other prices, and back to the world's own."""
    chance = random.Random(f"rerates {seed}")  # its own: the rest of the world is what it was
    found: list[Rerating] = []
    if chance.random() < 0.4:
        return found
    for stage in STAGES:
        for _ in range(chance.choice([0, 0, 1, 1, 2])):
            since_ns = start_ns + chance.choice([0, chance.randrange(40)]) * DAY_NS
            other = (make_prices(chance, 0), make_prices(chance, start_ns + 12 * DAY_NS))
            books = chance.choice([other[:1], other, tuple(own)])
            found.append(
                Rerating(
                    stage,
                    since_ns,
                    since_ns + chance.choice([10, 90]) * DAY_NS,
                    chance.choice([None, None, *tenants]),
                    books,
                    chance.choice([("cost", "sell"), ("cost", "sell"), ("sell",), ("cost",)]),
                )
            )
    return found
