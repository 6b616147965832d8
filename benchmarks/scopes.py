"""`make bench-scopes`: what a cap more costs in Redis, and that a longer history costs nothing.

    python -m benchmarks.scopes [--calls 400] [--rounds 20]

A Redis of its own, no proxy. Two comparisons, each with its cases in turns: a busy machine then
makes all of them dearer alike. First reserve and commit under caps over 1, 4 and 6 scopes, then
with 1,000, 10,000 and 100,000 requests spent within the window. Latency is of one call at a time;
CPU is what the scheduler booked for Redis, over calls of which 32 are under way. The ratios are
what counts.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from benchmarks.installation import cpu_s
from metering.caps import (
    ROLLING_DAY,
    Candidate,
    Cap,
    Denial,
    Elastic,
    Hold,
    Limit,
    Scope,
    ScopeKind,
    Vector,
)
from metering.ids import uuid7
from metering.redis_caps import RedisCaps
from metering.redis_keys import RedisKeys
from metering.redis_link import RedisLink
from metering.redis_url import RedisTarget

SCOPES = (1, 4, 6)
SPENT = (1_000, 10_000, 100_000)
IN_FLIGHT = 32
KINDS = (
    ScopeKind.PROJECT,
    ScopeKind.KEY,
    ScopeKind.USER,
    ScopeKind.SESSION,
    ScopeKind.RUN,
)
STOPS = tuple(Scope(kind, "bench") for kind in KINDS)
USED = Vector(1_500_000, 120, 1)
CANDIDATE = Candidate(
    "bench/bench",
    Vector(2_000_000, 220, 1),
    elastic=Elastic(Vector(50_000, 20, 1), 10_000_000, 16),
)
EVENT, FACTS = b"e" * 1_800, b"f" * 600
VERBS = ("reserve", "commit")


@dataclass
class Case:
    """One of what is compared: a tenant of its own, its caps, and what was measured, in us."""

    name: str
    tenant: str
    caps: tuple[Cap, ...]
    latency: dict[str, list[float]] = field(default_factory=lambda: {verb: [] for verb in VERBS})
    cpu: dict[str, list[float]] = field(default_factory=lambda: {verb: [] for verb in VERBS})


class Clock:
    """Redis' time as the scripts are told it: a history is spread over a day, then it stands."""

    now_ms = 1_793_400_000_000

    def __call__(self) -> int:
        return self.now_ms


def caps_over(scopes: int) -> tuple[Cap, ...]:
    """A daily cap over the tenant and as many other scopes as make up the number."""
    named = (Scope(ScopeKind.TENANT), *STOPS)
    return tuple(Cap(scope, ROLLING_DAY, Limit(nano=10**15)) for scope in named[:scopes])


@contextmanager
def redis() -> Iterator[tuple[RedisTarget, psutil.Process]]:
    """A server of our own on a socket, without persistence."""
    binary = shutil.which("redis-server")
    if binary is None:
        raise SystemExit("redis-server is not on the PATH: install Redis to measure it")
    with tempfile.TemporaryDirectory(prefix="weir-") as folder:
        path = str(Path(folder) / "redis.sock")
        command = [binary, "--port", "0", "--unixsocket", path, "--save", "", "--appendonly", "no"]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=folder)
        try:
            yield RedisTarget(path=path), psutil.Process(process.pid)
        finally:
            process.kill()
            process.wait()


