"""`POST /v1/events` over real sockets: what is answered is what is recorded."""

from __future__ import annotations

import hashlib
import io
import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import ClientResponse
from fixtures_door import KEY, OpenDoor, RunningDoor, rule, settings, tenant, usd
from fixtures_upstream import ScriptedUpstream
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from metering.caps import CapsUnavailableError, Commit, Hold, Vector
from metering.claims import Claim, Claimed
from metering.memory_caps import MemoryCaps
from metering.prices import PriceRule
from metering.tenants import ApiKey, Tenant
from proxy.settings import Metering, Settings

SEARCH = PriceRule(
    "web_search", 0, 0, class_rates_pico={"custom": 10_000_000_000}, has_token_rates=False
)
GLOBEX_KEY = "sk-weir-globex-0123456789"


def configured(**changes: Any) -> Settings:
    return replace(settings({}, rules=(SEARCH,)), **changes)


def item(name: str, value: Any = 1, **fields: Any) -> dict[str, Any]:
    return {"id": name, "meter": "web_search", "value": value, **fields}


async def post(door: RunningDoor, body: Any, key: str = KEY, **headers: str) -> ClientResponse:
    answer = await door.http.post(
        f"{door.url}/v1/events",
        json=body,
        headers={"Authorization": f"Bearer {key}", **headers},
    )
    door.answers.append(answer)
    return answer


def spent(door: RunningDoor) -> int:
    return sum(event.admission_nano for event in door.events)


@pytest.fixture
async def opened(open_door: OpenDoor) -> RunningDoor:
    return await open_door(configured())


async def test_sound_items_are_recorded_whatever_is_wrong_with_others(opened: RunningDoor) -> None:
    """The answer says how many, and of each of the others what is wrong."""
    answer = await post(opened, [item("a", 2), item("b", -1), item("c", meter="fax"), 7])

    assert answer.status == 200
    body = await answer.json()
    assert (body["accepted"], body["duplicates"], body["unpriced"]) == (2, 0, [2])
    assert [(each["index"], each["code"]) for each in body["errors"]] == [
        (1, "invalid_value"),
        (3, "invalid_item"),
    ]
    assert [event.request_id for event in opened.events] == ["a", "c"]
    assert spent(opened) == usd("0.02")


