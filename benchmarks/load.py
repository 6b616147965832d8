"""Load from a process of its own: so many connections, each asking again when it was answered.

    python -m benchmarks.load URL KEY plain|stream CONNECTIONS REQUESTS

Prints one JSON object: requests, errors, seconds, and latencies in milliseconds.
"""

from __future__ import annotations

import asyncio
import sys
import time
from urllib.parse import urlsplit

import orjson
import uvloop


class Client:
    """One connection and its share of the requests; reads answers by hand, which is cheap."""

    def __init__(self, host: str, port: int, request: bytes) -> None:
        self._host, self._port, self._request = host, port, request
        self.latencies_ms: list[float] = []
        self.first_byte_ms: list[float] = []
        self.errors = 0

    async def run(self, requests: int) -> None:
        reader, writer = await asyncio.open_connection(self._host, self._port)
        for _ in range(requests):
            started = time.perf_counter()
            writer.write(self._request)
            head = await reader.readuntil(b"\r\n\r\n")
            self.first_byte_ms.append((time.perf_counter() - started) * 1000)
            lowered = head.lower()
            if b"transfer-encoding: chunked" in lowered:
                await self._read_chunks(reader)
            else:
                size = int(lowered.partition(b"content-length:")[2].partition(b"\r\n")[0])
                await reader.readexactly(size)
            self.errors += b" 200 " not in head[:16]
            self.latencies_ms.append((time.perf_counter() - started) * 1000)
        writer.close()

    async def _read_chunks(self, reader: asyncio.StreamReader) -> None:
        while True:
            size = int(await reader.readline(), 16)
            await reader.readexactly(size + 2)
            if size == 0:
                return


async def main(url: str, key: str, kind: str, connections: int, requests: int) -> None:
    parts = urlsplit(url)
    body = orjson.dumps(
        {
            "model": "bench",
            "stream": kind == "stream",
            "max_tokens": 256,
            "messages": [
                {"role": "system", "content": "You answer briefly."},
                {"role": "user", "content": "What is a weir, and what is it good for?"},
            ],
        }
    )
    request = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: {parts.netloc}\r\n"
        f"Authorization: Bearer {key}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode() + body
    clients = [Client(parts.hostname or "", parts.port or 80, request) for _ in range(connections)]
    started = time.perf_counter()
    await asyncio.gather(*(client.run(requests // connections) for client in clients))
    seconds = time.perf_counter() - started
    latencies = sorted(ms for client in clients for ms in client.latencies_ms)
    first = sorted(ms for client in clients for ms in client.first_byte_ms)
    result = {
        "requests": len(latencies),
        "errors": sum(client.errors for client in clients),
        "seconds": seconds,
        "p50_ms": latencies[len(latencies) // 2],
        "p99_ms": latencies[len(latencies) * 99 // 100],
        "first_byte_p50_ms": first[len(first) // 2],
    }
    sys.stdout.write(orjson.dumps(result).decode() + "\n")


if __name__ == "__main__":
    url, key, kind, connections, requests = sys.argv[1:]
    uvloop.run(main(url, key, kind, int(connections), int(requests)))
