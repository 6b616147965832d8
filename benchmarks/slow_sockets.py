"""`make slow-sockets`: what honest requests feel of thousands of clients that never finish (T-12).

    python -m benchmarks.slow_sockets [--sockets 2000] [--requests 3000] [--rounds 3]

A fifth of the sockets each: nothing is said; half a line; headers that drip, a byte each second; a
head and no body; a body that drips. Who is cut by a deadline connects again, so there are always
as many. They come from a process of their own, and beside them stand as many idle connections, so
that it shows what is theirs: what the slow ones do, what they are, or that the machine is busy.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import uvloop

from benchmarks.installation import (
    Subject,
    bare,
    child,
    cpu_s,
    free_port,
    measured,
    tokenweir,
    wait_port,
)
from benchmarks.streams import allow_descriptors

CONNECTIONS = 8
DRIP_S = 1.0

KINDS = ("silent", "half a line", "dripping head", "no body", "dripping body")


class Slow:
    """All slow clients of one proxy, for as long as the process lives."""

    def __init__(self, url: str, key: str) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname, parts.port
        self._head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nHost: {parts.netloc}\r\n"
            f"Authorization: Bearer {key}\r\nContent-Type: application/json\r\n"
        ).encode()
        self.open = 0

    def words(self, kind: str) -> tuple[bytes, bool]:
        """What a client says at once, and whether it drips afterwards."""
        with_body = self._head + b"Content-Length: 100000\r\n\r\n"
        return {
            "silent": (b"", False),
            "half a line": (b"POST /v1/ch", False),
            "dripping head": (self._head + b"X-Slow: ", True),
            "no body": (with_body, False),
            "dripping body": (with_body + b'{"a": "', True),
            "idle": (b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", False),
        }[kind]

    async def live(self, kind: str, after_s: float) -> None:
        """Connect again whenever the other side has had enough."""
        await asyncio.sleep(after_s)
        said, drips = self.words(kind)
        while True:
            with contextlib.suppress(OSError):
                reader, writer = await asyncio.open_connection(self._host, self._port)
                self.open += 1
                writer.write(said)
                dripping = asyncio.ensure_future(self._drip(writer)) if drips else None
                try:
                    while await reader.read(65_536):
                        pass
                finally:
                    self.open -= 1
                    if dripping is not None:
                        dripping.cancel()
                    writer.close()
            await asyncio.sleep(0.1)

    async def _drip(self, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while True:
                await asyncio.sleep(DRIP_S)
                if writer.transport.is_closing():
                    return
                writer.write(b"a")
                await writer.drain()


async def be_slow(url: str, key: str, sockets: int, kinds: tuple[str, ...]) -> None:
    """Hold that many; says "open" once they are, for whoever started this process."""
    allow_descriptors(sockets + 256)
    slow = Slow(url, key)
    spread_s = 3.0
    tasks = [
        asyncio.ensure_future(slow.live(kinds[at % len(kinds)], spread_s * at / sockets))
        for at in range(sockets)
    ]
    while slow.open < 0.98 * sockets:
        await asyncio.sleep(0.05)
    sys.stdout.write("open\n")
    sys.stdout.flush()
    await asyncio.gather(*tasks)


@contextlib.contextmanager
def crowd(subject: Subject, sockets: int, what: str) -> Iterator[psutil.Process | None]:
    """Nobody, idle connections or slow ones, in a process of their own."""
    if what == "alone":
        yield None
        return
    words = ["-m", "benchmarks.slow_sockets", "--be", what, subject.url, subject.key, str(sockets)]
    process = subprocess.Popen([sys.executable, *words], stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        if process.stdout.readline() != b"open\n":
            raise SystemExit("the slow sockets did not come to stand")
        yield psutil.Process(process.pid)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


async def _rest(seconds: float) -> None:
    await asyncio.sleep(seconds)


def one_round(subject: Subject, what: str, sockets: int, requests: int) -> dict[str, float]:
    """What honest requests took, and what the crowd costs the proxy while nobody asks."""
    with crowd(subject, sockets, what) as others:
        before, own = cpu_s(*subject.processes), cpu_s(others)
        asyncio.run(_rest(3.0))
        idle = (cpu_s(*subject.processes) - before) / 3
        theirs = (cpu_s(others) - own) / 3
        seen = measured(subject, "plain", CONNECTIONS, requests)
    asyncio.run(_rest(1.0))  # the crowd's connections are gone
    return {**seen, "idle": idle, "theirs": theirs}


ROWS = {
    "p50_ms": "p50 of honest requests, ms",
    "p99_ms": "p99 of honest requests, ms",
    "rate": "honest requests per second",
    "us": "proxy CPU per request, us",
    "idle": "proxy CPU of the crowd alone, cores",
    "theirs": "the crowd's own CPU, cores",
}
CROWDS = ("alone", "idle", "slow")


def measure(subject: Subject, sockets: int, requests: int, rounds: int) -> None:
    """Print medians over rounds in turns, the first of which does not count."""
    found: dict[str, list[dict[str, float]]] = {what: [] for what in CROWDS}
    for number in range(rounds + 1):
        for what in CROWDS:
            seen = one_round(subject, what, sockets, requests)
            if number:
                found[what].append(seen)
    print(f"\n{subject.name}: {sockets} sockets, {CONNECTIONS} honest connections")
    print(f"{'':38}" + "".join(f"{what:>12}" for what in CROWDS))
    for key, title in ROWS.items():
        values = [statistics.median(each[key] for each in found[what]) for what in CROWDS]
        print(f"{title:38}" + "".join(f"{value:12,.2f}" for value in values))
    for key in ("p50_ms", "p99_ms"):
        ratios = [
            slow[key] / alone[key]
            for slow, alone in zip(found["slow"], found["alone"], strict=True)
        ]
        shown = ", ".join(f"{ratio:.2f}" for ratio in ratios)
        print(f"{key[:3]} slow / alone, round by round: {shown}")


def main() -> None:
    """Measure the proxy, and the bare relay beside it."""
    parser = argparse.ArgumentParser(prog="make slow-sockets", description=__doc__)
    parser.add_argument("--sockets", type=int, default=2000)
    parser.add_argument("--requests", type=int, default=3000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--without-relay", action="store_true", help="measure the proxy alone")
    parser.add_argument("--be", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.be:
        what, url, key, sockets = options.be
        uvloop.run(be_slow(url, key, int(sockets), ("idle",) if what == "idle" else KINDS))
        return
    allow_descriptors(options.sockets * 2 + 512)
    port = free_port()
    upstream = f"http://127.0.0.1:{port}"
    print(f"load of the machine {psutil.getloadavg()[0]:.1f}, {psutil.cpu_count()} cores")
    with child("-m", "benchmarks.upstream", str(port), "20", "0"):
        wait_port(port)
        with tempfile.TemporaryDirectory(prefix="weir-bench-") as folder:
            relay = () if options.without_relay else (bare(upstream),)
            for place in (*relay, tokenweir(upstream, Path(folder))):
                with place as subject:
                    measure(subject, options.sockets, options.requests, options.rounds)


if __name__ == "__main__":
    main()
