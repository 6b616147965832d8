"""The installation of a fault run: Redis, the upstream and `weir serve`, as processes to strike."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import orjson
import psutil

from proxy.api_keys import key_sha256, new_key

START_S = 30.0
TENANTS = {"amber": "40.00", "birch": "40.00", "cedar": "0.30"}
"""Daily caps in USD; the last is small enough to be reached in every run."""

PROGRAMS = {
    "fast": ("-m", "faults.program"),
    "production": ("-c", "from proxy.cli import main; main()"),
}

CONFIG = """\
server: {{host: 127.0.0.1, port: 0, workers: {workers}}}
data_dir: {data_dir}
redis: {{url: "unix://{socket}", shards: 4, on_outage: {on_outage}}}
metering: {{spool: {spool}}}
ledger: {{url: "{ledger}"}}
providers:
  scripted: {{type: openai, base_url: "http://127.0.0.1:{upstream}/v1", api_key: sk-none}}
models:
  steady: {{upstreams: [{{provider: scripted, model: steady}}]}}
  long: {{upstreams: [{{provider: scripted, model: long}}]}}
  quick: {{upstreams: [{{provider: scripted, model: quick}}]}}
  flaky: {{upstreams: [{{provider: scripted, model: flaky}}], fallbacks: [steady]}}
pricing:
  rules: [{{model: "*", input_per_mtok: 2.50, output_per_mtok: 10.00}}]
