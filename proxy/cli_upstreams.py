"""`weir upstreams`: how each upstream does, as all proxies together saw it, read live from Redis.

Nothing is written, and nobody is asked but Redis.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from proxy.cli_options import FAILED, NOT_FOUND, echo_json, fail, load_config, shared_options

if TYPE_CHECKING:
    from proxy.settings import Settings
    from proxy.upstreams_report import UpstreamsLook
    from routing.samples import Seen

_TIMEOUT_S = 5.0


@click.command()
@click.option("--model", help="Only those that can serve this model, its fallbacks apart.")
@click.option("--drift", is_flag=True, help="Only those whose cost has drifted without a reason.")
@click.option(
    "--beyond",
    type=click.FloatRange(0),
    default=15.0,
    show_default=True,
    help="With --drift: by more than so many per cent.",
)
@click.option(
    "--exchanges",
    type=click.IntRange(1),
    default=50,
    show_default=True,
    help="With --drift: over at least so many exchanges.",
)
@click.option("--watch", is_flag=True, help="Show it again and again, until Ctrl-C.")
@click.option(
    "--every",
    "every_s",
    type=click.FloatRange(0.2, 3600),
    default=2.0,
    show_default=True,
    help="With --watch: seconds between two looks.",
)
@shared_options
def upstreams(
    *,
    model: str | None,
    drift: bool,
    beyond: float,
    exchanges: int,
    watch: bool,
    every_s: float,
    config_file: str | None,
    data_dir: Path | None,
    as_json: bool,
) -> None:
    """How each upstream does: state, success, latency, speed, cost, drift over the last hour."""
    settings = load_config(config_file, data_dir, as_json).settings
    from proxy import cli_tables
    from proxy.upstreams_report import drift_table, drifted, upstreams_body, upstreams_table

    if model is not None and model not in settings.models:
        fail(NOT_FOUND, f"no model {model!r} in {settings.source}", as_json)

    def look() -> dict[str, Any]:
        body = upstreams_body(_read(settings, as_json))
        if model is not None:
            body["upstreams"] = [row for row in body["upstreams"] if model in row["models"]]
        if drift:
            body["upstreams"] = drifted(body, beyond=beyond / 100, exchanges_min=exchanges)
        return body

    def show(body: dict[str, Any]) -> None:
        if as_json:
            echo_json(body)
        elif drift:
            cli_tables.console().print(drift_table(body["upstreams"], beyond / 100, exchanges))
        else:
            cli_tables.console().print(upstreams_table(body))

    show(look())
    with contextlib.suppress(KeyboardInterrupt):
        while watch:
            time.sleep(every_s)
            body = look()
            if sys.stdout.isatty() and not as_json:
                click.clear()
            show(body)


def _read(settings: Settings, as_json: bool) -> UpstreamsLook:
    from redis.exceptions import RedisError

    try:
        return asyncio.run(_look(settings))
    except (RedisError, OSError, ValueError) as error:  # ValueError: a path too long for a socket
        fail(FAILED, f"cannot read Redis: {error or type(error).__name__}", as_json)


async def _look(settings: Settings) -> UpstreamsLook:
    from metering.settlement.redis_client import connect
    from proxy.embedded_redis import redis_url

    url = settings.redis.url
    client: Any = connect(redis_url(settings.data_dir) if url is None else url.reveal())
    async with client, asyncio.timeout(_TIMEOUT_S):
        return await read_upstreams(settings, client)


async def read_upstreams(settings: Settings, client: Any) -> UpstreamsLook:
    """What processes have told of upstreams, and the last probes."""
    from proxy.settings import redis_keys
    from proxy.upstreams_report import UpstreamsLook

    keys = redis_keys(settings)
    seconds, microseconds = await client.time()
    notes = await client.hgetall(keys.history)
    health = await client.hgetall(keys.health)
    probes = await client.hgetall(keys.probes)
    now_ms = int(seconds) * 1000 + int(microseconds) // 1000
    read = [_note(raw, now_ms) for raw in notes.values()]
    return UpstreamsLook(
        models=settings.models,
        providers=settings.providers,
        notes=[seen for seen, _ in filter(None, read)],
        processes=sum(runs for _, runs in filter(None, read)),
        open_until_ms={
            label.decode(errors="replace"): int(found[0])
            for label, value in health.items()
            if (found := re.match(rb"\d+", value))
        },
        probes={
            name.decode(errors="replace"): probe
            for name, raw in probes.items()
            if (probe := _probe(raw)) is not None
        },
        now_ms=now_ms,
        unreadable=read.count(None),
    )


def _note(raw: bytes, now_ms: int) -> tuple[dict[str, Seen], bool] | None:
    """What a process saw, and whether it runs; None for what cannot be read."""
    from proxy.history_sync import left_note

    try:
        return left_note(raw, now_ms)
    except ValueError:
        return None


def _probe(raw: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(raw)
    except ValueError:
        return None
    if not isinstance(found, dict):
        return None
    return {name: found.get(name) for name in ("at", "result", "took_ms")}
