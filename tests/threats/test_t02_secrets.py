"""T-02, T-30, T-32: no secret, prompt or answer is left anywhere, whatever happens."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import orjson
import psutil
import pytest
import redis
from fixtures_door import RunningDoor
from fixtures_needs import need
from fixtures_upstream import (
    DONE,
    FINISH,
    Act,
    ScriptedUpstream,
    body,
    chunk,
    completion,
    delta,
    event,
    scripted_upstream,
    stream_head,
)
from fixtures_weir import COMMAND, environment
from raw_http import Said, close, connect, every, get, one

from proxy import embedded_redis

CLIENT_KEY = "sk-weir-canaryclient-" + "Q7" * 21
WRONG_KEY = "sk-weir-wrongcanary-" + "W8" * 21
PLAIN_KEY = "canary plain key 4f1d"
PROVIDER_KEY = "sk-canary-provider-" + "P9" * 12
ENTRA_SECRET = "canary~entra~client-" + "S3" * 10
ENTRA_TOKEN = "eyJcanary.entra." + "T5" * 40
REDIS_PASSWORD = "canary-redis-5e0c"
PROMPT = "canary prompt 8b1e"
ANSWER = "canary answer 77aa"
CANARIES = {
    "client_key": CLIENT_KEY,
    "wrong_key": WRONG_KEY,
    "plain_key": PLAIN_KEY,
    "provider_key": PROVIDER_KEY,
    "entra_secret": ENTRA_SECRET,
    "entra_token": ENTRA_TOKEN,
    "redis_password": REDIS_PASSWORD,
    "prompt": PROMPT,
    "answer": ANSWER,
}

BROKEN = event({"error": {"message": f"bad {PROVIDER_KEY}"}})

CONFIG = """
server: {{port: 0}}
redis: {{url: "${{CANARY_REDIS_URL}}", on_outage: closed}}
providers:
  one: {{type: openai, base_url: "{upstream}", api_key: "${{CANARY_PROVIDER}}", timeout_s: 1}}
  dead: {{type: openai, base_url: "http://127.0.0.1:9/v1", api_key: "${{CANARY_PROVIDER}}"}}
  azure: {{type: azure_openai, base_url: "{upstream}", options: {{client_id: known, {entra}}}}}
  other: {{type: azure_openai, base_url: "{upstream}", options: {{client_id: other, {entra}}}}}
models:
  entra: {{upstreams: [{{provider: azure, model: m}}]}}
  no-entra: {{upstreams: [{{provider: other, model: m}}]}}
  m: {{upstreams: [{{provider: one, model: m}}]}}
  dead: {{upstreams: [{{provider: dead, model: m}}]}}
pricing: {{rules: [{{model: m, input_per_mtok: 1, output_per_mtok: 1}}]}}
metering: {{spool: always}}
tenants: [{{id: acme, limits: {{tenant: {{daily_cap: 5}}}},
  keys: [{{id: k1, key: "${{CANARY_CLIENT}}"}}, {{id: k2, key: "${{CANARY_PLAIN}}"}}]}}]
