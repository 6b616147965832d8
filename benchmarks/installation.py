"""What is measured: Tokenweir as it is served, the bare relay, and how processes are booked."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import psutil

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
    limits: {{tenant: {{{cap}, burst_threshold: 0.8}}}}
    keys: [{{id: bench, mint: true}}]
"""


@dataclass
class Subject:
    """A proxy to measure: where it listens and which processes are booked."""

    name: str
    url: str
    key: str
    processes: Sequence[psutil.Process]
    redis: psutil.Process | None = None
    others: Sequence[psutil.Process] = ()


def cpu_s(*processes: psutil.Process | None) -> float:
    """Seconds that the threads of these were on a CPU so far, as the scheduler counts them."""
    tasks = [
        task
        for process in processes
        if process is not None
        for task in Path(f"/proc/{process.pid}/task").iterdir()
    ]
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
    before, redis_before = cpu_s(*subject.processes), cpu_s(subject.redis)
    seen = load(subject.url, subject.key, kind, connections, requests)
    spent = cpu_s(*subject.processes) - before
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
        yield Subject("bare relay", f"http://127.0.0.1:{port}", "x", [psutil.Process(process.pid)])


@contextlib.contextmanager
def tokenweir(
    upstream: str,
    folder: Path,
    workers: int = 1,
    more: str = "",
    cap: str = "daily_cap: 100000.00",
) -> Iterator[Subject]:
    """`weir serve` with so many proxy processes, everything on; `more` goes below the file."""
    port = free_port()
    (folder / "config.yaml").write_text(CONFIG.format(upstream=upstream, cap=cap) + more)
    data_dir = folder / "data"
    words = ["serve", "--config", str(folder / "config.yaml"), "--data-dir", str(data_dir),
             "--port", str(port), "--workers", str(workers)]  # fmt: skip
    with child("-c", "from proxy.cli import main; main()", *words, BENCH_KEY="k") as supervisor:
        wait_ready(f"http://127.0.0.1:{port}/readyz")
        family = psutil.Process(supervisor.pid).children(recursive=True)
        proxies = [each for each in family if each.name().startswith("weir-proxy")]
        redis = next(each for each in family if "redis-server" in each.name())
        others = [each for each in family if each not in (*proxies, redis)]
        key = next((data_dir / "keys").iterdir()).read_text().strip()
        yield Subject("tokenweir", f"http://127.0.0.1:{port}", key, proxies, redis, others)


def wait_ready(url: str) -> None:
    """Until the proxy can check spend."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=2) as answer:
            if answer.status == 200:
                return
        time.sleep(0.05)
    raise SystemExit("tokenweir did not become ready")
