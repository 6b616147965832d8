"""Gathers what `weir doctor` judges: from the configuration, this machine, Redis and the ledger."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from sqlalchemy import make_url
from sqlalchemy.exc import SQLAlchemyError

from metering.clock import now_ns
from metering.ids import is_id
from metering.seq_ranges import SeqRanges
from metering.settlement.doctor import Said
from metering.settlement.doctor_facts import (
    Asked,
    Facts,
    Finding,
    Level,
    Place,
    SpoolFiles,
    Streams,
    Unknown,
)
from metering.settlement.doctor_redis import ask_redis
from metering.settlement.invoices import period_bounds_ns
from metering.settlement.ledger import doctor_beside_reading as beside
from metering.settlement.ledger import doctor_reading as reading
from metering.settlement.ledger import doctor_tenant_reading as tenant_reading
from metering.settlement.ledger.plan_books import Terms
from metering.settlement.ledger.standing import confirmed_spool, price_bodies
from metering.settlement.ledger.store import Ledger
from metering.spool_codec import Damage, SpoolRecord, decode_records
from proxy.config import ConfigFaults, ConfigNotFound, Loaded, find_config
from proxy.config_now import load_now
from proxy.data_dir import serving_pid
from proxy.embedded_redis import redis_url
from proxy.settings import Settings, redis_keys

SPOOL_BYTES = 64 * 1024 * 1024
"""Of a spool, so much is read; the records of what lies beyond it are not counted."""


def faulty(config_file: str | None, data_dir: Path | None) -> list[Said] | None:
    """What there is to say where the configuration cannot be read; nothing else can be asked."""
    try:
        path = find_config(config_file, os.environ, Path.cwd())
        load_now(path, os.environ, data_dir=_absolute(data_dir))
    except ConfigNotFound as missing:
        found = Finding(Level.TROUBLE, str(missing), "name it with --config, or go to where it is")
    except ConfigFaults as failure:
        count = len(failure.faults)
        found = Finding(
            Level.TROUBLE,
            f"{path} has {count} fault{'' if count == 1 else 's'}, the first: {failure.faults[0]}",
            "`weir config check` shows all of them; processes that run go on with what they read",
            {"faults": count},
        )
    else:
        return None
    return [Said("configuration", found)]


def facts_of(
    config_file: str | None, data_dir: Path | None, tenant: str | None, month: str, at_ns: int
) -> Facts:
    """Everything that can be known; what cannot is `Unknown`."""
    path = find_config(config_file, os.environ, Path.cwd())
    loaded = load_now(path, os.environ, data_dir=_absolute(data_dir))
    settings, (start_ns, end_ns) = loaded.settings, period_bounds_ns(month)
    asked = Asked(tenant, month, start_ns, end_ns, at_ns)
    place = _place(path, loaded, asked)
    url = settings.redis.url
    address = redis_url(settings.data_dir) if url is None else url.reveal()
    keys = redis_keys(settings)
    known = tenant if tenant is not None and is_id(tenant) else None
    redis, streams, flags = asyncio.run(ask_redis(address, keys, known, place.prepaid))
    if tenant is not None and known is None:
        flags = Unknown(f"{tenant!r} cannot be the id of a tenant")
    ledger = open_settled(settings)
    try:
        found, confirmed = _books(settings, asked, place, streams, ledger)
    finally:
        if not isinstance(ledger, Unknown):
            ledger.close()
    spools = read_spools(
        settings.data_dir / "spool", confirmed, is_served=place.serving_pid is not None
    )
    place = replace(place, spools=spools)
    return Facts(asked=asked, place=place, redis=redis, flags=flags, **found)


def _absolute(path: Path | None) -> Path | None:
    return None if path is None else Path.cwd() / path.expanduser()


def _place(path: Path, loaded: Loaded, asked: Asked) -> Place:
    settings = loaded.settings
    tenant = asked.tenant or ""
    stripe = settings.stripe
    return Place(
        file=str(path),
        warnings=tuple(each.located("") for each in loaded.warnings),
        data_dir=str(settings.data_dir),
        serving_pid=serving_pid(settings.data_dir),
        settles=settings.settles,
        tenants=tuple(settings.tenants),
        tenant=settings.tenants.get(tenant),
        minted_keys=tuple(key.key_id for key in settings.minted_keys if key.tenant == tenant),
        plans=settings.plans,
        assignments=settings.assignments.get(tenant, ()),
        cost_version=settings.prices.cost_version,
        sell_version=settings.prices.sell_version,
        has_stripe=stripe is not None,
        stripe_since_ns=0 if stripe is None else stripe.since_ns,
        customer=None if stripe is None else stripe.customers.get(tenant),
        compared=tuple(sorted(n for n, p in settings.providers.items() if p.reconcile is not None)),
        sinks=tuple(sink.name for sink in settings.sinks),
        jobs=tuple(settings.jobs),
        webhooks=tuple(each.name for each in settings.webhooks),
        prepaid=tuple(
            name
            for name, each in settings.tenants.items()
            if each.is_stopped_by_balance and asked.tenant in (None, name)
        ),
    )


def _books(
    settings: Settings,
    asked: Asked,
    place: Place,
    streams: Streams | Unknown,
    ledger: Ledger | Unknown,
) -> tuple[dict[str, Any], Mapping[str, str]]:
    """The parts of Facts that the ledger answers, and what it has of each spool."""
    stripe = settings.stripe
    customers: Mapping[str, str] = {} if stripe is None else stripe.customers
    terms = Terms(settings.plans, place.assignments)
    questions: dict[str, Callable[[Ledger], Any]] = {
        "book": lambda it: reading.read_book(it, settings.ledger_url),
        "behind": lambda it: reading.read_behind(it, asked),
        "clocks": lambda it: reading.read_clocks(it, asked),
        "alerts": lambda it: reading.read_alerts(it, place.sinks),
        "stripe": lambda it: reading.read_stripe(it, asked, customers, place.stripe_since_ns),
        "comparisons": lambda it: reading.read_comparisons(it, place.compared),
        "late": lambda it: reading.read_late(it, asked.tenant),
        "jobs": lambda it: beside.read_jobs(it, [each.name for each in place.jobs]),
        "webhooks": beside.read_webhooks,
        "payments": beside.read_payments,
        "credits": beside.read_credits,
    }
    if asked.tenant is not None:
        questions["usage"] = lambda it: tenant_reading.read_usage(it, asked)
        questions["billed"] = lambda it: tenant_reading.read_billed(it, asked, terms)
    if isinstance(ledger, Unknown):
        away = Unknown("there is no ledger that can be read")
        return {**dict.fromkeys(questions, away), "book": ledger, "streams": streams}, {}
    reader = reading.Reader(ledger)
    found = {name: reader.ask(question) for name, question in questions.items()}
    found["streams"] = _without_kept(reader, streams)
    confirmed = reader.ask(confirmed_spool)
    return found, {} if isinstance(confirmed, Unknown) else confirmed


def _without_kept(reader: reading.Reader, streams: Streams | Unknown) -> Streams | Unknown:
    """Price versions that the ledger keeps are no reason to wait."""
    if isinstance(streams, Unknown) or not streams.wanted_prices:
        return streams
    kept = reader.ask(lambda it: price_bodies(it, streams.wanted_prices))
    if isinstance(kept, Unknown):
        return streams
    wanted = {name: n for name, n in streams.wanted_prices.items() if name not in kept}
    return replace(streams, wanted_prices=wanted)


def open_settled(settings: Settings) -> Ledger | Unknown:
    """The ledger, where there is one that somebody has migrated; nothing is made here."""
    try:
        url = make_url(settings.ledger_url)
        path = url.database if url.get_backend_name() == "sqlite" else None
        if path is not None and not Path(path).is_file():
            return Unknown(f"there is no file {path}")
        ledger = reading.open_bounded(settings.ledger_url)
    except (SQLAlchemyError, ImportError, OSError, ValueError) as error:
        return Unknown(str(error).partition("\n")[0])
    found = reading.Reader(ledger).ask(Ledger.revision)
    if isinstance(found, str):
        return ledger
    ledger.close()
    return found or Unknown("it is empty yet")


def read_spools(
    folder: Path, confirmed: Mapping[str, str], *, is_served: bool
) -> tuple[SpoolFiles, ...]:
    """What the spools on this machine hold that the ledger does not have.

    What a living proxy is writing may be in Redis already; what nobody writes any more waits.
    """
    try:
        folders = sorted(each for each in folder.iterdir() if each.is_dir())
    except OSError:
        return ()
    return tuple(_spool(each, confirmed.get(each.name, ""), is_served) for each in folders)


def _spool(folder: Path, confirmed: str, is_served: bool) -> SpoolFiles:
    known = SeqRanges.parse(confirmed)
    waiting = size = unconfirmed = 0
    oldest_s = at_s = now_ns() // 10**9
    left = SPOOL_BYTES
    states = ("ready", "open", "sent")
    for path in sorted(each for state in states for each in folder.glob(f"[0-9]*.{state}")):
        try:
            left -= (about := path.stat()).st_size
            records = _records(path) if left > 0 else []
        except OSError:  # replayed and put away at this moment
            continue
        lacking = sum(each.seq not in known for each in records)
        if path.suffix == ".sent" or (path.suffix == ".open" and is_served):
            unconfirmed += lacking
        elif lacking or (left <= 0 and about.st_size):
            waiting, size = waiting + lacking, size + about.st_size
            oldest_s = min(oldest_s, int(about.st_mtime))
    damaged = sum(1 for _ in folder.glob("[0-9]*.damaged"))
    return SpoolFiles(folder.name, waiting, size, at_s - oldest_s, damaged, unconfirmed)


def _records(path: Path) -> list[SpoolRecord]:
    return [each for each in decode_records(path.read_bytes()) if not isinstance(each, Damage)]
