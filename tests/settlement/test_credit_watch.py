"""The worker and credit: drawn as it settles, published with whole windows, safe at any kill."""

from __future__ import annotations

import asyncio
import signal
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest
from fixtures_ledger import NOVEMBER_NS, NOW_NS, make_event
from fixtures_worker import FAST, Site, start_worker
from sqlalchemy import select

from metering.background import spawn
from metering.caps import BALANCE
from metering.settlement.counting import TENANT, Rules
from metering.settlement.credit_levels import levels_of
from metering.settlement.credits import Grant
from metering.settlement.ledger import tables
from metering.settlement.ledger.credit_books import add_grant, balance_of
from metering.settlement.ledger.store import open_ledger
from metering.settlement.terms import Offer, Terms
from metering.tenants import BALANCE_RULE, Prepaid, SpendLimits, Tenant

QUICK = replace(FAST, upkeep_every_s=0.05)
PRICE = make_event().admission_nano
ACME = Tenant(
    "acme",
    "Acme",
    SpendLimits(),
    cap_rules=(BALANCE_RULE,),
    prepaid=Prepaid(hard_stop=True, low_balance_nano=(8 * PRICE,)),
)
TERMS = Terms(rules=Rules.of([ACME]), levels=levels_of([ACME]))


def grant(site: Site, name: str, prices: int) -> None:
    """Give the tenant credit for so many events."""
    with closing(open_ledger(site.ledger_url)) as ledger:
        ledger.migrate()
        made = Grant(name, "acme", "paid", 1, prices * PRICE, 0, None, "manual", "")
        add_grant(ledger, made, NOW_NS)


def left(site: Site) -> int:
    """For how many events there is credit."""
    with closing(open_ledger(site.ledger_url)) as ledger:
        return balance_of(ledger, "acme", NOVEMBER_NS).left_nano // PRICE


async def published(site: Site) -> Any:
    """What may be spent ever, in events."""
    found: Any = await site.redis.hget(site.keys.balances(site.keys.shard("acme")), "acme")
    return None if found is None else int(found) // PRICE


async def until_published(site: Site, events: int | None) -> None:
    """Wait until that is what may be spent."""
    async with asyncio.timeout(8):
        while await published(site) != events:
            await asyncio.sleep(0.02)


async def test_a_worker_draws_publishes_and_tells(site: Site) -> None:
    """What was spent before the first grant counts on both sides of the limit."""
    await site.publish_prices()
    offer = Offer(TERMS, site.log)
    await site.commit(make_event(), make_event())
    await site.work(offer=offer)
    assert await published(site) == 0

    grant(site, "g", 10)
    await site.work(offer=offer)
    assert await published(site) == 12
    await site.commit(*(make_event() for _ in range(3)))
    await site.work(offer=offer)

    assert (left(site), await published(site)) == (7, 12)
    told = [row.key for row in site.rows("outbox")]
    assert told == [f"low_balance:acme:{8 * PRICE}:1"]
    assert site.findings() == []


async def test_nothing_is_published_of_a_shard_that_is_to_be_rebuilt(site: Site) -> None:
    """A Redis that was emptied has its limit again when its windows are whole again."""
    await site.publish_prices()
    grant(site, "g", 10)
    await site.commit(make_event())
    await site.work(offer=Offer(TERMS, site.log))
    await site.redis.flushdb()
    await site.publish_prices()

    await site.work(offer=Offer(TERMS, site.log))

    assert await published(site) == 10
    assert site.findings() == []


async def test_what_was_spent_while_nothing_was_stopped_counts_when_it_is_again(site: Site) -> None:
    """Off and on again by two reloads of one worker: the window is built anew before the limit is
    told, or all that was spent between would be given away."""
    await site.publish_prices()
    grant(site, "g", 10)
    offer = Offer(TERMS, site.log)
    scope = site.keys.scope("acme", TENANT)
    running = spawn(site.work(offer=offer, timing=QUICK, drain=False), name="worker")
    await until_published(site, 10)

    offer.put(Terms())
    await until_published(site, None)
    await site.commit(*(make_event() for _ in range(4)))
    offer.put(TERMS)
    await until_published(site, 10)

    counted = await site.redis.hget(scope, f"{BALANCE.label}:n")
    site.stop.set()
    await running
    assert int(counted) == 4 * PRICE


@pytest.mark.slow(60)
@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    "step",
    [
        "credit_draws._counted",
        "credit_draws._count",
        "credit_draws._book",
        "credit_draws.write_entries",
        "credit_draws.post",
        "credit_draws.limits_of",
        "credit_levels.put_alerts",
    ],
)
async def test_a_worker_killed_while_drawing_draws_once(site: Site, step: str) -> None:
    """Killed right behind each step, then another worker: the sums are those of one that lived."""
    await site.publish_prices()
    grant(site, "g", 10)
    await site.commit(*(make_event() for _ in range(12)))
    module, name = step.split(".")
    before = f"""
import os, signal
from metering.settlement import counting, credit_levels, credit_watch
from metering.settlement.ledger import {module} as module
from metering.settlement import worker_upkeep
from metering.tenants import BALANCE_RULE
inner = module.{name}
def outer(*args, **more):
    inner(*args, **more)
    os.kill(os.getpid(), signal.SIGKILL)
module.{name} = outer
if hasattr(credit_watch, "{name}"):
    credit_watch.{name} = outer
made = credit_watch.CreditWatch.__init__
def init(self, *args, **more):
    rules = counting.Rules({{"acme": (BALANCE_RULE,)}})
    more["rules"] = rules
    made(self, *args, **more)
    self.adopt(rules, {{"acme": ({8 * PRICE},)}})
    self.adopt = lambda *_: None
credit_watch.CreditWatch.__init__ = init
build = worker_upkeep.build_new_windows
def all_windows(ledger, reader, redis, keys, rules):
    return build(ledger, reader, redis, keys, counting.Rules({{"acme": (BALANCE_RULE,)}}))
worker_upkeep.build_new_windows = all_windows
"""
    process = start_worker(site, "dying", before=before)
    code = await asyncio.to_thread(process.wait, 60)
    assert code == -signal.SIGKILL

    timing = FAST
    running = spawn(site.work(offer=Offer(TERMS, site.log), timing=timing), name="worker")
    await running

    assert left(site) == 0
    assert await published(site) == 12
    receivable = select(tables.balance.c.amount_nano).where(
        tables.balance.c.account == "receivable"
    )
    with closing(open_ledger(site.ledger_url)) as ledger, ledger.read() as connection:
        assert connection.execute(receivable).scalar() == 2 * PRICE
    assert len(site.rows("outbox")) == 2
    assert site.findings() == []
