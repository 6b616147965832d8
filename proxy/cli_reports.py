"""What `weir usage` and `weir invoice` answer: from the ledger, with what it may still lack.

A report says through when the ledger is settled and how many events wait in the streams; None
where Redis could not be asked (nothing serves this data directory now).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Any, TypeVar

from redis.exceptions import RedisError
from rich.console import RenderableType
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError

from metering.ids import is_id
from metering.redis_keys import RedisKeys
from metering.settlement.invoices import make_invoice
from metering.settlement.ledger.faults import LedgerDamagedError, safe_url
from metering.settlement.ledger.plan_books import (
    Terms,
    closed_statement,
    has_statements,
    knows_plans,
    statement_of,
)
from metering.settlement.ledger.queries import invoice_report, rfc3339
from metering.settlement.ledger.store import Ledger, open_ledger
from metering.settlement.ledger.unpriced import unpriced_in
from metering.settlement.ledger.usage_report import DIMENSIONS, NOTHING, SORTS, Asked, usage_report
from metering.settlement.redis_client import connect
from metering.settlement.redis_stream import stream_pending
from metering.settlement.statements import sha256_of, statement_bytes
from proxy import cli_plan_tables, cli_tables
from proxy.data_dir import is_served
from proxy.embedded_redis import redis_url
from proxy.settings import Settings

_Answer = TypeVar("_Answer")

Report = tuple[dict[str, Any], RenderableType]
"""The body for --json, and the table for people."""

_REDIS_TIMEOUT_S = 2.0


class NotFoundError(Exception):
    """There is no such tenant, or no ledger yet."""


class LedgerError(Exception):
    """The ledger cannot be read."""


def asked_usage(
    tenant: str | None, since_ns: int | None, *, by: str, sort: str, limit: int | None
) -> Asked:
    """What `weir usage` was asked for; ValueError for what there is not."""
    names = tuple(dict.fromkeys(name.strip() for name in by.split(",")))
    for name in names:
        if name not in DIMENSIONS:
            raise ValueError(f"--by: {name!r} is not among {', '.join(DIMENSIONS)}")
    if sort not in SORTS:
        raise ValueError(f"--sort: {sort!r} is not among {', '.join(SORTS)}")
    asked = Asked(tenant, since_ns, names, sort, limit)
    if asked.is_by_request and sort == "requests":
        raise ValueError("--sort requests: by request each row is one")
    return asked


def usage(settings: Settings, asked: Asked) -> Report:
    """What was used; NotFoundError for a tenant that neither file nor ledger knows."""
    _require_id(settings, asked.tenant)
    pending = pending_events(settings)  # before the ledger: what moves in between counts twice
    report = read_ledger(settings, lambda ledger: usage_report(ledger, asked, pending=pending))
    if report is None:
        _require_configured(settings, asked.tenant)
        none = {"rows": [], "totals": NOTHING, "more": 0}
        report = {"by": list(asked.by), **none, "settled_through": None, "pending": pending}
    return report, cli_tables.usage(report)


def invoice(settings: Settings, tenant: str, period: str) -> Report:
    """A month's invoice; empty for a tenant that used nothing, NotFoundError for an unknown one."""
    _require_id(settings, tenant)
    pending = pending_events(settings)
    found = read_ledger(
        settings, lambda ledger: invoice_report(ledger, tenant, period, pending=pending)
    )
    planned = statement(settings, tenant, period)
    if found is None:
        _require_configured(settings, tenant)
        body = make_invoice(tenant, period, ())
        body |= {"settled_through": None, "pending": pending, "unpriced": 0}
    else:
        body = dict(found.invoice)
        body |= {
            "settled_through": found.settled_through,
            "pending": found.pending,
            "unpriced": found.unpriced,
            "event_count": found.event_count,
            "event_digest": found.event_digest,
            "sha256": found.sha256,
        }
    if planned is not None:
        body |= {**planned, "settled_through": body["settled_through"], "pending": pending}
        return body, cli_plan_tables.statement(body)
    return body, cli_tables.invoice(body)


