"""Whole requests, their spans as a collector on a real socket gets them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import aiohttp
from fixtures_door import KEY, PROVIDER_KEY, OpenDoor, RunningDoor, settings, tenant
from fixtures_otlp import Collector
from fixtures_upstream import (
    DONE,
    FINISH,
    ScriptedUpstream,
    body,
    completion,
    delta,
    streamed,
    usage_event,
)

from proxy.traceparent import parent_in

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SAMPLED, UNSAMPLED = f"00-{TRACE}-{SPAN}-01", f"00-{TRACE}-{SPAN}-00"


async def chat(
    door: RunningDoor, headers: dict[str, str] | None = None, **fields: Any
) -> aiohttp.ClientResponse:
    answer = await door.http.post(
        f"{door.url}/v1/chat/completions",
        json={"model": "m", "messages": [{"role": "user", "content": "canary-prompt"}], **fields},
        headers={"Authorization": f"Bearer {KEY}", **(headers or {})},
    )
    await answer.read()
    door.answers.append(answer)
    return answer


async def test_every_stage_of_a_stream_is_a_span(
    open_door: OpenDoor, upstream: ScriptedUpstream, collector: Collector
) -> None:
    """From authentication to the commit, in one trace, in OpenTelemetry's words and ours."""
    configured = replace(settings({"one": upstream.url}), telemetry=collector.settings())
    door = await open_door(configured)
    upstream.scripts.append(streamed(delta("canary-answer"), FINISH, usage_event(10, 5), DONE))

    answer = await chat(door, stream=True)

    assert answer.status == 200
    spans = await collector.until(7)
    root = spans["POST /v1/chat/completions"]
    (event,) = door.events
    assert set(spans) == {
        *("POST /v1/chat/completions", "authenticate", "read", "estimate"),
        *("reserve", "chat up-m", "commit"),
    }
    assert {span["traceId"] for span in spans.values()} == {root["traceId"]}
    assert {span.get("parentSpanId") for span in spans.values()} == {None, root["spanId"]}
    assert all(
        int(root["startTimeUnixNano"]) <= int(span["startTimeUnixNano"]) for span in spans.values()
    )
    attempt = spans["chat up-m"]
    told = attempt["attributes"]
    waited_s = told.pop("gen_ai.response.time_to_first_chunk")
    assert 0 < waited_s < 5
    assert told == {
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "up-m",
        "gen_ai.request.stream": True,
        "gen_ai.operation.name": "chat",
        "gen_ai.response.model": "m-1",
        "gen_ai.response.finish_reasons": ["stop"],
        "gen_ai.usage.input_tokens": 10,
        "gen_ai.usage.output_tokens": 5,
        "http.response.status_code": 200,
        "weir.exchange_id": event.exchange_id,
        "weir.event_id": event.event_id,
        "weir.tenant": "acme",
        "weir.provider": "one",
        "weir.attempt": 1,
        "weir.outcome": "served",
        "weir.usage_source": "provider",
        "weir.sell_nano": event.admission_nano,
        "weir.cost_nano": event.cost_nano,
        "weir.price_version": event.sell_version,
    }
    assert [each["name"] for each in attempt["events"]] == ["first event"]
    assert attempt["kind"] == 3
    assert root["kind"] == 2
    assert root["attributes"]["weir.sell_nano"] == event.admission_nano == 30_000
    assert spans["commit"]["attributes"] == {"weir.sell_nano": 30_000, "weir.events": 1}
    sent = {name.lower(): value for name, value in upstream.received[0].headers.items()}
    parent = parent_in([sent["traceparent"]])
    assert parent is not None
    assert (parent.trace_id, parent.span_id) == (root["traceId"], attempt["spanId"])


async def test_nothing_secret_is_told(
    open_door: OpenDoor, upstream: ScriptedUpstream, collector: Collector
) -> None:
    """No prompt, no answer, no key of anybody's."""
    configured = replace(settings({"one": upstream.url}), telemetry=collector.settings())
    door = await open_door(configured)
    upstream.scripts.append([completion("canary-answer")])

    await chat(door, headers={"traceparent": "00-canary-01", "tracestate": "canary=1"})
    await collector.until(7)

    told = repr(collector.traces)
    assert not [each for each in ("canary", KEY, PROVIDER_KEY) if each in told]


async def test_the_clients_trace_goes_on(
    open_door: OpenDoor, upstream: ScriptedUpstream, collector: Collector
) -> None:
    """Its span is the parent of ours, and the upstream is told of the same trace."""
    telemetry = collector.settings(sample_ppm=0)
    door = await open_door(replace(settings({"one": upstream.url}), telemetry=telemetry))
    upstream.scripts.append([completion()])

    await chat(door, headers={"traceparent": SAMPLED})

    spans = await collector.until(7)
    root = spans["POST /v1/chat/completions"]
    assert (root["traceId"], root["parentSpanId"]) == (TRACE, SPAN)
    sent = {name.lower(): value for name, value in upstream.received[0].headers.items()}
    assert sent["traceparent"] == f"00-{TRACE}-{spans['chat up-m']['spanId']}-01"