class Bench:
    """Reserves and commits against one server."""

    def __init__(self, link: RedisLink, server: psutil.Process) -> None:
        self._link, self._server = link, server
        self.clock, self._keys = Clock(), RedisKeys()
        self._caps = RedisCaps(link, self._keys, now_ms=self.clock)

    async def open(self, cases: Sequence[Case]) -> None:
        """The windows of these tenants are whole: nothing was spent."""
        for case in cases:
            await self._link.call("SET", self._keys.epoch(self._keys.shard(case.tenant)), "1")

    def holds(self, case: Case, count: int) -> list[Hold]:
        """So many new exchanges."""
        now_ms = self.clock.now_ms
        ids = (uuid7(now_ms, os.urandom(10)) for _ in range(count))
        return [Hold(case.tenant, each, case.caps, STOPS) for each in ids]

    async def reserve(self, hold: Hold) -> None:
        """Hold what a request holds."""
        answer = await self._caps.reserve(
            hold, [CANDIDATE], owner="p-0", ttl_ms=60_000, facts=FACTS
        )
        if isinstance(answer, Denial):
            raise SystemExit(f"{hold.tenant} was denied: {answer.reason}")

    async def commit(self, hold: Hold) -> None:
        """End it with what was used."""
        await self._caps.commit(hold, USED, [EVENT])

    async def spend(self, case: Case, requests: int) -> None:
        """A history of so many requests, evenly over the last day."""
        end_ms = self.clock.now_ms
        for number in range(0, requests, IN_FLIGHT):
            self.clock.now_ms = end_ms - 86_400_000 + 86_400_000 * number // requests
            holds = self.holds(case, min(IN_FLIGHT, requests - number))
            await asyncio.gather(*map(self.commit, holds))
            await self._trim(case)
        self.clock.now_ms = end_ms

    async def turn(self, case: Case, calls: int) -> None:
        """Measure each verb, one at a time and many at once."""
        single, many = self.holds(case, calls // 4), self.holds(case, calls)
        for verb, call in (("reserve", self.reserve), ("commit", self.commit)):
            case.latency[verb].append(
                statistics.median([await _timed(call, each) for each in single])
            )
            before = cpu_s(self._server)
            for at in range(0, calls, IN_FLIGHT):
                await asyncio.gather(*map(call, many[at : at + IN_FLIGHT]))
            case.cpu[verb].append((cpu_s(self._server) - before) / calls * 1e6)
        await self._trim(case)

    async def _trim(self, case: Case) -> None:
        """Events are nobody's business here, and would fill the memory."""
        stream = self._keys.stream(self._keys.shard(case.tenant))
        await self._link.call("XTRIM", stream, "MAXLEN", "0")


async def _timed(call: Callable[[Hold], Awaitable[None]], hold: Hold) -> float:
    began = time.perf_counter()
    await call(hold)
    return (time.perf_counter() - began) * 1e6


async def compare(bench: Bench, cases: Sequence[Case], *, calls: int, rounds: int) -> None:
    """Each case in turn, `rounds` times after one that does not count."""
    for number in range(rounds + 1):
        for case in cases:
            await bench.turn(case, calls)
            if not number:
                for measured in (*case.latency.values(), *case.cpu.values()):
                    measured.clear()


def report(title: str, cases: Sequence[Case]) -> None:
    """Medians, and of the ratios to the first case of the same round the median."""
    print(title)
    for name, of in (("latency", lambda case: case.latency), ("Redis CPU", lambda case: case.cpu)):
        for verb in VERBS:
            first = of(cases[0])[verb]
            print(f"  {verb}, {name}")
            for case in cases:
                found = of(case)[verb]
                pairs = zip(found, first, strict=True)
                ratio = statistics.median(mine / base for mine, base in pairs)
                print(f"    {case.name:>18} {statistics.median(found):>7.0f} us {ratio:>7.2f}")


async def run(calls: int, rounds: int) -> None:
    """Both comparisons."""
    with redis() as (target, server):
        async with RedisLink(target, timeout_ms=10_000) as link:
            await link.wait_up(10.0)
            bench = Bench(link, server)
            scopes = [Case(f"{n} scopes", f"scopes-{n}", caps_over(n)) for n in SCOPES]
            spent = [Case(f"{n:,} spent", f"spent-{n}", caps_over(1)) for n in SPENT]
            await bench.open([*scopes, *spent])
            await compare(bench, scopes, calls=calls, rounds=rounds)
            report("caps over more scopes", scopes)
            for case, requests in zip(spent, SPENT, strict=True):
                await bench.spend(case, requests)
            await compare(bench, spent, calls=calls, rounds=rounds)
            report("more requests within the window, one scope", spent)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="make bench-scopes", description=__doc__)
    parser.add_argument("--calls", type=int, default=400, help="of each verb, per case and round")
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args()
    asyncio.run(run(options.calls, options.rounds))


if __name__ == "__main__":
    main()
