"""Choosing end to end: two scripted upstreams behind one model, and what the client sees of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import aiohttp
import pytest
from choice_samples import choosing, up
from fixtures_door import KEY, OpenDoor, RunningDoor, held, tenant
from fixtures_upstream import ScriptedUpstream, body, completion

from metering.tenants import Tenant
from proxy.settings import Settings
from routing.abilities import Abilities
from routing.affinity import Affinity
from routing.upstreams import Strategy

Make = Callable[..., Settings]


@pytest.fixture
def both(upstream: ScriptedUpstream, other_upstream: ScriptedUpstream) -> Make:
    """Settings with `a` and `b` at the two upstreams, each of which answers."""
    upstream.scripts, other_upstream.scripts = [[completion("a")]], [[completion("b")]]

    def make(*upstreams: Any, **fields: Any) -> Settings:
        return choosing(*upstreams, urls={"a": upstream.url, "b": other_upstream.url}, **fields)

    return make


async def ask(door: RunningDoor, headers: dict[str, str] | None = None, **fields: Any) -> Any:
    """A chat completion for `auto`; the answer with its status and headers."""
    sent = {"model": "auto", "messages": [{"role": "user", "content": "hi"}], **fields}
    answer: aiohttp.ClientResponse = await door.http.post(
        f"{door.url}/v1/chat/completions",
        json=sent,
        headers={"Authorization": f"Bearer {KEY}", **(headers or {})},
    )
    door.answers.append(answer)
    return answer, await answer.json()


async def test_the_cheapest_serves(open_door: OpenDoor, both: Make) -> None:
    """Of one model at two upstreams the cheaper one is asked, held for and billed."""
    made = both(
        up("a", "large"),
        replace(up("b", "small"), region="eu"),
        strategy=Strategy.LEAST_COST,
        explain=True,
    )
    door = await open_door(made)

    answer, said = await ask(door, {"x-weir-explain": "1"})

    assert answer.headers["x-weir-provider"] == "b"
    assert answer.headers["x-weir-route"] == "b/small (cheapest); not a/large (dearer)"
    assert said["choices"][0]["message"]["content"] == "b"
    assert [(each.model_upstream, each.region) for each in door.events] == [("small", "eu")]
    assert held(door) == []


async def test_the_other_one_serves_when_the_cheapest_fails(
    open_door: OpenDoor, both: Make, other_upstream: ScriptedUpstream
) -> None:
    """The order of the choice is the order of the fallback."""
    other_upstream.scripts = [[body({"error": {"message": "no"}}, 503)]]
    door = await open_door(both(up("a", "large"), up("b", "small"), strategy=Strategy.LEAST_COST))

    _, said = await ask(door)

    assert said["choices"][0]["message"]["content"] == "a"
    assert [each.model_upstream for each in door.events] == ["small", "large"]


async def test_the_cheapest_that_fits_the_cap(open_door: OpenDoor, both: Make) -> None:
    """The first choice is too dear for what is left of the cap; the next one fits."""
    who: Tenant = tenant("0.002")  # 100 tokens of `large` would be held at $0.0016, 400 at $0.0064
    door = await open_door(both(up("a", "large"), up("b", "small"), who=who))

    near, _ = await ask(door, {"x-weir-no-clamp": "1"}, max_tokens=100)
    far, _ = await ask(door, {"x-weir-no-clamp": "1"}, max_tokens=400)

    assert near.headers["x-weir-provider"] == "a"
    assert far.headers["x-weir-provider"] == "b"


async def test_a_session_comes_back_to_its_upstream(open_door: OpenDoor, both: Make) -> None:
    """Ten requests of a session meet one upstream, also at another door after a start."""
    made = both(
        up("a", "small"),
        up("b", "small"),
        strategy=Strategy.WEIGHTED,
        affinity=Affinity.SESSION,
    )
    homes = set()
    for door in (await open_door(made), await open_door(made)):
        for _ in range(5):
            answer, _ = await ask(door, {"x-weir-session": "s-1"})
            homes.add(answer.headers["x-weir-provider"])

    assert len(homes) == 1


async def test_what_nothing_can_do_is_refused(open_door: OpenDoor, both: Make) -> None:
    """Before anything is held or sent, by name."""
    blind = Abilities(vision=False)
    door = await open_door(
        both(up("a", "large", abilities=blind), up("b", "small", abilities=blind))
    )
    image = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://i"}}]}]

    answer, said = await ask(door, messages=image)

    assert answer.status == 400
    assert said["error"]["code"] == "unsupported_by_model"
    assert said["error"]["param"] == "messages"
    assert "large: lacks=vision; small: lacks=vision" in said["error"]["message"]
    assert held(door) == []


async def test_tags_choose_the_upstream(open_door: OpenDoor, both: Make) -> None:
    """Only an upstream with the tag is asked; a tag that nobody has is refused."""
    door = await open_door(both(up("a", "large"), up("b", "small", tags=frozenset({"eu"}))))

    found, _ = await ask(door, {"x-weir-tags": "eu"})
    missed, said = await ask(door, {"x-weir-tags": "eu,moon"})

    assert found.headers["x-weir-provider"] == "b"
    assert (missed.status, said["error"]["param"]) == (400, "x-weir-tags")


async def test_why_is_not_told_unless_it_may_be(open_door: OpenDoor, both: Make) -> None:
    """By default the header is refused, and nothing is told without it."""
    door = await open_door(both(up("a", "large"), up("b", "small")))

    refused, said = await ask(door, {"x-weir-explain": "1"})
    plain, _ = await ask(door)

    assert (refused.status, said["error"]["param"]) == (400, "x-weir-explain")
    assert "x-weir-route" not in plain.headers
