"""`POST /v1/meter`: the decision is that of the request itself, and nothing is held for it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import aiohttp
import orjson
import pytest
from caps_samples import RedisSubject
from cost_samples import under_margin
from fixtures_door import KEY, OpenDoor, RunningDoor, rule, settings, tenant, usd
from fixtures_upstream import ScriptedUpstream, completion
from plan_samples import three_models

from metering.caps import Limit, ScopeKind
from metering.memory_caps import MemoryCaps
from metering.money import format_usd
from metering.redis_keys import RedisKeys
from metering.redis_link import RedisLink
from metering.steps import Step
from metering.tenants import CapRule
from metering.window import rolling
from proxy.admission import Routes, count_prompts
from proxy.planning import plan
from proxy.settings import Settings
from proxy.wire.openai_chat.client import parse_request
from routing.abilities import Abilities
from routing.cost_to_serve import Mode
from routing.retries import OnFailure
from routing.upstreams import Model, Upstream


async def ask(door: RunningDoor, *, key: str = KEY, **fields: Any) -> aiohttp.ClientResponse:
    """POST to /v1/meter with the tenant's key."""
    headers = {"Authorization": f"Bearer {key}"}
    answer = await door.http.post(f"{door.url}/v1/meter", json=fields, headers=headers)
    door.answers.append(answer)
    return answer


async def decided(door: RunningDoor, **fields: Any) -> dict[str, Any]:
    answer = await ask(door, **fields)
    assert answer.status == 200, await answer.text()
    found: dict[str, Any] = await answer.json()
    return found


def capped(made: Settings, *rules: CapRule, cap: str | None = "10.00") -> Settings:
    who = next(iter(made.tenants.values()))
    limits = replace(who.limits, daily_cap_nano=None if cap is None else usd(cap))
    return replace(made, tenants={who.id: replace(who, cap_rules=rules, limits=limits)})


async def test_what_fits_is_allowed_with_its_estimate(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """The estimate is what would be held, the caps are told as they stand, and nothing is held."""
    made = settings({"one": upstream.url}, rules=(rule("*", "1.00"),))
    minute = CapRule(ScopeKind.TENANT, rolling(60), Limit(requests=5, tokens=9_000))
    door = await open_door(capped(made, minute))

    found = await decided(door, model="m", input_tokens=1_000, max_tokens=500)

    assert found["decision"] == "allow"
    assert found["model"] == "m"
    assert found["reason"] is None
    assert found["estimate"]["sell_usd"] == "0.003000000"
    assert (found["estimate"]["input_tokens"], found["estimate"]["output_tokens"]) == (1_000, 500)
    assert [
        (cap["scope"], cap["window"], cap.get("remaining_usd"), cap.get("remaining_requests"))
        for cap in found["caps"]
    ] == [
        ("tenant:acme", "rolling_24h", "10.000000", None),
        ("tenant:acme", "rolling_1m", None, 5),
    ]
    assert isinstance(door.caps, MemoryCaps)
    assert not door.caps.model.records
    assert not upstream.received
    assert "cost" not in str(found)


@pytest.mark.parametrize("stream", [False, True])
async def test_the_estimate_is_the_hold_of_the_request(
    open_door: OpenDoor, upstream: ScriptedUpstream, stream: bool
) -> None:
    """Messages, tools and choices are counted as for a request: what it would hold is told."""
    made = settings({"one": upstream.url})
    door = await open_door(made)
    body = {
        "model": "m",
        "messages": [{"role": "user", "content": "How long is this prompt?"}],
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}],
        "n": 2,
        "max_tokens": 30,
        "stream": stream,
    }
    request = parse_request(orjson.dumps(body))
    route = Routes(made).find(made.tenants["acme"], "m")
    option = plan(route, request, count_prompts(request, route)).options[0]

    found = (await decided(door, **body))["estimate"]

    assert found["input_tokens"] == option.prompt_tokens > 10
    assert found["output_tokens"] == option.output_tokens == 60
    assert found["sell_usd"] == format_usd(option.hold.nano, places=9)


ASKED: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "x"}]}


