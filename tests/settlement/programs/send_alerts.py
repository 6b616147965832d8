"""Sends what is due in a ledger to one webhook, once. Arguments: ledger URL, address, secret."""

from __future__ import annotations

import asyncio
import sys

import structlog

from metering.alert_sinks import SinkSettings
from metering.settlement.ledger.store import open_ledger
from metering.settlement.sending import Sender, open_outlets
from metering.settlement.watch import Unwatched


async def main(ledger_url: str, url: str, secret: str) -> None:
    log = structlog.get_logger()
    [outlet] = open_outlets([SinkSettings("webhook", url=url, secret=secret)], log)
    sender = Sender(
        open_ledger(ledger_url),
        outlet,
        among=[outlet.name],
        writing=asyncio.Lock(),
        log=log,
        told=Unwatched(),
    )
    await sender.once()


asyncio.run(main(*sys.argv[1:]))
