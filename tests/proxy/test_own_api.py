"""`GET /v1/key` and `GET /v1/usage`: a client sees itself, and nobody else."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import pytest
from fixtures_door import KEY, OpenDoor, RunningDoor, rule, settings, tenant
from fixtures_upstream import ScriptedUpstream, completion

from metering.caps import CapsUnavailableError, Limit, Looked, ScopeKind
from metering.memory_caps import MemoryCaps
from metering.tenants import ApiKey, CapRule
from metering.window import rolling
from proxy.settings import Settings

OTHER = "sk-weir-other"
END_NS = 4_000_000_000_000_000_000


def _made(upstream: ScriptedUpstream) -> Settings:
    who = tenant("10.00")
    rules = (
        CapRule(ScopeKind.KEY, rolling(60), Limit(requests=5), id="k1"),
        CapRule(ScopeKind.USER, rolling(3600), Limit(nano=1_000_000_000)),
    )
    key = replace(who.keys[0], expires_ns=END_NS, pins={ScopeKind.FEATURE: "chat"})
    who = replace(who, cap_rules=rules, keys=(key,))
    sha256 = hashlib.sha256(OTHER.encode()).hexdigest()
    other = replace(tenant("7.00"), id="other", name="Other", keys=(ApiKey("k9", sha256, "web"),))
    made = settings({"one": upstream.url}, who=who, rules=(rule("*", "1.00"),))
    return replace(made, tenants={who.id: who, other.id: other})


async def get(door: RunningDoor, path: str, key: str = KEY, **headers: str) -> tuple[int, Any]:
    headers["Authorization"] = f"Bearer {key}"
    async with door.http.get(f"{door.url}{path}", headers=headers) as answer:
        return answer.status, await answer.json()


async def test_a_key_knows_what_it_is(open_door: OpenDoor, upstream: ScriptedUpstream) -> None:
    """Whose it is, what it may ask for, its limits, its end, and what is left."""
    door = await open_door(_made(upstream))
    status, body = await get(door, "/v1/key")

    assert status == 200
    assert (body["id"], body["tenant"], body["project"]) == ("k1", "acme", "default")
    assert body["pinned_to"] == {"feature": "chat"}
    assert (body["models"], body["expires_at"]) == (["m"], "2096-10-02T07:06:40Z")
    assert (body["remaining_usd"], body["stopped"]) == ("10.000000000", None)
    assert [each["scope"] for each in body["limits"]] == ["tenant:acme", "key:k1"]


async def test_usage_is_what_was_spent(open_door: OpenDoor, upstream: ScriptedUpstream) -> None:
    """Under each cap, those of the user that the request names included; no cost of a provider."""
    door = await open_door(_made(upstream))
    upstream.scripts = [[completion("hi", prompt=1_000, output=500)]]
    assert (await door.chat(user="ann")).status == 200
    status, body = await get(door, "/v1/usage", **{"x-weir-user": "ann"})

    assert status == 200
    daily, minute, of_user = body["caps"]
    assert (daily["spent_usd"], daily["remaining_usd"]) == ("0.003000000", "9.997000000")
    assert (minute["limit_requests"], minute["remaining_requests"]) == (5, 4)
    assert of_user["scope"].startswith("user:")
    assert of_user["remaining_usd"] == body["remaining_usd"] == "0.997000000"
    assert daily["resets_at"] is not None
    assert "cost" not in str(body)


async def test_nobody_sees_another(open_door: OpenDoor, upstream: ScriptedUpstream) -> None:
    """Whatever the query or a header says: the key decides."""
    door = await open_door(_made(upstream))
    status, body = await get(
        door, "/v1/usage?tenant=acme&key=k1", OTHER, **{"x-weir-tenant": "acme"}
    )

    assert (status, body["tenant"], body["key"]) == (200, "other", "k9")
    assert "acme" not in str(body)
    for path in ("/v1/usage", "/v1/key"):
        status, body = await get(door, path, "sk-weir-nobody")
        assert (status, body["error"]["code"]) == (401, "invalid_api_key")


async def test_what_is_stopped_is_said(open_door: OpenDoor, upstream: ScriptedUpstream) -> None:
    """A paused tenant learns that it is, and a Redis that is away is no empty answer."""
    door = await open_door(_made(upstream))
    assert isinstance(door.caps, MemoryCaps)
    door.caps.model.flags.setdefault("acme", set()).add("paused")
    assert (await get(door, "/v1/key"))[1]["stopped"] == "paused"


async def test_redis_away_is_no_zero(
    open_door: OpenDoor, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is spent is not known then; the key still is what it is."""
    door = await open_door(_made(upstream))

    async def away(*_: Any, **__: Any) -> Looked:
        raise CapsUnavailableError("gone")

    monkeypatch.setattr(type(door.caps), "look", away)
    status, body = await get(door, "/v1/usage")
    assert (status, body["error"]["code"]) == (503, "budget_backend_unavailable")
    status, body = await get(door, "/v1/key")
    assert (status, body["id"], body["remaining_usd"]) == (200, "k1", None)
