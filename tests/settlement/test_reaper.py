"""The reaper over a real Redis: who is recovered, when, as what, and that it is booked once."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from fixtures_ledger import BOOK, book, make_event
from fixtures_redis import RedisServer
from redis.asyncio import Redis

from metering.caps import ROLLING_DAY, Candidate, Cap, Hold, Limit, Scope, ScopeKind, Vector
from metering.clock import now_ms, now_ns
from metering.events import RECOVERED, Kind, Reason, UsageEvent, decode, encode, payload_hash
from metering.ids import uuid7
from metering.recovery import encode_checkpoint, encode_facts
from metering.redis_caps import RedisCaps
from metering.redis_events import mark_epoch
from metering.redis_keys import RedisKeys
from metering.redis_link import RedisLink
from metering.settlement.entries import Entry
from metering.settlement.ledger.queries import invoice_report, usage_report
from metering.settlement.ledger.rollups import update_rollups
from metering.settlement.ledger.store import Ledger
from metering.settlement.ledger.tables import rollup, rollup_latency
from metering.settlement.ledger.verify import verify
from metering.settlement.reaper import Reaper
from metering.settlement.redis_stream import connect
from metering.settlement.timing import Timing

CAP = Cap(Scope(ScopeKind.TENANT), ROLLING_DAY, Limit(nano=10**9))
AT_ONCE = Timing(recover_after_s=0.0)


@dataclass
class CollectingLog:
    said: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def warning(self, event: str, **values: Any) -> None:
        self.said.append((event, values))


@dataclass
class Site:
    """A proxy's caps and a worker's reaper over one Redis."""

    caps: RedisCaps
    link: RedisLink
    redis: Redis
    keys: RedisKeys
    reaper: Reaper
    log: CollectingLog

    async def lose(
        self, checkpoint: Sequence[UsageEvent] = (), *, facts: bytes | None = None
    ) -> Hold:
        """An exchange whose process died: its hold's time is over."""
        hold = Hold("acme", uuid7(now_ms(), now_ns().to_bytes(10, "big")), (CAP,))
        upstream = ("vendor", "openai", "gpt", "gpt-4o", "o200k_base")
        places = [(*upstream, BOOK.cost_version, BOOK.sell_version, 500, 2_500_000)]
        if facts is None:
            facts = encode_facts(
                {
                    "request_id": "req-1",
                    "project": "default",
                    "api_key_id": "k1",
                    "occurred_at": now_ns(),
                    "model_requested": "gpt",
                    "user": "ann",
                },
                places,
            )
        candidate = Candidate("openai/gpt-4o", Vector(100, 10, 1))
        await self.caps.reserve(hold, [candidate], owner="p-0", ttl_ms=60_000, facts=facts)
        if checkpoint:
            noted = encode_checkpoint(
                Vector(sum(one.admission_nano for one in checkpoint), 700, 1),
                [encode(one) for one in checkpoint],
            )
            await self.caps.renew(hold, ttl_ms=60_000, checkpoint=noted)
        await self.expire(hold)
        return hold

    async def expire(self, hold: Hold) -> None:
        """Let its time be over, as it would be minutes later."""
        records = self.keys.holds(hold.tenant)
        record = await self.link.call("HGET", records, hold.exchange_id)
        head, _, tail = record.partition(b'"expires_ms":"')
        changed = head + b'"expires_ms":"1"' + tail.partition(b'"')[2]
        await self.link.call("HSET", records, hold.exchange_id, changed)
        index = self.keys.open_holds(self.keys.shard(hold.tenant))
        await self.link.call("ZADD", index, 1, f"{hold.tenant}/{hold.exchange_id}")

    async def turn(self, now_s: float = 0.0) -> int:
        return await self.reaper.turn(range(self.keys.shards), now_s=now_s)

    async def entries(self) -> list[Entry]:
        shard = self.keys.shard("acme")
        found = await self.link.call("XRANGE", self.keys.stream(shard), "-", "+")
        return [
            Entry(shard, stream_id.decode(), fields[1], fields[3].decode())
            for stream_id, fields in found
        ]

    async def events(self) -> list[UsageEvent]:
        return [decode(entry.body or b"") for entry in await self.entries()]


@pytest.fixture
async def site(
    redis_server: RedisServer, redis_link: RedisLink, redis_keys: RedisKeys
) -> AsyncIterator[Site]:
    client = connect(f"unix://{redis_server.path}")
    for shard in range(redis_keys.shards):
        await mark_epoch(redis_link, redis_keys, shard, now_ms=1)
    log = CollectingLog()
    reaper = Reaper(client, redis_keys, timing=AT_ONCE, log=log)
    yield Site(RedisCaps(redis_link, redis_keys), redis_link, client, redis_keys, reaper, log)
    await client.aclose()


def checkpointed(**changes: Any) -> UsageEvent:
    return make_event(usage_source=RECOVERED, reason_code=Reason.PARTIAL, **changes)