async def test_what_is_reported_counts_against_the_caps(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """No cap refuses it, and it leaves no room for what comes after."""
    door = await open_door(settings({"one": upstream.url}, rules=(rule("*"), SEARCH)))

    answers = [await post(door, item(name, 10_000)) for name in "ab"]  # 100 dollars; the cap is 10
    refused = await door.chat()

    assert [answer.status for answer in answers] == [200, 200]
    assert (spent(door), refused.status) == (usd("200"), 429)


async def test_a_repeat_counts_once_and_says_so(opened: RunningDoor) -> None:
    """With the request as it was, however often, also within one batch."""
    first = await post(opened, [item("a"), item("a"), item("b")])
    second = await post(opened, [item("b"), item("c"), item("a")])

    assert [(await each.json())["duplicates"] for each in (first, second)] == [1, 2]
    assert sorted(event.request_id for event in opened.events) == ["a", "b", "c"]


async def test_another_event_under_an_id_is_a_conflict(opened: RunningDoor) -> None:
    """What was recorded first stands; the rest of the batch is not held up."""
    await post(opened, item("a", 1))
    answer = await post(opened, [item("a", 2), item("b"), item("b", 3)])

    body = await answer.json()
    assert [(each["index"], each["code"]) for each in body["errors"]] == [
        (0, "conflict"),
        (2, "conflict"),
    ]
    assert spent(opened) == usd("0.02")


async def test_a_repeat_within_a_batch_shares_the_fate_of_the_first(opened: RunningDoor) -> None:
    """A conflict is one twice; what agrees with the books is a duplicate, whoever contradicts."""
    await post(opened, item("a", 2))
    answer = await post(opened, [item("a", 1), item("a", 1), item("a", 2)])

    body = await answer.json()
    assert [(each["index"], each["code"]) for each in body["errors"]] == [
        (0, "conflict"),
        (1, "conflict"),
    ]
    assert (body["accepted"], body["duplicates"]) == (0, 1)


async def test_all_bad_is_a_400_with_every_fault(opened: RunningDoor) -> None:
    """In the shape of every other refusal; nothing is recorded."""
    answer = await post(opened, [item("a", "x"), {"meter": "m", "value": 1}])

    error = (await answer.json())["error"]
    assert (answer.status, error["code"], error["param"]) == (400, "events_refused", "value")
    assert [each["code"] for each in error["metadata"]["errors"]] == ["invalid_value", "missing_id"]
    assert opened.events == []


async def test_no_key_no_events(opened: RunningDoor) -> None:
    """As everywhere under /v1."""
    assert (await post(opened, item("a"), key="sk-other")).status == 401


async def test_an_answer_counts_under_its_own_status(opened: RunningDoor) -> None:
    """A refusal is no client that went away."""
    await post(opened, item("a"))
    await post(opened, [item("b", "x")])
    await post(opened, item("a"), key="sk-other")

    found = {tuple(key): value for *key, value in opened.door.metrics.metrics.series()["counters"]}
    assert found["weir_requests_total", "2xx"] == 1
    assert found["weir_requests_total", "4xx"] == 2
    assert found["weir_refusals_total", "events_refused"] == 1


async def test_a_body_over_its_bound_is_refused(opened: RunningDoor) -> None:
    """A megabyte holds more than a thousand events."""
    answer = await opened.http.post(
        f"{opened.url}/v1/events",
        data=io.BytesIO(b" " * 1_100_000),
        headers={"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"},
    )
    opened.answers.append(answer)

    assert answer.status == 413


async def test_a_cloud_event_is_taken(opened: RunningDoor) -> None:
    """Structured mode, by its content type."""
    answer = await opened.http.post(
        f"{opened.url}/v1/events",
        data=b'{"specversion":"1.0","id":"a","source":"s","type":"web_search","data":{"value":1}}',
        headers={
            "Authorization": f"Bearer {KEY}",
            "Content-Type": "application/cloudevents+json; charset=utf-8",
        },
    )
    opened.answers.append(answer)

    assert (await answer.json())["accepted"] == 1
    assert opened.events[0].upstream_request_id == "s"


async def test_an_idempotency_key_makes_a_batch_repeatable(opened: RunningDoor) -> None:
    """Items without ids of their own are named by it."""
    batch = [{"meter": "web_search", "value": 1}, {"meter": "web_search", "value": 1}]
    bodies = [
        await (await post(opened, batch, **{"Idempotency-Key": "n-1"})).json() for _ in range(2)
    ]

    assert [(body["accepted"], body["duplicates"]) for body in bodies] == [(2, 0), (0, 2)]


async def test_a_key_may_act_for_another_tenant(open_door: OpenDoor) -> None:
    """What it reports is that tenant's, under that tenant's caps; others' keys may not."""
    globex = Tenant("globex", "Globex", tenant().limits)
    acting = ApiKey(
        "g1",
        hashlib.sha256(GLOBEX_KEY.encode()).hexdigest(),
        "default",
        act_for=frozenset({"acme"}),
    )
    who = {"acme": tenant(), "globex": replace(globex, keys=(acting,))}
    door = await open_door(configured(tenants=who))

    taken = await post(door, item("a", tenant_id="acme"), key=GLOBEX_KEY)
    refused = await post(door, item("a", tenant_id="globex"))

    assert (taken.status, refused.status) == (200, 400)
    assert [(event.tenant, event.api_key_id) for event in door.events] == [("acme", "g1")]


class AwayCaps(MemoryCaps):
    """Redis is gone: nothing is committed."""

    async def commit(self, hold: Hold, actual: Vector, events: Sequence[bytes]) -> Commit:
        raise CapsUnavailableError("no connection")


class AwayClaims:
    """Claims of a Redis that is gone."""

    async def claim(self, tenant: str, claims: Sequence[Claim]) -> list[Claimed]:
        raise CapsUnavailableError("no connection")

    async def keep(self, tenant: str, claims: Sequence[Claim], *, keep_ms: int) -> None:
        raise CapsUnavailableError("no connection")


async def test_without_redis_they_go_to_the_spool(open_door: OpenDoor) -> None:
    """A repeat goes there, too, under the same exchange: replay records it once."""
    door = await open_door(configured(), AwayCaps())
    object.__setattr__(door.door, "claims", AwayClaims())

    answers = [await post(door, item("a")) for _ in range(2)]

    assert [answer.status for answer in answers] == [200, 200]
    assert len({hold.exchange_id for hold, _, _ in door.spool.records}) == 1
    memory = MemoryCaps()
    for hold, actual, events in door.spool.records:
        await memory.commit(hold, actual, events)
    assert len(memory.model.events) == 1


async def test_a_batch_without_redis_is_told_in_one_line(open_door: OpenDoor) -> None:
    """Not in one for each event: four hundred of them would hide what else goes on."""
    door = await open_door(configured(), AwayCaps())

    answer = await post(door, [item(f"n{n}") for n in range(100)])

    lines = [fields for event, fields in door.log.lines if event == "usage_spooled"]
    assert (answer.status, len(door.spool.records)) == (200, 100)
    assert [(each["count"], each["cause"]) for each in lines] == [(100, "no connection")]


async def test_what_nobody_takes_is_told_and_can_be_sent_again(open_door: OpenDoor) -> None:
    """Neither Redis nor the disk: a 503 that asks for the same request again."""
    door = await open_door(configured(), AwayCaps())
    door.spool.is_full = True

    answer = await post(door, [item("a"), item("b", -1)])
    door.spool.is_full = False
    again = await post(door, [item("a"), item("b", -1)])

    error = (await answer.json())["error"]
    assert (answer.status, error["code"]) == (503, "events_not_recorded")
    assert answer.headers["x-should-retry"] == "true"
    assert error["metadata"]["not_recorded"] == [0]
    assert (again.status, len(door.spool.records)) == (200, 1)


async def test_with_a_spool_for_all_each_has_its_number(open_door: OpenDoor) -> None:
    """`metering.spool: always`: the worker confirms by it what the ledger has."""
    door = await open_door(configured(metering=Metering(spool="always")))

    await post(door, [item("a")])

    assert [(event.spool_seq, event.spool_events) for event in door.events] == [(1, 1)]
    assert door.spool.acknowledged == [1]


_runs = itertools.count()


@examples(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    batches=st.lists(
        st.lists(st.tuples(st.sampled_from("abcde"), st.sampled_from([1, 2, -1, "x"])), max_size=8),
        min_size=1,
        max_size=4,
    )
)
async def test_the_recorded_are_the_first_of_each_id(
    opened: RunningDoor, batches: list[list[tuple[str, Any]]]
) -> None:
    """Whatever is mixed, repeated and contradicted, the books have the first and the answers it."""
    door = opened
    assert isinstance(door.caps, MemoryCaps)
    prefix = f"{next(_runs)}-"
    before = len(door.events)
    expected: dict[str, int] = {}
    for batch in batches:
        body = [item(prefix + name, value) for name, value in batch]
        answer = await post(door, body)
        told = await answer.json()
        told = told.get("error", {}).get("metadata", told)
        kinds = []
        for name, value in batch:
            if not isinstance(value, int) or value < 0:
                kinds.append("invalid_value")
            elif name not in expected:
                expected[name] = value
                kinds.append("new")
            else:
                kinds.append("same" if expected[name] == value else "conflict")
        assert told["accepted"] == kinds.count("new")
        assert told["duplicates"] == kinds.count("same")
        assert {each["index"]: each["code"] for each in told["errors"]} == {
            at: kind for at, kind in enumerate(kinds) if kind in {"invalid_value", "conflict"}
        }

    recorded = {event.request_id: event.units["custom"] for event in door.events[before:]}
    assert recorded == {prefix + name: value for name, value in expected.items()}
