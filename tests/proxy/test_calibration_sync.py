"""What proxies learn of prompts, between processes: through a real Redis."""

from __future__ import annotations

from fixtures_door import CollectingLog

from metering.calibration import SAMPLES_MIN, Calibration
from metering.redis_keys import RedisKeys
from metering.redis_link import RedisLink
from proxy.calibration_sync import CalibrationSync


def one(link: RedisLink, keys: RedisKeys, *models: str) -> tuple[Calibration, CalibrationSync]:
    found = Calibration()
    made = CalibrationSync(found, link, keys, models=models or ("m",), log=CollectingLog())
    return found, made


async def test_what_two_have_seen_both_know(redis_link: RedisLink, redis_keys: RedisKeys) -> None:
    """Half of what is needed on either side is enough for both, and is added once."""
    (here, sync_here), (there, sync_there) = [one(redis_link, redis_keys) for _ in range(2)]
    for _ in range(SAMPLES_MIN // 2):
        here.observe("m", counted=1000, reported=1200)
        there.observe("m", counted=1000, reported=1200)
    assert here.scaled("m", 100) == 100

    for _ in range(2):
        await sync_here.turn()
        await sync_there.turn()

    assert here.samples("m") == there.samples("m") == SAMPLES_MIN
    assert here.scaled("m", 100) == there.scaled("m", 100) == 120


async def test_a_new_process_knows_what_was_learned(
    redis_link: RedisLink, redis_keys: RedisKeys
) -> None:
    """And nothing of models that are not in its configuration."""
    before, sync = one(redis_link, redis_keys, "m", "gone")
    for _ in range(SAMPLES_MIN):
        before.observe("m", counted=1000, reported=1500)
        before.observe("gone", counted=1000, reported=1500)
    await sync.turn()

    after, sync = one(redis_link, redis_keys)
    await sync.turn()

    assert after.scaled("m", 100) == 150
    assert after.samples("gone") == 0


async def test_what_cannot_be_told_is_told_later(
    redis_link: RedisLink, redis_keys: RedisKeys
) -> None:
    """Redis away for a turn: nothing is forgotten."""
    calibration, sync = one(redis_link, redis_keys)
    calibration.observe("m", counted=1000, reported=1100)
    taken = calibration.take()
    calibration.give_back(taken)

    await sync.turn()

    key = redis_keys.calibration(int((await redis_link.call("TIME"))[0]) // 86_400)
    assert await redis_link.call("HGET", key, "m|samples") == b"1"
    assert 0 < await redis_link.call("TTL", key) <= 3 * 86_400
