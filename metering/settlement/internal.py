"""The streams, the ledger, the rollups, the statements and Stripe, tenant by tenant. Pure.

Each is made from the one before it, so any two neighbours have to agree; where they do not, the
difference names the events, the hour or the month. What is on its way is no difference: it is
counted as waiting.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

IDS_MAX = 20
"""Ids that are told of one difference; the rest is a number."""


class Between(StrEnum):
    """Which two do not agree."""

    STREAM = "stream-ledger"
    ROLLUP = "ledger-rollup"
    STATEMENT = "ledger-statement"
    STRIPE = "ledger-stripe"


@dataclass(frozen=True, slots=True)
class Difference:
    """What does not agree; `ids` are those of events, hours or meters that lead there."""

    tenant: str
    between: Between
    said: str
    ids: tuple[str, ...] = ()
    more: int = 0


@dataclass(frozen=True, slots=True)
class InStream:
    """An event as its stream has it. `is_settled`: it was acknowledged, so the ledger has it."""

    event_id: str
    tenant: str
    payload_hash: str
    place: str
    is_settled: bool


@dataclass(frozen=True, slots=True)
class Fate:
    """What became of an event in the ledger: the hash it is booked with, None when it is not, and
    whether it is a dead letter or a conflict there."""

    booked_hash: str | None = None
    is_set_aside: bool = False


Sums = tuple[int, int, int]
"""Attempts, sold nano-USD, cost nano-USD."""


@dataclass(frozen=True, slots=True)
class Billed:
    """A tenant's month as its invoice has it, and as the events do."""

    total_nano: int
    due_nano: int
    """What the events and what was booked beside them come to."""
    events: int
    there: int
    is_closed: bool
    same_events: bool = True
    """Whether the statement was made of the very events that there are; of counts that agree."""


@dataclass(frozen=True, slots=True)
class AtStripe:
    """An hour of a tenant's meter: by the rollups now, as it was written down, and at Stripe."""

    tenant: str
    meter: str
    hour: str
    ledger: int
    wanted: int | None
    acked: int
    seen: int | None
    is_held: bool = False


@dataclass(slots=True)
class Row:
    """What each of them has of a tenant."""

    tenant: str
    in_stream: int = 0
    waiting: int = 0
    set_aside: int = 0
    ledger: Sums = (0, 0, 0)
    rollup: Sums = (0, 0, 0)
    unrolled: int = 0
    invoice_nano: int | None = None
    is_closed: bool = False
    stripe_waiting: int = 0
    stripe_hours: int = 0
    differences: list[Difference] = field(default_factory=list)

    def body(self) -> dict[str, Any]:
        """For programs."""
        names = ("attempts", "sold_nano", "cost_nano")
        return {
            "tenant": self.tenant,
            "stream": {
                "events": self.in_stream,
                "waiting": self.waiting,
                "set_aside": self.set_aside,
            },
            "ledger": dict(zip(names, self.ledger, strict=True)),
            "rollup": dict(zip(names, self.rollup, strict=True)) | {"behind": self.unrolled},
            "invoice": {"total_nano": self.invoice_nano, "is_closed": self.is_closed},
            "stripe": {"hours": self.stripe_hours, "waiting": self.stripe_waiting},
            "differences": [
                {
                    "between": each.between.value,
                    "said": each.said,
                    "ids": list(each.ids),
                    "more": each.more,
                }
                for each in self.differences
            ],
        }


