"""Meter calls that do not pass the proxy: here a model in the same process, a word at a time.

    weir serve                                            # has a Redis, and settles what is metered
    python examples/meter_any_call.py --redis "unix://$PWD/.weir/redis.sock"

It prints what it counted; `weir usage --tenant acme` shows the same a moment later. The socket is
in the `data_dir` of the proxies; with a Redis of your own it is the URL of `redis.url`.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path

from metering.caps import CapsUnavailableError
from metering.library import CallRefusedError, Metering, NameInUseError, meter
from metering.money import rate_pico_per_mtok, usd_to_nano
from metering.prices import PriceBook, PriceRule
from metering.tenant_caps import Labels
from metering.tenants import SpendLimits, Tenant

PRICES = PriceBook(
    (
        PriceRule(
            model="parrot",
            input_rate_pico=rate_pico_per_mtok(Decimal("1.00")),
            output_rate_pico=rate_pico_per_mtok(Decimal("4.00")),
        ),
    )
)
ACME = Tenant("acme", "Acme", SpendLimits(daily_cap_nano=usd_to_nano(Decimal("0.01"))))


async def parrot(prompt: str) -> AsyncIterator[str]:
    """Stands for a model: says again what it was told, a word at a time."""
    for word in prompt.split():
        await asyncio.sleep(0)
        yield f"{word} "


async def ask(metering: Metering, prompt: str) -> None:
    """One metered call; the cap is checked before it, and what it used is recorded after it."""
    async with meter(
        metering,
        tenant=ACME,
        model="parrot",
        prompt=prompt,
        max_output_tokens=200,
        labels=Labels(feature="demo", run="example-1"),
    ) as call:
        call.sent()
        async for piece in parrot(prompt):
            call.feed(piece)
    print(f"metered: {call.facts.input_tokens} in, {call.output_tokens} out")


async def main(redis_url: str, data_dir: Path, calls: int) -> int:
    """Ask until the calls are over, or the cap of a cent a day is."""
    try:
        opened = Metering.open(redis_url, name="example", data_dir=data_dir, prices=PRICES)
        async with opened as metering:
            for number in range(calls):
                await ask(metering, f"call number {number} of a parrot that repeats every word")
    except CallRefusedError as refused:
        print(refused)
        return 2
    except NameInUseError as taken:
        print(taken, file=sys.stderr)
        return 1
    except CapsUnavailableError as away:
        print(f"Redis: {away}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--redis", required=True, help="URL of the proxies' Redis")
    parser.add_argument("--data-dir", type=Path, default=Path(".weir-example"))
    parser.add_argument("--calls", type=int, default=3)
    given = parser.parse_args()
    sys.exit(asyncio.run(main(given.redis, given.data_dir, given.calls)))
