"""`weir upstreams` over a real Redis: what it shows, how honestly, and that nothing changes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from fixtures_door import CollectingLog
from fixtures_redis import RedisServer

from metering.clock import monotonic_s
from metering.redis_keys import RedisKeys
from metering.redis_link import RedisLink
from proxy import cli_upstreams
from proxy.cli import weir
from proxy.history_sync import HistorySync
from routing.fallback import Outcome
from routing.history import History

FILE = """
redis: {{url: "{url}", prefix: {prefix}}}
providers:
  one: {{type: openai, base_url: "http://127.0.0.1:1/v1"}}
  two: {{type: anthropic, api_key: "${{TWO_KEY}}"}}
models:
  fast: {{upstreams: [{{provider: one, model: m}}, {{provider: two, model: m}}]}}
  also: {{upstreams: [{{provider: one, model: m}}]}}
  idle: {{upstreams: [{{provider: one, model: idle}}]}}
pricing: {{rules: [{{model: "*", input_per_mtok: 1, output_per_mtok: 2}}]}}
"""

LABELS = ("one/m", "two/m", "one/idle")


@dataclass
class Site:
    """A configuration file and the Redis that it names."""

    path: Path
    server: RedisServer
    keys: RedisKeys

    def weir(self, *words: str) -> Result:
        """Run a command."""
        arguments = ["upstreams", *words, "--config", str(self.path)]
        return CliRunner().invoke(weir, arguments, env={"WEIR_CONFIG": None})

    def rows(self, *words: str) -> dict[str, Any]:
        """What `--json` prints of each upstream."""
        done = self.weir(*words, "--json")
        assert done.exit_code == 0, done.stderr
        return {row["upstream"]: row for row in json.loads(done.stdout)["upstreams"]}

    def redis(self, work: Callable[[RedisLink], Awaitable[Any]]) -> Any:
        """Do something with the Redis."""

        async def connected() -> Any:
            async with RedisLink(self.server.target, timeout_ms=5_000) as link:
                await link.wait_up(5)
                return await work(link)

        return asyncio.run(connected())

    def tell(self, *histories: History) -> None:
        """As processes do."""

        async def work(link: RedisLink) -> None:
            for history in histories:
                log = CollectingLog()
                sync = HistorySync(history, link, self.keys, proxy_id="p", labels=LABELS, log=log)
                await sync.turn()
                await sync.turn()

        self.redis(work)


@pytest.fixture
def site(tmp_path: Path, redis_server: RedisServer, redis_keys: RedisKeys) -> Site:
    path = tmp_path / "config.yaml"
    path.write_text(FILE.format(url=redis_server.url, prefix=redis_keys.prefix), encoding="utf-8")
    return Site(path, redis_server, redis_keys)


def asked(*outcomes: Outcome, stream: bool = True, took_ms: int = 200) -> History:
    history, now_s = History(), monotonic_s()
    for outcome in outcomes:
        is_cold = history.begin("one/m", now_s)
        history.end("one/m", outcome, now_s, took_ms=took_ms, stream=stream, is_cold=is_cold)
    return history


def test_nothing_is_made_up(site: Site) -> None:
    """Without traffic there is no success and no percentile, and the table says so."""
    rows = site.rows()

    assert list(rows) == ["one/m", "two/m", "one/idle"]
    idle = rows["one/idle"]
    assert (idle["state"], idle["known"], idle["attempts"]) == ("closed", "nothing", 0)
    assert (idle["success_ratio"], idle["latency_ms"]["p95"], idle["drift"]["ratio"]) == (
        None,
        None,
        None,
    )
    assert rows["two/m"]["state"] == "unavailable"
    assert "TWO_KEY" in rows["two/m"]["why"]
    text = site.weir().stdout
    assert "No traffic yet in the last hour, so nothing is known: one/m, two/m, one/idle." in text
    assert "No proxy process runs." in text


def test_what_processes_saw_is_shown_together(site: Site) -> None:
    """Of both, and of the failures only the word and the time."""
    first = asked(*[Outcome.SERVED] * 18, Outcome.TIMEOUT, Outcome.RATE_LIMITED)
    second = asked(*[Outcome.SERVED] * 20, took_ms=400)
    second.begin("one/m", monotonic_s())
    second.billed("one/m", monotonic_s(), cost_nano=600, sold_nano=1000, held_nano=4000)
    site.tell(first, second)

    row = site.rows("--model", "also")["one/m"]

    assert row["models"] == ["fast", "also"]
    assert (row["attempts"], row["settled"], row["failed"]) == (40, 40, 2)
    assert (row["success_ratio"], row["rate_limited"], row["in_flight"]) == (0.95, 1, 1)
    assert row["first_event_ms"] == {"answers": 38, "p50": 400, "p95": 400}
    assert row["known"] == "enough"
    assert row["last_failure"]["outcome"] == "rate_limited"
    assert (row["cost_usd_per_1000"], row["margin_ratio"]) == ("0.000600", 0.4)
    assert row["held_used_ratio"] == 0.25
    text = site.weir().stdout
    assert "95.0 %" in text
    assert "400/400 ms" in text
    assert "As 2 proxy processes saw it" in text


def test_few_answers_are_called_few(site: Site) -> None:
    """They are shown, and not routed by."""
    site.tell(asked(*[Outcome.SERVED] * 3, stream=False))

    assert site.rows()["one/m"]["known"] == "too_few"
    assert "Too few answers in the last hour to route by: one/m." in site.weir().stdout


def test_a_breaker_is_shown_with_its_reason(site: Site) -> None:
    """Open until when, half-open after that; why is how it failed last."""
    site.tell(asked(Outcome.TIMEOUT))
    now_ms = int(site.redis(lambda link: link.call("TIME"))[0]) * 1000
    site.redis(lambda link: link.call("HSET", site.keys.health, "one/m", now_ms + 60_000))

    row = site.rows()["one/m"]
    assert (row["state"], row["why"]) == ("open", "timeout")
    assert row["until"].endswith("Z")
    assert "(timeout)" in site.weir().stdout

    site.redis(lambda link: link.call("HSET", site.keys.health, "one/m", now_ms - 1))
    assert site.rows()["one/m"]["state"] == "half_open"


def test_probes_are_shown(site: Site) -> None:
    """What the last one found, for each upstream of the provider."""
    record = {"at": "2026-11-21T20:00:00Z", "result": "ok", "took_ms": 12, "failures": 0}
    raw = json.dumps(record)
    site.redis(lambda link: link.call("HSET", site.keys.probes, "one", raw, "two", "[", "x", "1"))

    rows = site.rows()

    assert rows["one/m"]["probe"] == {"at": record["at"], "result": "ok", "took_ms": 12}
    assert rows["two/m"]["probe"] is None
    assert "one/idle: probed at 2026-11-21T20:00:00Z: ok." in site.weir().stdout


def drifting(exchanges: int, unexplained_nano: int) -> History:
    history = asked(Outcome.SERVED)
    for _ in range(exchanges):
        history.billed(
            "one/m",
            monotonic_s(),
            cost_nano=1_200,
            sold_nano=1_200,
            held_nano=9_000,
            compared=(1_200, unexplained_nano),
        )
    return history


def test_drift_is_listed_beyond_its_bound(site: Site) -> None:
    """In either direction, over enough exchanges."""
    site.tell(drifting(60, 200))

    assert site.rows("--drift")["one/m"]["drift"] == {
        "exchanges": 60,
        "reported_usd": "0.000072000",
        "unexplained_usd": "0.000012000",
        "ratio": 0.2,
    }
    assert "+20.0 %" in site.weir("--drift").stdout
    assert site.rows("--drift", "--beyond", "20") == {}
    assert site.rows("--drift", "--exchanges", "61") == {}
    assert "Nothing has drifted" in site.weir("--drift", "--beyond", "20").stdout


def test_looking_changes_nothing(site: Site) -> None:
    """Not even what cannot be read, which is counted."""
    site.tell(asked(Outcome.SERVED))
    site.redis(lambda link: link.call("HSET", site.keys.history, "odd", "what is this"))

    async def dump(link: RedisLink) -> Any:
        return sorted(await link.call("HGETALL", site.keys.history))

    before = site.redis(dump)
    assert json.loads(site.weir("--json").stdout)["unreadable"] == 1
    assert "Notes of processes that cannot be read: 1" in site.weir().stdout
    assert site.redis(dump) == before


def test_what_is_not_there_is_named(site: Site) -> None:
    """A model that is not configured, and a Redis that is away."""
    assert "no model 'nope'" in site.weir("--model", "nope").stderr
    site.path.write_text(FILE.format(url="redis://127.0.0.1:1", prefix="t"), encoding="utf-8")

    gone = site.weir()

    assert gone.exit_code == 1
    assert "cannot read Redis" in gone.stderr


def test_it_can_be_watched(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """What happens meanwhile is shown at the next look; Ctrl-C is an end like any other."""
    waits: list[float] = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 2:
            raise KeyboardInterrupt
        site.tell(asked(Outcome.SERVED))

    monkeypatch.setattr(cli_upstreams.time, "sleep", wait)
    done = site.weir("--watch", "--every", "0.5")

    before, _, after = done.stdout.partition("one/m")[2].partition("No traffic yet")
    assert done.exit_code == 0
    assert waits == [0.5, 0.5]
    assert done.stdout.count("No traffic yet in the last hour") == 2
    assert "one/m, two/m, one/idle." in done.stdout
    assert "two/m, one/idle." in after.rpartition("nothing is known:")[2]
    assert "one/m" not in after.rpartition("nothing is known:")[2]
    assert before
