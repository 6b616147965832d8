"""Whose answers a request may be given: those of upstreams that may serve it, and no others."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from cache_samples import ask, keeping, settled
from fixtures_door import OpenDoor
from fixtures_upstream import ScriptedUpstream, completion

from proxy.asking import places_of
from proxy.settings import Provider, Secret
from routing.conditions import When
from routing.upstreams import Model, Terms, Upstream


def places(**terms: Terms) -> dict[str, Model]:
    """A model that is served by an upstream for each of these terms, at one provider."""
    found = [Upstream("one", f"up-{name}", "m", terms=each) for name, each in terms.items()]
    return {"m": Model("m", tuple(found))}


TAGGED = places(us=Terms(tags=frozenset({"us"})), eu=Terms(tags=frozenset({"eu"})))


async def test_tags_are_part_of_the_question(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """What another upstream said is never given to who asks for a tag that it does not have."""
    door = await open_door(keeping(upstream.url, models=TAGGED))
    upstream.scripts = [[completion()], [completion()]]

    anywhere = await ask(door)
    await settled(door)
    in_europe = await ask(door, headers={"x-weir-tags": "eu"})
    await settled(door, 2)
    again = [await ask(door, headers={"x-weir-tags": tags}) for tags in ("eu", "eu, eu")]

    assert [each.headers["x-weir-cache"] for each in (anywhere, in_europe)] == ["miss", "miss"]
    assert [each.headers["x-weir-cache"] for each in again] == ["hit", "hit"]
    assert [each.json["model"] for each in upstream.received] == ["up-us", "up-eu"]


def account(**changes: Any) -> Provider:
    made = Provider("one", "openai", "https://one.test/v1", options={"formats": "openai_chat"})
    return replace(made, **changes)


@pytest.mark.parametrize(
    "moved",
    [
        account(base_url="https://two.test/v1"),
        account(type="azure_openai"),
        account(options={"formats": "openai_chat,openai_responses"}),
    ],
    ids=["base_url", "type", "options"],
)
def test_an_account_that_moves_is_another_place(moved: Provider) -> None:
    """What stood under the same name before it was changed has given other answers."""
    own = {"one/m": "one"}

    assert places_of(own, {"one": moved}) != places_of(own, {"one": account()})


@pytest.mark.parametrize(
    "same",
    [account(api_key=Secret("sk-other")), account(timeout_s=1.0), account()],
    ids=["key", "timeout", "nothing"],
)
def test_a_key_is_no_place(same: Provider) -> None:
    """A key that is rolled forgets nothing, nor does a setting that says how to wait."""
    own = {"one/m": "one"}

    assert places_of(own, {"one": same}) == places_of(own, {"one": account()})


def test_the_simulator_is_one_place() -> None:
    """Its port is another one after every start, and its answers are not."""
    own, made = {"simulator/m": "simulator"}, Provider("simulator", "simulator", "http://[::1]:1")

    assert places_of(own, {"simulator": made}) == {"simulator/m": ""}


@pytest.mark.parametrize(
    ("when", "mine", "theirs"),
    [
        (When(labels=(("feature", ("private",)),)), {"headers": {"x-weir-feature": "private"}}, {}),
        (When(metadata=(("tier", ("high",)),)), {"metadata": {"tier": "high"}}, {}),
        (When(labels=(("user", ("anna",)),)), {"user": "anna"}, {"user": "bob"}),
    ],
    ids=["feature", "metadata", "user"],
)
async def test_conditions_are_part_of_the_question(
    open_door: OpenDoor,
    upstream: ScriptedUpstream,
    *,
    when: When,
    mine: dict[str, Any],
    theirs: dict[str, Any],
) -> None:
    """An upstream that serves some requests only has its answers kept for these."""
    door = await open_door(keeping(upstream.url, models=places(some=Terms(when=when), all=Terms())))
    upstream.scripts = [[completion()], [completion()]]

    answers = [await ask(door, **mine)]
    await settled(door)
    answers.append(await ask(door, **theirs))
    await settled(door, 2)
    answers += [await ask(door, **mine), await ask(door, **theirs)]

    assert [each.headers["x-weir-cache"] for each in answers] == ["miss", "miss", "hit", "hit"]
    assert [each.json["model"] for each in upstream.received] == ["up-some", "up-all"]


async def test_what_excludes_nobody_is_no_part_of_it(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """Tags that every upstream has, and a target that changes only who is asked first."""
    both = Terms(tags=frozenset({"eu"}))
    door = await open_door(keeping(upstream.url, models=places(one=both, two=both)))
    upstream.scripts = [[completion()]]

    await ask(door)
    await settled(door)
    asked = [{"x-weir-tags": "eu"}, {"x-weir-target-latency-ms": "1"}]
    answers = [await ask(door, headers=each) for each in asked]

    assert [each.headers["x-weir-cache"] for each in answers] == ["hit", "hit"]


async def test_headers_that_go_on_are_part_of_the_question(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """A header of the client's that its upstream hears of may change the answer."""
    door = await open_door(keeping(upstream.url))
    upstream.scripts = [[completion()], [completion()]]
    fields: dict[str, Any] = {"path": "/v1/messages", "max_tokens": 9}

    answers = [await ask(door, **fields)]
    await settled(door)
    beta = {"anthropic-beta": "context-1m-2025-08-07"}
    answers += [await ask(door, headers=beta, **fields), await ask(door, **fields)]

    assert [each.headers["x-weir-cache"] for each in answers] == ["miss", "miss", "hit"]
