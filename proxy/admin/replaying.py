"""Dead letters sent into the ledger once more, for `weir dead replay` and for the admin API."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from metering.redis_keys import RedisKeys
from metering.settlement.ledger.dead_letters import DeadLetter
from metering.settlement.ledger.store import Ledger
from metering.settlement.replay import Replay, ReplayRefusedError, replay


async def replay_letters(
    ledger: Ledger, client: Any, keys: RedisKeys, letters: Sequence[DeadLetter], request: Replay
) -> list[dict[str, Any]]:
    """What became of each; nothing is booked twice."""
    results = []
    for letter in letters:
        outcome, because = "refused", None
        try:
            outcome = await replay(ledger, client, keys, letter, request)
            if letter.outcome is not None:
                because = f"resolved before, by {letter.resolved_by}"
        except ReplayRefusedError as error:
            because = str(error)
        results.append({"id": letter.id, "outcome": outcome, "because": because})
    return results
