"""`weir serve` takes up a changed configuration while streams run: real processes, real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
import yaml
from fixtures_needs import need
from fixtures_weir import Weir, serving

pytestmark = [pytest.mark.slow(20), pytest.mark.timeout(120)]

KEY, OTHER = "sk-weir-aaaaaaaaaaaa-" + "a" * 43, "sk-weir-bbbbbbbbbbbb-" + "b" * 43


def _sha(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def _config() -> dict[str, Any]:
    return {
        "server": {"host": "127.0.0.1", "workers": 2, "watch_config": False},
        "redis": {"timeout_ms": 5000},
        "providers": {"sim": {"type": "simulator"}},
        "models": {
            "slow": {"upstreams": [{"provider": "sim", "model": "demo?tokens=50&chunk_ms=400"}]},
            "quick": {"upstreams": [{"provider": "sim", "model": "demo?tokens=4&chunk_ms=1"}]},
        },
        "pricing": {"rules": [{"model": "demo*", "input_per_mtok": 1, "output_per_mtok": 2}]},
        "tenants": [
            {
                "id": "acme",
                "name": "Acme",
                "limits": {"tenant": {"daily_cap": 100}},
                "keys": [{"id": "k1", "sha256": _sha(KEY)}, {"id": "k2", "sha256": _sha(OTHER)}],
            }
        ],
    }


class Served:
    """A running `weir serve` whose file can be rewritten."""

    def __init__(self, weir: Weir, log: Path) -> None:
        self.weir = weir
        self.log = log
        self.config = _config()

    def write(self, text: str | None = None) -> None:
        """Put the file in place as an editor does: beside it, then over it."""
        beside = self.weir.config.with_suffix(".new")
        beside.write_text(yaml.safe_dump(self.config) if text is None else text)
        beside.replace(self.weir.config)

    def reload(self) -> dict[str, Any]:
        """Write, and `weir reload`."""
        self.write()
        body: dict[str, Any] = self.weir.json("reload")
        return body

    async def signal(self) -> dict[str, Any]:
        """Write, SIGHUP, and what is written down of it; quicker than the command."""
        self.write()
        asked_ns = time.time_ns()
        self.weir.process.send_signal(signal.SIGHUP)
        path = self.weir.data_dir / "reload.json"
        await _until(lambda: path.exists() and _read(path)["started_ns"] >= asked_ns)
        return _read(path)

    async def ask(
        self, http: aiohttp.ClientSession, model: str = "quick", key: str = KEY
    ) -> tuple[int, Any]:
        """One short request on a connection of its own, so that either proxy may get it."""
        async with http.post(
            f"{self.weir.url}/v1/chat/completions",
            json={"model": model, "messages": [{"role": "user", "content": "hi"}]},
            headers={"Authorization": f"Bearer {key}", "Connection": "close"},
        ) as answer:
            return answer.status, await answer.json()

    async def statuses(self, http: aiohttp.ClientSession, **asked: str) -> set[int]:
        """Of many requests, so that both proxies are among those who answer."""
        return {status for status, _ in [await self.ask(http, **asked) for _ in range(12)]}


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    need("redis-server")
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(_config()))
    config.chmod(0o600)
    with serving(tmp_path, config=config) as weir:
        yield Served(weir, tmp_path / "serve.log")


async def _stream(http: aiohttp.ClientSession, url: str, begun: asyncio.Semaphore) -> str:
    """One stream from its first byte to its end."""
    async with http.post(
        f"{url}/v1/chat/completions",
        json={
            "model": "slow",
            "stream": True,
            "messages": [{"role": "user", "content": "tell me"}],
            "stream_options": {"include_usage": True},
        },
        headers={"Authorization": f"Bearer {KEY}"},
    ) as answer:
        assert answer.status == 200, await answer.text()
        body = b""
        async for chunk in answer.content.iter_any():
            if not body:
                begun.release()
            body += chunk
    return body.decode()


async def test_200_streams_outlive_reloads_that_change_all_they_stand_on(served: Served) -> None:
    """Their route is renamed, their price raised, their key revoked, and each ends with its usage.

    New requests see every change at once, at both proxies, and the worker rates both prices.
    """
    url, begun = served.weir.url, asyncio.Semaphore(0)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as http:
        streams = []
        for _ in range(10):
            streams += [asyncio.create_task(_stream(http, url, begun)) for _ in range(20)]
            for _ in range(20):
                await begun.acquire()
        models = served.config["models"]
        models["renamed"] = models.pop("slow")
        first = await served.signal()
        unknown = await served.statuses(http, model="slow")
        served.config["pricing"]["rules"][0]["output_per_mtok"] = 3
        second = await served.signal()
        tenant = served.config["tenants"][0]
        tenant["keys"].pop(0)
        third = await served.signal()
        revoked = await served.statuses(http, key=KEY)
        still = await served.statuses(http, key=OTHER)
        running = sum(not each.done() for each in streams)
        bodies = await asyncio.gather(*streams)

    assert first["applied"] == ["models.slow", "models.renamed"]
    assert second["applied"] == ["pricing"]
    assert third["applied"] == ["tenants.acme"]
    assert set(third["processes"]) == {"proxy-0", "proxy-1", "worker"}
    assert set(third["processes"].values()) == {"applied"}
    assert (unknown, revoked, still) == ({404}, {401}, {200})
    assert running == 200
    assert [body for body in bodies if not body.endswith("data: [DONE]\n\n")] == []
    assert [body for body in bodies if '"completion_tokens":50' not in body.replace(" ", "")] == []
    usage = await asyncio.to_thread(served.weir.settled, 200 + 12)
    assert usage["pending"] == 0
    assert served.weir.run("verify").returncode == 0


async def test_a_faulty_file_leaves_the_last_good_one(served: Served) -> None:
    """It is named with line and column, nothing changes, and the mended file is taken up."""
    async with aiohttp.ClientSession() as http:
        served.write(yaml.safe_dump(_config()) + "nonsense: 1\n")
        refused = await asyncio.to_thread(served.weir.run, "reload")
        served.weir.process.send_signal(signal.SIGHUP)
        await _until(lambda: "configuration_refused" in served.log.read_text())
        before = await served.statuses(http)
        served.config["tenants"][0]["limits"]["tenant"]["daily_cap"] = 0
        mended = await asyncio.to_thread(served.reload)
        after = await served.statuses(http)

    fault = next(line for line in served.log.read_text().splitlines() if "nonsense" in line)
    assert refused.returncode == 2
    assert "nonsense" in refused.stderr
    assert orjson.loads(fault)["line"] > 0
    assert (before, mended["ok"], after) == ({200}, True, {400})


async def test_the_file_is_watched_and_what_waits_is_named(served: Served) -> None:
    """Without being asked a lower cap holds; Redis' timeout waits for a restart."""
    async with aiohttp.ClientSession() as http:
        served.config["server"]["watch_config"] = True
        await asyncio.to_thread(served.reload)
        served.config["tenants"][0]["limits"]["tenant"]["daily_cap"] = 0
        served.config["redis"]["timeout_ms"] = 5001
        served.write()
        await _until(lambda: "the file has changed" in served.log.read_text())
        refused = await served.statuses(http)

    said = next(
        orjson.loads(line)
        for line in served.log.read_text().splitlines()
        if "the file has changed" in line
    )
    assert said["needs_a_restart"] == ["redis.timeout_ms"]
    assert refused == {400}


