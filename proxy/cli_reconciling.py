"""One account compared with its provider: asked, kept, compared. For the command and the worker."""

from __future__ import annotations

import asyncio
import hashlib
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from metering.clock import now_ns
from metering.settlement.exports import anthropic, openai
from metering.settlement.exports.fetching import VENDORS, Fetched, FetchError, Source, fetch
from metering.settlement.exports.rows import Export, ExportError, read_table
from metering.settlement.ledger.provider_books import Compared, Run, keep_export, run
from metering.settlement.ledger.store import Ledger
from metering.settlement.reconcile import ALERT_PPM, EVERYTHING, Account
from proxy.egress import proxy_for
from proxy.settings import Provider, Settings

API = "api"
"""The source of an export that was asked for."""

_FILES = (openai, anthropic)


def compare(
    ledger: Ledger,
    settings: Settings,
    name: str,
    *,
    since: str,
    until: str,
    by: str,
    fetches: bool = True,
) -> Run | str:
    """The comparison, or why there is none: what stops one account does not stop the next."""
    provider = settings.providers[name]
    asked = provider.reconcile
    if fetches and asked is not None and asked.unset is not None:
        return f"environment variable {asked.unset} is not set"
    if fetches and (source := source_of(settings, provider)) is not None:
        at_ns = now_ns()  # before it is asked: what it counts meanwhile is younger
        try:
            found = asyncio.run(fetch(source, since, until))
        except (FetchError, ExportError) as error:
            return str(error)
        keep(ledger, name, found, at_ns)
    account, alert_ppm = EVERYTHING, ALERT_PPM
    if asked is not None:
        account = Account(asked.project_ids, asked.api_key_ids, asked.models)
        alert_ppm = asked.alert_ppm
    margin_ppm = settings.cost_rules.margin_threshold_ppm
    compared = Compared(name, since, until, account, alert_ppm, margin_ppm)
    return run(ledger, compared, by=by, now_ns=now_ns())


def keep(ledger: Ledger, provider: str, found: list[Fetched], at_ns: int) -> None:
    """Store what was fetched."""
    for each in found:
        keep_export(ledger, provider, each.export, source=API, sha256=each.sha256, fetched_at=at_ns)


def source_of(settings: Settings, provider: Provider) -> Source | None:
    """Whom to ask; None for an account of which only files can be had."""
    asked = provider.reconcile
    if asked is None or asked.admin_key is None or provider.type not in VENDORS:
        return None
    source = Source(provider.type, asked.admin_key.reveal(), asked.url)
    return Source(provider.type, source.admin_key, asked.url, _egress(settings, source.url))


def read_file(path: Path) -> tuple[Export, str, int]:
    """A file's rows, the hash of its bytes, and when it was last written.

    ExportError for what is no export that we know.
    """
    data = path.read_bytes()
    try:
        rows = read_table(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise ExportError(f"not text: {error}") from None
    columns = rows[0].keys() if rows else ()
    for vendor in _FILES:
        if vendor.is_file(columns):
            written_at = min(path.stat().st_mtime_ns, now_ns())
            return vendor.read_file(rows), hashlib.sha256(data).hexdigest(), written_at
    raise ExportError(
        "not a CSV export that we know: OpenAI's has the columns start_time and "
        "num_model_requests or amount_value, Anthropic's usage_date_utc and model_version or "
        "cost_usd"
    )


def _egress(settings: Settings, url: str) -> Mapping[str, Any]:
    """The way out, as aiohttp takes it."""
    way: dict[str, Any] = {}
    proxy = proxy_for(settings.egress, urlsplit(url).hostname or "")
    if proxy is not None:
        way["proxy"] = f"http://{proxy.host}:{proxy.port}"
        if proxy.authorization is not None:
            way["proxy_headers"] = {"Proxy-Authorization": proxy.authorization.reveal()}
    if settings.egress.ca_file is not None:
        way["ssl"] = ssl.create_default_context(cafile=settings.egress.ca_file)
    return way
