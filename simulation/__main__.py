"""`make simulate`: thousands of seeds, or one of them with a death at every point.

A seed that fails is printed with what does not hold and its last steps; it fails again in the same
way with `--from SEED --seeds 1`, on any machine.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
from collections.abc import Iterator

from simulation.runs import Outcome, Runs, runs

_CHUNK = 10


def main() -> int:
    """Run what was asked for; 1 when something did not hold."""
    parser = argparse.ArgumentParser(prog="make simulate", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1_000, help="how many")
    parser.add_argument("--from", dest="first", type=int, default=0, help="the first one")
    parser.add_argument("--size", type=int, default=40, help="events of a world, about")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument(
        "--every-point", action="store_true", help="kill at each point of a seed in turn"
    )
    options = parser.parse_args()
    began_s = time.perf_counter()
    total, failed, done = Outcome(-1), 0, 0
    for outcome in _outcomes(options):
        done += 1
        total.events += outcome.events
        total.entries += outcome.entries
        total.lives += outcome.lives
        total.met += outcome.met
        total.kills += outcome.kills
        if outcome.findings:
            failed += 1
            _tell(outcome)
        if done % 100 == 0:
            print(_summary(total, done, failed, time.perf_counter() - began_s), flush=True)
    _report(total, done, failed, time.perf_counter() - began_s)
    return 1 if failed else 0


def _outcomes(options: argparse.Namespace) -> Iterator[Outcome]:
    seeds = range(options.first, options.first + options.seeds)
    if options.every_point:
        for seed in seeds:
            yield from _every_point(seed, options.size)
        return
    chunks = [(seeds[at : at + _CHUNK], options.size) for at in range(0, len(seeds), _CHUNK)]
    with multiprocessing.get_context("fork").Pool(options.jobs) as pool:
        for outcomes in pool.imap_unordered(_run, chunks):
            yield from outcomes


def _run(chunk: tuple[range, int]) -> list[Outcome]:
    seeds, size = chunk
    with runs() as ready:
        return [ready.run(seed, size=size) for seed in seeds]


def _every_point(seed: int, size: int) -> Iterator[Outcome]:
    """The same course again and again, each time with one death, one point later."""
    with runs() as ready:
        for number in range(1, points_of(ready, seed, size) + 1):
            outcome = ready.run(seed, size=size, only=number)
            outcome.findings = [f"killed at point {number}: {each}" for each in outcome.findings]
            yield outcome


def points_of(ready: Runs, seed: int, size: int) -> int:
    """How many points the course has when nobody dies."""
    return ready.run(seed, size=size, only=0).met.total()


def _tell(outcome: Outcome) -> None:
    print(f"\nseed {outcome.seed} FAILED")
    for each in outcome.findings[:10]:
        print(f"  {each[:1_000]}")
    if len(outcome.findings) > 10:
        print(f"  and {len(outcome.findings) - 10} more")
    print("  its last steps:")
    for step in outcome.trace[-25:]:
        print(f"    {step}")
    sys.stdout.flush()


def _report(total: Outcome, done: int, failed: int, took_s: float) -> None:
    missed = sorted(total.met.keys() - total.kills.keys())
    print(_summary(total, done, failed, took_s))
    if missed:
        print("no death at: " + ", ".join(missed))


def _summary(total: Outcome, done: int, failed: int, took_s: float) -> str:
    return (
        f"{done} runs in {took_s:.0f} s ({done / took_s:.1f} a second), {failed} failed: "
        f"{total.events:,} events, {total.entries:,} deliveries, {total.lives:,} lives of workers, "
        f"{total.kills.total():,} deaths at {len(total.kills)} of {len(total.met)} kinds of points"
    )


if __name__ == "__main__":
    sys.exit(main())
