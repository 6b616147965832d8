"""`MemoryReplies`: replies of one process, for tests and for trying things out.

What the scripts of `metering.redis_replies` do, in Python: the same suite runs on both.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field

from metering import clock
from metering.replies import (
    CLAIM_MS,
    ENTRY_BYTES,
    Bounds,
    Claimed,
    ClaimState,
    Found,
    Kind,
    Reply,
    RequestClaim,
    Shelf,
    encode_reply,
)


@dataclass(slots=True)
class _Entry:
    until_ms: int
    since_ms: int
    size: int
    digest: str
    reply: Reply | None


@dataclass(slots=True)
class MemoryReplies:
    """Replies of one process, forgotten with it; the specification of the scripts."""

    now_ms: Callable[[], int] = clock.now_ms
    entries: dict[tuple[str, str, str], _Entry] = field(default_factory=dict)
    """By kind, head of the owner and name."""
    claims: dict[tuple[str, str], tuple[str, str, int]] = field(default_factory=dict)
    """By tenant and name: digest, token, and until when (Unix ms)."""

    async def find(self, shelf: Shelf, name: str) -> Found | None:
        """As `Replies.find`."""
        entry = self._entry(shelf, name)
        if entry is None or entry.reply is None:
            return None
        return Found(entry.reply, self.now_ms() - entry.since_ms)

    async def held(self, kind: Kind, shard: int) -> int:
        """As `Replies.held`; all is in the first shard."""
        if shard:
            return 0
        return sum(entry.size for (found, *_), entry in self.entries.items() if found == kind)

    async def keep(
        self, shelf: Shelf, name: str, reply: Reply, *, ttl_ms: int, bounds: Bounds
    ) -> int | None:
        """As `Replies.keep`."""
        return self._keep(shelf, name, ("", reply), ttl_ms=ttl_ms, bounds=bounds)

    async def claim(self, claim: RequestClaim) -> Claimed:
        """As `Replies.claim`."""
        key, now_ms = (claim.tenant, claim.name), self.now_ms()
        digest, token, until_ms = self.claims.get(key, ("", "", 0))
        if until_ms > now_ms and token != claim.token:
            is_same = digest == claim.digest
            return Claimed(ClaimState.BUSY if is_same else ClaimState.OTHER)
        entry = self._entry(claim.shelf, claim.name)
        if entry is not None and entry.digest != claim.digest:
            return Claimed(ClaimState.OTHER)
        if entry is not None:
            reply, age_ms = entry.reply, now_ms - entry.since_ms
            found = None if reply is None else Found(reply, age_ms)
            return Claimed(ClaimState.DONE, found)
        self.claims[key] = (claim.digest, claim.token, now_ms + CLAIM_MS)
        return Claimed(ClaimState.FREE)

    async def hold(self, claim: RequestClaim, *, ttl_ms: int = CLAIM_MS) -> bool:
        """As `Replies.hold`."""
        key, now_ms = (claim.tenant, claim.name), self.now_ms()
        _, token, until_ms = self.claims.get(key, ("", "", 0))
        if token != claim.token or until_ms <= now_ms:
            return False
        self.claims[key] = (claim.digest, claim.token, now_ms + ttl_ms)
        return True

    async def end(
        self, claim: RequestClaim, reply: Reply | None, *, ttl_ms: int, bounds: Bounds
    ) -> bool:
        """As `Replies.end`."""
        for each in (reply, None):
            stored = (claim.digest, each)
            kept = self._keep(claim.shelf, claim.name, stored, ttl_ms=ttl_ms, bounds=bounds)
            if kept is not None:
                await self.hold(claim, ttl_ms=0)
                return True
        return False

    def _entry(self, shelf: Shelf, name: str) -> _Entry | None:
        entry = self.entries.get((shelf.kind, shelf.head, name))
        return entry if entry is not None and entry.until_ms > self.now_ms() else None

    def _keep(
        self,
        shelf: Shelf,
        name: str,
        stored: tuple[str, Reply | None],
        *,
        ttl_ms: int,
        bounds: Bounds,
    ) -> int | None:
        digest, reply = stored
        size = len(encode_reply(reply, digest)) + ENTRY_BYTES
        if size > min(dataclasses.astuple(bounds)):
            return None
        now_ms = self.now_ms()
        self.entries.pop((shelf.kind, shelf.head, name), None)
        for key in [key for key, entry in self.entries.items() if entry.until_ms <= now_ms]:
            del self.entries[key]
        gone = 0
        for bound, head in ((bounds.owner, shelf.head), (bounds.shard, None)):
            while True:
                there = {
                    key: entry
                    for key, entry in self.entries.items()
                    if key[0] == shelf.kind and head in (None, key[1])
                }
                if sum(entry.size for entry in there.values()) + size <= bound:
                    break
                del self.entries[min(there, key=lambda key: there[key].until_ms)]
                gone += 1
        until_ms = now_ms + ttl_ms
        made = _Entry(until_ms, now_ms, size, digest, reply)
        self.entries[shelf.kind, shelf.head, name] = made
        return gone
