"""What `weir top` reads of Redis: the streams' tail, the fullest caps, upstreams, what was told.

Rules: nothing is written, no stream's group is joined, and nothing waits: each look is a few round
trips. The events of the last minute are read at the start, so that the first picture is whole;
what came since, at each look. Not the request path: this is somebody's terminal.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from metering.caps import Cap, Scope, ScopeKind
from metering.events import decode
from metering.live_rates import MINUTE_S, LiveRates
from metering.scope_reading import ScopeReading, read_scope
from metering.settlement.notes import read_note
from metering.tenant_caps import caps_under, with_balance
from metering.tenants import Tenant
from proxy.cli_limits import now_ms_of
from proxy.cli_top_tables import CapLook, Told, TopLook
from proxy.cli_upstreams import read_upstreams
from proxy.settings import Settings, redis_keys
from proxy.upstreams_report import upstreams_body

FIRST_MAX = 5_000
"""Events of a shard that are read at the start: decoding a minute of a busy machine takes long."""

_PAGE = 1_000
_PAGES_MAX = 20
"""A look reads no further than this in one shard; it goes on from there at the next."""

_NOTES = 8
_CAPS = 30
"""Tenants whose windows are read whole; what is known of the others says that they are emptier."""


class TopReader:
    """Looks again and again; keeps where it was in each stream. `client` is redis-py's."""

    def __init__(self, settings: Settings, client: Any) -> None:
        self._settings = settings
        self._client = client
        self._keys = redis_keys(settings)
        self._rates = LiveRates()
        self._after: dict[int, str] = {}
        self._whole_since_ms = 0
        self._unreadable = 0

    async def look(self) -> TopLook:
        """Everything at this moment."""
        now_ms = await now_ms_of(self._client)
        if self._after:
            await self._read_on()
        else:
            await self._begin(now_ms)
        tick = self._rates.tick(now_ms)
        upstreams = upstreams_body(await read_upstreams(self._settings, self._client))
        return TopLook(
            tick=tick,
            in_flight=await self._in_flight(now_ms),
            caps=await self._caps(now_ms, {each.name for each in tick.tenants}),
            upstreams=upstreams["upstreams"],
            processes=upstreams["processes"],
            told=await self._told(),
            standing=await self._standing(),
            whole_since_ms=self._whole_since_ms,
            unreadable=self._unreadable,
        )

    async def _begin(self, now_ms: int) -> None:
        """The last minute of every shard, the newest of it where there is too much."""
        since_ms = now_ms - MINUTE_S * 1000
        for shard in range(self._keys.shards):
            found: Any = await self._client.xrevrange(
                self._keys.stream(shard), min=f"{since_ms}-0", count=FIRST_MAX
            )
            self._after[shard] = found[0][0].decode() if found else f"{since_ms}-0"
            if len(found) == FIRST_MAX:
                self._whole_since_ms = max(self._whole_since_ms, _at_ms(found[-1][0]))
            self._feed(reversed(found))

    async def _read_on(self) -> None:
        waiting = list(self._after)
        for _ in range(_PAGES_MAX):
            async with self._client.pipeline(transaction=False) as pipeline:
                for shard in waiting:
                    after = f"({self._after[shard]}"
                    pipeline.xrange(self._keys.stream(shard), min=after, count=_PAGE)
                pages = await pipeline.execute()
            for shard, page in zip(waiting, pages, strict=True):
                if page:
                    self._after[shard] = page[-1][0].decode()
                    self._feed(page)
            found = zip(waiting, pages, strict=True)
            waiting = [shard for shard, page in found if len(page) == _PAGE]
            if not waiting:
                return

    def _feed(self, entries: Iterable[tuple[bytes, Mapping[bytes, bytes]]]) -> None:
        for stream_id, fields in entries:
            try:
                self._rates.feed(decode(fields.get(b"e", b"")), _at_ms(stream_id))
            except ValueError:  # a newer version's, or a stranger's: the worker says more of it
                self._unreadable += 1

    async def _in_flight(self, now_ms: int) -> int:
        """Exchanges that hold room now; those whose time is over are not under way any more."""
        async with self._client.pipeline(transaction=False) as pipeline:
            for shard in range(self._keys.shards):
                pipeline.zcount(self._keys.open_holds(shard), f"({now_ms}", "+inf")
            return sum(await pipeline.execute())

    async def _caps(self, now_ms: int, active: set[str]) -> list[CapLook]:
        """The fullest money caps, one for each tenant, and those of whoever spends now."""
        tenants = await self._fullest(active)
        async with self._client.pipeline(transaction=False) as pipeline:
            for tenant in tenants:
                pipeline.hgetall(self._keys.scope(tenant.id, _TENANT))
                pipeline.zrange(self._keys.scope_holds(tenant.id, _TENANT), 0, -1, withscores=True)
                pipeline.hgetall(self._keys.state(tenant.id))
                pipeline.hget(self._keys.balances(self._keys.shard(tenant.id)), tenant.id)
            answers = await pipeline.execute()
        looks = []
        for place, tenant in enumerate(tenants):
            fields, expiries, flags, balance = answers[4 * place : 4 * place + 4]
            caps = _money_caps(tenant, None if balance is None else int(balance))
            if not caps:
                continue
            windows = list(dict.fromkeys(cap.window for cap in caps))
            reading = read_scope(windows, fields, dict(expiries), now_ms)
            looks.append(_looked(tenant, caps, reading, flags))
        looks.sort(key=lambda look: (-look.share, look.tenant))
        return looks

    async def _fullest(self, active: set[str]) -> list[Tenant]:
        """Whose windows to read: totals as they were written last are never too small, for what has
        slid out since only lessens them."""
        tenants = [each for each in self._settings.tenants.values() if _money_caps(each, 0)]
        async with self._client.pipeline(transaction=False) as pipeline:
            for tenant in tenants:
                labels = [f"{cap.window.label}:n" for cap in _money_caps(tenant, 0)]
                pipeline.hmget(self._keys.scope(tenant.id, _TENANT), ["held:n", *labels])
                pipeline.hget(self._keys.balances(self._keys.shard(tenant.id)), tenant.id)
            answers = await pipeline.execute()
        shares = []
        for place, tenant in enumerate(tenants):
            totals, balance = answers[2 * place : 2 * place + 2]
            caps = _money_caps(tenant, int(balance or 0))
            held, *spent = (max(0, int(value or 0)) for value in totals)
            used = [
                CapLook(tenant.id, *each, held)
                for each in zip(caps, _limits(caps), spent, strict=True)
            ]
            share = _tightest(used).share
            shares.append((tenant.id in active, share, tenant))
        shares.sort(key=lambda each: (-each[0], -each[1], each[2].id))
        first = {each[2].id: each[2] for each in shares[:_CAPS]}
        shares.sort(key=lambda each: (-each[1], each[2].id))
        return list((first | {each[2].id: each[2] for each in shares[:_CAPS]}).values())

    async def _told(self) -> list[Told]:
        """What caps have had to tell last, the newest first."""
        async with self._client.pipeline(transaction=False) as pipeline:
            for shard in range(self._keys.shards):
                pipeline.xrevrange(self._keys.notes(shard), count=_NOTES)
            answers: Sequence[Any] = await pipeline.execute()
        told = []
        for shard, entries in enumerate(answers):
            for stream_id, fields in entries:
                note = read_note(fields.get(b"n"), shard=shard, stream_id=stream_id.decode())
                if note is not None:
                    told.append(Told(_at_ms(stream_id), note.key.partition(":")[0], note.body))
        told.sort(key=lambda each: -each.at_ms)
        return told[:_NOTES]

    async def _standing(self) -> dict[str, int]:
        """Alerts that are not over: what is above its mark, and since when."""
        found = await self._client.hgetall(self._keys.crossings)
        return {
            name.decode(errors="replace"): int(since)
            for name, since in sorted(found.items())
            if since.isdigit()
        }


