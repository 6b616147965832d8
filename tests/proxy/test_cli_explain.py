"""`weir explain` on the command line: over a real Redis, and without one."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from fixtures_door import CollectingLog
from fixtures_redis import RedisServer

from metering.clock import monotonic_s
from metering.redis_keys import RedisKeys
from metering.redis_link import RedisLink
from proxy.cli import weir
from proxy.cli_explain import USUAL_REQUEST
from proxy.config import load
from proxy.history_sync import HistorySync
from proxy.settings import redis_keys
from routing.affinity import share
from routing.choice import EXPLORED_PER_MILLE
from routing.fallback import Outcome
from routing.history import SAMPLES_MIN, History

FILE = """
redis: {{url: "{url}", prefix: {prefix}}}
providers: {{one: {{type: simulator}}, two: {{type: simulator}}}}
models:
  auto:
    strategy: least_cost
    upstreams:
      - {{provider: one, model: large}}
      - {{provider: two, model: small, tags: [eu], when: {{feature: ["chat*"]}}}}
pricing:
  rules:
    - {{model: large, input_per_mtok: 4, output_per_mtok: 16}}
    - {{model: small, input_per_mtok: 1, output_per_mtok: 4}}
tenants:
  - id: acme
    limits: {{tenant: {{daily_cap: 5}}}}
    keys: [{{id: k1, sha256: {sha256}, pin: {{feature: chat-de}}}}]
