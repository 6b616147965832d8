"""`make bench`: what a request and a relayed chunk cost in CPU, beside a bare relay.

Both proxies stand before the same upstream and get the same load, one after the other, in turns.
CPU is what the kernel booked for the proxy's process; Redis is booked apart. Latency added is the
proxy's median less that of the upstream asked directly, one request at a time.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import psutil

from benchmarks.upstream import CHUNKS, PAUSE_S

CONFIG = """
server: {{host: 127.0.0.1}}
providers:
  bench: {{type: openai, base_url: "{upstream}/v1", api_key: "${{BENCH_KEY}}"}}
models: {{bench: {{upstreams: [{{provider: bench, model: bench}}]}}}}
pricing:
  rules: [{{model: bench, input_per_mtok: 2.50, output_per_mtok: 10.00}}]
tenants:
  - id: bench
    name: Bench
    limits: {{tenant: {{daily_cap: 100000.00, burst_threshold: 0.8}}}}
    keys: [{{id: bench, mint: true}}]
"""


@dataclass
class Subject:
    """A proxy to measure: where it listens and which processes are booked."""

    name: str
    url: str
    key: str
    process: psutil.Process
    redis: psutil.Process | None = None


def cpu_s(process: psutil.Process | None) -> float:
    """Seconds that the threads of a process were on a CPU so far, as the scheduler counts them."""
    if process is None:
        return 0.0
    tasks = Path(f"/proc/{process.pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


def load(subject_url: str, key: str, kind: str, connections: int, requests: int) -> dict[str, Any]:
    """Run the load in a process of its own and return what it saw."""
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "benchmarks.load",
            subject_url,
            key,
            kind,
            str(connections),
            str(requests),
        ],
        stdout=subprocess.PIPE,
        check=True,
    )
    result: dict[str, Any] = orjson.loads(done.stdout)
    if result["errors"]:
        raise SystemExit(f"{result['errors']} of {result['requests']} answers were not 200")
    return result


def measured(subject: Subject, kind: str, connections: int, requests: int) -> dict[str, float]:
    """CPU microseconds per request (and per chunk) of the proxy and of Redis, and latencies."""
    before, redis_before = cpu_s(subject.process), cpu_s(subject.redis)
    seen = load(subject.url, subject.key, kind, connections, requests)
    spent = cpu_s(subject.process) - before
    redis_spent = cpu_s(subject.redis) - redis_before
    return {
        "us": spent / seen["requests"] * 1e6,
        "redis_us": redis_spent / seen["requests"] * 1e6,
        "rate": seen["requests"] / seen["seconds"],
        **{name: seen[name] for name in ("p50_ms", "p99_ms", "first_byte_p50_ms")},
    }


def free_port() -> int:
    """A port nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def child(*command: str, **env: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process for the length of the block."""
    process = subprocess.Popen(
        [sys.executable, *command],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, **env},
    )
    try:
        yield process
    finally:
        process.terminate()
        process.wait(40)


def wait_port(port: int) -> None:
    """Until somebody listens there."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise SystemExit(f"nobody listens on port {port}")


@contextlib.contextmanager
def bare(upstream: str) -> Iterator[Subject]:
    """The floor."""
    port = free_port()
    with child("-m", "benchmarks.bare_relay", str(port), upstream) as process:
        wait_port(port)
        yield Subject("bare relay", f"http://127.0.0.1:{port}", "x", psutil.Process(process.pid))


@contextlib.contextmanager
def tokenweir(upstream: str, folder: Path) -> Iterator[Subject]:
    """`weir serve` with one proxy process, everything on."""
    port = free_port()
    (folder / "config.yaml").write_text(CONFIG.format(upstream=upstream))
    data_dir = folder / "data"
    words = ["serve", "--config", str(folder / "config.yaml"), "--data-dir", str(data_dir),
             "--port", str(port), "--workers", "1"]  # fmt: skip
    with child("-c", "from proxy.cli import main; main()", *words, BENCH_KEY="k") as supervisor:
        wait_ready(f"http://127.0.0.1:{port}/readyz")
        family = psutil.Process(supervisor.pid).children(recursive=True)
        proxy = next(each for each in family if listens(each, port))
        redis = next(each for each in family if "redis-server" in each.name())
        key = next((data_dir / "keys").iterdir()).read_text().strip()
        yield Subject("tokenweir", f"http://127.0.0.1:{port}", key, proxy, redis)


def listens(process: psutil.Process, port: int) -> bool:
    """Whether this process has the listening socket of that port."""
    return any(
        each.status == psutil.CONN_LISTEN and each.laddr.port == port
        for each in process.net_connections("tcp")
    )


def wait_ready(url: str) -> None:
    """Until the proxy can check spend."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=2) as answer:
            if answer.status == 200:
                return
        time.sleep(0.05)
    raise SystemExit("tokenweir did not become ready")


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


def row(title: str, floor: float | None, ours: float) -> str:
    """One line of the table."""
    left = "-" if floor is None else f"{floor:.2f}" if floor < 10 else f"{floor:.0f}"
    right = f"{ours:.2f}" if ours < 10 else f"{ours:.0f}"
    ratio = "" if not floor else f"{ours / floor:.2f}"
    return f"{title:<35} {left:>12} {right:>12} {ratio:>7}"


if __name__ == "__main__":
    main()
