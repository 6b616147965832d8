"""`make bench`: what a request and a relayed chunk cost in CPU, beside a bare relay.

Both proxies stand before the same upstream and get the same load, one after the other, in turns.
CPU is what the kernel booked for the proxy's process; Redis is booked apart. Latency added is the
proxy's median less that of the upstream asked directly, one request at a time.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.installation import (
    Subject,
    bare,
    child,
    free_port,
    load,
    measured,
    tokenweir,
    wait_port,
)
from benchmarks.upstream import CHUNKS, PAUSE_S


def compare(
    subjects: list[Subject], kind: str, connections: int, requests: int, rounds: int
) -> dict[str, dict[str, float]]:
    """Each subject in turn, `rounds` times after one that does not count; medians."""
    runs: dict[str, list[dict[str, float]]] = {subject.name: [] for subject in subjects}
    for number in range(rounds + 1):
        for subject in subjects:
            run = measured(subject, kind, connections, requests)
            if number:
                runs[subject.name].append(run)
    return {
        name: {key: statistics.median(run[key] for run in done) for key in done[0]}
        for name, done in runs.items()
    }


def main() -> None:
    """Print the comparison."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--requests", type=int, default=4000, help="plain requests per round")
    parser.add_argument("--streams", type=int, default=20, help="streams at once")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    upstream_port = free_port()
    upstream = f"http://127.0.0.1:{upstream_port}"
    with (
        tempfile.TemporaryDirectory(prefix="weir-bench-") as folder,
        child("-m", "benchmarks.upstream", str(upstream_port)),
    ):
        wait_port(upstream_port)
        with bare(upstream) as floor, tokenweir(upstream, Path(folder)) as ours:
            subjects = [floor, ours]
            plain = compare(subjects, "plain", 32, options.requests, options.rounds)
            calm = compare(subjects, "plain", 1, 500, options.rounds)
            direct = load(upstream, "x", "plain", 1, 500)
            streams = compare(
                subjects, "stream", options.streams, options.streams * 4, options.rounds
            )
    report(plain, calm, direct, streams, options.streams)


def report(
    plain: dict[str, dict[str, float]],
    calm: dict[str, dict[str, float]],
    direct: dict[str, Any],
    streams: dict[str, dict[str, float]],
    streams_at_once: int,
) -> None:
    """The table, and the ratios that matter."""
    floor, ours = plain["bare relay"], plain["tokenweir"]
    print(f"plain requests, 32 in flight        {'bare relay':>12} {'tokenweir':>12} {'ratio':>7}")
    print(row("  proxy CPU, us per request", floor["us"], ours["us"]))
    print(row("  Redis CPU, us per request", None, ours["redis_us"]))
    print(row("  requests per second", floor["rate"], ours["rate"]))
    print(row("  p99, ms", floor["p99_ms"], ours["p99_ms"]))
    print("one request at a time")
    for name in ("p50_ms", "p99_ms"):
        less = direct[name]
        values = [calm[each][name] - less for each in ("bare relay", "tokenweir")]
        print(row(f"  added latency, {name[:3]}, ms", *values))
    rate = streams_at_once / PAUSE_S
    print(f"{streams_at_once} streams, a chunk every {PAUSE_S * 1000:.0f} ms "
          f"({rate:.0f} chunks/s in all), {CHUNKS} chunks each")  # fmt: skip
    floor, ours = streams["bare relay"], streams["tokenweir"]
    print(row("  proxy CPU, us per chunk", floor["us"] / CHUNKS, ours["us"] / CHUNKS))
    print(row("  Redis CPU, us per stream", None, ours["redis_us"]))
    print(row("  first byte, p50, ms", floor["first_byte_p50_ms"], ours["first_byte_p50_ms"]))
    print("into the ledger, events per second: make bench-ledger")


def row(title: str, floor: float | None, ours: float) -> str:
    """One line of the table."""
    left = "-" if floor is None else f"{floor:.2f}" if floor < 10 else f"{floor:.0f}"
    right = f"{ours:.2f}" if ours < 10 else f"{ours:.0f}"
    ratio = "" if not floor else f"{ours / floor:.2f}"
    return f"{title:<35} {left:>12} {right:>12} {ratio:>7}"


if __name__ == "__main__":
    main()
