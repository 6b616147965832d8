"""Who is given credit in a world, and what becomes of it: drawn from the seed, in plain values."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

HOUR_NS = 3_600 * 10**9
DAY_NS = 24 * HOUR_NS


@dataclass(frozen=True)
class Given:
    """A grant: what a tenant may use from a time on, up to another (None: for ever)."""

    name: str
    tenant: str
    is_paid: bool
    priority: int
    amount: int
    since_ns: int
    until_ns: int | None
    end: Literal["", "void", "take", "again"]
    """Whether somebody takes what is left, or a part of all, and gives some of that again."""
    part: int
    again: int


@dataclass(frozen=True)
class Act:
    """Something that is done to a grant; `expire` to all of them, as of a time. `close` is the
    close of a tenant's month, which the course does itself."""

    what: Literal["grant", "void", "take", "again", "expire", "close"]
    given: Given | None = None
    settled_ns: int = 0
    closes: tuple[str, str] = ("", "")
    """Whose month, and which."""

    @property
    def tenant(self) -> str:
        """Whose grants it is about; empty for everybody's."""
        return self.given.tenant if self.given is not None else self.closes[0]

    @property
    def month(self) -> str:
        return self.closes[1]


def make_grants(seed: int, sold: Mapping[str, int], start_ns: int) -> list[Given]:
    """Grants for some tenants, of the size of what they use; some pay for a plan's fees, too."""
    chance = random.Random(f"grants {seed}")  # its own: the rest of the world is what it was
    found = []
    for tenant, nano in sorted(sold.items()):
        if chance.random() < 0.3:
            continue
        for number in range(chance.choice([1, 2, 2, 4])):
            most = nano * chance.choice([1, 10, 30, 300]) // chance.choice([1, 3, 10])
            amount = chance.randrange(1, max(2, most))
            since_ns = start_ns + chance.choice([0, 0, chance.randrange(50)]) * DAY_NS
            length_ns = chance.choice([None, None, 1, chance.randrange(1, 45 * DAY_NS)])
            part = chance.randrange(1, amount + 1)
            found.append(
                Given(
                    f"g{number}-{tenant}",
                    tenant,
                    chance.random() < 0.5,
                    chance.choice([0, 0, 1]),
                    amount,
                    since_ns,
                    None if length_ns is None else since_ns + length_ns,
                    chance.choice(["", "", "void", "take", "again"]),
                    part,
                    chance.randrange(1, part + 1),
                )
            )
    return found


def make_acts(chance: random.Random, grants: list[Given], start_ns: int) -> list[Act]:
    """All that is done to these, in some order that makes sense."""
    placed: list[tuple[float, int, Act]] = []
    for given in grants:
        acts = [Act("grant", given)]
        if given.end:
            acts.append(Act("take" if given.end == "again" else given.end, given))
        if given.end == "again":
            acts.append(Act("again", given))
        for at, act in zip(sorted(chance.random() ** 2 for _ in acts), acts, strict=True):
            placed.append((at, len(placed), act))
    for _ in range(3 if grants else 0):
        settled_ns = start_ns + chance.randrange(100 * DAY_NS)
        placed.append((chance.random(), len(placed), Act("expire", None, settled_ns)))
    return [act for _, _, act in sorted(placed, key=lambda each: each[:2])]