class Books:
    """Takes in what each of them says and finds where they differ. `rows` are in order of names."""

    def __init__(self) -> None:
        self._rows: dict[str, Row] = {}

    @property
    def rows(self) -> list[Row]:
        """Every tenant that any of them knows."""
        return [self._rows[name] for name in sorted(self._rows)]

    @property
    def differences(self) -> list[Difference]:
        """All of them."""
        return [each for row in self.rows for each in row.differences]

    def stream(self, entries: Iterable[tuple[InStream, Fate]]) -> None:
        """Events of the streams, and what became of each; may come in parts."""
        for entry, fate in entries:
            row = self._row(entry.tenant)
            row.in_stream += 1
            if fate.booked_hash == entry.payload_hash:
                continue
            if fate.is_set_aside:
                row.set_aside += 1
            elif not entry.is_settled:
                row.waiting += 1
            elif fate.booked_hash is None:
                self._find(
                    row,
                    Between.STREAM,
                    "settled in the stream and not in the ledger",
                    [f"{entry.event_id} ({entry.place})"],
                )
            else:
                self._find(
                    row,
                    Between.STREAM,
                    "in the ledger with another body",
                    [f"{entry.event_id} ({entry.place})"],
                )

    def rollups(
        self,
        ledger: Mapping[tuple[str, str], Sums],
        rolled: Mapping[tuple[str, str], Sums],
        behind: Mapping[str, int],
    ) -> list[tuple[str, str]]:
        """Sums by tenant and hour; the places that differ, of which somebody may name the events.

        `behind` counts the events that are not rolled up yet, which `ledger` leaves out."""
        wrong = []
        for place in sorted({*ledger, *rolled}):
            tenant, hour = place
            row, mine, theirs = (
                self._row(tenant),
                ledger.get(place, _NOTHING),
                rolled.get(place, _NOTHING),
            )
            row.ledger, row.rollup = _plus(row.ledger, mine), _plus(row.rollup, theirs)
            if mine != theirs:
                wrong.append(place)
                said = f"hour {hour}: events {mine}, rollup {theirs} (attempts, sold, cost)"
                self._find(row, Between.ROLLUP, said, [])
        for tenant, count in behind.items():
            self._row(tenant).unrolled = count
        return wrong

    def name_events(self, place: tuple[str, str], ids: Sequence[str]) -> None:
        """The events of an hour that differs."""
        tenant, hour = place
        row = self._row(tenant)
        for n, each in enumerate(row.differences):
            if each.between is Between.ROLLUP and each.said.startswith(f"hour {hour}:"):
                more = max(0, len(ids) - IDS_MAX)
                row.differences[n] = Difference(
                    tenant, each.between, each.said, tuple(ids[:IDS_MAX]), more
                )

    def statement(self, tenant: str, billed: Billed) -> None:
        """The tenant's invoice beside its events."""
        row = self._row(tenant)
        row.invoice_nano, row.is_closed = billed.total_nano, billed.is_closed
        if billed.total_nano != billed.due_nano:
            said = f"invoiced {billed.total_nano} nano-USD, booked {billed.due_nano}"
            self._find(row, Between.STATEMENT, said, [])
        if billed.there < billed.events:
            said = f"the statement is made of {billed.events} events, there are {billed.there}"
            self._find(row, Between.STATEMENT, said, [])
        elif billed.there == billed.events and not billed.same_events:
            self._find(row, Between.STATEMENT, "the statement is made of other events", [])

    def stripe(self, hours: Iterable[AtStripe]) -> None:
        """Hours that Stripe should know."""
        for each in hours:
            row = self._row(each.tenant)
            row.stripe_hours += 1
            at = [f"{each.meter} {each.hour}"]
            if each.seen is not None and each.seen != each.acked:
                said = f"Stripe took {each.acked} and shows {each.seen}"
                self._find(row, Between.STRIPE, said, at)
            elif each.is_held:
                said = f"held: the ledger says {each.ledger}, Stripe has {each.acked}"
                self._find(row, Between.STRIPE, said, at)
            elif each.ledger != each.acked:
                row.stripe_waiting += 1

    def _row(self, tenant: str) -> Row:
        return self._rows.setdefault(tenant, Row(tenant))

    def _find(self, row: Row, between: Between, said: str, ids: Sequence[str]) -> None:
        """Note a difference; one that says the same takes the ids in."""
        for n, each in enumerate(row.differences):
            if (each.between, each.said) == (between, said):
                both = (*each.ids, *ids)
                more = each.more + max(0, len(both) - IDS_MAX)
                row.differences[n] = Difference(row.tenant, between, said, both[:IDS_MAX], more)
                return
        row.differences.append(Difference(row.tenant, between, said, tuple(ids)))


_NOTHING: Sums = (0, 0, 0)


def _plus(one: Sums, other: Sums) -> Sums:
    return one[0] + other[0], one[1] + other[1], one[2] + other[2]