async def test_a_storm_of_signals_ends_with_the_newest_file(served: Served) -> None:
    """Two hundred SIGHUPs while the file changes; both proxies end with what it said last."""
    async with aiohttp.ClientSession() as http:
        for turn in range(200):
            if turn % 20 == 0:
                served.config["models"][f"m{turn}"] = served.config["models"]["quick"]
                served.write()
            served.weir.process.send_signal(signal.SIGHUP)
            await asyncio.sleep(0.005)
        served.config["models"]["last"] = served.config["models"]["quick"]
        report = await asyncio.to_thread(served.reload)
        statuses = await served.statuses(http, model="last")

    assert report["ok"]
    assert statuses == {200}
    assert re.search("child ended", served.log.read_text()) is None


async def test_a_proxy_that_is_started_again_begins_with_the_newest(served: Served) -> None:
    """A killed proxy comes back with the reloaded settings, and an announcement is heard."""
    served.config["models"]["new"] = served.config["models"]["quick"]
    served.write()
    announced = await asyncio.to_thread(served.weir.run, "reload", "--all")
    for pid in _children(served.weir.process.pid, "weir-proxy-1"):
        os.kill(pid, signal.SIGKILL)
    await _until(lambda: "child ended" in served.log.read_text())
    async with aiohttp.ClientSession() as http:
        await asyncio.sleep(1)
        statuses = await served.statuses(http, model="new")
    await _until(lambda: "announced in Redis" in served.log.read_text())

    assert announced.returncode == 0, announced.stderr
    assert statuses == {200}


def _read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = orjson.loads(path.read_bytes())
    return found


def _children(parent: int, name: str) -> list[int]:
    pids = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return [int(pid) for pid in pids if Path(f"/proc/{pid}/comm").read_text().strip() == name]


async def _until(holds: Any) -> None:
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline
        with contextlib.suppress(TimeoutError):
            await asyncio.sleep(0.05)
