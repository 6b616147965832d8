"""`weir serve` itself: a real process with everything it starts, on a free port."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest
from fixtures_needs import need

ROOT = Path(__file__).parent.parent
COMMAND = [sys.executable, "-c", "from proxy.cli import main; main()"]
START_S = 20.0


@dataclass
class Weir:
    """A running `weir serve` and its command line."""

    process: subprocess.Popen[str]
    config: Path
    data_dir: Path
    url: str
    key: str
    banner: str
    admin_url: str = ""
    """Of the admin API, where there is one."""

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """One `weir` command against the same configuration and data."""
        return subprocess.run(
            [*COMMAND, *words, "--config", str(self.config), "--data-dir", str(self.data_dir)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env=environment(),
        )

    def json(self, *words: str) -> Any:
        """What the command prints with `--json`."""
        done = self.run(*words, "--json")
        assert done.returncode == 0, done.stderr
        return orjson.loads(done.stdout)

    def settled(self, requests: int, *words: str) -> Any:
        """`weir usage`, once at least that many requests are settled."""
        deadline = time.monotonic() + START_S
        while True:
            usage = self.json("usage", *words)
            if usage["pending"] == 0 and usage["totals"]["requests"] >= requests:
                return usage
            assert time.monotonic() < deadline, usage
            time.sleep(0.1)

    def stop(self) -> int:
        """SIGTERM, and the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)


def environment(**more: str) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if name != "OPENAI_API_KEY"}
    return {**clean, "PYTHONPATH": str(ROOT), "WEIR_LOG": "info", **more}


@contextlib.contextmanager
def serving(
    folder: Path,
    *,
    config: Path = ROOT / "config.yaml",
    words: tuple[str, ...] = (),
    settles: bool = True,
    program: Sequence[str] = COMMAND,
) -> Iterator[Weir]:
    """Start `weir serve` in `folder` and wait for its banner; killed at the end.

    With `settles` also for its worker, which makes the ledger after the first requests are served.
    """
    data_dir = folder / "data"
    with (folder / "serve.log").open("a") as log:
        process = subprocess.Popen(
            [
                *program,
                "serve",
                "--config",
                str(config),
                "--data-dir",
                str(data_dir),
                "--port",
                "0",
                "--admin-port",
                "0",
                *words,
            ],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=environment(),
        )
    try:
        banner = _banner(process, folder)
        state = orjson.loads((data_dir / "serve.json").read_bytes())
        keys = sorted((data_dir / "keys").glob("*"))
        key = keys[0].read_text().strip() if keys else ""
        if settles:
            _wait_for_ledger(data_dir / "ledger.db")
        yield Weir(process, config, data_dir, state["url"], key, banner, state["admin"] or "")
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        assert process.stdout is not None
        process.stdout.close()


def _banner(process: subprocess.Popen[str], folder: Path) -> str:
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if "Ctrl-C" in line:
            return "".join(lines)
    raise AssertionError(f"weir serve ended: {(folder / 'serve.log').read_text()[-3000:]}")


def _wait_for_ledger(path: Path) -> None:
    """Until the tables are there."""
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        with (
            contextlib.suppress(sqlite3.Error),
            contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as ledger,
        ):
            if ledger.execute("SELECT version_num FROM alembic_version").fetchone():
                return
        time.sleep(0.05)
    raise AssertionError("the worker made no ledger")


@pytest.fixture(scope="session")
def weir(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Weir]:
    """The shipped configuration, served; shared by the tests that only add to it."""
    need("redis-server")
    with serving(tmp_path_factory.mktemp("weir")) as running:
        yield running
