"""`weir limits` and `weir holds` over a real Redis: what they show, and that nothing changes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from fixtures_redis import RedisServer

from metering.caps import Candidate, Hold, Reservation, Scope, ScopeKind, Vector
from metering.clock import now_ns
from metering.ids import scope_id, uuid7
from metering.redis_caps import RedisCaps
from metering.redis_keys import RedisKeys
from metering.redis_link import RedisLink
from metering.tenant_caps import caps_under
from proxy.cli import weir
from proxy.config import load

FILE = """
redis: {{url: "{url}", prefix: {prefix}}}
limits:
  tenant: {{daily_cap: 10.00}}
  caps:
    - {{scope: user, window: 2d, usd: 2.00, alert_at: [0.8]}}
    - {{scope: key, window: 24h, tokens: 5000, mode: shadow}}
    - {{scope: run, window: 24h, steps: 50, concurrent: 3}}
tenants:
  - id: acme
    projects: [{{id: web}}]
    keys: [{{id: k1, project: web, sha256: {sha256}, pin: {{user: "Ann Lee"}}}}]
"""

ANN = Scope(ScopeKind.USER, scope_id("Ann Lee"))
SCOPES = (Scope(ScopeKind.PROJECT, "web"), Scope(ScopeKind.KEY, "k1"), ANN)


@dataclass
class Site:
    """A configuration file and the Redis that it names."""

    path: Path
    server: RedisServer
    keys: RedisKeys

    def weir(self, *words: str) -> Result:
        """Run a command."""
        arguments = [*words, "--config", str(self.path)]
        return CliRunner().invoke(weir, arguments, env={"WEIR_CONFIG": None})

    def redis(self, work: Callable[[RedisLink], Awaitable[Any]]) -> Any:
        """Do something with the Redis."""

        async def connected() -> Any:
            async with RedisLink(self.server.target, timeout_ms=5_000) as link:
                await link.wait_up(5)
                return await work(link)

        return asyncio.run(connected())

    def dump(self) -> list[Any]:
        """Every key with its content, and whether it expires."""

        async def read(link: RedisLink) -> list[Any]:
            names = sorted(await link.call("KEYS", f"{self.keys.prefix}:*"))
            return [
                (name, await link.call("DUMP", name), await link.call("TTL", name) >= 0)
                for name in names
            ]

        return list(self.redis(read))


@pytest.fixture
def site(tmp_path: Path, redis_server: RedisServer, redis_keys: RedisKeys) -> Site:
    path = tmp_path / "config.yaml"
    path.write_text(
        FILE.format(url=redis_server.url, prefix=redis_keys.prefix, sha256="0" * 64),
        encoding="utf-8",
    )
    return Site(path, redis_server, redis_keys)


def spend(site: Site) -> str:
    """Ann spends 1.50 USD in one exchange and holds 0.25 in another, whose id is the answer."""
    tenant = load(site.path, {}).settings.tenants["acme"]
    caps = caps_under(tenant, SCOPES)

    async def work(link: RedisLink) -> str:
        redis_caps = RedisCaps(link, site.keys)
        await link.call("SET", site.keys.epoch(site.keys.shard("acme")), "1")
        ids = [uuid7(now_ns() // 1_000_000, bytes([n] * 10)) for n in (1, 2)]
        for exchange_id, nano in zip(ids, (1_500_000_000, 250_000_000), strict=True):
            answer = await redis_caps.reserve(
                Hold("acme", exchange_id, caps, SCOPES),
                [Candidate("one/up-m", Vector(nano, 700, 1))],
                owner="p-7",
                ttl_ms=60_000,
            )
            assert isinstance(answer, Reservation)
            if exchange_id == ids[0]:
                spent = Vector(nano, 700, 1)
                await redis_caps.commit(Hold("acme", exchange_id, caps, SCOPES), spent, [])
        return ids[1]

    return str(site.redis(work))


def test_limits_as_json(site: Site) -> None:
    """Each cap of the scopes that were named, with what is spent, held and left of it."""
    spend(site)

    body = json.loads(site.weir("limits", "--tenant", "acme", "--key", "k1", "--json").stdout)

    tenant, key, user = body["caps"]
    assert (tenant["scope"], tenant["window"], tenant["mode"]) == (
        "tenant:acme",
        "rolling_24h",
        "enforce",
    )
    assert tenant["usd"] == {
        "limit": "10.000000",
        "spent": "1.500000",
        "held": "0.250000",
        "remaining": "8.250000",
    }
    assert (key["scope"], key["mode"]) == ("key:k1", "shadow")
    assert key["tokens"] == {"limit": 5000, "spent": 700, "held": 700, "remaining": 3600}
    assert (user["scope"], user["window"]) == (f"user:{ANN.id}", "rolling_2d")
    assert (user["usd"]["remaining"], user["alert_at"]) == ("0.250000", [0.8])
    assert user["frees_at"] is not None
    assert [rule["scope"] for rule in body["elsewhere"]] == ["run:*"]
    assert (body["rebuilding"], body["flags"]) == (False, [])


def test_limits_for_people(site: Site) -> None:
    """The table names scope, window and what is left; caps of other scopes are named below."""
    spend(site)

    shown = site.weir("limits", "--tenant", "acme", "--user", "Ann Lee", "--run", "r1").stdout

    assert "rolling_2d" in shown
    assert "0.250000" in shown
    assert "key:* rolling_24h (shadow): 5000 tokens; name one with --key" in shown


def test_a_run_has_steps_and_those_at_once_have_no_window(site: Site) -> None:
    """The table says `steps`, as refusals do, and promises no time to those who wait for others."""
    spend(site)

    shown = site.weir("limits", "--tenant", "acme", "--run", "r1").stdout
    others = site.weir("limits", "--tenant", "acme").stdout

    [steps] = [line for line in shown.splitlines() if "run:r1" in line and " 50 " in line]
    [at_once] = [line for line in shown.splitlines() if "at once" in line]
    assert " steps " in steps
    assert "rolling_24h" in steps
    assert "rolling" not in at_once
    assert "run:* rolling_24h (enforce): 50 steps, 3 concurrent" in others


def test_a_run_that_nobody_has_started(site: Site) -> None:
    """A scope without any spend has all of its caps left."""
    body = json.loads(site.weir("limits", "--tenant", "acme", "--run", "new", "--json").stdout)

    run = body["caps"][-1]
    assert run["requests"] == {"limit": 50, "spent": 0, "held": 0, "remaining": 50}
    assert run["concurrent"] == {"limit": 3, "spent": 0, "held": 0, "remaining": 3}
    assert run["frees_at"] is None
    assert body["rebuilding"] is True


def test_flags_are_shown(site: Site) -> None:
    """Who has paused what, why and since when, as `weir flags` says it and never in the future; a
    flag that is off is not shown."""
    raised = json.dumps({"by": "ann", "why": "loop", "at_ms": 1_999})

    async def work(link: RedisLink) -> None:
        state = site.keys.state("acme")
        await link.call("HSET", state, "paused:run/r1", raised, "killed", "0", "paused", "1")

    site.redis(work)
    words = ("limits", "--tenant", "acme", "--run", "r1")

    assert json.loads(site.weir(*words, "--json").stdout)["flags"] == [
        {"flag": "paused", "scope": "tenant:acme", "by": None, "why": None, "at": None},
        {
            "flag": "paused",
            "scope": "run:r1",
            "by": "ann",
            "why": "loop",
            "at": "1970-01-01T00:00:01Z",
        },
    ]
    assert "run:r1 is paused by ann since 1970-01-01T00:00:01Z: loop" in site.weir(*words).stdout


def test_holds_as_json(site: Site) -> None:
    """One row per open hold, with who holds what, where, and until when."""
    exchange_id = spend(site)

    body = json.loads(site.weir("holds", "--json").stdout)

    [row] = body["holds"]
    assert (body["more"], body["unreadable"]) == (0, 0)
    assert row["exchange_id"] == exchange_id
    assert (row["tenant"], row["owner"], row["upstream"]) == ("acme", "p-7", "one/up-m")
    assert (row["state"], row["usd"], row["tokens"]) == ("held", "0.250000000", 700)
    assert row["scopes"] == ["tenant:acme", "key:k1", f"user:{ANN.id}"]
    assert row["age_s"] < 60


def test_holds_for_people(site: Site) -> None:
    """The table ends with the sum; another tenant has none."""
    exchange_id = spend(site)

    shown = site.weir("holds", "--tenant", "acme").stdout

    assert exchange_id in shown
    assert "1 held, $0.25" in shown
    assert "0 held, $0.00" in site.weir("holds", "--tenant", "other").stdout


def test_what_cannot_be_read_is_counted(site: Site) -> None:
    """A record of another make is not left out in silence."""

    async def work(link: RedisLink) -> None:
        shard = site.keys.shard("acme")
        await link.call("ZADD", site.keys.open_holds(shard), 5, "acme/x1", 5, "acme/gone")
        await link.call("HSET", site.keys.holds("acme"), "x1", "{}")

    site.redis(work)

    assert json.loads(site.weir("holds", "--json").stdout) == {
        "holds": [],
        "more": 0,
        "unreadable": 1,
    }
    assert "1 records cannot be read" in site.weir("holds").stdout


def test_looking_changes_nothing(site: Site) -> None:
    """Neither command writes, whatever is there."""
    spend(site)
    before = site.dump()

    site.weir("limits", "--tenant", "acme", "--key", "k1", "--run", "r1")
    site.weir("holds")

    assert site.dump() == before


MISSING = {
    "tenant": (("--tenant", "nobody"), "no tenant 'nobody'"),
    "key": (("--tenant", "acme", "--key", "k9"), "tenant 'acme' has no key 'k9'"),
    "project": (("--tenant", "acme", "--project", "p9"), "tenant 'acme' has no project 'p9'"),
}


@pytest.mark.parametrize(("words", "message"), MISSING.values(), ids=MISSING)
def test_what_is_not_there_is_named(site: Site, words: tuple[str, ...], message: str) -> None:
    """Exit code 3 and the name of what is not configured."""
    result = site.weir("limits", *words)

    assert result.exit_code == 3
    assert message in result.stderr


def test_an_id_that_cannot_be_one(site: Site) -> None:
    """What cannot stand in a key is a usage error, and never sent."""
    result = site.weir("limits", "--tenant", "acme", "--run", "a/b")

    assert result.exit_code == 2
    assert "--run 'a/b' cannot be an id" in result.stderr


def test_redis_away(tmp_path: Path) -> None:
    """A Redis that is away is said so, with exit code 1."""
    path = tmp_path / "config.yaml"
    path.write_text(f"redis: {{url: 'unix://{tmp_path}/none.sock'}}\ntenants: [{{id: acme}}]\n")

    for words in (["limits", "--tenant", "acme"], ["holds"]):
        result = CliRunner().invoke(weir, [*words, "--config", str(path)])

        assert result.exit_code == 1
        assert "cannot read Redis" in result.stderr


def test_the_stage_in_force_is_shown(site: Site) -> None:
    """Of the steps of the tenant: for who is to know why an answer came from another model."""
    text = site.path.read_text("utf-8").replace(
        "{daily_cap: 10.00}", "{daily_cap: 10.00, degrade: [{at: 0.15, max_tokens: 64}]}"
    )
    site.path.write_text(text, encoding="utf-8")
    before = site.weir("limits", "--tenant", "acme").stdout
    spend(site)

    shown = site.weir("limits", "--tenant", "acme").stdout
    body = json.loads(site.weir("limits", "--tenant", "acme", "--json").stdout)

    assert "degradation (tenant, enforce): stage 0 of 1\n" in before
    assert "degradation (tenant, enforce): stage 1 of 1: from 0.15 on max_tokens=64\n" in shown
    assert body["degradation"][0]["in_force"] == [{"at": 0.15, "does": "max_tokens=64"}]


def test_a_prepaid_balance_is_shown_by_what_is_left(site: Site) -> None:
    """Of a sum of all time nobody learns anything; nothing frees it up either."""
    text = site.path.read_text().replace("- id: acme", "- id: acme\n    prepaid: {hard_stop: true}")
    site.path.write_text(text)
    spend(site)
    key = site.keys.balances(site.keys.shard("acme"))
    site.redis(lambda link: link.call("HSET", key, "acme", "4000000000"))

    body = json.loads(site.weir("limits", "--tenant", "acme", "--json").stdout)

    [row] = [each for each in body["caps"] if each["window"] == "prepaid_balance"]
    assert row["usd"] == {
        "limit": "2.500000",
        "spent": "0.000000",
        "held": "0.250000",
        "remaining": "2.250000",
    }
    assert row["frees_at"] is None