tenants:
"""


@dataclass
class Scene:
    """Everything of one run lies in `folder`."""

    folder: Path
    workers: int = 2
    spool: str = "outage"
    on_outage: str = "local"
    ledger_url: str = ""
    timing: str = "fast"
    url: str = ""
    keys: dict[str, str] = field(default_factory=dict)
    redis: subprocess.Popen[bytes] | None = None
    serve: subprocess.Popen[str] | None = None
    upstream: subprocess.Popen[bytes] | None = None

    @property
    def socket(self) -> Path:
        return self.folder / "r.sock"

    @property
    def data_dir(self) -> Path:
        return self.folder / "data"

    @property
    def config(self) -> Path:
        return self.folder / "config.yaml"

    @property
    def redis_dir(self) -> Path:
        return self.folder / "redis"

    async def start(self) -> None:
        """Upstream, Redis, weir; returns once requests are answered."""
        self.redis_dir.mkdir(parents=True)
        port = _free_port()
        self.upstream = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "faults.upstream",
                str(port),
                str(self.folder / "upstream.jsonl"),
            ]
        )
        self.keys = {tenant: new_key() for tenant in TENANTS}
        ledger = self.ledger_url or f"sqlite:///{self.data_dir}/ledger.db"
        text = CONFIG.format(
            workers=self.workers,
            data_dir=self.data_dir,
            socket=self.socket,
            on_outage=self.on_outage,
            spool=self.spool,
            ledger=ledger,
            upstream=port,
        )
        for tenant, cap in TENANTS.items():
            key = f"{{id: k, sha256: {key_sha256(self.keys[tenant])}}}"
            limits = f"{{tenant: {{daily_cap: {cap}}}}}"
            text += f"  - {{id: {tenant}, limits: {limits}, keys: [{key}]}}\n"
        self.config.write_text(text)
        await self.start_redis()
        await self.start_weir()

    async def start_redis(self) -> None:
        """With the AOF it has; returns once it answers."""
        log = (self.folder / "redis.log").open("ab")
        self.redis = subprocess.Popen(
            [
                "redis-server", "--port", "0", "--unixsocket", str(self.socket),
                "--dir", str(self.redis_dir), "--save", "", "--appendonly", "yes",
                "--appendfsync", "everysec", "--aof-load-truncated", "yes",
                "--maxmemory-policy", "noeviction",
            ],
            stdout=log,
            stderr=log,
        )  # fmt: skip
        log.close()
        await _until(self._redis_answers, "redis-server")

    def _redis_answers(self) -> bool:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as asking:
            asking.settimeout(1)
            asking.connect(str(self.socket))
            asking.sendall(b"PING\r\n")
            return asking.recv(16).startswith(b"+PONG")
        return False

    async def start_weir(self) -> None:
        """`weir serve` as a user starts it; returns once it has written its state."""
        (self.data_dir / "serve.json").unlink(missing_ok=True)
        log = (self.folder / "weir.log").open("ab")
        self.serve = subprocess.Popen(
            [sys.executable, *PROGRAMS[self.timing], "serve", "--config", str(self.config)],
            stdout=log,
            stderr=log,
            text=True,
            env={**os.environ, "WEIR_LOG": "info"},
        )
        log.close()
        await _until((self.data_dir / "serve.json").exists, "weir serve")
        self.url = orjson.loads((self.data_dir / "serve.json").read_bytes())["url"]
        port = self.url.rpartition(":")[2]  # the same one after a restart: clients go on
        self.config.write_text(self.config.read_text().replace("port: 0,", f"port: {port},", 1))

    def children(self, prefix: str) -> list[psutil.Process]:
        """The living children of `weir serve` whose name begins so: `weir-proxy`, `weir-worker`."""
        if self.serve is None or self.serve.poll() is not None:
            return []
        found = []
        with contextlib.suppress(psutil.Error):
            for child in psutil.Process(self.serve.pid).children():
                with contextlib.suppress(psutil.Error):
                    if child.name().startswith(prefix) and child.status() != psutil.STATUS_ZOMBIE:
                        found.append(child)
        return found

    def growth(self) -> dict[str, tuple[int, int]]:
        """By process, resident bytes and open descriptors."""
        found = {}
        for child in self.children("weir-"):
            with contextlib.suppress(psutil.Error):
                found[child.name()] = (child.memory_info().rss, child.num_fds())
        return found

    def kill_weir(self) -> None:
        """-9 to the supervisor and all its children at once."""
        assert self.serve is not None
        victims = self.children("")
        for pid in [self.serve.pid, *(victim.pid for victim in victims)]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.serve.wait()
        _wait_gone(victims)

    def kill_redis(self) -> None:
        """-9; the AOF stays as the kernel has it."""
        assert self.redis is not None
        self.redis.kill()
        self.redis.wait()
        self.socket.unlink(missing_ok=True)

    def forget_redis(self) -> None:
        """Redis' data is gone, as after a lost disk."""
        shutil.rmtree(self.redis_dir)
        self.redis_dir.mkdir()

    def aof_size(self) -> dict[Path, int]:
        """How long Redis' files are now; what was fsynced a second ago is at least that."""
        return {path: path.stat().st_size for path in self.redis_dir.rglob("*.aof")}

    def truncate_aof(self, sizes: dict[Path, int]) -> int:
        """What was written after `sizes` were read never reached the disk; bytes cut off."""
        lost = 0
        for path, size in sizes.items():
            if path.exists() and path.stat().st_size > size:
                lost += path.stat().st_size - size
                os.truncate(path, size)
        return lost

    def stop(self) -> int:
        """SIGTERM in order; the exit code of `weir serve`."""
        code = 0
        if self.serve is not None:
            self.serve.terminate()
            code = self.serve.wait(90)
        for process in (self.redis, self.upstream):
            if process is not None:
                process.send_signal(signal.SIGCONT)
                process.terminate()
                process.wait(30)
        return code


def _free_port() -> int:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return int(bound.getsockname()[1])


def _wait_gone(processes: list[psutil.Process]) -> None:
    psutil.wait_procs(processes, timeout=10)


async def _until(is_so: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + START_S
    while not is_so():
        if time.monotonic() > deadline:
            raise RuntimeError(f"{what} did not come up within {START_S:.0f} s")
        await asyncio.sleep(0.02)
