"""What the door counts, through the door."""

from __future__ import annotations

import random
import string

import pytest
from fixtures_door import KEY, PROVIDER_KEY, OpenDoor, RunningDoor, settings
from fixtures_upstream import ScriptedUpstream, body, completion

from proxy.metrics_exchange import OTHER, TENANTS_MAX, ExchangeMetrics
from proxy.metrics_render import Reports, render
from proxy.metrics_report import Report

FAILING = body({}, 500)


@pytest.fixture(autouse=True)
def _answers(upstream: ScriptedUpstream, other_upstream: ScriptedUpstream) -> None:
    upstream.scripts = [[completion()]]
    other_upstream.scripts = [[completion()]]


def counted(door: RunningDoor) -> dict[tuple[str, ...], float]:
    return door.door.metrics.metrics.counters


def text_of(door: RunningDoor) -> str:
    report = Report(1, 0.0, {}, door.door.metrics.metrics.series())
    return render(Reports({"proxy-0": report}, 0.0), "text/plain")[0].decode()


async def test_an_exchange_is_counted_once_in_everything(door: RunningDoor) -> None:
    """One request: its answer, its attempt, its tokens, its money, its times."""
    answer = await door.chat()
    await answer.read()
    [event] = door.events
    metrics = door.door.metrics.metrics

    found = counted(door)
    assert found["weir_requests_total", "2xx"] == 1
    assert found["weir_exchanges_total", "m", "served"] == 1
    assert found["weir_attempts_total", "one/up-m", "served"] == 1
    assert found["weir_sell_nano_usd_total", "m"] == event.admission_nano > 0
    assert found["weir_cost_nano_usd_total", "one/up-m"] == event.cost_nano > 0
    assert found["weir_tenant_sell_nano_usd_total", "acme"] == event.admission_nano
    for unit, count in event.units.items():
        name = ("weir_tokens_total", "one/up-m", unit)
        assert found.get(name, 0) == (count if unit not in {"api_call", "inference"} else 0)
    assert sum(metrics.histograms["weir_exchange_seconds", "m"][:-1]) == 1
    assert sum(metrics.histograms["weir_first_byte_seconds", "one/up-m"][:-1]) == 1


async def test_what_is_left_of_a_cap_is_told(door: RunningDoor) -> None:
    """Of the cap of $10, as it was when the last request was held for: with that one's hold."""
    await (await door.chat()).read()
    first = door.door.metrics.metrics.gauges[
        "weir_tenant_cap_remaining_nano_usd", "acme", "rolling"
    ]
    await (await door.chat()).read()
    second = door.door.metrics.metrics.gauges[
        "weir_tenant_cap_remaining_nano_usd", "acme", "rolling"
    ]

    assert 9_900_000_000 < first < 10_000_000_000
    assert first - second == door.events[0].admission_nano


async def test_refusals_are_counted_by_code(door: RunningDoor) -> None:
    """The codes of the table of errors, and the class of the status; nothing was sent."""
    await door.chat(model="nobody")
    await door.chat(messages=5)

    found = counted(door)
    assert found["weir_requests_total", "4xx"] == 2
    assert found["weir_refusals_total", "model_not_found"] == 1
    assert found["weir_refusals_total", "invalid_request_error"] == 1
    assert not any(name == "weir_exchanges_total" for name, *_ in found)


async def test_a_fallback_is_counted_where_it_goes(
    open_door: OpenDoor, upstream: ScriptedUpstream, other_upstream: ScriptedUpstream
) -> None:
    """The upstream that failed, the one that served, and why it was asked."""
    upstream.scripts = [[FAILING]]
    door = await open_door(settings({"bad": upstream.url, "good": other_upstream.url}))
    assert (await door.chat()).status == 200

    found = counted(door)
    assert found["weir_attempts_total", "bad/up-m", "server_error"] == 1
    assert found["weir_fallbacks_total", "good/up-m", "server_error"] == 1
    assert found["weir_exchanges_total", "m", "served"] == 1
    assert ("weir_tokens_total", "bad/up-m", "output_text") not in found


