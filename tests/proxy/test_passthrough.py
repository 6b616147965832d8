"""Paths relayed as they are, on real sockets: byte for byte, held, recorded, refused by name."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import aiohttp
import pytest
from fixtures_door import OpenDoor, held, rule, tenant, usd
from fixtures_upstream import (
    Act,
    ScriptedUpstream,
    body,
    chunk,
    event,
    head,
    streamed,
)
from passthrough_samples import MP3, ask, form_bytes, passing_settings, refusal, terms

from proxy.passthrough_rules import Terms
from routing.upstreams import Model, Upstream


def audio(raw: bytes = MP3) -> bytes:
    return head(kind="audio/mpeg") + f"Content-Length: {len(raw)}\r\n\r\n".encode() + raw


async def test_a_json_body_goes_on_as_it_came(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """Not a byte of request or answer changes, whatever its spacing; the event has the images."""
    said = b'{ "created": 1,  "data" : [ {"url":"https://x"}, {"url":"https://y"} ] }'
    upstream.scripts = [[body(said)]]
    door = await open_door(passing_settings(upstream.url))
    sent = b'{ "model": "dall-e-3", "prompt":"a  cat",\n "n": 2 }'

    answer = await ask(
        door,
        "POST",
        "/v1/images/generations",
        data=sent,
        headers={"Content-Type": "application/json"},
    )

    assert (answer.status, await answer.read()) == (200, said)
    assert (upstream.received[0].path, upstream.received[0].body) == (
        "/v1/images/generations",
        sent,
    )
    (made,) = door.events
    assert (made.model_requested, made.units) == (
        "dall-e-3",
        {"image": 2, "api_call": 1, "inference": 1},
    )
    assert made.admission_nano == usd("0.08")
    assert held(door) == []


async def test_multipart_and_binary_go_on_untouched(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """A form with a file arrives as it was sent, and its answer as it was said."""
    upstream.scripts = [[body({"text": "hello", "usage": {"type": "duration", "seconds": 2.2}})]]
    door = await open_door(
        passing_settings(
            upstream.url, rules=(rule("whisper-1", class_rates_pico={"second": 10**8}),)
        )
    )
    answer = await ask(
        door,
        "POST",
        "/v1/audio/transcriptions",
        data=form_bytes(b"whisper-1"),
        headers={"Content-Type": "multipart/form-data; boundary=xyz"},
    )

    assert answer.status == 200
    assert upstream.received[0].body == form_bytes(b"whisper-1")
    assert upstream.received[0].headers["content-type"] == "multipart/form-data; boundary=xyz"
    (made,) = door.events
    assert (made.model_upstream, made.units["second"]) == ("whisper-1", 3)
    assert made.admission_nano == 3 * 10**5


async def test_audio_is_relayed_as_it_comes(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """Binary answers come through whole, with their type, at the flat price of the path."""
    upstream.scripts = [[audio()]]
    door = await open_door(passing_settings(upstream.url))

    answer = await ask(
        door, "POST", "/v1/audio/speech", json={"model": "tts-1", "input": "hi", "voice": "x"}
    )

    assert await answer.read() == MP3
    assert answer.headers["Content-Type"] == "audio/mpeg"
    (made,) = door.events
    assert (made.admission_nano, made.model_upstream) == (usd("0.50"), "path:audio")


async def test_audio_that_breaks_off_does_not_look_whole(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """The connection is cut where the upstream's was, and what was sent is billed."""
    cut = head(kind="audio/mpeg") + b"Content-Length: 1000000\r\n\r\n" + MP3
    upstream.scripts = [[cut, Act.CLOSE]]
    door = await open_door(passing_settings(upstream.url))

    answer = await ask(door, "POST", "/v1/audio/speech", json={"model": "tts-1", "input": "hi"})

    with pytest.raises(aiohttp.ClientPayloadError):
        await answer.read()
    assert [made.reason_code for made in door.events] == ["partial"]


