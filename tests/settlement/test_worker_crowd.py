"""Several workers at once, killed, stopped and woken again: each event is booked once."""

from __future__ import annotations

import asyncio
import random
import signal
from contextlib import closing

import pytest
from fixtures_ledger import make_event
from fixtures_settlement import Works
from sqlalchemy import func, select

from metering.events import UsageEvent
from metering.settlement.ledger import tables
from metering.settlement.ledger.store import open_ledger

ROUNDS = 24


async def _all_booked_once(works: Works, events: list[UsageEvent]) -> None:
    """F-21: one row per id, every chain whole, every total exact, nothing pending."""
    await works.until_settled(len(events), within_s=20)
    async with asyncio.timeout(8):
        while await works.pending():
            await asyncio.sleep(0.05)
    with closing(open_ledger(works.ledger_url)) as ledger, ledger.read() as connection:
        event = tables.usage_event.c
        query = select(func.count(), func.sum(event.sell_nano), func.count(event.shard.distinct()))
        count, sell_nano, shards = connection.execute(query).one()
        places = select(event.shard, event.seq).distinct().subquery()
        distinct = connection.execute(select(func.count()).select_from(places)).scalar_one()
    assert (count, distinct) == (len(events), len(events))
    assert int(sell_nano) == sum(each.admission_nano for each in events)
    assert shards > 8
    assert works.findings() == []
    async with asyncio.timeout(8):
        while await asyncio.to_thread(_summed, works) < len(events):
            await asyncio.sleep(0.05)
    with closing(open_ledger(works.ledger_url)) as ledger, ledger.read() as connection:
        sums = select(func.sum(tables.rollup.c.sell_nano), func.sum(tables.rollup.c.cost_nano))
        assert {int(each) for each in connection.execute(sums).one()} == {int(sell_nano)}


def _summed(works: Works) -> int:
    """Up to how many events the rollups go."""
    with closing(open_ledger(works.ledger_url)) as ledger, ledger.read() as connection:
        query = select(func.coalesce(func.sum(tables.rollup_watermark.c.seq), 0))
        return int(connection.execute(query).scalar_one())


@pytest.mark.slow(40)
@pytest.mark.timeout(40)
@pytest.mark.parametrize("names", [("a", "b"), ("a", "b", "c", "c")], ids=["two", "four"])
async def test_workers_die_and_come_back(works: Works, names: tuple[str, ...]) -> None:
    """F-03, F-21: kill -9 of any, a zombie beyond claim_idle, and (of four) two of one name."""
    chance = random.Random(len(names))
    events = [
        make_event(tenant=f"t{n % 40}", units={"output_text": n}) for n in range(ROUNDS * 150)
    ]
    zombie, *others = names
    with works.stable(claim_idle_ms=300) as stable:
        for name in names:
            stable.start(name)
        for number in range(ROUNDS):
            await works.commit(events[number * 150 : (number + 1) * 150])
            await asyncio.sleep(chance.uniform(0.01, 0.08))
            if number == 6:
                stable.send(zombie, signal.SIGSTOP)
            elif number == 18:
                stable.send(zombie, signal.SIGCONT)
            elif number % 4 == 1:
                name = chance.choice(others)
                stable.send(name, signal.SIGKILL)
                stable.start(name)

        await _all_booked_once(works, events)
