"""Tenants and keys that are made while `weir serve` runs: real processes, one story."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import aiohttp
import orjson
import pytest
import redis
import yaml
from click.testing import CliRunner, Result
from fixtures_needs import need
from fixtures_weir import Weir, serving

from metering.settlement.ledger.registry_books import revoke_key
from metering.settlement.ledger.store import Ledger, open_ledger
from proxy.cli import weir as command_line
from proxy.embedded_redis import redis_url

pytestmark = [pytest.mark.slow(20), pytest.mark.timeout(120)]

CONFIG = {
    "server": {"host": "127.0.0.1", "workers": 2},
    "redis": {"timeout_ms": 5000},
    "providers": {"sim": {"type": "simulator"}},
    "models": {
        "slow": {"upstreams": [{"provider": "sim", "model": "demo?tokens=20&chunk_ms=300"}]},
        "quick": {"upstreams": [{"provider": "sim", "model": "demo?tokens=4&chunk_ms=1"}]},
    },
    "pricing": {"rules": [{"model": "demo*", "input_per_mtok": 1, "output_per_mtok": 2}]},
    "tenants": [{"id": "ours", "name": "Ours"}],
}
LATE_S = 10.0
"""A second's look and the time to take it up, on a machine that does other things as well."""


@pytest.fixture(scope="module")
def weir(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Weir]:
    need("redis-server")
    folder = tmp_path_factory.mktemp("registry")
    config = folder / "config.yaml"
    config.write_text(yaml.safe_dump(CONFIG))
    config.chmod(0o600)
    with serving(folder, config=config) as running:
        yield running


async def ask(weir: Weir, key: str, path: str = "/v1/key") -> tuple[int, Any]:
    """On a connection of its own, so that either proxy may get it."""
    headers = {"Authorization": f"Bearer {key}", "Connection": "close"}
    async with (
        aiohttp.ClientSession() as http,
        http.get(f"{weir.url}{path}", headers=headers) as answer,
    ):
        return answer.status, await answer.json()


async def until(weir: Weir, key: str, status: int) -> float:
    """How long until either proxy gives this status, several times in a row."""
    began = time.monotonic()
    same = 0
    while same < 6:
        found, _ = await ask(weir, key)
        same = same + 1 if found == status else 0
        assert time.monotonic() - began < LATE_S, (found, log_of(weir)[-2000:])
        await asyncio.sleep(0.02)
    return time.monotonic() - began


def log_of(weir: Weir) -> str:
    return (weir.config.parent / "serve.log").read_text()


def redis_of(weir: Weir) -> redis.Redis:
    return redis.Redis.from_url(redis_url(weir.data_dir))


def ledger_of(weir: Weir) -> Ledger:
    return open_ledger(f"sqlite:///{weir.data_dir / 'ledger.db'}")


async def invoked(weir: Weir, *words: str) -> Result:
    """One command in this process: starting one takes longer than all that it does."""
    where = ("--config", str(weir.config), "--data-dir", str(weir.data_dir), "--json")
    return await asyncio.to_thread(CliRunner().invoke, command_line, [*words, *where])


async def command(weir: Weir, *words: str) -> Any:
    done = await invoked(weir, *words)
    assert done.exit_code == 0, done.output
    return orjson.loads(done.stdout)


async def stream(weir: Weir, key: str, begun: asyncio.Event) -> str:
    async with (
        aiohttp.ClientSession() as http,
        http.post(
            f"{weir.url}/v1/chat/completions",
            json={"model": "slow", "stream": True, "messages": [{"role": "user", "content": "a"}]},
            headers={"Authorization": f"Bearer {key}"},
        ) as answer,
    ):
        assert answer.status == 200, await answer.text()
        body = b""
        async for chunk in answer.content.iter_any():
            begun.set()
            body += chunk
    return body.decode()


