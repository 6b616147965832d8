"""`make soak`: half an hour under mixed load; memory and descriptors must be flat.

    python -m benchmarks.soak [--minutes 30] [--workers 2]

Plain requests, streams read to the end, streams that are left in the middle, and refusals, all the
time. Prints every process each minute and at the end the trend over the last two thirds.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import tempfile
import time
from collections import Counter
from pathlib import Path

import aiohttp
import psutil
import uvloop

from benchmarks.installation import Subject, child, free_port, tokenweir, wait_port

SAMPLE_S = 10.0
FLAT_MIB_PER_HOUR = 8.0
"""A leak of one small object per request would show as far more."""


async def client(
    subject: Subject, session: aiohttp.ClientSession, seed: int, seen: Counter
) -> None:
    """One application: it asks, sometimes leaves, sometimes errs."""
    chance = random.Random(seed)
    while True:
        kind = chance.choices(("plain", "stream", "leave", "wrong"), (50, 30, 15, 5))[0]
        body = {
            "model": "nothing" if kind == "wrong" else "bench",
            "stream": kind in ("stream", "leave"),
            "max_tokens": 256,
            "messages": [{"role": "user", "content": "What is a weir? " * chance.randint(1, 40)}],
        }
        headers = {"Authorization": f"Bearer {subject.key}"}
        url = f"{subject.url}/v1/chat/completions"
        with contextlib.suppress(aiohttp.ClientError):
            async with session.post(url, json=body, headers=headers) as answer:
                seen[f"{kind} {answer.status}"] += 1
                if kind == "leave":
                    await answer.content.read(200)
                    answer.close()
                else:
                    await answer.read()
        await asyncio.sleep(chance.random() * 0.2)


def sample(subject: Subject) -> dict[str, tuple[float, int]]:
    """By process: resident MiB and open descriptors."""
    found = {}
    for process in (*subject.processes, *subject.others, subject.redis):
        with contextlib.suppress(psutil.Error, AttributeError):
            found[process.name()] = (process.memory_info().rss / 2**20, process.num_fds())
    return found


async def soak(subject: Subject, minutes: float, clients: int) -> None:
    """Run, print a line each minute, and the trend at the end."""
    seen: Counter[str] = Counter()
    samples: list[tuple[float, dict[str, tuple[float, int]]]] = []
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:
        tasks = [asyncio.ensure_future(client(subject, session, at, seen)) for at in range(clients)]
        began = time.monotonic()
        while (at_s := time.monotonic() - began) < minutes * 60:
            await asyncio.sleep(SAMPLE_S)
            samples.append((at_s, sample(subject)))
            if len(samples) % 6 == 1:
                line = "  ".join(
                    f"{name} {mib:.0f} MiB {fds} fds" for name, (mib, fds) in samples[-1][1].items()
                )
                print(f"{at_s / 60:5.1f} min  {sum(seen.values()):8,} requests  {line}", flush=True)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.sleep(5)
    report(samples, sample(subject), seen)


def report(
    samples: list[tuple[float, dict[str, tuple[float, int]]]],
    rest: dict[str, tuple[float, int]],
    seen: Counter,
) -> None:
    """The trend of each process over the last two thirds, and what was asked."""
    print(dict(sorted(seen.items())))
    kept = samples[len(samples) // 3 :]
    print(f"{'process':20} {'MiB at first':>12} {'at the end':>11} {'MiB per hour':>13} "
          f"{'descriptors':>12} {'at rest':>8}")  # fmt: skip
    for name, (mib, fds) in kept[0][1].items():
        points = [(at_s, found[name][0]) for at_s, found in kept if name in found]
        slope = _slope(points) * 3600
        flat = "flat" if slope <= FLAT_MIB_PER_HOUR else "GROWS"
        print(f"{name:20} {mib:12.1f} {points[-1][1]:11.1f} {slope:13.2f} {fds:12} "
              f"{rest.get(name, (0, 0))[1]:8}  {flat}")  # fmt: skip


def _slope(points: list[tuple[float, float]]) -> float:
    """Least squares, per second."""
    count = len(points)
    mean_x = sum(x for x, _ in points) / count
    mean_y = sum(y for _, y in points) / count
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / spread if spread else 0.0


def main() -> None:
    """Start everything, soak, stop."""
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--clients", type=int, default=12)
    options = parser.parse_args()
    port = free_port()
    with (
        tempfile.TemporaryDirectory(prefix="weir-soak-") as folder,
        child("-m", "benchmarks.upstream", str(port), "100", "0.02"),
    ):
        wait_port(port)
        with tokenweir(f"http://127.0.0.1:{port}", Path(folder), options.workers) as subject:
            uvloop.run(soak(subject, options.minutes, options.clients))


if __name__ == "__main__":
    main()
