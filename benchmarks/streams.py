"""`make streams`: thousands of open streams through one proxy process, and through two.

    python -m benchmarks.streams [--streams 2000] [--pause 1.0] [--seconds 30]

Every number stands beside the rate of chunks: how many streams a process can hold says nothing
without it. The gap is what a client sees between two chunks; the upstream's own is `--pause`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import resource
import statistics
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import orjson
import psutil
import uvloop

from benchmarks.installation import Subject, bare, child, cpu_s, free_port, tokenweir, wait_port

RAMP_S = 15.0
"""Streams are opened over so long: all at once would measure the opening."""


@dataclass
class Seen:
    """What the clients saw, in milliseconds."""

    open: int = 0
    failed: int = 0
    chunks: int = 0
    first_ms: list[float] = field(default_factory=list)
    gaps_ms: list[float] = field(default_factory=list)
    is_measuring: bool = False


async def one_stream(subject: Subject, after_s: float, seen: Seen) -> None:
    """Ask after a while and read until the test is over."""
    await asyncio.sleep(after_s)
    parts = urlsplit(subject.url)
    body = orjson.dumps(
        {
            "model": "bench",
            "stream": True,
            "max_tokens": 100_000,
            "messages": [{"role": "user", "content": "What is a weir, and what is it good for?"}],
        }
    )
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: {parts.netloc}\r\n"
        f"Authorization: Bearer {subject.key}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    started = time.perf_counter()
    try:
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        writer.write(head.encode() + body)
        status = await reader.readuntil(b"\r\n\r\n")
        if b" 200 " not in status[:16]:
            seen.failed += 1
            return
        seen.open += 1
        before = None
        while await reader.read(65_536):
            now = time.perf_counter()
            if before is None:
                seen.first_ms.append((now - started) * 1000)
            elif seen.is_measuring:
                seen.gaps_ms.append((now - before) * 1000)
            before = now
            seen.chunks += 1
    except (OSError, asyncio.IncompleteReadError):
        seen.failed += 1


async def hold(subject: Subject, streams: int, seconds: float) -> dict[str, float]:
    """Open the streams, wait until all are, measure for so long."""
    seen = Seen()
    idle_bytes = _resident(subject)
    tasks = [
        asyncio.ensure_future(one_stream(subject, RAMP_S * at / streams, seen))
        for at in range(streams)
    ]
    await asyncio.sleep(RAMP_S + 3)
    open_bytes = _resident(subject)
    cpu, redis, chunks, began = (
        cpu_s(*subject.processes),
        cpu_s(subject.redis),
        seen.chunks,
        time.perf_counter(),
    )
    seen.is_measuring = True
    await asyncio.sleep(seconds)
    took = time.perf_counter() - began
    came = seen.chunks - chunks
    spent = cpu_s(*subject.processes) - cpu
    result = {
        "open": seen.open,
        "failed": seen.failed,
        "rate": came / took,
        "us": spent / max(came, 1) * 1e6,
        "busy": spent / took,
        "redis": (cpu_s(subject.redis) - redis) / took,
        "kib": (open_bytes - idle_bytes) / 1024 / max(seen.open, 1),
        "first_p50": _at(seen.first_ms, 0.5),
        "first_p99": _at(seen.first_ms, 0.99),
        "gap_p50": _at(seen.gaps_ms, 0.5),
        "gap_p99": _at(seen.gaps_ms, 0.99),
    }
    for task in tasks:
        task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.gather(*tasks, return_exceptions=True)
    return result


def _resident(subject: Subject) -> int:
    return sum(process.memory_info().rss for process in subject.processes)


def _at(values: list[float], share: float) -> float:
    return statistics.quantiles(values, n=1000)[int(share * 1000) - 1] if len(values) > 1 else 0.0


ROWS = {
    "open": "streams open",
    "failed": "streams failed",
    "rate": "chunks per second, all streams",
    "us": "proxy CPU, us per chunk",
    "busy": "proxy CPU, cores",
    "redis": "Redis CPU, cores",
    "kib": "KiB of memory per stream",
    "first_p50": "first byte, p50, ms",
    "first_p99": "first byte, p99, ms",
    "gap_p50": "gap between chunks, p50, ms",
    "gap_p99": "gap between chunks, p99, ms",
}


def main() -> None:
    """Print the table: bare relay, one process, two."""
    parser = argparse.ArgumentParser(prog="make streams", description=__doc__)
    parser.add_argument("--streams", type=int, default=2000)
    parser.add_argument("--pause", type=float, default=1.0, help="seconds between chunks")
    parser.add_argument("--seconds", type=float, default=30.0)
    options = parser.parse_args()
    allow_descriptors(options.streams * 2 + 512)
    chunks = int((RAMP_S + options.seconds + 60) / options.pause)
    port = free_port()
    upstream = f"http://127.0.0.1:{port}"
    results = {}
    with child("-m", "benchmarks.upstream", str(port), str(chunks), str(options.pause)):
        wait_port(port)
        for name, workers in (("bare relay", 0), ("1 process", 1), ("2 processes", 2)):
            with tempfile.TemporaryDirectory(prefix="weir-bench-") as folder:
                place = tokenweir(upstream, Path(folder), workers) if workers else bare(upstream)
                with place as subject:
                    results[name] = uvloop.run(hold(subject, options.streams, options.seconds))
    print(
        f"{options.streams} streams, a chunk every {options.pause:g} s, {psutil.cpu_count()} cores"
    )
    print(f"{'':32}" + "".join(f"{name:>14}" for name in results))
    for key, title in ROWS.items():
        print(f"{title:32}" + "".join(f"{found[key]:14,.2f}" for found in results.values()))


def allow_descriptors(wanted: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(wanted, hard)), hard))


if __name__ == "__main__":
    main()
