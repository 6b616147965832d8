"""The end of a month: is everything there, close it for everybody, issue the invoices.

One way for the job `close`, `weir plans close` and `weir invoices issue`, so that they agree on
who is billed, by what, and when. What stops one tenant does not stop the next; all of it may be
done again after it was broken off.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from redis.exceptions import RedisError
from sqlalchemy.exc import IntegrityError

from metering.settlement.invoices import period_bounds_ns
from metering.settlement.ledger import invoice_books as book
from metering.settlement.ledger.invoice_books import Issued
from metering.settlement.ledger.plan_books import (
    Closed,
    MonthOpenError,
    PlanEditedError,
    Terms,
    close_month,
)
from metering.settlement.ledger.standing import confirmed_spool
from metering.settlement.ledger.store import Ledger
from metering.settlement.month_gate import Seen, lacking
from metering.settlement.redis_client import connect
from metering.settlement.redis_stream import stream_standings
from proxy.data_dir import serving_pid
from proxy.embedded_redis import redis_url
from proxy.settings import Settings, redis_keys

LOOK_S = 15.0
"""For everything that is asked of Redis."""

AWAY = "Redis is away"

_Done = TypeVar("_Done")


@dataclass(frozen=True, slots=True)
class Ends:
    """By tenant, what was closed or issued, and why something was not."""

    closed: Mapping[str, Closed] = field(default_factory=dict)
    issued: Mapping[str, Issued] = field(default_factory=dict)
    failed: Mapping[str, str] = field(default_factory=dict)
    left: tuple[str, ...] = ()
    """Nobody came to these before it was over."""


def never() -> bool:
    """It is not over before everybody had their turn."""
    return False


def unsettled(settings: Settings, ledger: Ledger, period: str, now_ns: int) -> str | None:
    """Why the books may lack something of the month; None when they have all there is."""
    from proxy.cli_doctoring import read_spools  # noqa: PLC0415 - loads all that the doctor asks

    url = settings.redis.url
    address = redis_url(settings.data_dir) if url is None else url.reveal()
    is_served = serving_pid(settings.data_dir) is not None
    here = read_spools(settings.data_dir / "spool", confirmed_spool(ledger), is_served=is_served)
    try:
        seen = asyncio.run(_look(address, settings, {at.proxy_id: at.records for at in here}))
    except (RedisError, OSError, ValueError):  # ValueError: a path too long for a socket, or NUL
        return AWAY
    return "; ".join(lacking(seen, period_bounds_ns(period)[1], now_ns)) or None


async def _look(url: str, settings: Settings, here: Mapping[str, int]) -> Seen:
    keys = redis_keys(settings)
    async with connect(url) as client, asyncio.timeout(LOOK_S):
        standings = await stream_standings(client, keys)
        reports: Any = await client.hgetall(keys.proxies)
    return Seen(standings, {_text(name): body for name, body in reports.items()}, here)


def close_all(
    ledger: Ledger, settings: Settings, period: str, *, tenant: str | None = None, now_ns: int
) -> Ends:
    """Close the month of everybody who is owed an invoice for it, and issue none."""

    def close(name: str, terms: Terms) -> Closed | None:
        if not book.is_owed(ledger, name, period, terms):
            return None
        return close_month(ledger, name, period, terms, now_ns=now_ns)

    done, failed, left = _each(ledger, settings, period, tenant, do=close)
    return Ends(closed=done, failed=failed, left=left)


def issue_all(
    ledger: Ledger,
    settings: Settings,
    period: str,
    *,
    tenant: str | None = None,
    now_ns: int,
    is_over: Callable[[], bool] = never,
) -> Ends:
    """Close the month of everybody who is owed an invoice for it, and issue these."""

    def issue(name: str, terms: Terms) -> Issued | None:
        return book.issue(ledger, name, period, terms, settings.invoicing, now_ns=now_ns)

    done, failed, left = _each(ledger, settings, period, tenant, do=issue, is_over=is_over)
    return Ends(issued=done, failed=failed, left=left)


def _each(
    ledger: Ledger,
    settings: Settings,
    period: str,
    tenant: str | None,
    *,
    do: Callable[[str, Terms], _Done | None],
    is_over: Callable[[], bool] = never,
) -> tuple[dict[str, _Done], dict[str, str], tuple[str, ...]]:
    """LookupError for a named tenant that nobody has heard of."""
    everybody = book.tenants_to_bill(ledger, period, settings.assignments)
    if tenant is not None and tenant not in {*everybody, *settings.tenants}:
        raise LookupError(f"no tenant {tenant!r}, neither in the ledger nor in the file")
    names = everybody if tenant is None else [tenant]
    done: dict[str, _Done] = {}
    failed: dict[str, str] = {}
    for place, name in enumerate(names):
        if is_over():
            return done, failed, tuple(names[place:])
        try:
            made = do(name, Terms(settings.plans, settings.assignments.get(name, ())))
        except (MonthOpenError, PlanEditedError, LookupError) as error:
            failed[name] = str(error.args[0])
        except IntegrityError:
            failed[name] = "its number is that of another invoice: see invoices.number_format"
        else:
            if made is not None:
                done[name] = made
    return done, failed, ()


def _text(value: bytes | str) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value
