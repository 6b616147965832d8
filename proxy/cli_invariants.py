"""`weir verify`: the invariants of docs/reliability.md, checked against what is really there."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from redis.exceptions import RedisError
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text
from sqlalchemy.exc import SQLAlchemyError

from metering.settlement import verification
from metering.settlement.counting import Rules
from metering.settlement.invariants import NAMES, Check
from metering.settlement.ledger.store import open_ledger
from metering.settlement.redis_client import connect
from metering.settlement.verification import Journals
from proxy.embedded_redis import redis_url
from proxy.errors import ApiError
from proxy.settings import Settings, redis_keys


def documented_codes() -> frozenset[str]:
    """Every code that a refusal of ours can carry."""
    found: set[str] = set()
    kinds = [ApiError]
    while kinds:
        kind = kinds.pop()
        kinds += kind.__subclasses__()
        found |= {each for each in (kind.code, kind.type) if each}
    return frozenset(found)


class CannotVerifyError(Exception):
    """Redis or the ledger cannot be read; the message says which and why."""


def read_journals(
    upstream: Path | None, client: Path | None, samples: Path | None, overshoot_nano: int
) -> Journals:
    """What was written down outside, as far as it was named."""
    found = Journals() if samples is None else verification.read_samples(samples)
    if upstream is not None:
        found.calls = verification.read_upstream_journal(upstream)
    if client is not None:
        found.outcomes = verification.read_client_journal(client)
    found.documented = documented_codes()
    found.overshoot_nano = overshoot_nano
    return found


def run(settings: Settings, journals: Journals) -> list[Check]:
    """Every check against this installation; CannotVerifyError when it cannot be asked."""
    url = settings.redis.url
    address = redis_url(settings.data_dir) if url is None else url.reveal()
    try:
        ledger = open_ledger(settings.ledger_url)
    except (SQLAlchemyError, ImportError, ValueError) as error:
        raise CannotVerifyError(f"cannot open the ledger: {error}") from None
    try:
        return asyncio.run(_checks(address, settings, journals, ledger))
    except SQLAlchemyError as error:
        raise CannotVerifyError(
            f"cannot read the ledger: {getattr(error, 'orig', error)}"
        ) from None
    except (RedisError, OSError) as error:
        hint = "; start `weir serve` first: it runs the embedded one" if url is None else ""
        raise CannotVerifyError(f"cannot read Redis: {error}{hint}") from None
    finally:
        ledger.close()


async def _checks(address: str, settings: Settings, journals: Journals, ledger: Any) -> list[Check]:
    async with connect(address) as client:
        rules = Rules.of(settings.tenants.values())
        return await verification.run_checks(ledger, client, redis_keys(settings), journals, rules)


def report(checks: list[Check]) -> dict[str, Any]:
    """The body of --json."""
    return {
        "ok": all(check.state != "broken" for check in checks),
        "invariants": [
            {
                "id": check.invariant,
                "name": NAMES[check.invariant],
                "state": check.state,
                "looked_at": check.looked_at,
                "findings": check.findings,
                "more": check.more,
                "notes": check.notes,
            }
            for check in checks
        ],
    }


_STYLE = {"holds": "green", "partly": "yellow", "broken": "bold red", "not checked": "dim"}


def table(checks: list[Check]) -> RenderableType:
    """For people: one row each, and under it what is wrong."""
    rows = Table(header_style="bold")
    for heading in ("", "Invariant", "State"):
        rows.add_column(heading, no_wrap=heading != "Invariant")
    rows.add_column("Looked at", justify="right")
    notes: list[RenderableType] = [rows]
    for check in checks:
        state = Text(check.state, style=_STYLE[check.state])
        rows.add_row(check.invariant, NAMES[check.invariant], state, f"{check.looked_at:,}")
        notes += [Text(f"{check.invariant}: {text}") for text in check.findings]
        if check.more:
            notes.append(Text(f"{check.invariant}: and {check.more:,} more"))
        notes += [Text(f"{check.invariant}, not judged: {text}") for text in check.notes]
    return Group(*notes)
