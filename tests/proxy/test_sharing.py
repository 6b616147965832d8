"""The loop of what processes tell each other: it outlives what goes wrong."""

from __future__ import annotations

import asyncio

import pytest
from fixtures_door import CollectingLog

from metering.caps import CapsUnavailableError
from proxy.sharing import repeat


class Over(BaseException):
    """Ends the loop from within."""


async def test_a_turn_that_fails_is_not_the_last() -> None:
    """Redis away is said by others; anything else is logged, and the next turn comes."""
    log, errors = CollectingLog(), [CapsUnavailableError("away"), ValueError("odd"), None, Over()]

    async def turn() -> None:
        if (error := errors.pop(0)) is not None:
            raise error

    with pytest.raises(Over):
        await asyncio.wait_for(repeat(turn, 0.0, name="x", log=log), 5)

    assert errors == []
    assert log.lines == [("x_failed", {"cause": "ValueError('odd')"})]


async def test_the_first_turn_is_tried_often() -> None:
    """A fresh process does not wait a whole round for a Redis that is there a moment later."""
    turns = 0

    async def turn() -> None:
        nonlocal turns
        turns += 1
        raise CapsUnavailableError("away") if turns < 3 else Over

    with pytest.raises(Over):
        await asyncio.wait_for(repeat(turn, 3600.0, name="x", log=CollectingLog()), 5)
