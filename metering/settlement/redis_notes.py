"""Reads the notes of the shards, and puts them into the outbox: each at least once, said once.

Rules: a note is acknowledged after its alert is on disk. All workers read under one name, so what
one was given and did not live to put away is read again by whoever comes next; should two read the
same, the key of the alert makes them one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from metering.clock import now_ns
from metering.redis_keys import RedisKeys
from metering.settlement.ledger.outbox import put_alerts
from metering.settlement.ledger.store import Ledger
from metering.settlement.notes import NoteAlert, read_note
from metering.settlement.watch import Log

GROUP = "notes"
_CONSUMER = "worker"
_PAGE = 200


class Notes:
    """Takes what the scripts have noted since the last time."""

    def __init__(
        self, ledger: Ledger, redis: Redis, keys: RedisKeys, *, writing: asyncio.Lock, log: Log
    ) -> None:
        self._ledger = ledger
        self._redis = redis
        self._keys = keys
        self._writing = writing
        self._log = log

    async def read(self, shards: Sequence[int]) -> int:
        """Put away all there is in these shards; how many notes these were."""
        async with self._redis.pipeline(transaction=False) as pipeline:
            for shard in shards:
                pipeline.exists(self._keys.notes(shard))
            there: list[Any] = await pipeline.execute()
        count = 0
        for shard, exists in zip(shards, there, strict=True):
            if not exists:
                continue
            name = self._keys.notes(shard)
            await self._ensure_group(name)
            for cursor in ("0", ">"):
                while page := await self._page(name, cursor):
                    await self._put_away(name, shard, page)
                    count += len(page)
        return count

    async def _page(self, name: str, cursor: str) -> list[tuple[str, bytes | None]]:
        answer: Any = await self._redis.xreadgroup(GROUP, _CONSUMER, {name: cursor}, count=_PAGE)
        return [
            (stream_id.decode(), fields.get(b"n", b"") if fields else None)
            for _, entries in answer
            for stream_id, fields in entries
        ]

    async def _put_away(
        self, name: str, shard: int, page: Sequence[tuple[str, bytes | None]]
    ) -> None:
        alerts: list[NoteAlert] = []
        for stream_id, raw in page:
            note = read_note(raw, shard=shard, stream_id=stream_id)
            if note is not None:
                alerts.append(note)
            elif raw is not None:  # else it was trimmed after it was given to somebody who died
                self._log.warning("note_not_read", shard=shard, stream_id=stream_id)
        if alerts:
            async with self._writing:
                await asyncio.to_thread(self._write, alerts)
        await self._redis.xack(name, GROUP, *(stream_id for stream_id, _ in page))

    def _write(self, alerts: Sequence[NoteAlert]) -> None:
        with self._ledger.write() as connection:
            put_alerts(connection, [(each.key, each.body) for each in alerts], now_ns())

    async def _ensure_group(self, name: str) -> None:
        try:
            await self._redis.xgroup_create(name, GROUP, id="0")
        except ResponseError as error:
            if not str(error).startswith("BUSYGROUP"):  # it is there already
                raise