async def test_a_rate_says_when_to_come_back(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """Too many requests: throttle, with the seconds to wait and the cap that is used up."""
    upstream.scripts = [[completion()]]
    minute = CapRule(ScopeKind.TENANT, rolling(60), Limit(requests=1))
    door = await open_door(capped(settings({"one": upstream.url}), minute))
    assert (await door.chat(**ASKED)).status == 200

    found = await decided(door, **ASKED)

    assert (found["decision"], found["reason"]) == ("throttle", "rate_limit_exceeded")
    assert 1 <= found["retry_after_s"] <= 61
    assert found["caps"][1]["remaining_requests"] == 0


@pytest.mark.parametrize(("cap", "is_served"), [("0.50", True), ("0.41", False)])
async def test_a_cap_cuts_or_refuses_as_it_does_the_request(
    open_door: OpenDoor, upstream: ScriptedUpstream, cap: str, is_served: bool
) -> None:
    """With some money left the bound that the request gets is told, with none its refusal."""
    upstream.scripts = [[completion(output=1_000)], [completion()]]
    made = settings({"one": upstream.url}, rules=(rule("*", "100.00"),))
    door = await open_door(capped(made, cap=cap))
    assert (await door.chat(**ASKED, max_tokens=1_000)).status == 200

    found = await decided(door, **ASKED, max_tokens=1_000)
    answer = await door.chat(**ASKED, max_tokens=1_000)

    assert (answer.status == 200) is is_served
    if is_served:
        assert found["decision"] == "allow"
        clamped = int(answer.headers["x-weir-max-tokens-clamped"])
        assert found["estimate"]["max_tokens"] == clamped
    else:
        assert found["decision"] == "throttle"
        assert found["reason"] == (await answer.json())["error"]["code"] == "insufficient_quota"
        assert found["retry_after_s"] is None


async def test_a_step_near_a_cap_routes(open_door: OpenDoor, upstream: ScriptedUpstream) -> None:
    """Where the request would be served by the model of a step, that is told."""
    upstream.scripts = [[completion(prompt=0, output=2_200)]]
    door = await open_door(three_models(Step(800_000, to="cheap"), url=upstream.url))
    assert (await door.chat(model="dear", max_tokens=2_300)).status == 200

    found = await decided(door, model="dear", input_tokens=10, max_tokens=10)

    assert (found["decision"], found["model"], found["reason"]) == ("route", "cheap", "step")


async def test_margins_are_decided_as_for_the_request(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """Under the margin: to what keeps it, else so many and no more, and asking takes none."""
    upstream.scripts = [[completion()]]
    routed = await open_door(under_margin(upstream.url))
    single = await open_door(under_margin(upstream.url, fallbacks=(), allowed=1))
    asked: dict[str, Any] = {"model": "thin", "input_tokens": 10, "max_tokens": 10}

    to_fat = await decided(routed, **asked)
    first = [await decided(single, **asked) for _ in range(3)]
    assert (await single.chat(model="thin", max_tokens=10)).status == 200
    then = await decided(single, **asked)

    assert (to_fat["decision"], to_fat["model"], to_fat["reason"]) == ("route", "fat", "margin")
    assert [(each["decision"], each["reason"]) for each in first] == [("allow", "margin")] * 3
    assert (then["decision"], then["reason"]) == ("throttle", "margin")
    assert 1 <= then["retry_after_s"] <= 61
    assert len(then["caps"]) == 1


async def test_shadow_allows(open_door: OpenDoor, upstream: ScriptedUpstream) -> None:
    """Margins in shadow make no decision."""
    door = await open_door(under_margin(upstream.url, mode=Mode.SHADOW, allowed=1))

    found = await decided(door, model="thin", input_tokens=10, max_tokens=10)

    assert (found["decision"], found["model"], found["reason"]) == ("allow", "thin", None)


async def test_another_tenant_only_where_the_key_may(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """A key asks for its own tenant, or for one that it acts for; else 403."""
    made = settings({"one": upstream.url})
    acme = tenant("10.00")
    acting = replace(acme, keys=(replace(acme.keys[0], act_for=frozenset({"beta"})),))
    beta = replace(tenant("0.01"), id="beta", keys=())
    gamma = replace(tenant("1.00"), id="gamma", keys=())
    door = await open_door(replace(made, tenants={each.id: each for each in (acting, beta, gamma)}))

    own = await decided(door, model="m", input_tokens=1, max_tokens=1, tenant_id="acme")
    other = await decided(door, model="m", input_tokens=1, max_tokens=1, tenant_id="beta")
    refused = await ask(door, model="m", input_tokens=1, tenant_id="gamma")

    assert own["caps"][0]["remaining_usd"] == "10.000000"
    assert (other["tenant_id"], other["caps"][0]["remaining_usd"]) == ("beta", "0.010000")
    assert refused.status == 403
    assert (await refused.json())["error"]["code"] == "tenant_not_allowed"


async def test_refusals_of_the_request_are_refusals_here(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """A wrong key, an unknown model and a malformed body are errors, not decisions."""
    door = await open_door(settings({"one": upstream.url}))

    wrong = await ask(door, key="sk-wrong", model="m", input_tokens=1)
    unknown = await ask(door, model="nope", input_tokens=1)
    empty = await ask(door, model="m")

    await decided(door, model="m", input_tokens=1)
    assert [wrong.status, unknown.status, empty.status] == [401, 404, 400]
    counted = {tuple(key): value for *key, value in door.door.metrics.metrics.series()["counters"]}
    assert counted["weir_requests_total", "4xx"] == 3
    assert counted["weir_requests_total", "2xx"] == 1


async def test_labels_name_scopes(open_door: OpenDoor, upstream: ScriptedUpstream) -> None:
    """The caps of the feature and run that the body names are looked at."""
    made = settings({"one": upstream.url})
    runs = CapRule(ScopeKind.RUN, rolling(3_600), Limit(requests=3))
    door = await open_door(capped(made, runs))

    found = await decided(door, model="m", input_tokens=1, max_tokens=1, run="r7")

    assert [cap["scope"] for cap in found["caps"]] == ["tenant:acme", "run:r7"]
    assert found["caps"][1]["remaining_requests"] == 3


async def test_over_redis_it_is_one_look_that_changes_nothing(
    open_door: OpenDoor, upstream: ScriptedUpstream, redis_link: RedisLink, redis_keys: RedisKeys
) -> None:
    """Over Redis the same decision, and not one key more."""
    subject = RedisSubject(redis_link, redis_keys)
    await subject.mark()
    before = sorted(await redis_link.call("KEYS", f"{redis_keys.prefix}:*"))
    door = await open_door(under_margin(upstream.url, fallbacks=()), subject.caps)

    found = await decided(door, model="thin", input_tokens=10, max_tokens=10)

    assert (found["decision"], found["reason"]) == ("allow", "margin")
    assert sorted(await redis_link.call("KEYS", f"{redis_keys.prefix}:*")) == before


async def test_windows_that_are_rebuilt_make_no_decision(
    open_door: OpenDoor, upstream: ScriptedUpstream, redis_link: RedisLink, redis_keys: RedisKeys
) -> None:
    """An empty Redis is a 503, as for the request."""
    subject = RedisSubject(redis_link, redis_keys)
    door = await open_door(settings({"one": upstream.url}), subject.caps)

    answer = await ask(door, model="m", input_tokens=1)

    assert answer.status == 503


async def test_a_prompt_too_long_is_judged_where_it_will_go(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """With `context_fallbacks` it is the larger model that is decided on, at its price."""
    models = {
        "m": Model(
            "m",
            (Upstream("one", "up-m", "m"),),
            abilities=Abilities(max_context_tokens=100),
            on_failure=OnFailure(context_fallbacks=("large",)),
        ),
        "large": Model("large", (Upstream("one", "up-l", "large"),)),
    }
    rules = (rule("up-m"), rule("up-l", "2.00"))
    door = await open_door(settings({"one": upstream.url}, models=models, rules=rules))

    found = await decided(door, model="m", input_tokens=1_000, max_tokens=500)

    assert found["model"] == "large"
    assert found["estimate"]["sell_usd"] == "0.006000000"
