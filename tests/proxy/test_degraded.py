"""How degradation is told: headers, events, metrics, and the refusal where nothing is sent."""

from __future__ import annotations

from dataclasses import replace

import pytest
from fixtures_door import KEY, OpenDoor, usd
from fixtures_upstream import ScriptedUpstream, body, completion
from plan_samples import planned, shadowed, three_models

from metering.caps import (
    ROLLING_DAY,
    Cap,
    CapState,
    Denial,
    DenialReason,
    Limit,
    Reservation,
    Scope,
    ScopeKind,
    Vector,
)
from metering.steps import Step
from proxy.degraded import Degraded, Steps, only_cached, passed_over, step_headers, steps_taken
from proxy.settings import Settings
from routing.abilities import Abilities

DOWN = (Step(500_000, to="middle"), Step(800_000, to="cheap", max_tokens=100))
CLOSED = (*DOWN, Step(900_000, cache_only=True))
TOOLS = [{"type": "function", "function": {"name": "f"}}]


def admitted(index: int, stage: int) -> Reservation:
    return Reservation("e", index, (), stage=stage)


def state(spent_usd: str) -> CapState:
    cap = Cap(Scope(ScopeKind.TENANT), ROLLING_DAY, Limit(nano=usd("1.00")))
    return CapState(cap, Vector(usd(spent_usd)), Vector(), now_ms=0, reset_ms=60_000)


TAKEN: dict[str, tuple[int, int, Degraded | None]] = {
    "as asked": (0, 0, None),
    "called for": (1, 1, Degraded("middle", (), "step")),
    "for want of room": (1, 0, Degraded("middle", (), "cap")),
    "two down, one called for": (
        2,
        1,
        Degraded("cheap; max_tokens=100", ("max_tokens=100",), "cap"),
    ),
}


@pytest.mark.parametrize("name", TAKEN)
def test_what_was_done_and_why(name: str) -> None:
    """A step in force is the reason; else it is the cap, under which nothing dearer fitted."""
    index, stage, told = TAKEN[name]
    plan = planned(three_models(*DOWN), max_tokens=1000)

    assert steps_taken(plan, admitted(index, stage)) == Steps(taken=told)


@pytest.mark.parametrize(
    ("stage", "would"), [(0, None), (1, "middle"), (2, "cheap; max_tokens=100"), (3, "cache_only")]
)
def test_what_would_have_been_done(stage: int, would: str | None) -> None:
    """In shadow only that is told."""
    plan = planned(shadowed(three_models(*CLOSED)), max_tokens=1000)

    assert steps_taken(plan, admitted(0, stage)) == Steps(would=would)


def test_who_was_passed_over_is_told_while_the_step_is_in_force() -> None:
    """Below it nobody asks; at it the answer names the model and what it lacks."""
    plan = planned(three_models(*DOWN, cheap=Abilities(tools=False)), tools=TOOLS, max_tokens=1000)

    assert steps_taken(plan, admitted(0, 1)).skipped == ()
    assert steps_taken(plan, admitted(1, 2)).skipped == ("cheap; lacks=tools",)
    assert step_headers(steps_taken(plan, admitted(1, 2)), asked="dear", served="middle") == {
        "x-weir-degraded": "from=dear; to=middle; reason=step",
        "x-weir-degrade-skipped": "cheap; lacks=tools",
    }


CACHED: dict[str, tuple[Denial, bool]] = {
    "the stage says so": (Denial(DenialReason.SPENT, state("0.1"), stage=3), True),
    "the cap is that far": (Denial(DenialReason.SPENT, state("0.9")), True),
    "no cap at all": (Denial(DenialReason.SPENT), True),
    "another stage": (Denial(DenialReason.SPENT, state("0.1"), stage=2), False),
    "paused": (Denial(DenialReason.PAUSED), False),
    "never": (Denial(DenialReason.NEVER, state("0.95")), False),
}


@pytest.mark.parametrize("name", CACHED)
def test_only_cached_answers(name: str) -> None:
    """A stage that sends nothing refuses with the quota's code and the cap that brought it."""
    denial, is_told = CACHED[name]
    error = only_cached(planned(three_models(*CLOSED)), denial, "acme")

    assert (error is not None) is is_told
    if error is not None:
        assert (error.status, error.code, error.should_retry) == (429, "insufficient_quota", False)
        assert "cache_only" in error.message
    if error is not None and denial.state is not None:
        assert error.headers()["x-weir-cap-limit-usd"] == "1.000000"
        assert error.metadata is not None
        assert error.metadata["limit_source"] == "tenant_daily_cap"


def served(*steps: Step, url: str, **abilities: Abilities) -> Settings:
    return three_models(*steps, url=url, **abilities)