async def test_a_client_that_does_not_record_is_not_recorded(
    open_door: OpenDoor, upstream: ScriptedUpstream, collector: Collector
) -> None:
    """Its trace still goes on to the upstream, marked the same; the histograms count it."""
    door = await open_door(replace(settings({"one": upstream.url}), telemetry=collector.settings()))
    upstream.scripts.append([completion()])
    upstream.scripts.append([completion()])

    await chat(door, headers={"traceparent": UNSAMPLED})
    await chat(door)

    await collector.until(7)
    assert TRACE not in {span["traceId"] for span in collector.spans}
    sent = {name.lower(): value for name, value in upstream.received[0].headers.items()}
    parent = parent_in([sent["traceparent"]])
    assert parent is not None
    assert (parent.trace_id, parent.is_sampled) == (TRACE, False)
    assert door.door.tracer is not None
    counts = {
        (instrument.name, dict(labels).get("gen_ai.token.type")): (sum(point.counts), point.total)
        for (instrument, labels), point in door.door.tracer._histograms.points.items()
    }
    assert counts["gen_ai.client.token.usage", "input"] == (2, 20)
    assert counts["gen_ai.client.token.usage", "output"] == (2, 10)
    assert counts["gen_ai.client.operation.duration", None][0] == 2
    assert ("gen_ai.client.operation.time_to_first_chunk", None) not in counts  # no streams


async def test_a_fallback_is_two_attempts(
    open_door: OpenDoor, upstream: ScriptedUpstream, collector: Collector
) -> None:
    """Each attempt has a span; the second says why it was made."""
    configured = replace(
        settings({"one": "http://127.0.0.1:9", "two": upstream.url}),
        telemetry=collector.settings(),
    )
    door = await open_door(configured)
    upstream.scripts.append([completion()])

    await chat(door)
    await collector.until(8)

    attempts = [span for span in collector.spans if span["name"] == "chat up-m"]
    assert [
        (
            span["attributes"]["weir.provider"],
            span["attributes"].get("error.type"),
            span["attributes"].get("weir.fallback_reason"),
        )
        for span in attempts
    ] == [("one", "unreachable", None), ("two", None, "unreachable")]


async def test_a_refusal_says_which(
    open_door: OpenDoor, upstream: ScriptedUpstream, collector: Collector
) -> None:
    """A cap that refuses is a span that failed, and the request has the error's code."""
    configured = replace(
        settings({"one": upstream.url}, who=tenant("0.000001"), clamps=False),
        telemetry=collector.settings(),
    )
    door = await open_door(configured)

    answer = await chat(door)

    code = (await answer.json())["error"]["code"]
    spans = await collector.until(5)
    root = spans["POST /v1/chat/completions"]
    assert root["attributes"]["error.type"] == code
    assert root["attributes"]["http.response.status_code"] == answer.status
    assert root["status"]["message"] == code
    assert spans["reserve"]["status"] == {"code": 2, "message": "never"}


async def test_a_path_is_told_as_our_table_has_it(
    open_door: OpenDoor, upstream: ScriptedUpstream, collector: Collector
) -> None:
    """What a client wrote is no span's name, and a probe of health is no trace."""
    door = await open_door(replace(settings({"one": upstream.url}), telemetry=collector.settings()))

    for path in ("healthz", "v1/models/canary-name"):
        await (await door.http.get(f"{door.url}/{path}")).read()

    spans = await collector.until(1)
    assert "GET /v1/models/{model}" in spans
    assert "canary" not in repr(collector.traces)


async def test_a_collector_that_is_away_costs_no_request(
    open_door: OpenDoor, upstream: ScriptedUpstream, collector: Collector
) -> None:
    """Requests are served as if nothing were the matter."""
    telemetry = replace(collector.settings(), otlp="http://127.0.0.1:9")
    door = await open_door(replace(settings({"one": upstream.url}), telemetry=telemetry))
    upstream.scripts.append([completion()])

    answer = await chat(door)

    assert answer.status == 200
    assert len(door.events) == 1


async def test_without_the_section_nothing_is_there(
    door: RunningDoor, upstream: ScriptedUpstream
) -> None:
    """No tracer, no middleware, and no header goes on."""
    upstream.scripts.append([body({"error": {}}, 400)])

    await chat(door, headers={"traceparent": SAMPLED})

    assert door.door.tracer is None
    assert "traceparent" not in {name.lower() for name in upstream.received[0].headers}
    assert not list(door.runner.app.middlewares)