"""


def site(directory: Path, url: str, prefix: str = "explain") -> Path:
    path = directory / "config.yaml"
    path.write_text(FILE.format(url=url, prefix=prefix, sha256="0" * 64), encoding="utf-8")
    return path


def run(path: Path, *words: str, given: str | None = None) -> Result:
    named = ("explain", "--tenant", "acme", "--model", "auto", *words, "--config", str(path))
    return CliRunner().invoke(weir, named, input=given, env={"WEIR_CONFIG": None})


def body_of(path: Path, *words: str, given: str | None = None) -> Any:
    done = run(path, *words, "--json", given=given)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def asked(body: Any) -> list[str]:
    return [row["upstream"] for row in body["upstreams"] if row["asked"]]


NOWHERE = "redis://127.0.0.1:1/0"


def test_a_key_brings_its_pins(tmp_path: Path) -> None:
    """What it is pinned to meets conditions, whatever was named."""
    path = site(tmp_path, NOWHERE)

    assert asked(body_of(path)) == ["one/large"]
    assert asked(body_of(path, "--key", "k1")) == ["two/small", "one/large"]
    assert asked(body_of(path, "--feature", "chat-en")) == ["two/small", "one/large"]


def test_tags_are_asked_for(tmp_path: Path) -> None:
    """As the header would."""
    path = site(tmp_path, NOWHERE)

    assert asked(body_of(path, "--key", "k1", "--tags", "eu")) == ["two/small"]
    assert run(path, "--tags", "e u").exit_code == 2


def test_a_body_is_read(tmp_path: Path) -> None:
    """From a file or standard input; its model is the one that was named."""
    path = site(tmp_path, NOWHERE)
    written = json.dumps({"model": "x", "messages": [], "max_tokens": 7, "stream": True})
    (tmp_path / "body.json").write_text(written)

    from_file = body_of(path, "--request", str(tmp_path / "body.json"))
    from_stdin = body_of(path, "--request", "-", given=written)

    assert from_file == from_stdin
    assert (from_file["model"], from_file["request"]["output_tokens_max"]) == ("auto", 7)


def test_what_is_not_there(tmp_path: Path) -> None:
    """Exit code 3 for a key or a model that is not in the file, 2 for a body that is none."""
    path = site(tmp_path, NOWHERE)
    named = ["explain", "--tenant", "acme", "--config", str(path), "--model"]

    assert run(path, "--key", "k9").exit_code == 3
    assert CliRunner().invoke(weir, [*named, "none"]).exit_code == 3
    assert run(path, "--request", str(tmp_path / "none.json")).exit_code == 2
    assert run(path, "--request", "-", given="[1]").exit_code == 2
    assert run(path, "--request", "-", given='{"messages": 7}').exit_code == 2


def test_a_running_installation_is_read(tmp_path: Path, redis_server: RedisServer) -> None:
    """Caps with what is left, and the breakers that proxies tell each other of."""
    path = site(tmp_path, redis_server.url, "explain-seen")
    keys: RedisKeys = redis_keys(load(path, {}).settings)

    async def trip() -> None:
        async with RedisLink(redis_server.target, timeout_ms=5_000) as link:
            await link.wait_up(5)
            seconds, _ = await link.call("TIME")
            await link.call("HSET", keys.health, "two/small", (int(seconds) + 60) * 1000)
            await link.call("HSET", keys.health, "one/large", (int(seconds) - 60) * 1000)

    asyncio.run(trip())
    body = body_of(path, "--key", "k1")

    assert body["redis"] == {"is_read": True, "cause": None}
    assert body["caps"][0]["usd"]["remaining"] == "5.000000"
    assert [(row["upstream"], row["breaker"]) for row in body["upstreams"]] == [
        ("one/large", "closed"),
        ("two/small", "open"),
    ]
    assert body["upstreams"][1]["reason"] == "failing"


def test_how_fast_upstreams_were_is_read(tmp_path: Path, redis_server: RedisServer) -> None:
    """As proxies tell each other, so that the order by latency is theirs."""
    path = site(tmp_path, redis_server.url, "explain-fast")
    path.write_text(path.read_text().replace("least_cost", "least_latency"))
    history = History()
    for label, took_ms in (("one/large", 900), ("two/small", 100)):
        for _ in range(SAMPLES_MIN):
            is_cold = history.begin(label, monotonic_s())
            history.end(
                label,
                Outcome.SERVED,
                monotonic_s(),
                took_ms=took_ms,
                stream=False,
                is_cold=is_cold,
            )

    async def tell() -> None:
        keys, labels = redis_keys(load(path, {}).settings), ("one/large", "two/small")
        async with RedisLink(redis_server.target, timeout_ms=5_000) as link:
            await link.wait_up(5)
            log = CollectingLog()
            sync = HistorySync(history, link, keys, proxy_id="p", labels=labels, log=log)
            await sync.turn()
            await sync.turn()

    asyncio.run(tell())
    rows = body_of(path, "--key", "k1")["upstreams"]

    assert [(row["upstream"], row["reason"]) for row in rows] == [
        ("two/small", "fastest"),
        ("one/large", "slower"),
    ]


def test_people_get_a_table(tmp_path: Path) -> None:
    """With the reason why Redis was not read."""
    done = run(site(tmp_path, NOWHERE), "--key", "k1")

    assert done.exit_code == 0
    assert "auto for tenant acme (key k1)" in done.stdout
    assert "Redis was not read" in done.stdout


def seen_of(took_ms: dict[str, int], *, stream: bool) -> History:
    """What a process saw that asked each of these often enough, each time for so long."""
    history, now_s = History(), monotonic_s()
    for label, took in took_ms.items():
        for _ in range(SAMPLES_MIN):
            is_cold = history.begin(label, now_s)
            outcome = Outcome.SERVED
            history.end(label, outcome, now_s, took_ms=took, stream=stream, is_cold=is_cold)
    return history


def test_the_measured_order_is_shown(tmp_path: Path, redis_server: RedisServer) -> None:
    """What all processes saw between them decides least_latency and targets, by the request's
    kind; a note that cannot be read is nothing."""
    path = site(tmp_path, redis_server.url, "explain-timed")
    path.write_text(path.read_text().replace("least_cost", "least_latency"))
    keys: RedisKeys = redis_keys(load(path, {}).settings)
    labels = ("one/large", "two/small")
    processes = [
        seen_of({"one/large": 900}, stream=False),
        seen_of({"two/small": 200}, stream=False),
        seen_of({"one/large": 100, "two/small": 700}, stream=True),
    ]

    async def tell() -> None:
        async with RedisLink(redis_server.target, timeout_ms=5_000) as link:
            await link.wait_up(5)
            for history in processes:
                log = CollectingLog()
                sync = HistorySync(history, link, keys, proxy_id="p", labels=labels, log=log)
                await sync.turn()
                await sync.turn()
            seconds, _ = await link.call("TIME")
            await link.call("HSET", keys.history, "odd", b"%d000:{}" % int(seconds))

    asyncio.run(tell())
    whole = body_of(path, "--key", "k1")
    streamed = json.dumps({"messages": [], "stream": True})
    stream = body_of(path, "--key", "k1", "--request", "-", given=streamed)
    path.write_text(path.read_text().replace("least_latency", "priority"))
    late = body_of(path, "--key", "k1", "--target-latency-ms", "500")

    def told(body: Any) -> list[tuple[str, str, int]]:
        return [(row["upstream"], row["reason"], row["p95_ms"]) for row in body["upstreams"]]

    assert told(whole) == [("two/small", "fastest", 200), ("one/large", "slower", 900)]
    assert told(stream) == [("one/large", "fastest", 100), ("two/small", "slower", 700)]
    assert told(late) == [("two/small", "in_time", 200), ("one/large", "misses_target", 900)]


def test_what_was_never_measured_is_not_explored() -> None:
    """What is explained is what most requests meet."""
    assert share(USUAL_REQUEST.encode(), "explore") * 1000 >= EXPLORED_PER_MILLE


@pytest.mark.parametrize(
    ("spoken", "body", "uses"),
    [
        ("responses", {"input": "hi", "max_output_tokens": 9}, []),
        ("messages", {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 9}, []),
        ("completions", {"prompt": "hi", "max_tokens": 9}, []),
        (
            "messages",
            {
                "messages": [{"role": "user", "content": "hi"}],
                "max_tokens": 9,
                "tools": [{"name": "f", "input_schema": {"type": "object"}}],
            },
            ["tools"],
        ),
    ],
)
def test_a_body_of_another_format(
    tmp_path: Path, spoken: str, body: dict[str, Any], uses: list[str]
) -> None:
    """Is read as the proxy would; as a chat completion it is refused."""
    path = site(tmp_path, NOWHERE)

    told = body_of(path, "--format", spoken, "--request", "-", given=json.dumps(body))

    assert told["request"]["output_tokens_max"] == 9
    assert told["request"]["uses"] == uses
    assert run(path, "--format", spoken).exit_code == 2
