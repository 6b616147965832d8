"""What an owner's entry takes of Redis' memory."""

from __future__ import annotations

from metering.redis_keys import RedisKeys
from metering.redis_link import RedisLink
from metering.redis_owners import RedisOwners


async def test_a_thousand_objects_are_small(redis_link: RedisLink, redis_keys: RedisKeys) -> None:
    """As many as a tenant may keep take a few MB, as docs/passthrough.md says."""
    owners = RedisOwners(redis_link, redis_keys)
    names = [f"openai/file-{n:024d}" for n in range(1_000)]

    await owners.note("acme", names, is_passing=False)

    size = await redis_link.call("MEMORY", "USAGE", redis_keys.owned("acme"), "SAMPLES", 0)
    assert size / 1_000 < 200
