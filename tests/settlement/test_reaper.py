"""The reaper over a real Redis: who is recovered, when, as what, and that it is booked once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest
from fixtures_ledger import BOOK, book, make_event
from fixtures_redis import RedisServer
from redis.asyncio import Redis
from sqlalchemy import select

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
from metering.settlement.ledger.dead_letters import dead_letters
from metering.settlement.ledger.queries import invoice_report
from metering.settlement.ledger.rollups import update_rollups
from metering.settlement.ledger.store import Ledger
from metering.settlement.ledger.tables import outbox, rollup
from metering.settlement.ledger.usage_report import Asked, usage_report
from metering.settlement.ledger.verify import verify
from metering.settlement.reaper import Reaper
from metering.settlement.redis_client import connect
from metering.settlement.redis_stream import StreamReader
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
    reader: StreamReader
    ledger: Ledger
    reaper: Reaper
    log: CollectingLog

    async def lose(
        self,
        checkpoint: Sequence[UsageEvent] = (),
        *,
        facts: bytes | None = None,
        exchange_id: str | None = None,
    ) -> Hold:
        """An exchange whose process died: its hold's time is over."""
        made = uuid7(now_ms(), now_ns().to_bytes(10, "big"))
        hold = Hold("acme", exchange_id or made, (CAP,))
        upstream = ("vendor", "openai", "gpt", "gpt-4o", "o200k_base")
        places = [(*upstream, BOOK.cost_version, BOOK.sell_version, 500, 2_500_000)]
        if facts is None:
            facts = encode_facts(
                {
                    "request_id": "req-1",
                    "project": "default",
                    "api_key_id": "k1",
                    "occurred_at": checkpoint[0].occurred_at if checkpoint else now_ns(),
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

    async def expire(self, hold: Hold, *, at_ms: int = 1) -> None:
        """Let its time be over, as it would be minutes later."""
        records = self.keys.holds(hold.tenant)
        record = await self.link.call("HGET", records, hold.exchange_id)
        head, _, tail = record.partition(b'"expires_ms":"')
        changed = head + b'"expires_ms":"%d"' % at_ms + tail.partition(b'"')[2]
        await self.link.call("HSET", records, hold.exchange_id, changed)
        index = self.keys.open_holds(self.keys.shard(hold.tenant))
        await self.link.call("ZADD", index, at_ms, f"{hold.tenant}/{hold.exchange_id}")

    async def turn(self, now_s: float = 0.0) -> int:
        """What came into the streams is settled, then the reaper looks."""
        while entries := await self.reader.read_new(block_ms=1):
            await self.reader.acknowledge(entries)
        return await self.reaper.turn(self.reader, now_s=now_s)

    def new_reaper(self, timing: Timing) -> Reaper:
        lock = asyncio.Lock()
        return Reaper(self.ledger, self.redis, self.keys, timing=timing, writing=lock, log=self.log)

    def said(self, event: str) -> int:
        return [name for name, _ in self.log.said].count(event)

    async def left(self) -> list[bytes]:
        """The shard's index of records, and the fields of the tenant's."""
        index = self.keys.open_holds(self.keys.shard("acme"))
        return [
            *await self.link.call("ZRANGE", index, 0, -1),
            *await self.link.call("HKEYS", self.keys.holds("acme")),
        ]

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
    redis_server: RedisServer, redis_link: RedisLink, redis_keys: RedisKeys, ledger: Ledger
) -> AsyncIterator[Site]:
    client = connect(f"unix://{redis_server.path}")
    for shard in range(redis_keys.shards):
        await mark_epoch(redis_link, redis_keys, shard, now_ms=1)
    log = CollectingLog()
    reader = StreamReader(client, redis_keys, consumer="w", shards=range(redis_keys.shards))
    await reader.ensure_groups()
    caps, lock = RedisCaps(redis_link, redis_keys), asyncio.Lock()
    reaper = Reaper(ledger, client, redis_keys, timing=AT_ONCE, writing=lock, log=log)
    yield Site(caps, redis_link, client, redis_keys, reader, ledger, reaper, log)
    await client.aclose()


def alerts(ledger: Ledger) -> set[str]:
    with ledger.read() as connection:
        return set(connection.execute(select(outbox.c.key)).scalars())


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
    usage = usage_report(ledger, Asked("acme"))
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
        sums = connection.execute(rollup.select()).all()
        attempts = [row.quantity for row in sums if row.unit == "attempt"]
    assert sum(attempts) == 1


@pytest.mark.parametrize("facts", [b"", b"{", b'{"v":1,"labels":{},"upstreams":[]}'])
async def test_facts_that_cannot_be_read_stop_no_other(site: Site, facts: bytes) -> None:
    """They are a dead letter, with every byte that was kept."""
    hold = await site.lose(facts=facts)
    await site.lose()

    assert await site.turn() == 1
    assert len(await site.events()) == 1
    assert site.said("exchange_lost") == 1
    assert await site.turn() == 0
    [letter] = dead_letters(site.ledger)
    assert hold.exchange_id in letter.reason
    assert letter.raw.endswith(b"\n" + facts + b"\n")
    assert b'"state":"held"' in letter.raw
    assert f"dead_letter:{letter.shard}:{letter.stream_id}" in alerts(site.ledger)


async def test_facts_of_a_newer_version_wait_for_an_upgrade(site: Site) -> None:
    """As events do; then they are a dead letter, once."""
    hold = await site.lose(facts=b'{"v":2}')

    counts = [await site.turn(now_s) for now_s in (0, 0, 299)]
    waiting = await site.left()
    last = [await site.turn(now_s) for now_s in (300, 301)]

    assert counts + last == [0] * 5
    assert f"{hold.exchange_id}:facts".encode() in waiting
    assert (site.said("recovery_waits_for_schema"), site.said("exchange_lost")) == (1, 1)
    [letter] = dead_letters(site.ledger)
    assert b'{"v":2}' in letter.raw


@pytest.mark.parametrize("body", [b'{"schema":9}', b"no event"])
async def test_a_checkpoint_we_cannot_read_goes_where_its_events_are_judged(
    site: Site, body: bytes
) -> None:
    """Not a byte of it is lost: the stream has it, and its amounts are in the window."""
    hold = await site.lose()
    records = site.keys.holds("acme")
    noted = encode_checkpoint(Vector(7, 5, 1), [body])
    await site.link.call("HSET", records, f"{hold.exchange_id}:checkpoint", noted)

    assert await site.turn() == 1

    [entry] = await site.entries()
    assert (entry.body, entry.digest) == (body, payload_hash(body))
    report = book(site.ledger, [entry])
    assert (report.settled, report.malformed) == (0, 1)
    assert [letter.raw for letter in dead_letters(site.ledger)] == [body]
    window = await site.link.call("HGET", site.keys.scope("acme", CAP.scope), "24h:n")
    assert window == b"7"


@pytest.mark.parametrize(
    ("old", "new", "is_newer"),
    [
        (b'"tenant/', b'"team/', True),
        (b'"v":1', b'"v":3', True),
        (b'"owner"', b'"another"', False),
        (b"{", b"", False),
    ],
)
async def test_a_record_we_cannot_read_kills_nobody(
    site: Site, old: bytes, new: bytes, is_newer: bool
) -> None:
    """A kind of scope we do not know, a newer record, damage: kept whole, and the others go on."""
    hold = await site.lose()
    records = site.keys.holds("acme")
    record = await site.link.call("HGET", records, hold.exchange_id)
    changed = record.replace(b'["tenant ', b'["tenant/ ').replace(old, new, 1)
    assert changed != record
    await site.link.call("HSET", records, hold.exchange_id, changed)
    await site.lose()

    counts = [await site.turn(now_s) for now_s in (0, 299)]
    waiting = len(dead_letters(site.ledger))
    last = await site.turn(300)

    assert ([*counts, last], waiting) == ([1, 0, 0], 0 if is_newer else 1)
    [letter] = dead_letters(site.ledger)
    assert letter.raw.startswith(changed)
    assert hold.exchange_id not in str(await site.left())


async def test_what_the_ledger_has_is_not_recovered(site: Site) -> None:
    """F-05: Redis went back to before the commit, and the hold is there again."""
    true = make_event()
    hold = await site.lose([checkpointed()], exchange_id=true.exchange_id)
    book(site.ledger, [true])

    assert await site.turn() == 0

    assert await site.events() == []
    assert (site.said("exchange_already_booked"), site.said("exchange_recovered")) == (1, 0)
    again = await site.caps.commit(hold, Vector(true.admission_nano, 700, 1), [encode(true)])
    assert again.states[0].spent == Vector(true.admission_nano, 700, 1)
    assert again.states[0].held == Vector()
    assert book(site.ledger, await site.entries()).repeats == 1


async def test_what_was_told_by_facts_alone_is_asked_for_too(site: Site) -> None:
    hold = await site.lose()
    facts = await site.link.call("HGET", site.keys.holds("acme"), f"{hold.exchange_id}:facts")
    admitted_at = orjson.loads(facts)["labels"]["occurred_at"]
    book(site.ledger, [make_event(exchange_id=hold.exchange_id, occurred_at=admitted_at)])

    assert await site.turn() == 0
    assert await site.events() == []


async def test_nothing_is_recovered_while_its_true_event_may_lie_in_the_stream(site: Site) -> None:
    """What came before the hold was due is settled first."""
    await site.turn()
    body = encode(make_event())
    stream = site.keys.stream(site.keys.shard("acme"))
    await site.redis.xadd(stream, {"e": body, "h": payload_hash(body)})
    hold = await site.lose([checkpointed()])
    await site.expire(hold, at_ms=now_ms() + 5)
    await asyncio.sleep(0.02)

    early = await site.reaper.turn(site.reader, now_s=0.0)

    assert (early, await site.turn()) == (0, 1)


async def test_after_a_pause_proxies_speak_first(site: Site) -> None:
    """Whether we have just begun to look or Redis was away: the grace begins anew."""
    reaper = site.new_reaper(Timing(recover_after_s=10.0))
    hold = await site.lose([checkpointed()])

    counts = [await reaper.turn(site.reader, now_s=now_s) for now_s in (0, 5, 9, 30, 35, 39, 40)]

    assert counts == [0, 0, 0, 0, 0, 0, 1]
    assert hold.exchange_id == site.log.said[0][1]["exchange_id"]