async def test_a_key_lives_and_dies_without_a_restart(weir: Weir) -> None:
    """Made, used, rotated, revoked; an open stream ends as it would have. The file is faulty
    meanwhile, and that keeps no key from being revoked."""
    made = await command(
        weir, "tenants", "create", "acme", "--daily-cap", "5.50", "--project", "web"
    )
    assert (made["id"], made["published"]) == ("acme", True)
    first = await command(weir, "keys", "create", "--tenant", "acme", "--project", "web")
    await until(weir, first["key"], 200)
    _, own = await ask(weir, first["key"])
    assert (own["tenant"], own["project"]) == ("acme", "web")
    assert own["remaining_usd"] == "5.500000000"
    second = await command(
        weir, "keys", "rotate", first["id"], "--tenant", "acme", "--overlap-hours", "1"
    )
    await until(weir, second["key"], 200)
    assert (await ask(weir, first["key"]))[0] == 200
    assert second["rotated_from"] == first["id"]

    begun = asyncio.Event()
    streaming = asyncio.create_task(stream(weir, first["key"], begun))
    await begun.wait()
    weir.config.write_text("tenants: [")
    with contextlib.closing(ledger_of(weir)) as ledger:  # the worker sees it, and publishes
        revoke_key(ledger, "acme", first["id"], now_ns=time.time_ns())
    await until(weir, first["key"], 401)

    assert (await ask(weir, second["key"]))[0] == 200
    assert "data: [DONE]" in await streaming
    weir.config.write_text(yaml.safe_dump(CONFIG))
    rows = {row["id"]: row for row in (await command(weir, "keys", "list", "--all"))["keys"]}
    assert (rows[first["id"]]["live"], rows[second["id"]]["live"]) == (False, True)
    assert "key" not in rows[first["id"]]


async def test_what_is_published_can_be_lost_and_broken(weir: Weir) -> None:
    """A Redis that lost it, or has nonsense in its place, changes nothing, and is mended."""
    await command(weir, "tenants", "create", "beta")
    made = await command(weir, "keys", "create", "--tenant", "beta", "--id", "b1")
    await until(weir, made["key"], 200)
    with contextlib.closing(redis_of(weir)) as client:
        name = next(client.scan_iter("*:registry")).decode()
        version = client.hget(name, "version")
        nonsense = {"version": "99-0123456789abcdef", "body": "{}"}

        def is_told() -> bool:
            client.hset(name, mapping=nonsense)  # again and again: the worker mends it
            return "registry_broken" in log_of(weir)

        await _until(is_told)
        assert (await ask(weir, made["key"]))[0] == 200
        await _until(lambda: client.hget(name, "version") == version)
        client.delete(name)
        await _until(lambda: client.hget(name, "version") == version)
    assert (await ask(weir, made["key"]))[0] == 200

    refused = await invoked(weir, "tenants", "create", "ours")
    assert (refused.exit_code, "stands in the file" in refused.stderr) == (2, True)
    removed = await command(weir, "tenants", "remove", "beta")
    assert removed["published"]
    await until(weir, made["key"], 401)


async def test_a_start_without_redis_knows_its_tenants(weir: Weir) -> None:
    """What a machine kept beside the file is what it starts with: no key in it, and private."""
    await command(weir, "tenants", "create", "gamma", "--name", "Γ")
    made = await command(weir, "keys", "create", "--tenant", "gamma")
    await until(weir, made["key"], 200)

    copy = weir.data_dir / "registry.json"
    assert copy.stat().st_mode & 0o777 == 0o600
    assert made["key"] not in copy.read_text()
    listed = {row["id"]: row for row in (await command(weir, "tenants", "list"))["tenants"]}
    assert (listed["gamma"]["source"], listed["gamma"]["name"]) == ("registry", "Γ")
    assert listed["ours"]["source"] == "file"
    checked = await command(weir, "config", "check")
    assert checked["summary"]["tenants"] == len(listed)


async def _until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(LATE_S * 4):
        while not is_so():
            await asyncio.sleep(0.05)
