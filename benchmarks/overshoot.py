"""`make overshoot`: by how much streams at the edge of a cap pass it.

    python -m benchmarks.overshoot [--streams 64] [--workers 2]

Many streams without `max_tokens` begin at once under a cap that none of them can use up alone and
all of them together do. Each run is an installation of its own. What was spent is read from the
ledger, as it will be invoiced.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import orjson

from benchmarks.installation import Subject, child, free_port, tokenweir, wait_port

CAP_NANO = 300_000_000
OUTPUT_NANO = 10_000
"""What a token of output sells for in `installation.CONFIG`."""

FIRST_HOLD = 64
PAUSE_S = 0.002

SLICES = (64, 256, 1024)
WORDS_PER_CHUNK = (1, 8, 64)

MORE = """
redis: {{timeout_ms: 5000}}
limits: {{default_output_tokens: {first}, stream_slice_tokens: {size}}}
"""


@dataclass(frozen=True)
class Run:
    """What one run came to."""

    spent_nano: int
    tokens: int
    ends: Counter[str]

    @property
    def over_nano(self) -> int:
        """By how much the cap was passed."""
        return max(0, self.spent_nano - CAP_NANO)


async def one_stream(subject: Subject) -> str:
    """Read a stream to its end; how it ended, in a word."""
    parts = urlsplit(subject.url)
    body = orjson.dumps(
        {"model": "bench", "stream": True, "messages": [{"role": "user", "content": "Why?"}]}
    )
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: {parts.netloc}\r\nConnection: close\r\n"
        f"Authorization: Bearer {subject.key}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    writer.write(head.encode() + body)
    answer = await reader.read()
    writer.close()
    if b" 200 " not in answer[:16]:
        return "refused"
    if b'"finish_reason":"length"' in answer[-800:] and b"[DONE]" in answer[-40:]:
        return "ended"
    return "whole" if b"[DONE]" in answer[-40:] else "broken"


async def all_streams(subject: Subject, streams: int) -> Counter[str]:
    """All of them at once."""
    return Counter(await asyncio.gather(*(one_stream(subject) for _ in range(streams))))


def settled(folder: Path) -> tuple[int, int]:
    """What the ledger says was spent, and for how many tokens of output."""
    words = ["usage", "--json", "--config", folder / "config.yaml", "--data-dir", folder / "data"]
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        done = subprocess.run(
            [sys.executable, "-c", "from proxy.cli import main; main()", *map(str, words)],
            stdout=subprocess.PIPE,
            check=False,
        )
        report = orjson.loads(done.stdout) if done.returncode == 0 else {"pending": 1}
        if report["pending"] == 0 and report["totals"]["requests"]:
            totals = report["totals"]
            return totals["admission_nano"], totals["units"].get("output_text", 0)
        time.sleep(0.2)
    raise SystemExit("the worker did not settle")


def measure(size: int, words: int, streams: int, workers: int) -> Run:
    """One run: a slice of this size, chunks of so many words."""
    port = free_port()
    upstream = ["-m", "benchmarks.upstream", str(port), "100000", str(PAUSE_S), str(words)]
    with tempfile.TemporaryDirectory(prefix="weir-bench-") as name, child(*upstream):
        wait_port(port)
        folder, more = Path(name), MORE.format(first=FIRST_HOLD, size=size)
        cap = f"daily_cap: {CAP_NANO / 1e9:.2f}"
        with tokenweir(f"http://127.0.0.1:{port}", folder, workers, more, cap) as ours:
            ends = asyncio.run(all_streams(ours, streams))
            return Run(*settled(folder), ends)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="make overshoot", description=__doc__)
    parser.add_argument("--streams", type=int, default=64)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    print(f"{options.streams} streams, {options.workers} processes, cap {CAP_NANO:,} nano-USD")
    print("slice  words/chunk  spent nano    over nano  over tokens  unused tokens  ends")
    for size in SLICES:
        for words in WORDS_PER_CHUNK:
            run = measure(size, words, options.streams, options.workers)
            unused = max(0, CAP_NANO - run.spent_nano) // OUTPUT_NANO
            print(
                f"{size:5} {words:12} {run.spent_nano:11,} {run.over_nano:12,} "
                f"{-(-run.over_nano // OUTPUT_NANO):12} {unused:14}  {dict(run.ends)}",
                flush=True,
            )


if __name__ == "__main__":
    main()
