"""`RedisClaims`: claims in Redis, where every proxy sees them. Keys, arguments and answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from metering.claims import OPEN_MS, Claim, Claimed
from metering.redis_keys import RedisKeys
from metering.scripts import ScriptRunner, load_script

TOGETHER = 256
"""Claims per script: Redis does nothing else meanwhile, about half a millisecond."""


class RedisClaims:
    """Claims of all proxies; as `metering.claims` says."""

    def __init__(self, runner: ScriptRunner, keys: RedisKeys) -> None:
        self._runner = runner
        self._keys = keys
        self._claim = load_script("claim")
        self._keep = load_script("keep_claims")

    async def claim(self, tenant: str, claims: Sequence[Claim]) -> list[Claimed]:
        """As `Claims.claim`."""
        found: list[Claimed] = []
        for some in _some(claims):
            names = [self._keys.claim(tenant, claim.exchange_id) for claim in some]
            args = [str(OPEN_MS), *(claim.digest for claim in some)]
            reply = await self._runner.eval(self._claim, names, args)
            found += [Claimed(answer.decode()) for answer in reply]
        return found

    async def keep(self, tenant: str, claims: Sequence[Claim], *, keep_ms: int) -> None:
        """As `Claims.keep`."""
        for some in _some(claims):
            names = [self._keys.claim(tenant, claim.exchange_id) for claim in some]
            args = [str(keep_ms), *(claim.digest for claim in some)]
            await self._runner.eval(self._keep, names, args)


def _some(claims: Sequence[Claim]) -> Iterator[Sequence[Claim]]:
    for start in range(0, len(claims), TOGETHER):
        yield claims[start : start + TOGETHER]
