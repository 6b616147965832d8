"""Credit: grants, the order in which they are drawn, and what an event takes or gives back. Pure.

Rules: a grant pays for events that occurred while it held, `effective_at` to before `expires_at`,
in the order priority, earliest expiry, promo before paid, earliest effect, id. An event and its
corrections are one thing to pay for; what goes back goes in the opposite order, and the part that
no grant paid comes off before any. What a plan makes of a month beside the list prices is drawn,
or given back, when the month is closed. A grant's amount is always what is left of it, was drawn,
has expired and was taken away, together.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Literal

from metering.settlement.journal import Account, Posting, Transaction

GRACE_NS = 3_600_000_000_000
"""So long after a grant has expired its last events are waited for, as at the end of a month."""

MONTH_ROOT = "plan:"
"""What the root of entries begins with that no event caused."""

_FOREVER = 2**63 - 1


class EntryKind(StrEnum):
    """What may become of a grant."""

    DRAW = "draw"
    BACK = "back"
    EXPIRE = "expire"
    TAKE = "take"
    AGAIN = "again"


@dataclass(frozen=True, slots=True)
class Grant:
    """An amount that a tenant may use. Times are UTC nanoseconds, `expires_at` None is never.

    `source` says where it comes from (`manual`, `stripe`, ...), `note` is for people.
    """

    id: str
    tenant: str
    kind: Literal["paid", "promo"]
    priority: int
    amount_nano: int
    effective_at: int
    expires_at: int | None
    source: str
    note: str

    def holds_at(self, time_ns: int) -> bool:
        """Whether it pays for what occurs at this time."""
        return self.effective_at <= time_ns < (self.expires_at or _FOREVER)


@dataclass(frozen=True, slots=True)
class Entry:
    """What became of a part of a grant: by how much its numbers change.

    `event_id` and `root` are those of draw and back: the event that caused it, and the one
    that was paid for; or the close that caused it, and the month (`month_root`).
    """

    grant_id: str
    kind: EntryKind
    amount_nano: int = 0
    """Of what is left."""
    expired_nano: int = 0
    owed_nano: int = 0
    event_id: str | None = None
    root: str | None = None


@dataclass(frozen=True, slots=True)
class Standing:
    """A grant and what became of it so far. `owed_nano` is the part of what was drawn that had to
    be given back to whoever paid, so that the tenant owes it; `entries` counts."""

    grant: Grant
    left_nano: int
    drawn_nano: int = 0
    expired_nano: int = 0
    taken_nano: int = 0
    owed_nano: int = 0
    entries: int = 0

    def after(self, entry: Entry) -> Standing:
        """With this entry made."""
        drawn, taken = self.drawn_nano, self.taken_nano
        if entry.kind is EntryKind.DRAW:
            drawn -= entry.amount_nano
        elif entry.kind is EntryKind.BACK:  # what is owed no more has been taken after all
            drawn -= entry.amount_nano - entry.owed_nano
            taken -= entry.owed_nano
        elif entry.kind in (EntryKind.TAKE, EntryKind.AGAIN):
            taken -= entry.amount_nano + entry.expired_nano
        return replace(
            self,
            left_nano=self.left_nano + entry.amount_nano,
            drawn_nano=drawn,
            expired_nano=self.expired_nano + entry.expired_nano,
            taken_nano=taken,
            owed_nano=self.owed_nano + entry.owed_nano,
            entries=self.entries + 1,
        )

    def seen_at(self, time_ns: int) -> Standing:
        """As it is told to people: what is left of a grant that is over has lapsed, though its
        grace still holds it for events under way."""
        ends = self.grant.expires_at
        if ends is None or time_ns < ends:
            return self
        return replace(self, left_nano=0, expired_nano=self.expired_nano + self.left_nano)

    @property
    def is_whole(self) -> bool:
        """Whether the parts make up the amount, none of them below zero."""
        parts = (self.left_nano, self.drawn_nano, self.expired_nano, self.taken_nano)
        return (
            sum(parts) == self.grant.amount_nano
            and min(parts) >= 0
            and 0 <= self.owed_nano <= self.drawn_nano
        )


@dataclass(frozen=True, slots=True)
class Paid:
    """An event and its corrections as far as they were drawn for: what they sell for together, and
    what each grant gave, by (grant id, nano-USD)."""

    root: str
    sell_nano: int = 0
    drawn: tuple[tuple[str, int], ...] = ()

    @property
    def drawn_nano(self) -> int:
        """What grants paid of it."""
        return sum(amount for _, amount in self.drawn)


def burn_order(grant: Grant) -> tuple[int, int, bool, int, str]:
    """What grants are sorted by before they are drawn from."""
    return (
        grant.priority,
        grant.expires_at or _FOREVER,
        grant.kind != "promo",
        grant.effective_at,
        grant.id,
    )


def draw(
    paid: Paid,
    standings: Sequence[Standing],
    *,
    event_id: str,
    occurred_at: int,
    sell_nano: int,
    most: Mapping[str, int] | None = None,
) -> list[Entry]:
    """What this event takes from the tenant's grants, or gives back to them.

    `paid` is what came before it of the same root, `standings` the tenant's grants in burn order.
    `most` is what each grant still pays for a month that was closed: a close gives back of the
    month as a whole, and what it gave is not to be given again, for that would come out of what
    the grant pays for other months. The next close of the month settles what is left to give.
    """
    sells = paid.sell_nano + sell_nano
    if sell_nano > 0:
        want = min(sell_nano, sells - paid.drawn_nano)
        return _take(paid.root, standings, want, event_id=event_id, occurred_at=occurred_at)
    back = paid.drawn_nano - max(sells, 0)
    return _give(paid, standings, back, event_id=event_id, most=most)


def settle(
    paid: Paid,
    standings: Sequence[Standing],
    *,
    cause: str,
    at_ns: int,
    more_nano: int,
    total_nano: int,
) -> list[Entry]:
    """What the close of a month takes from the tenant's grants, or gives back to them.

    `paid` is what grants gave for the month so far, `total_nano` what it comes to, and `more_nano`
    by how much this close changes that. Grants never pay more than the month comes to, and of what
    this close adds all that they hold at `at_ns`; what was owed before it stays owed.
    """
    room = max(total_nano, 0) - paid.drawn_nano
    want = min(max(more_nano, 0), room)
    if want > 0:
        return _take(paid.root, standings, want, event_id=cause, occurred_at=at_ns)
    return _give(paid, standings, -want, event_id=cause)


def month_root(tenant: str, month: str) -> str:
    """What stands in the place of an event where a month as a whole was paid for."""
    return f"{MONTH_ROOT}{tenant}:{month}"


def _take(
    root: str, standings: Sequence[Standing], want: int, *, event_id: str, occurred_at: int
) -> list[Entry]:
    entries = []
    for standing in standings:
        part = min(want, standing.left_nano)
        if part <= 0 or not standing.grant.holds_at(occurred_at):
            continue
        grant_id = standing.grant.id
        entries.append(Entry(grant_id, EntryKind.DRAW, -part, event_id=event_id, root=root))
        want -= part
    return entries


def _give(
    paid: Paid,
    standings: Sequence[Standing],
    back: int,
    *,
    event_id: str,
    most: Mapping[str, int] | None = None,
) -> list[Entry]:
    drawn = dict(paid.drawn)
    entries = []
    for standing in reversed(standings):
        part = min(back, drawn.get(standing.grant.id, 0), standing.drawn_nano)
        if most is not None:
            part = min(part, most.get(standing.grant.id, 0))
        if part <= 0:
            continue
        owed = min(part, standing.owed_nano)  # its money went back already
        entries.append(
            Entry(
                standing.grant.id,
                EntryKind.BACK,
                part - owed,
                owed_nano=-owed,
                event_id=event_id,
                root=paid.root,
            )
        )
        back -= part
    return entries


def paid_after(paid: Paid, sell_nano: int, entries: Iterable[Entry]) -> Paid:
    """What was paid for, with one event more."""
    drawn = dict(paid.drawn)
    for entry in entries:
        part = entry.owed_nano - entry.amount_nano
        drawn[entry.grant_id] = drawn.get(entry.grant_id, 0) + part
    left = tuple((name, amount) for name, amount in drawn.items() if amount)
    return Paid(paid.root, paid.sell_nano + sell_nano, left)


def expiry(standing: Standing, now_ns: int) -> Entry | None:
    """What has expired of a grant by now, its grace considered; None when nothing has."""
    expires_at = standing.grant.expires_at
    if expires_at is None or now_ns < expires_at + GRACE_NS or not standing.left_nano:
        return None
    left = standing.left_nano
    return Entry(standing.grant.id, EntryKind.EXPIRE, -left, expired_nano=left)


def taking(standing: Standing, amount_nano: int) -> Entry:
    """Take so much away: of what is left, then of what has expired; of what was spent the rest,
    which the tenant owes from then on. ValueError for more than is there."""
    room = standing.grant.amount_nano - standing.taken_nano - standing.owed_nano
    if not 0 < amount_nano <= room:
        raise ValueError(
            f"grant {standing.grant.id}: {amount_nano} nano-USD cannot be taken back, "
            f"at most {room} can"
        )
    left = min(amount_nano, standing.left_nano)
    expired = min(amount_nano - left, standing.expired_nano)
    owed = amount_nano - left - expired
    return Entry(standing.grant.id, EntryKind.TAKE, -left, -expired, owed)


def returning(standing: Standing, amount_nano: int) -> Entry:
    """Give so much of what was taken again: first of what is owed. ValueError for more."""
    room = standing.taken_nano + standing.owed_nano
    if not 0 < amount_nano <= room:
        raise ValueError(
            f"grant {standing.grant.id}: {amount_nano} nano-USD cannot be given again, "
            f"{room} were taken back"
        )
    owed = min(amount_nano, standing.owed_nano)
    return Entry(standing.grant.id, EntryKind.AGAIN, amount_nano - owed, owed_nano=-owed)


def grant_transaction(grant: Grant) -> Transaction:
    """A grant as it is booked: what we owe in service, against money or against our expense."""
    credit, contra = _accounts(grant)
    sides = Posting(contra, grant.amount_nano), Posting(credit, -grant.amount_nano)
    return Transaction(grant.tenant, "credit", f"grant:{grant.id}", 0, sides)


def entries_transaction(
    tenant: str, made: Sequence[tuple[Grant, Entry]], *, idem_key: str
) -> Transaction:
    """Entries of one tenant as they are booked together."""
    sums: dict[Account, int] = {}
    for grant, entry in made:
        for account, amount in _sides(grant, entry):
            sums[account] = sums.get(account, 0) + amount
    sides = tuple(Posting(account, sums[account]) for account in sorted(sums) if sums[account])
    return Transaction(tenant, "credit", idem_key, 0, sides)


def _sides(grant: Grant, entry: Entry) -> Iterable[tuple[Account, int]]:
    credit, contra = _accounts(grant)
    yield credit, -entry.amount_nano
    if entry.kind in (EntryKind.DRAW, EntryKind.BACK):
        # what is owed no more goes with the correction: the receivable has lost it already
        yield Account.RECEIVABLE, entry.amount_nano
        return
    lapse = Account.BREAKAGE if grant.kind == "paid" else contra
    yield lapse, -entry.expired_nano
    yield Account.RECEIVABLE, entry.owed_nano
    yield contra, entry.amount_nano + entry.expired_nano - entry.owed_nano


def _accounts(grant: Grant) -> tuple[Account, Account]:
    if grant.kind == "paid":
        return Account.CUSTOMER_CREDIT, Account.PAYMENTS_CLEARING
    return Account.PROMO_CREDIT, Account.PROMO_EXPENSE
