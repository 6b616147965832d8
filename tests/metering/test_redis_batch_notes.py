"""How long a note of a batch is kept, and what it takes of Redis' memory."""

from __future__ import annotations

from fixtures_ledger import make_event

from metering.batch_notes import DONE, NOTE_MS, open_note
from metering.events import encode
from metering.redis_batch_notes import RedisBatchNotes
from metering.redis_keys import RedisKeys
from metering.redis_link import RedisLink


async def test_a_note_ends_by_itself(redis_link: RedisLink, redis_keys: RedisKeys) -> None:
    """45 days after its last step, so that no tenant fills the caps' Redis."""
    notes = RedisBatchNotes(redis_link, redis_keys)

    await notes.swap("acme", "one/batch_1", was=b"", becomes=DONE)

    left_ms = await redis_link.call("PTTL", redis_keys.batch("acme", "one/batch_1"))
    assert NOTE_MS - 60_000 < left_ms <= NOTE_MS


async def test_a_note_is_small(redis_link: RedisLink, redis_keys: RedisKeys) -> None:
    """As docs/redis.md says: 2 KB while the batch is open, 200 bytes once it is booked."""
    notes, name = (
        RedisBatchNotes(redis_link, redis_keys),
        "openai/batch_67f7bfc50b288190893f242d9fa",
    )
    key, note = redis_keys.batch("acme", name), open_note(encode(make_event()))

    await notes.swap("acme", name, was=b"", becomes=note)
    while_open = await redis_link.call("MEMORY", "USAGE", key)
    await notes.swap("acme", name, was=note, becomes=DONE)

    assert while_open < 2_500
    assert await redis_link.call("MEMORY", "USAGE", key) < 250