_TENANT = Scope(ScopeKind.TENANT)


def _money_caps(tenant: Tenant, balance_nano: int | None) -> list[Cap]:
    """What bounds the tenant's own money; a balance that nobody has published is no bound yet."""
    caps: Sequence[Cap] = caps_under(tenant, ())
    if balance_nano is not None:
        caps = with_balance(caps, balance_nano)
    return [cap for cap in caps if cap.limit.nano is not None]


def _looked(
    tenant: Tenant, caps: Sequence[Cap], reading: ScopeReading, flags: Mapping[bytes, bytes]
) -> CapLook:
    held, flag = reading.held.nano, _flag(flags)
    return _tightest(
        [
            CapLook(tenant.id, cap, limit, reading.windows[cap.window.label].spent.nano, held, flag)
            for cap, limit in zip(caps, _limits(caps), strict=True)
        ]
    )


def _tightest(looks: Sequence[CapLook]) -> CapLook:
    """The cap with the least left: of a balance, all that was ever credited says little."""
    return min(looks, key=lambda look: look.limit_nano - look.spent_nano - look.held_nano)


def _limits(caps: Sequence[Cap]) -> list[int]:
    return [cap.limit.nano or 0 for cap in caps]


def _flag(flags: Mapping[bytes, bytes]) -> str | None:
    for name in ("killed", "paused"):
        if flags.get(name.encode(), b"0") != b"0":
            return name
    return None


def _at_ms(stream_id: bytes) -> int:
    return int(stream_id.partition(b"-")[0])