async def test_events_are_withheld_until_recorded(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """A stream of images is billed by the tokens that its last event tells; nothing is changed."""
    partial = event({"type": "image_generation.partial_image", "b64_json": "AAAA"})
    done = event(
        {
            "type": "image_generation.completed",
            "usage": {
                "input_tokens": 50,
                "output_tokens": 4000,
                "total_tokens": 4050,
                "input_tokens_details": {"text_tokens": 10, "image_tokens": 40},
            },
        }
    )
    upstream.scripts = [streamed(partial, done)]
    door = await open_door(passing_settings(upstream.url, rules=(rule("gpt-image-1"),)))

    answer = await ask(
        door,
        "POST",
        "/v1/images/generations",
        json={"model": "gpt-image-1", "prompt": "x", "stream": True},
    )

    assert await answer.read() == partial + done
    (made,) = door.events
    assert {
        unit: made.units[unit] for unit in ("input_uncached", "input_image", "output_text")
    } == {
        "input_uncached": 10,
        "input_image": 40,
        "output_text": 4000,
    }
    assert made.usage_source == "provider"


async def test_a_model_of_ours_is_asked_under_its_own_name(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """The model's name is the upstream's there, in JSON and in a form; nothing else changes."""
    upstream.scripts = [[body({"data": [{}]})]]
    models = {"art": Model("art", (Upstream("one", "dall-e-3", "art"),))}
    door = await open_door(passing_settings(upstream.url, models=models, rules=(rule("dall-e-3"),)))

    await ask(door, "POST", "/v1/images/generations", json={"model": "art", "prompt": "x"})
    await ask(
        door,
        "POST",
        "/v1/images/edits",
        data=form_bytes(b"art"),
        headers={"Content-Type": "multipart/form-data; boundary=xyz"},
    )

    assert upstream.received[0].json == {"model": "dall-e-3", "prompt": "x"}
    assert upstream.received[1].body == form_bytes(b"dall-e-3")


async def test_a_tenants_list_of_models_holds_here_too(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """What the allow-list does not have cannot be had by another path, nor by a batch."""
    upstream.scripts = [[body({})]]
    who = replace(tenant(cap=None), models=frozenset({"m"}))
    door = await open_door(passing_settings(upstream.url, who=who))

    by_name = await ask(door, "POST", "/v1/audio/speech", json={"model": "tts-1"})
    by_batch = await ask(door, "POST", "/v1/batches", json={"endpoint": "/v1/responses"})

    assert await refusal(by_name) == (403, "model_not_allowed")
    assert await refusal(by_batch) == (403, "model_not_allowed")
    assert upstream.received == []


@pytest.mark.parametrize(
    ("path", "family"),
    [
        ("batches", "batches"),
        ("fine_tuning/jobs", "fine_tuning"),
        ("vector_stores", "vector_stores"),
        ("threads/runs", "runs"),
    ],
)
async def test_what_cannot_be_held_is_refused_under_a_money_cap(
    open_door: OpenDoor, upstream: ScriptedUpstream, path: str, family: str
) -> None:
    """Spend after the answer needs a flat hold of its own; the message says which key."""
    upstream.scripts = [[body({"id": "batch_1"})]]
    door = await open_door(passing_settings(upstream.url))

    answer = await ask(door, "POST", f"/v1/{path}", json={})

    assert answer.status == 403
    error = (await answer.json())["error"]
    assert error["code"] == "path_not_held"
    assert f"passthrough.paths.{family}.hold_usd" in error["message"]
    assert upstream.received == []


async def test_a_flat_hold_lets_it_through_and_is_its_price(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """With a hold, and no other price, what is held is what it costs."""
    upstream.scripts = [[body({"id": "batch_1", "usage": {"input_tokens": 0}})]]
    configured = terms(terms={"batches": Terms(usd("2.00"))})
    door = await open_door(passing_settings(upstream.url, passthrough=configured))

    answer = await ask(door, "POST", "/v1/batches", json={"endpoint": "/v1/chat/completions"})

    assert answer.status == 200
    (made,) = door.events
    assert (made.admission_nano, made.model_upstream) == (usd("2.00"), "path:batches")


async def test_a_cap_refuses_what_does_not_fit(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """The flat hold of four images is four times that of one, and the cap is never passed."""
    upstream.scripts = [[body({"data": [{}, {}]})]]
    door = await open_door(passing_settings(upstream.url, who=tenant(cap="0.80")))
    url = "/v1/images/generations"

    four = await ask(door, "POST", url, json={"model": "dall-e-2", "n": 4})
    two = await ask(door, "POST", url, json={"model": "dall-e-2", "n": 2})

    assert await refusal(four) == (400, "request_exceeds_budget")
    assert two.status == 200
    assert len(upstream.received) == 1


async def test_without_a_cap_and_a_price_it_is_recorded_as_unpriced(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """Nobody is refused for a price that nobody needs; the event says that there was none."""
    upstream.scripts = [[audio()]]
    configured = terms(hold_nano=None, terms={})
    door = await open_door(
        passing_settings(upstream.url, passthrough=configured, who=tenant(cap=None))
    )

    answer = await ask(door, "POST", "/v1/audio/speech", json={"model": "tts-1"})

    await answer.read()
    (made,) = door.events
    assert (made.admission_nano, made.sell_version) == (0, None)
    assert made.usage_suspect == "nothing that was told has a price"


async def test_an_upstreams_error_is_relayed(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """Status and body are the upstream's; nothing is billed."""
    said: dict[str, Any] = {"error": {"message": "no", "code": "content_policy_violation"}}
    upstream.scripts = [[body(said, status=400)]]
    door = await open_door(passing_settings(upstream.url))

    answer = await ask(door, "POST", "/v1/images/generations", json={"model": "dall-e-3"})

    assert (answer.status, await answer.json()) == (400, said)
    assert answer.headers["x-weir-error-source"] == "upstream"
    (made,) = door.events
    assert (made.admission_nano, made.billable) == (0, False)


async def test_a_client_that_leaves_is_billed(
    open_door: OpenDoor, upstream: ScriptedUpstream, handler_cancellation: bool
) -> None:
    """The upstream is stopped, the hold ends, and the flat price is due."""
    upstream.scripts = [
        [head(kind="audio/mpeg") + b"Transfer-Encoding: chunked\r\n\r\n", chunk(MP3), Act.HANG]
    ]
    door = await open_door(passing_settings(upstream.url), cancels=handler_cancellation)
    answer = await ask(door, "POST", "/v1/audio/speech", json={"model": "tts-1"})
    await answer.content.readany()
    answer.close()
    if handler_cancellation:
        await upstream.left.wait()
    else:
        for task in list(upstream.serving):
            task.cancel()

    while not door.events:
        await asyncio.sleep(0.01)

    assert [made.admission_nano for made in door.events] == [usd("0.50")]
    assert held(door) == []