"""


def answers() -> list[list[bytes | Act]]:
    """What the upstream says, exchange by exchange; it quotes the key it was sent."""
    quoting = {"error": {"message": f"Incorrect API key: {PROVIDER_KEY}."}}
    labels = {"model": PROVIDER_KEY, "system_fingerprint": PROVIDER_KEY, "service_tier": "x"}
    told = {
        **labels,
        "choices": [
            {"index": 0, "message": {"content": ANSWER}, "finish_reason": "s" * 240 + PROVIDER_KEY}
        ],
    }
    return [
        [completion(ANSWER)],
        [stream_head(), chunk(delta(ANSWER)), chunk(FINISH), chunk(DONE), b"0\r\n\r\n"],
        [body(told, 200, f"x-request-id: req {PROVIDER_KEY}\r\n")],
        [stream_head(), chunk(delta(ANSWER, **labels)), chunk(FINISH), chunk(DONE), b"0\r\n\r\n"],
        [body(quoting, 401)],
        [body(quoting, 403)],
        [body(quoting, 500)],
        [body(quoting, 400, f"Retry-After: {PROVIDER_KEY}\r\n")],
        [body(quoting, 422, f"x-request-id: {PROVIDER_KEY}\r\n")],
        [body(f"<pre>Authorization: Bearer {PROVIDER_KEY}".encode(), 410)],
        [body(quoting, 429, f"Retry-After: 1\r\nX-Key: {PROVIDER_KEY}\r\n")],
        [body(f"<html>{PROVIDER_KEY} {PROMPT}</html>".encode())],
        [stream_head(), chunk(BROKEN), Act.CLOSE],
        [stream_head(), chunk(delta(ANSWER)), Act.RESET],
        [f"{PROVIDER_KEY} {PROMPT}\r\n\r\n".encode(), Act.CLOSE],
        [Act.HANG],
    ]


def ask(key: str = CLIENT_KEY, model: str = "m", *, stream: bool = False, more: str = "") -> bytes:
    payload = {"model": model, "messages": [{"role": "user", "content": PROMPT}], "stream": stream}
    raw = orjson.dumps(payload)
    return (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n{more}"
        f"Connection: close\r\nContent-Length: {len(raw)}\r\n\r\n".encode()
        + raw
    )


async def broken_stream(url: str, upstream: ScriptedUpstream) -> Said:
    """A stream in which the upstream tells of an error; what follows its text."""
    upstream.scripts = [[stream_head(), chunk(delta(ANSWER)), Act.WAIT, chunk(BROKEN), Act.CLOSE]]
    reader, writer = await connect(url)
    writer.write(ask(stream=True))
    await reader.readuntil(ANSWER.encode())
    upstream.proceed.set()
    rest = await reader.read()
    await close(writer)
    assert b"bad ***" in rest
    return Said(200, {}, rest)


async def with_tokens(url: str, upstream: ScriptedUpstream) -> list[Said]:
    """Exchanges whose credential is fetched: its authority and its upstream quote what they got."""
    refused = {"error": "invalid_client", "error_description": f"AADSTS7000215: {ENTRA_SECRET}"}
    quoting = {"error": {"message": f"Token {ENTRA_TOKEN} of {ENTRA_SECRET} is not valid."}}
    labels = {"model": ENTRA_TOKEN, "system_fingerprint": ENTRA_TOKEN}
    broken = [chunk(delta(ANSWER, **labels)), chunk(event(quoting)), Act.CLOSE]
    token = {"access_token": ENTRA_TOKEN, "expires_in": 3600, "token_type": "Bearer"}
    upstream.scripts = [[body(refused, 401)]]
    said = [await one(url, ask(model="no-entra"))]
    upstream.scripts = [[body(token)], [body(quoting, 400)]]
    said.append(await one(url, ask(model="entra")))
    tokens = [each.headers.get("authorization") for each in upstream.received]
    assert f"Bearer {ENTRA_TOKEN}" in tokens
    for script in [
        [body(quoting, 429, f"X-Token: {ENTRA_TOKEN}\r\n")],
        [body(f"Authorization: Bearer {ENTRA_TOKEN}".encode(), 410)],
        [stream_head(), *broken],
        [f"{ENTRA_TOKEN}\r\n\r\n".encode(), Act.CLOSE],
    ]:
        upstream.scripts = [script]
        said.append(await one(url, ask(model="entra", stream=script[0] == stream_head())))
    assert sum(b"***" in each.body for each in said) >= 4
    # the text of an answer that served is relayed as it came, and its labels are part of it
    return [each for each in said if each.status != 200]


async def exercise(url: str, upstream: ScriptedUpstream) -> list[Said]:
    """Every kind of exchange, good and bad; returns what was answered and is no completion."""
    said = []
    for script in answers():
        upstream.scripts = [script]
        is_stream = script[0] == stream_head()
        answer = await one(url, ask(stream=is_stream))
        if answer.status != 200:
            said.append(answer)
    upstream.scripts = [[completion(ANSWER)]]
    assert (await one(url, ask(PLAIN_KEY))).status == 200
    said.append(await broken_stream(url, upstream))
    assert {each.status for each in said} >= {200, 400, 410, 422, 429, 500, 502, 504}
    assert sum(b"***" in each.body for each in said) >= 6
    said += await with_tokens(url, upstream)
    said += [await one(url, ask(model="dead")), await one(url, ask(model="none"))]
    said += await every(url, ask(WRONG_KEY))
    said += await every(url, ask(more=f"x-api-key: {WRONG_KEY}\r\n"))
    said += await every(url, ask(more=f"x-weir-feature: {PROMPT}\r\n"))
    said += await every(url, ask(more="Content-Encoding: gzip\r\n"))
    said += await every(url, ask().replace(b'{"model"', b'{"' + PROMPT.encode() + b"\xff"))
    said += await every(url, get(f"/v1/none?key={CLIENT_KEY}", "Connection: close"))
    said += await every(url, f"{CLIENT_KEY} {PROMPT}\r\n\r\n".encode())
    upstream.scripts = [[stream_head(), chunk(delta(ANSWER)), Act.HANG]]
    reader, writer = await connect(url)
    writer.write(ask(stream=True))
    await reader.readuntil(b"canary")
    writer.transport.abort()
    writer.close()
    return said


@contextlib.contextmanager
def password_redis(folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    path = folder / "redis.sock"
    settings = folder / "redis.conf"
    settings.write_text(
        f"port 0\nunixsocket {path}\nsave ''\nappendonly no\nrequirepass {REDIS_PASSWORD}\n"
    )
    process = subprocess.Popen([need("redis-server"), settings], stdout=subprocess.DEVNULL)
    try:
        yield process, f"unix://:{REDIS_PASSWORD}@{path}"
    finally:
        process.kill()
        process.wait()


@contextlib.asynccontextmanager
async def weir_with_canaries(
    folder: Path, upstream_url: str, redis_url: str
) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """`weir serve` at DEBUG with every secret a canary; what it says is in `folder`."""
    config = folder / "config.yaml"
    entra = f'tenant_id: t, client_secret: "${{CANARY_ENTRA}}", authority: "{upstream_url}"'
    config.write_text(CONFIG.format(upstream=upstream_url, entra=entra))
    with (folder / "stdout").open("wb") as out, (folder / "stderr").open("wb") as err:
        process = await asyncio.create_subprocess_exec(
            *(*COMMAND, "serve", "--config", config, "--data-dir", folder / "data"),
            stdout=out,
            stderr=err,
            env=environment(
                WEIR_LOG="debug",
                PYTHONASYNCIODEBUG="1",
                CANARY_REDIS_URL=redis_url,
                CANARY_PROVIDER=PROVIDER_KEY,
                CANARY_ENTRA=ENTRA_SECRET,
                CANARY_CLIENT=CLIENT_KEY,
                CANARY_PLAIN=PLAIN_KEY,
            ),
        )
    try:
        async with asyncio.timeout(20):
            while b"Ctrl-C" not in (folder / "stdout").read_bytes():
                assert process.returncode is None, (folder / "stderr").read_text()
                await asyncio.sleep(0.05)
        state = orjson.loads((folder / "data" / "serve.json").read_bytes())
        yield process, state["url"]
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


def everything_in(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def dumped(path: str) -> bytes:
    """All that Redis holds, names and values."""
    with contextlib.closing(redis.Redis(unix_socket_path=path, password=REDIS_PASSWORD)) as client:
        names = list(client.scan_iter(count=1000))
        assert names
        streams = [client.xrange(name) for name in names if client.type(name) == b"stream"]
        return (
            b"\n".join([*names, *(client.dump(name) or b"" for name in names)])
            + repr(streams).encode()
        )


def found_in(where: dict[str, bytes]) -> dict[str, list[str]]:
    """Which canaries are found, and where."""
    hits = {
        name: [place for place, raw in where.items() if canary.encode() in raw]
        for name, canary in CANARIES.items()
    }
    return {name: places for name, places in hits.items() if places}


@pytest.mark.slow(60)
@pytest.mark.timeout(60)
async def test_t02_t30_no_canary_is_left_anywhere() -> None:
    """T-02, T-30: logs at DEBUG, error bodies, Redis, spool, ledger and command lines hold none,
    through every kind of failure, the loss of Redis and a stop among them."""
    with tempfile.TemporaryDirectory(prefix="weir-") as made:
        folder = Path(made)
        own = folder / "redis"
        own.mkdir()
        with password_redis(own) as (redis_process, redis_url):
            async with (
                scripted_upstream() as upstream,
                weir_with_canaries(folder, upstream.url, redis_url) as (process, url),
            ):
                said = await exercise(url, upstream)
                family = [psutil.Process(process.pid)]
                family += family[0].children(recursive=True)
                lines = {f"ps {each.pid}": repr(each.cmdline()).encode() for each in family}
                in_redis = dumped(str(own / "redis.sock"))
                redis_process.kill()
                upstream.scripts = [[completion(ANSWER)]]
                last = await one(url, ask())
        left = everything_in(folder)
        del left["redis/redis.conf"]  # ours, for the server of this test

        assert last.status == 503
        assert {each.status for each in said} >= {400, 401, 404, 415, 502}
        assert len(left["stderr"].splitlines()) > 20
        assert "data/ledger.db" in left
        assert any(name.startswith("data/spool") for name in left)
        bodies = {
            f"answer {index}": each.body + repr(each.headers).encode()
            for index, each in enumerate(said)
        }
        assert found_in({**left, **lines, **bodies, "redis": in_redis}) == {}


def test_t30_our_redis_does_not_inherit_credentials(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """T-30: the embedded server is started without the variables that hold our secrets."""
    monkeypatch.setenv("OPENAI_API_KEY", PROVIDER_KEY)
    telling = tmp_path / "redis-server"  # a server may hide its environment, so it is asked first
    telling.write_text(f'#!/bin/sh\nenv > {tmp_path}/env\nexec {need("redis-server")} "$@"\n')
    telling.chmod(0o700)

    server = embedded_redis.start(tmp_path, binary=telling)

    assert server.stop(timeout_s=10)
    inherited = (tmp_path / "env").read_text()
    assert "PATH=" in inherited
    assert PROVIDER_KEY not in inherited


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics", "/config", "/", "/admin"])
async def test_t32_who_has_no_key_learns_nothing(door: RunningDoor, path: str) -> None:
    """T-32: no name of an upstream, tenant or model, no key, no version, without a key."""
    said = await one(door.url, f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())

    told = (said.body + repr(said.headers).encode()).lower()
    for word in (b"acme", b"up-m", b"127.0.0.1", b"aiohttp", b"python", b"redis", b"0.1.0"):
        assert word not in told
