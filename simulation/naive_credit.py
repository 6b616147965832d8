"""What grants come to, computed apart from ours: docs/credits.md event by event.

Nothing here comes from `metering.settlement`. What only the course knows is told: in which order a
tenant's events came into the chain, and up to which of them was drawn when something was done.
What a month comes to when it is closed is told, too, by the naive computation of statements.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from metering.events import UsageEvent
from simulation.grants import HOUR_NS, Act, Given


@dataclass
class Pot:
    """A grant and where its parts are. `asked` is what was demanded back of it, less what was given
    again; `owed` the part of that which had been spent."""

    given: Given
    left: int
    drawn: int = 0
    expired: int = 0
    asked: int = 0
    owed: int = 0

    def numbers(self) -> tuple[int, int, int, int, int]:
        """As the ledger has them: what is owed counts as drawn, not as taken."""
        return self.left, self.drawn, self.expired, self.asked - self.owed, self.owed

    def books(self) -> Iterator[tuple[str, int]]:
        """By account, what of it stands there; debit is positive."""
        yield "receivable", self.owed - self.drawn
        kept = self.given.amount - self.asked
        if self.given.is_paid:
            yield "customer_credit", -self.left
            yield "payments_clearing", kept
            yield "breakage", -self.expired
        else:
            yield "promo_credit", -self.left
            yield "promo_expense", kept - self.expired


@dataclass(frozen=True)
class Bill:
    """What a close says of a month: what it comes to by now, and by how much more than the list
    prices of its events this close makes it (less, below zero)."""

    month: str
    last_ns: int
    total: int
    beside: int


@dataclass
class Purse:
    """A tenant's grants over time."""

    pots: dict[str, Pot] = field(default_factory=dict)
    sold: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    """By event that corrects nothing: what it and its corrections sell for."""
    paid: dict[str, dict[str, int]] = field(default_factory=lambda: defaultdict(dict))
    """By such an event, and by month: what each grant paid of it. A month has what its events have,
    and what its closes moved beside that."""
    shown: dict[str, dict[str, int]] = field(default_factory=lambda: defaultdict(dict))
    """By month, what its invoice shows of each grant: what goes back to whoever had paid, and not
    to the grant, is no less credit on it."""
    invoices: dict[str, dict[str, int]] = field(default_factory=dict)
    """By month, the credits of its invoice."""

    def in_order(self) -> list[Pot]:
        """Priority, earliest end, given before paid, earliest beginning, name."""
        never = 2**70
        return sorted(
            self.pots.values(),
            key=lambda pot: (
                pot.given.priority,
                never if pot.given.until_ns is None else pot.given.until_ns,
                pot.given.is_paid,
                pot.given.since_ns,
                pot.given.name,
            ),
        )

    def use(self, event: UsageEvent, sell: int, *, draws: bool) -> None:
        """An event; `draws` is false for what was in the ledger before there were grants."""
        root = event.corrects or event.event_id
        self.sold[root] += sell
        if not draws:
            return
        paid, month = self.paid[root], self.paid[_month_of(event.occurred_at)]
        over = sum(paid.values()) - max(self.sold[root], 0)
        if sell > 0:
            want = min(sell, self.sold[root] - sum(paid.values()))
            self._pay(_month_of(event.occurred_at), [paid, month], want, event.occurred_at)
        elif over > 0:
            self._give_back(_month_of(event.occurred_at), [paid, month], over)

    def close(self, bill: Bill) -> None:
        """No more was paid for the month than it comes to; what is beside the list prices is paid
        by what is left, as if it happened in the month's last moment."""
        month = self.paid[bill.month]
        room = max(bill.total, 0) - sum(month.values())
        if room < 0:
            self._give_back(bill.month, [month], -room)
        elif bill.beside > 0:
            self._pay(bill.month, [month], min(room, bill.beside), bill.last_ns)

    def invoice(self, month: str) -> None:
        """Its invoice shows what was paid of it and of the months before, less what those say."""
        found: dict[str, int] = defaultdict(int)
        for earlier, shown in self.shown.items():
            for name, amount in shown.items() if earlier <= month else ():
                found[name] += amount
        for said in self.invoices.values():
            for name, amount in said.items():
                found[name] -= amount
        self.invoices[month] = {name: amount for name, amount in found.items() if amount}

    def _pay(self, month: str, paid: list[dict[str, int]], want: int, time_ns: int) -> None:
        for pot in self.in_order():
            given = pot.given
            if time_ns < given.since_ns or (given.until_ns and time_ns >= given.until_ns):
                continue
            part = max(min(want, pot.left), 0)
            pot.left, pot.drawn, want = pot.left - part, pot.drawn + part, want - part
            for each in (*paid, self.shown[month]):
                each[given.name] = each.get(given.name, 0) + part

    def _give_back(self, month: str, paid: list[dict[str, int]], over: int) -> None:
        for pot in reversed(self.in_order()):
            # a close may have given back before what its event gives back now: never twice, and
            # never out of what is paid for other months
            part = min(over, pot.drawn, *(each.get(pot.given.name, 0) for each in paid))
            if part <= 0:
                continue
            debt = min(part, pot.owed)  # whoever owed it owes it no more
            pot.owed -= debt
            pot.left += part - debt
            pot.drawn -= part
            for each in paid:
                each[pot.given.name] = each.get(pot.given.name, 0) - part
            shown = self.shown[month]
            shown[pot.given.name] = shown.get(pot.given.name, 0) - part + debt
            over -= part

    def act(self, act: Act) -> None:
        """Something is done to one grant, or time is up for some."""
        if act.what == "expire":
            for pot in self.pots.values():
                end = pot.given.until_ns
                if end is not None and end + HOUR_NS <= act.settled_ns:
                    pot.expired, pot.left = pot.expired + pot.left, 0
            return
        assert act.given is not None
        if act.what == "grant":
            self.pots[act.given.name] = Pot(act.given, act.given.amount)
            return
        pot = self.pots[act.given.name]
        if act.what == "again":
            pot.asked -= act.given.again
            debt = min(act.given.again, pot.owed)
            pot.owed, pot.left = pot.owed - debt, pot.left + act.given.again - debt
            return
        rest = pot.left if act.what == "void" else act.given.part
        pot.asked += rest
        for name in ("left", "expired"):
            part = min(rest, getattr(pot, name))
            setattr(pot, name, getattr(pot, name) - part)
            rest -= part
        pot.owed += rest


def purse_of(
    tenant: str,
    events: Sequence[tuple[int, UsageEvent, int]],
    acts: Sequence[tuple[int, Act]],
    bills: Mapping[str, Sequence[Bill]],
) -> Purse:
    """A tenant's grants at the end.

    `events` are its events by place in the chain, with what each sells for; `acts` what was done to
    anybody's grants, each with the place up to which was drawn then; `bills` what the close of each
    month says. The first grant of all says where drawing begins.
    """
    purse, left = Purse(), list(events)
    began = min((at for at, act in acts if act.what == "grant"), default=None)
    mine = [(at, act) for at, act in acts if act.tenant in ("", tenant)]
    for through, act in [*mine, (2**63, None)]:
        while left and left[0][0] <= through:
            place, event, sell = left.pop(0)
            purse.use(event, sell, draws=began is not None and place > began)
        if act is None:
            continue
        if act.what != "close":
            purse.act(act)
        elif purse.pots:
            for bill in bills[act.month]:
                purse.close(bill)
            purse.invoice(act.month)
    return purse


def _month_of(time_ns: int) -> str:
    return datetime.fromtimestamp(time_ns // 10**9, UTC).strftime("%Y-%m")
