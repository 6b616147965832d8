"""What a world comes to, computed apart from ours, whatever became of it on the way."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta

from metering.events import RECOVERED, Kind, UsageEvent
from metering.ids import derived_id
from metering.settlement.rerating import adjustment_id
from simulation.grants import HOUR_NS
from simulation.naive_credit import Bill
from simulation.naive_prices import Amount, event_amounts
from simulation.naive_rerates import Adjustment, adjust, begin
from simulation.naive_statements import Item, Sums, items_of, month_sums
from simulation.world import World

MONTHS = {"2026-11": date(2026, 11, 1), "2026-12": date(2026, 12, 1)}


class Expected:
    """What a world comes to, whatever became of it on the way."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.events = {each.event_id: each for each in world.events}
        true = {
            each.exchange_id
            for each in world.events
            if each.kind == Kind.USAGE and each.usage_source != RECOVERED
        }
        for each in world.events:
            if each.usage_source == RECOVERED and each.exchange_id in true and not each.corrects:
                back = _taken_back(each)
                self.events.setdefault(back.event_id, back)
        self.late_ids = self._late_ids()
        self.amounts = {name: self._amounts(event) for name, event in self.events.items()}
        self.adjustments: dict[str, Adjustment] = {}
        """By the id that the ledger gives them; they are among `events`, too."""
        self._rate_again()

    def _amounts(self, event: UsageEvent) -> dict[str, Amount]:
        prices = self.world.prices_at(event.occurred_at)
        return event_amounts(event, prices.of(event.model_upstream))

    def _late_ids(self) -> set[str]:
        """Events that came after November was closed, what the ledger made of them included."""
        late = {each.event_id for each in self.world.late}
        return late | {name for name, event in self.events.items() if event.corrects in late}

    def _rate_again(self) -> None:
        """Add what the world's ratings again make of its events, each when it was done."""
        rated = {name: begin(event, self.amounts[name]) for name, event in self.events.items()}
        for asked in self.world.reratings:
            is_late = asked.stage != "before"
            for name, each in rated.items():
                if asked.stage != "after" and name in self.late_ids:
                    continue  # not there yet
                if (made := adjust(each, asked)) is None:
                    continue
                made_id = adjustment_id(name, each.event.occurred_at, made.number)
                self.adjustments[made_id] = made
                self.events[made_id] = _adjusting(made, made_id)
                self.amounts[made_id] = dict(made.amounts)
                if is_late:
                    self.late_ids.add(made_id)

    def sums(self, tenant: str, month: str, *, with_late: bool) -> Sums:
        """A tenant's month by the naive computation."""
        assignments = self.world.assignments[tenant]
        items = self._items(tenant, with_late=with_late)
        return month_sums(MONTHS[month], self.world.plans, assignments, items)

    def _items(self, tenant: str, *, with_late: bool) -> list[Item]:
        return [
            item
            for name, event in self.events.items()
            if event.tenant == tenant and event.billable
            if with_late or name not in self.late_ids
            for item in items_of(event, self.amounts[name])
        ]

    def paid_with(self, event: UsageEvent) -> UsageEvent:
        """The event as it is paid for: an adjustment together with what its event is of."""
        if (made := self.adjustments.get(event.event_id)) is None:
            return event
        return replace(event, corrects=made.event.corrects or made.event.event_id)

    def bills(self, tenant: str) -> dict[str, list[Bill]]:
        """What each close says: of its own month, and before it of those that changed since."""

        def bill(month: str, *, with_late: bool) -> Bill:
            total = sum(self.sums(tenant, month, with_late=with_late).values())
            items = self._items(tenant, with_late=with_late)
            listed = sum(each.listed for each in items if f"{each.day:%Y-%m}" == month)
            after = (MONTHS[month] + timedelta(days=31)).replace(day=1)
            last_ns = (after - date(1970, 1, 1)).days * 24 * HOUR_NS - 1
            return Bill(month, last_ns, total, total - listed)

        first, again = (bill("2026-11", with_late=late) for late in (False, True))
        more = replace(again, beside=again.beside - first.beside)
        return {"2026-11": [first], "2026-12": [more, bill("2026-12", with_late=True)]}


def _adjusting(made: Adjustment, made_id: str) -> UsageEvent:
    """An adjustment as an event: where its event stands, with no units, for nothing by itself."""
    return replace(
        made.event,
        event_id=made_id,
        kind=Kind.ADJUSTMENT,
        corrects=None,
        units={},
        admission_nano=0,
        cost_nano=0,
        usage_source="provider",
        cost_version=made.cost_version,
        sell_version=made.sell_version,
    )


def _taken_back(event: UsageEvent) -> UsageEvent:
    """The correction that the ledger makes of a recovered event whose true one came."""
    return replace(
        event,
        event_id=derived_id(event.event_id, "superseded"),
        kind=Kind.CORRECTION,
        corrects=event.event_id,
        correction_reason="superseded",
        units={unit: -n for unit, n in event.units.items()},
        counted={},
        admission_nano=-event.admission_nano,
        cost_nano=-event.cost_nano,
    )
