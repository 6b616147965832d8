"""`RedisReplies`: replies and claims in Redis, where every proxy sees them. Keys and arguments."""

from __future__ import annotations

from metering.redis_keys import RedisKeys
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
    decode_reply,
    encode_reply,
)
from metering.scripts import ScriptRunner, load_script


class RedisReplies:
    """Replies of all proxies; as `metering.replies` says, in the slot of their owner."""

    def __init__(self, runner: ScriptRunner, keys: RedisKeys) -> None:
        self._runner, self._keys = runner, keys
        self._find = load_script("find_reply")
        self._keep = load_script("keep_reply")
        self._claim = load_script("claim_request")
        self._hold = load_script("hold_claim")

    async def find(self, shelf: Shelf, name: str) -> Found | None:
        """As `Replies.find`; what a newer version has kept is not there for us."""
        key = self._keys.shelf(shelf.owner, shelf.kind)
        reply = await self._runner.eval(self._find, [key], [f"{shelf.head}/{name}"])
        return _found(*reply) if reply else None

    async def held(self, kind: Kind, shard: int) -> int:
        """As `Replies.held`."""
        sizes = self._keys.sizes(shard, kind)
        return int(await self._runner.call("HGET", sizes, "=") or 0)

    async def keep(
        self, shelf: Shelf, name: str, reply: Reply, *, ttl_ms: int, bounds: Bounds
    ) -> int | None:
        """As `Replies.keep`."""
        return await self._put(shelf, name, encode_reply(reply), ttl_ms, bounds)

    async def claim(self, claim: RequestClaim) -> Claimed:
        """As `Replies.claim`."""
        shelf = claim.shelf
        state, *rest = await self._runner.eval(
            self._claim,
            [
                self._keys.request(claim.tenant, claim.name),
                self._keys.shelf(claim.tenant, shelf.kind),
            ],
            [f"{shelf.head}/{claim.name}", claim.digest, claim.token, str(CLAIM_MS)],
        )
        known = ClaimState(state.decode())
        return Claimed(known, _found(*rest) if rest else None)

    async def hold(self, claim: RequestClaim, *, ttl_ms: int = CLAIM_MS) -> bool:
        """As `Replies.hold`."""
        key = self._keys.request(claim.tenant, claim.name)
        args = [f"{claim.digest} {claim.token}", str(ttl_ms)]
        return bool(await self._runner.eval(self._hold, [key], args))

    async def end(
        self, claim: RequestClaim, reply: Reply | None, *, ttl_ms: int, bounds: Bounds
    ) -> bool:
        """As `Replies.end`."""
        for each in (reply, None):
            stored = encode_reply(each, claim.digest)
            if await self._put(claim.shelf, claim.name, stored, ttl_ms, bounds) is not None:
                await self.hold(claim, ttl_ms=0)
                return True
        return False

    async def _put(
        self, shelf: Shelf, name: str, stored: bytes, ttl_ms: int, bounds: Bounds
    ) -> int | None:
        if len(stored) + ENTRY_BYTES > bounds.entry:
            return None  # too large for Redis to be asked
        key = self._keys.shelf(shelf.owner, shelf.kind)
        gone = await self._runner.eval(
            self._keep,
            [key, f"{key}:sizes", f"{key}:ends", f"{key}:ends:{shelf.head}"],
            [
                shelf.head,
                f"{shelf.head}/{name}",
                stored,
                str(ttl_ms),
                str(bounds.shard),
                str(bounds.owner),
                str(bounds.entry),
                str(ENTRY_BYTES),
            ],
        )
        return None if gone < 0 else int(gone)


def _found(age_ms: bytes, stored: bytes) -> Found | None:
    try:
        _, reply = decode_reply(stored)
    except ValueError:
        return None
    return None if reply is None else Found(reply, int(age_ms))
