"""`python -m faults run`: load, strikes, rest, verification; one JSON report.

A run has two phases: while it is struck, nothing may be lost, doubled or let past a cap; left in
peace afterwards, it must come to rest by itself. Whatever chance decides comes from the seed.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import orjson
from redis.asyncio import Redis
from redis.exceptions import RedisError

from faults import strikes
from faults.clients import Load
from faults.scene import TENANTS, Scene
from metering.settlement.invariants import tally
from metering.settlement.ledger.store import open_ledger
from metering.settlement.verification import read_booked
from proxy import cli_invariants
from proxy.config import load as load_config

SAMPLE_EVERY_S = 0.1
LABEL = "24h"


@click.group()
def main() -> None:
    """Strike a running installation and verify what is left."""


@main.command("list")
def list_strikes() -> None:
    """What can be struck."""
    for name, (strike, weight) in strikes.STRIKES.items():
        click.echo(f"{name:20} {weight:3}  {(strike.__doc__ or '').splitlines()[0]}")


@main.command()
@click.option("--kills", default=30, show_default=True, help="Go on until so many were killed.")
@click.option("--seed", default=1, show_default=True)
@click.option("--clients", default=24, show_default=True)
@click.option("--workers", default=2, show_default=True, help="Proxy processes.")
@click.option("--spool", type=click.Choice(["outage", "always"]), default="outage")
@click.option("--on-outage", type=click.Choice(["local", "closed", "open"]), default="local")
@click.option("--timing", type=click.Choice(["fast", "production"]), default="fast")
@click.option("--only", multiple=True, type=click.Choice(sorted(strikes.STRIKES)))
@click.option("--ledger", default="", help="A ledger URL; SQLite in the run's folder if left out.")
@click.option(
    "--rest", default=330.0, show_default=True, help="Longest wait for it to come to rest."
)
@click.option("--pause", default=0.8, show_default=True, help="Mean seconds between strikes.")
@click.option("--keep", is_flag=True, help="Leave the folder, whatever comes out.")
def run(**options: Any) -> None:
    """One run; exit code 1 when an invariant is broken."""
    folder = Path(tempfile.mkdtemp(prefix="weir-faults-"))
    report = asyncio.run(_run(folder, options))
    click.echo(orjson.dumps(report, option=orjson.OPT_INDENT_2).decode())
    if report["ok"] and not options["keep"]:
        shutil.rmtree(folder)
    else:
        click.echo(f"the run's files: {folder}", err=True)
    sys.exit(0 if report["ok"] else 1)


async def _run(folder: Path, options: dict[str, Any]) -> dict[str, Any]:
    scene = Scene(
        folder,
        workers=options["workers"],
        spool=options["spool"],
        on_outage=options["on_outage"],
        ledger_url=options["ledger"],
        timing=options["timing"],
    )
    hand = strikes.Striker(scene, random.Random(options["seed"]))
    background: list[asyncio.Task[None]] = []
    try:
        await scene.start()
        load = Load(
            scene.url, scene.keys, folder / "clients.jsonl", options["seed"], options["clients"]
        )
        asking = asyncio.ensure_future(load.run())
        await asyncio.sleep(3)
        before = scene.growth()
        background += [
            asyncio.ensure_future(_sample(scene, folder / "samples.jsonl")),
            asyncio.ensure_future(hand.watch_disk()),
        ]
        struck = await _strike(hand, options)
        calm_at = time.monotonic()
        await asyncio.sleep(5)  # the second phase has load of its own: all must work again
        served = load.counts.get("complete", 0)
        await asyncio.sleep(5)
        alive = load.counts.get("complete", 0) > served
        load.stop.set()
        await asking
        checks, rested_s = await _rest(scene, folder, before, calm_at + options["rest"])
    finally:
        for task in background:
            task.cancel()
    code = await asyncio.to_thread(scene.stop)
    verified = cli_invariants.report(checks)
    return {
        "ok": verified["ok"] and alive and code == 0,
        "seed": options["seed"],
        "spool": options["spool"],
        "on_outage": options["on_outage"],
        "killed": struck.pop("killed"),
        "strikes": dict(struck),
        "asked": load.asked,
        "outcomes": load.counts,
        "alive_afterwards": alive,
        "rested_s": round(rested_s - calm_at, 1),
        "events": _events(folder),
        "exit_code": code,
        "invariants": verified["invariants"],
    }


async def _strike(hand: strikes.Striker, options: dict[str, Any]) -> Counter[str]:
    struck: Counter[str] = Counter()
    while struck["killed"] < options["kills"]:
        name = strikes.draw(
            hand.chance, only=options["only"], spools_always=options["spool"] == "always"
        )
        struck["killed"] += await strikes.STRIKES[name][0](hand)
        struck[name] += 1
        if hand.scene.serve is not None and hand.scene.serve.poll() is not None:
            raise RuntimeError(f"weir serve ended by itself after {name}; see weir.log")
        click.echo(f"{struck['killed']:4} killed, {name}", err=True)
        await asyncio.sleep(options["pause"] * (0.5 + hand.chance.random()))
        if options["only"] and not struck["killed"] and sum(struck.values()) >= options["kills"]:
            break  # what was asked for kills nobody
    return struck


async def _sample(scene: Scene, path: Path) -> None:
    """What each tenant has spent and holds, ten times a second, from Redis itself."""
    limits = {tenant: round(float(cap) * 10**9) for tenant, cap in TENANTS.items()}
    with path.open("ab", buffering=0) as file:
        while True:
            with contextlib.suppress(RedisError, OSError):
                async with Redis.from_url(
                    f"unix://{scene.socket}", protocol=2, socket_timeout=1
                ) as client:
                    while True:
                        for line in await _ask(client, limits):
                            file.write(orjson.dumps(line) + b"\n")
                        await asyncio.sleep(SAMPLE_EVERY_S)
            await asyncio.sleep(SAMPLE_EVERY_S)


async def _ask(client: Redis, limits: dict[str, int]) -> Iterator[dict[str, Any]]:
    lines = []
    for key in await client.keys("weir:*:c:tenant:*"):
        tenant = key.decode().rpartition(":")[2]
        held, spent = await client.hmget(key, "held:n", f"{LABEL}:n")
        lines.append(
            {
                "tenant": tenant,
                "spent": int(spent or 0),
                "held": int(held or 0),
                "limit": limits[tenant],
            }
        )
    return iter(lines)


async def _rest(
    scene: Scene, folder: Path, before: dict[str, tuple[int, int]], deadline: float
) -> tuple[list[Any], float]:
    """Wait until nothing is open any more and all is healed; the checks, and when that was."""
    while time.monotonic() < deadline and not await _is_at_rest(scene):
        await asyncio.sleep(0.5)
    while True:
        await asyncio.sleep(3)  # a turn of the worker's upkeep: rollups, windows
        samples = folder / "samples.jsonl"
        _write_growth(samples, before, scene.growth())
        checks = await asyncio.to_thread(_verify, scene, folder)
        is_whole = all(check.state != "broken" for check in checks)
        if is_whole or time.monotonic() > deadline:
            return checks, time.monotonic()
        await asyncio.sleep(5)


def _events(folder: Path) -> dict[str, int]:
    """What the ledger came to: how many events of which kind and source."""
    ledger = open_ledger(load_config(folder / "config.yaml", os.environ).settings.ledger_url)
    try:
        return tally(read_booked(ledger))
    finally:
        ledger.close()


async def _is_at_rest(scene: Scene) -> bool:
    try:
        async with Redis.from_url(f"unix://{scene.socket}", protocol=2, socket_timeout=2) as client:
            for key in await client.keys("weir:*:c:*"):
                if any(name.startswith(b"h:") for name in await client.hkeys(key)):
                    return False
            for key in await client.keys("weir:*:hold:*"):
                if any(b'"recovered"' not in value for value in await client.hvals(key)):
                    return False
            for shard in range(4):
                stream = f"weir:{{s{shard}}}:usage"
                if await client.exists(stream):
                    [group] = await client.xinfo_groups(stream)
                    if group["pending"] or group["lag"]:
                        return False
    except (RedisError, OSError, ValueError):
        return False
    waiting = [*scene.data_dir.glob("spool/*/*.ready")]
    waiting += [path for path in scene.data_dir.glob("spool/*/*.open") if path.stat().st_size]
    return not waiting or scene.spool == "always"


def _write_growth(
    path: Path, before: dict[str, tuple[int, int]], after: dict[str, tuple[int, int]]
) -> None:
    with path.open("ab") as file:
        for when, found in (("before", before), ("after", after)):
            for process, (rss, fds) in found.items():
                line = {"process": process, "rss": rss, "fds": fds, "when": when}
                file.write(orjson.dumps(line) + b"\n")


def _verify(scene: Scene, folder: Path) -> list[Any]:
    settings = load_config(scene.config, os.environ).settings
    # what `local` may spend beside Redis: a share of the cap, see docs/reliability.md
    smallest = min(round(float(cap) * 10**9) for cap in TENANTS.values())
    share = smallest * settings.redis.outage_share_ppm // 10**6
    journals = cli_invariants.read_journals(
        folder / "upstream.jsonl",
        folder / "clients.jsonl",
        folder / "samples.jsonl",
        share if scene.on_outage == "local" else 0,
    )
    return cli_invariants.run(settings, journals)


if __name__ == "__main__":
    main()