async def test_what_was_counted_is_billed(site: Site) -> None:
    """F-01: the last checkpoint's events, to the byte, and its amounts in the window."""
    event = checkpointed()
    hold = await site.lose([event])

    recovered = await site.turn()
    again = await site.turn()

    assert (recovered, again) == (1, 0)
    [entry] = await site.entries()
    assert (entry.body, entry.digest) == (encode(event), payload_hash(encode(event)))
    after = await site.caps.commit(Hold("acme", uuid7(now_ms(), bytes(10)), (CAP,)), Vector(), [])
    assert after.states[0].spent == Vector(event.admission_nano, 700, 1)
    assert after.states[0].held == Vector()
    [(name, said)] = site.log.said
    assert (name, said["exchange_id"]) == ("exchange_recovered", hold.exchange_id)


async def test_without_a_checkpoint_the_input_is_our_cost(site: Site, ledger: Ledger) -> None:
    """F-01: killed before anything was counted; the tenant pays nothing for it."""
    hold = await site.lose()

    await site.turn()

    [event] = await site.events()
    assert (event.billable, event.reason_code) == (False, Reason.RECOVERED_UNCONFIRMED)
    assert (event.units, event.cost_nano, event.admission_nano) == (
        {"input_uncached": 500},
        2_500_000,
        0,
    )
    assert (event.exchange_id, event.user, event.proxy_id) == (hold.exchange_id, "ann", "p-0")
    assert (event.usage_source, event.model_upstream) == (RECOVERED, "gpt-4o")
    report = book(ledger, await site.entries())
    assert (report.settled, report.cost_nano, report.differences) == (1, 2_500_000, ())


async def test_recovered_twice_it_is_the_same_event(site: Site, ledger: Ledger) -> None:
    """A Redis that lost its last second recovers again: the ledger absorbs the repeat."""
    hold = await site.lose()
    records = site.keys.holds("acme")
    before = await site.link.call("HGETALL", records)
    await site.turn()
    await site.link.call("HSET", records, *before)
    index = site.keys.open_holds(site.keys.shard("acme"))
    await site.link.call("ZADD", index, 1, f"acme/{hold.exchange_id}")

    await site.turn()

    report = book(ledger, await site.entries())
    assert (report.settled, report.repeats, report.conflicts) == (1, 1, 0)


async def test_a_commit_that_comes_after_all_leaves_the_truth_in_the_books(
    site: Site, ledger: Ledger
) -> None:
    """Recovered, reversed, true: usage, invoice, rollups, balances and the chain all agree."""
    first = checkpointed(attempt=1)
    second = checkpointed(
        attempt=2,
        units={"output_text": 90},
        model_upstream="unpriced",
        model_requested="x",
        exchange_id=first.exchange_id,
    )
    hold = await site.lose([first, second])
    await site.turn()
    true = make_event(exchange_id=first.exchange_id, attempt=1, units={"input_uncached": 500})
    await site.caps.commit(hold, Vector(true.admission_nano, 500, 1), [encode(true)])

    entries = await site.entries()
    reports = [book(ledger, entries[:2]), book(ledger, entries[2:])]
    update_rollups(ledger)

    events = await site.events()
    assert [event.kind for event in events] == [Kind.USAGE] * 2 + [Kind.CORRECTION] * 2 + [
        Kind.USAGE
    ]
    assert [event.corrects for event in events[2:4]] == [event.event_id for event in events[:2]]
    assert {event.correction_reason for event in events[2:4]} == {"superseded"}
    assert [report.settled for report in reports] == [2, 3]
    assert not any(report.malformed or report.differences for report in reports)
    assert verify(ledger) == []
    usage = usage_report(ledger, "acme")
    assert usage is not None
    assert usage["totals"]["units"] == {"input_uncached": 500, "output_text": 0}
    assert (usage["totals"]["requests"], usage["totals"]["unpriced"]) == (1, 0)
    assert usage["totals"]["admission_nano"] == true.admission_nano
    invoice = invoice_report(ledger, "acme", "2026-11")
    assert invoice is not None
    assert invoice.invoice["total_nano"] == true.admission_nano
    assert {line["kind"] for line in invoice.invoice["lines"]} == {"usage", "adjustment"}
    assert invoice.unpriced == 0
    with ledger.read() as connection:
        attempts = [
            row.quantity for row in connection.execute(rollup.select()) if row.unit == "attempt"
        ]
        latencies = [row.attempts for row in connection.execute(rollup_latency.select())]
    assert (sum(attempts), sum(latencies)) == (1, 1)


@pytest.mark.parametrize("facts", [b"", b"{", b'{"v":2}', b'{"v":1,"labels":{},"upstreams":[]}'])
async def test_a_record_that_cannot_be_read_stops_no_other(site: Site, facts: bytes) -> None:
    """It is said, and put aside."""
    await site.lose(facts=facts)
    await site.lose()

    assert await site.turn() == 2
    assert len(await site.events()) == 1
    assert [name for name, _ in site.log.said].count("exchange_lost") == 1
    assert await site.turn() == 0


async def test_after_a_pause_proxies_speak_first(site: Site) -> None:
    """Whether we have just begun to look or Redis was away: the grace begins anew."""
    reaper = Reaper(site.redis, site.keys, timing=Timing(recover_after_s=10.0), log=site.log)
    hold = await site.lose([checkpointed()])
    shards = range(site.keys.shards)

    counts = [await reaper.turn(shards, now_s=now_s) for now_s in (0, 5, 9, 30, 35, 39, 40)]

    assert counts == [0, 0, 0, 0, 0, 0, 1]
    assert hold.exchange_id == site.log.said[0][1]["exchange_id"]