def statement(settings: Settings, tenant: str, period: str) -> dict[str, Any] | None:
    """What a month comes to by the tenant's plan, closed or as it stands; None without a plan."""
    assigned = settings.assignments.get(tenant, ())
    terms = Terms(settings.plans, assigned)

    def ask(ledger: Ledger) -> dict[str, Any] | None:
        if not knows_plans(ledger):
            return None
        closed = closed_statement(ledger, tenant, period)
        if closed is not None:
            closed_at = rfc3339(closed.closed_at)
            unpriced = unpriced_in(ledger, closed.body, terms)
            found = {"unpriced": unpriced, "sha256": closed.sha256, "closed_at": closed_at}
            return {**closed.body, **found}
        if not assigned and not has_statements(ledger, tenant):
            return None
        body = statement_of(ledger, tenant, period, terms).body()
        if not (any(term["plan"] for term in body["terms"]) or body["late"]):
            return None
        unpriced = unpriced_in(ledger, body, terms)
        sha256 = sha256_of(statement_bytes(body))
        return {**body, "unpriced": unpriced, "sha256": sha256, "closed_at": None}

    try:
        return read_ledger(settings, ask)
    except LookupError as error:
        raise LedgerError(str(error)) from None


def _require_id(settings: Settings, tenant: str | None) -> None:
    """What cannot be an id is no tenant's, and may be more than a database takes."""
    if tenant is not None and not is_id(tenant):
        _require_configured(settings, tenant)


def _require_configured(settings: Settings, tenant: str | None) -> None:
    if tenant is not None and tenant not in settings.tenants:
        raise NotFoundError(f"no tenant {tenant!r}, neither in the ledger nor in {settings.source}")


def read_ledger(settings: Settings, ask: Callable[[Ledger], _Answer | None]) -> _Answer | None:
    """What `ask` answers for the open ledger.

    None as well where there is none yet and somebody serves: nothing is settled, nothing is amiss.
    """
    try:
        url = make_url(settings.ledger_url)
    except (ArgumentError, ValueError):  # ValueError: what stands in the place of a port
        raise LedgerError("`ledger.url` is no SQLAlchemy URL") from None
    is_file = url.get_backend_name() == "sqlite" and url.database
    if is_file and not os.path.exists(url.database or ""):  # noqa: PTH110 - a name too long is False
        _require_served(settings, f"no ledger at {url.database} yet: `weir serve` makes it")
        return None
    safe = safe_url(url)
    try:
        ledger = open_ledger(settings.ledger_url)
        try:
            if ledger.revision() is None:
                _require_served(
                    settings, "the ledger is empty yet: `weir serve` or `weir worker` fills it"
                )
                return None
            return ask(ledger)
        finally:
            ledger.close()
    except LedgerDamagedError as error:
        raise LedgerError(f"cannot read the ledger {safe}, it is damaged: {error.how}") from error
    except SQLAlchemyError as error:
        cause = error.orig if isinstance(error, DBAPIError) else error  # without SQL and advice
        raise LedgerError(f"cannot read the ledger {safe}: {cause}") from error
    except ImportError as error:
        raise LedgerError(f"cannot read the ledger {safe}: {error}") from error


def _require_served(settings: Settings, message: str) -> None:
    """NotFoundError when nobody serves this data directory, so that nobody will settle."""
    if not is_served(settings.data_dir):
        raise NotFoundError(message)


def pending_events(settings: Settings) -> int | None:
    """Events in the streams that the ledger does not have yet; None when Redis is away."""
    keys = RedisKeys(settings.redis.prefix, settings.redis.shards, settings.metering.queue)
    url = settings.redis.url
    try:
        return asyncio.run(
            _ask(redis_url(settings.data_dir) if url is None else url.reveal(), keys)
        )
    except (RedisError, OSError, ValueError):  # ValueError: a path too long for a socket, or NUL
        return None


async def _ask(url: str, keys: RedisKeys) -> int:
    async with connect(url) as client, asyncio.timeout(_REDIS_TIMEOUT_S):
        return await stream_pending(client, keys)
