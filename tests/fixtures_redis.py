"""A real Redis for tests: one server per worker process, a fresh key prefix per test."""

from __future__ import annotations

import itertools
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from metering.redis_keys import RedisKeys

_prefixes = itertools.count()


@dataclass(frozen=True)
class RedisServer:
    """A running redis-server without persistence, on a socket of its own."""

    process: subprocess.Popen[bytes]
    path: str


def start_redis(binary: str, folder: Path) -> RedisServer:
    path = str(folder / "redis.sock")
    command = [binary, "--port", "0", "--unixsocket", path, "--save", "", "--appendonly", "no"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=folder)
    deadline = time.monotonic() + 5
    while not Path(path).exists():
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            raise RuntimeError(f"{binary} did not start")
        time.sleep(0.01)
    return RedisServer(process, path)


def _serve() -> Iterator[RedisServer]:
    binary = shutil.which("redis-server")
    if binary is None:
        pytest.skip("no redis-server here")
    # Not tmp_path: a socket path has at most 107 bytes.
    with tempfile.TemporaryDirectory(prefix="weir-") as folder:
        server = start_redis(binary, Path(folder))
        yield server
        server.process.kill()
        server.process.wait()


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """The server from PATH."""
    yield from _serve()


@pytest.fixture
def redis_keys() -> RedisKeys:
    """A prefix no other test of this worker uses."""
    return RedisKeys(prefix=f"t{next(_prefixes)}")