async def test_a_step_refuses_where_nothing_is_sent(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """From `cache_only` on the upstream hears nothing."""
    door = await open_door(served(Step(500_000, cache_only=True), url=upstream.url))
    upstream.scripts = [[completion(prompt=0, output=1500)]]

    first = await door.chat(model="dear", max_tokens=1500)
    second = await door.chat(model="dear", max_tokens=10)

    assert (first.status, second.status) == (200, 429)
    assert "cache_only" in (await second.json())["error"]["message"]
    assert len(upstream.received) == 1


async def test_a_request_may_decline(open_door: OpenDoor, upstream: ScriptedUpstream) -> None:
    """With `x-weir-no-degrade` the own model serves up to the cap itself."""
    configured = served(Step(500_000, to="cheap"), url=upstream.url)
    door = await open_door(configured)
    upstream.scripts = [[completion(prompt=0, output=1500)], [completion(prompt=0, output=1)]]

    await door.chat(model="dear", max_tokens=1500)
    answer = await door.http.post(
        f"{door.url}/v1/chat/completions",
        json={"model": "dear", "messages": [], "max_tokens": 10},
        headers={"Authorization": f"Bearer {KEY}", "x-weir-no-degrade": "1"},
    )
    door.answers.append(answer)

    assert (answer.status, answer.headers["x-weir-model"]) == (200, "dear")
    assert "x-weir-degraded" not in answer.headers


async def test_declining_can_be_forbidden(open_door: OpenDoor, upstream: ScriptedUpstream) -> None:
    """Then the header is an error, before anything is read."""
    configured = served(url=upstream.url)
    tenants = {
        name: replace(who, may_decline_steps=False) for name, who in configured.tenants.items()
    }
    door = await open_door(replace(configured, tenants=tenants))

    answer = await door.http.post(
        f"{door.url}/v1/chat/completions",
        json={"model": "dear", "messages": []},
        headers={"Authorization": f"Bearer {KEY}", "x-weir-no-degrade": "1"},
    )
    door.answers.append(answer)

    assert (answer.status, (await answer.json())["error"]["param"]) == (400, "x-weir-no-degrade")


async def test_the_cap_itself_degrades_when_nothing_dearer_fits(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """Before it is refused a request is served as a later step would; a prompt is never told."""
    door = await open_door(served(Step(900_000, to="cheap"), url=upstream.url))
    upstream.scripts = [[completion(prompt=0, output=5)]]

    answer = await door.chat(model="dear", max_tokens=100_000)

    assert answer.headers["x-weir-degraded"] == "from=dear; to=cheap; reason=cap"
    assert door.events[0].degrade_step == "cheap"


async def test_tools_never_go_to_a_model_without(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """The answer comes from the model asked for, and says who was passed over."""
    door = await open_door(
        served(Step(500_000, to="cheap"), url=upstream.url, cheap=Abilities(tools=False))
    )
    upstream.scripts = [[completion(prompt=0, output=1500)], [completion(prompt=0, output=1)]]

    await door.chat(model="dear", max_tokens=1500)
    answer = await door.chat(model="dear", max_tokens=10, tools=TOOLS)

    assert answer.headers["x-weir-model"] == "dear"
    assert answer.headers["x-weir-degrade-skipped"] == "cheap; lacks=tools"
    assert "x-weir-degraded" not in answer.headers


async def test_a_refusal_says_who_could_not_serve_it(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """Where a step would have led past the cap but for what its model lacks."""
    door = await open_door(
        served(Step(500_000, to="cheap"), url=upstream.url, cheap=Abilities(tools=False))
    )
    upstream.scripts = [[completion(prompt=0, output=1)]]

    body = {"model": "dear", "messages": [], "max_tokens": 100_000}
    headers = {"Authorization": f"Bearer {KEY}", "x-weir-no-clamp": "1"}
    refused, served_cheaper = [
        await door.http.post(
            f"{door.url}/v1/chat/completions", json={**body, **tools}, headers=headers
        )
        for tools in ({"tools": TOOLS}, {})
    ]
    door.answers += [refused, served_cheaper]

    assert refused.status == 400
    assert refused.headers["x-weir-degrade-skipped"] == "cheap; lacks=tools"
    assert (served_cheaper.status, served_cheaper.headers["x-weir-model"]) == (200, "cheap")


@pytest.mark.parametrize("reason", [DenialReason.PAUSED, DenialReason.REBUILDING])
def test_a_refusal_by_no_cap_says_nothing_of_steps(reason: DenialReason) -> None:
    """Another model would not have helped; nor is anything told of steps in shadow."""
    configured = three_models(*DOWN, cheap=Abilities(tools=False))
    plan = planned(configured, tools=TOOLS, max_tokens=1000)
    on_trial = planned(shadowed(configured), tools=TOOLS, max_tokens=1000)

    assert passed_over(plan, Denial(reason)) == {}
    assert passed_over(on_trial, Denial(DenialReason.SPENT)) == {}
    assert passed_over(plan, Denial(DenialReason.SPENT)) != {}


async def test_a_fallback_that_was_not_asked_is_told(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """After a failure the client learns which fallback could not have served it, and why."""
    configured = three_models(fallbacks=("cheap",), url=upstream.url, cheap=Abilities(tools=False))
    door = await open_door(configured)
    upstream.scripts = [[body(b"", 500)], [completion(prompt=0, output=1)]]

    failed = await door.chat(model="dear", tools=TOOLS)
    served = await door.chat(model="dear", tools=TOOLS)

    assert failed.headers["x-weir-fallback-skipped"] == "cheap; lacks=tools"
    assert "x-weir-fallback-skipped" not in served.headers
    assert len(upstream.received) == 2
