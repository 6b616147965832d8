"""Tells proxies which of their spooled records are in the ledger.

Rule: it may be late, for a proxy keeps what is not confirmed. What could not be said is owed, and
said with the next: nobody waits for the node of a Cluster that has the list. What was said is
looked at once more at the next upkeep: a proxy's records are in several shards, and whoever read
the ledger first may have been the last to speak.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from metering.settlement.common_keys import AwayError, CommonKeys
from metering.settlement.ledger.standing import confirmed_spool
from metering.settlement.ledger.store import Ledger
from metering.settlement.redis_stream import StreamReader


class Confirming:
    """For all lanes of a worker."""

    def __init__(self, ledger: Ledger, *, common: CommonKeys) -> None:
        self._ledger = ledger
        self._common = common
        self._is_owed = False
        self._said: dict[str, set[str]] = {}
        """By proxy, everything that it was told since that was last looked at."""

    async def confirm(self, reader: StreamReader, proxy_ids: Iterable[str] | None = None) -> None:
        """Publish what of the proxies' spools is in the ledger; without names, of all of them."""
        wanted = None if self._is_owed else proxy_ids
        confirmed = await asyncio.to_thread(confirmed_spool, self._ledger, wanted)
        try:
            await self._common.ask(lambda: reader.confirm(confirmed))
        except AwayError:
            self._is_owed = True
        else:
            self._is_owed = False
            for proxy_id, ranges in confirmed.items():
                self._said.setdefault(proxy_id, set()).add(ranges)

    async def say_what_is_owed(self, reader: StreamReader) -> None:
        """Say again what could not be said, and what was said before the ledger had all of it."""
        if self._is_owed:
            await self.confirm(reader)
            return
        said, self._said = self._said, {}
        if not said:
            return
        confirmed = await asyncio.to_thread(confirmed_spool, self._ledger, said)
        old = [name for name, ranges in confirmed.items() if said[name] != {ranges}]
        if old:
            await self.confirm(reader, old)