async def test_t33_clients_make_no_series(door: RunningDoor) -> None:
    """Random models, users, paths, labels and keys: after the first few, no series is new."""
    chance = random.Random(33)

    def word() -> str:
        return "".join(chance.choices(string.ascii_letters, k=12))

    async def turn() -> None:
        await door.chat(user=word(), metadata={word(): word()})
        await door.chat(model=word())
        await door.chat(**{"model": "m", word(): word()})
        for path in (f"/v1/{word()}", f"/v1/chat/completions?{word()}={word()}"):
            answer = await door.http.post(
                door.url + path,
                json={"model": "m", "messages": [{"role": "user", "content": word()}]},
                headers={"Authorization": f"Bearer {KEY}", "x-weir-feature": word(), word(): "x"},
            )
            await answer.read()
        refused = await door.http.post(
            f"{door.url}/v1/chat/completions", headers={"Authorization": f"Bearer {word()}"}
        )
        await refused.read()

    await turn()
    metrics = door.door.metrics.metrics
    before = set(metrics.counters) | set(metrics.gauges) | set(metrics.histograms)
    for _ in range(60):
        await turn()

    assert set(metrics.counters) | set(metrics.gauges) | set(metrics.histograms) == before
    assert metrics.counters["weir_refusals_total", "model_not_found"] == 61


async def test_t33_upstreams_make_no_series(door: RunningDoor, upstream: ScriptedUpstream) -> None:
    """Whatever status and labels an upstream makes up: after the first of a kind, none is new."""
    chance = random.Random(33)

    def script(status: int) -> list[bytes]:
        word = "".join(chance.choices(string.ascii_letters, k=12))
        said = {"index": 0, "message": {"content": "x"}, "finish_reason": word}
        labels = {"model": word, "system_fingerprint": word, "service_tier": word}
        told = {**labels, "choices": [said], "error": {"code": word, "type": word}}
        if status == 200:
            del told["error"]
        return [body(told, status, f"x-request-id: {word}\r\n{word}: {word}\r\n")]

    async def turn(statuses: list[int]) -> None:
        for status in statuses:
            upstream.scripts = [script(status)]
            await door.chat()

    await turn([200, 400, 401, 402, 404, 429, 500, 302])
    metrics = door.door.metrics.metrics
    before = set(metrics.counters) | set(metrics.gauges) | set(metrics.histograms)
    await turn([200, *range(403, 420), 499, *range(500, 512), 599, 201, 299, 304, 399, 777, 999])

    assert metrics.counters["weir_exchanges_total", "m", "served"] == 2
    assert set(metrics.counters) | set(metrics.gauges) | set(metrics.histograms) == before


async def test_t02_t30_no_secret_and_no_prompt_is_in_the_metrics(door: RunningDoor) -> None:
    """Keys of clients and providers, prompts, users and request ids stay out."""
    answer = await door.chat(
        user="canary-user", messages=[{"role": "user", "content": "canary-prompt"}]
    )
    text = text_of(door)

    assert "weir_exchanges_total{" in text
    for secret in (KEY, PROVIDER_KEY, "canary", answer.headers["x-request-id"]):
        assert secret not in text


async def test_a_model_that_is_not_configured_is_other(door: RunningDoor) -> None:
    """Even what only a fault of ours would let through makes no series of its own."""
    door.door.metrics._models = frozenset()
    await door.chat()

    assert counted(door)["weir_exchanges_total", OTHER, "served"] == 1


async def test_an_upstream_that_fails_is_asked_last(
    open_door: OpenDoor, upstream: ScriptedUpstream, other_upstream: ScriptedUpstream
) -> None:
    """Five failures in a row, and the sixth request goes to the other one first."""
    upstream.scripts = [[FAILING]]
    door = await open_door(settings({"bad": upstream.url, "good": other_upstream.url}))
    for _ in range(6):
        assert (await door.chat()).status == 200

    found = counted(door)
    assert found["weir_attempts_total", "bad/up-m", "server_error"] == 5
    assert found["weir_attempts_total", "good/up-m", "served"] == 6
    assert door.door.health.troubled == {"bad/up-m"}


async def test_a_429_with_a_time_is_obeyed_by_the_next_request(
    open_door: OpenDoor, upstream: ScriptedUpstream, other_upstream: ScriptedUpstream
) -> None:
    """Once is enough when the upstream says for how long."""
    upstream.scripts = [[body({}, 429, "Retry-After: 30\r\n")]]
    door = await open_door(settings({"busy": upstream.url, "good": other_upstream.url}))
    for _ in range(3):
        assert (await door.chat()).status == 200

    assert counted(door)["weir_attempts_total", "busy/up-m", "rate_limited"] == 1
    assert counted(door)["weir_attempts_total", "good/up-m", "served"] == 3


@pytest.mark.parametrize(("tenants", "own"), [((), 0), (TENANTS_MAX + 5, TENANTS_MAX)])
def test_tenants_are_bounded(tenants: object, own: int) -> None:
    """None when they are not to be named; the first thousand by name when they are."""
    names = [f"t{number:06d}" for number in range(tenants)] if isinstance(tenants, int) else []
    counting = ExchangeMetrics(tenants=names)

    assert len(counting._tenants) == own
    assert counting._has_tenants is bool(names)
