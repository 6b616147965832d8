"""What realtime sessions cost: metered by class, held in slices, never free by silence."""

from __future__ import annotations

import aiohttp
import orjson
import pytest
from aiohttp import WSMsgType, web
from fixtures_door import OpenDoor, held, usd
from fixtures_realtime import ScriptedSession, connect, done, echo, open_session, the_event


async def test_responses_are_metered_by_class(
    open_door: OpenDoor, provider: ScriptedSession
) -> None:
    """What each response used is summed, each token in one class."""

    async def script(socket: web.WebSocketResponse) -> None:
        await socket.send_str(
            done(
                132,
                121,
                input_token_details={
                    "text_tokens": 119,
                    "audio_tokens": 13,
                    "cached_tokens": 64,
                    "cached_tokens_details": {"text_tokens": 60, "audio_tokens": 4},
                },
                output_token_details={"text_tokens": 30, "audio_tokens": 91},
            )
        )
        await socket.send_str(done(10, 5))
        await socket.close()

    provider.script = script
    door = await open_session(open_door, provider)

    async with connect(door) as socket:
        messages = [message.type async for message in socket]

    assert messages == [WSMsgType.TEXT] * 2
    made = await the_event(door)
    tokens = {unit: count for unit, count in made.units.items() if "put_" in unit}
    assert tokens == {
        "input_uncached": 59 + 10,
        "input_cache_read": 64,
        "input_audio": 9,
        "output_text": 30 + 5,
        "output_audio": 91,
    }
    assert made.usage_source == "provider"
    assert made.model_upstream == "gpt-realtime"
    assert made.admission_nano == (142 * 10 + 126 * 40) * 1000


async def test_a_session_ends_where_its_hold_cannot_grow(
    open_door: OpenDoor, provider: ScriptedSession
) -> None:
    """It goes on while the cap has room, slice by slice; then it ends and says why."""

    async def script(socket: web.WebSocketResponse) -> None:
        for _ in range(100):  # each costs $0.04
            await socket.send_str(done(0, 1000))
        await echo(socket)

    provider.script = script
    door = await open_session(open_door, provider, cap="1.00")

    async with connect(door) as socket:
        messages = [orjson.loads(message.data) async for message in socket]
        code = socket.close_code

    assert messages[-1]["type"] == "error"
    assert messages[-1]["error"]["code"] == "insufficient_quota"
    assert code == aiohttp.WSCloseCode.POLICY_VIOLATION
    made = await the_event(door)
    assert made.reason_code == "stopped_at_cap"
    assert made.admission_nano <= usd("1.00")
    assert made.admission_nano >= usd("0.80")
    assert held(door) == []


MUTE = {
    "nothing_said": ('{"type":"session.created"}', "0.00"),
    "no_usage": ('{"type":"response.done","response":{"usage":null}}', "0.10"),
    "a_lie": (done(-5, 10**12), "0.10"),
}


@pytest.mark.parametrize(("said", "billed"), MUTE.values(), ids=MUTE)
async def test_a_provider_that_tells_nothing_is_not_free(
    open_door: OpenDoor, provider: ScriptedSession, said: str, billed: str
) -> None:
    """Once it has answered, the flat price is due where its usage is missing or absurd."""

    async def script(socket: web.WebSocketResponse) -> None:
        await socket.send_str(said)
        await socket.close()

    provider.script = script
    door = await open_session(open_door, provider)

    async with connect(door) as socket:
        assert [message.data async for message in socket] == [said]

    made = await the_event(door)
    assert made.admission_nano == usd(billed)
    assert (made.usage_suspect is None) is (billed == "0.00")


async def test_a_unit_without_a_price_ends_it(
    open_door: OpenDoor, provider: ScriptedSession
) -> None:
    """Seconds of transcription that nobody has priced are not given away under a cap."""
    seconds = '{"type":"x.completed","usage":{"type":"duration","seconds":60}}'

    async def script(socket: web.WebSocketResponse) -> None:
        await socket.send_str(seconds)
        await echo(socket)

    provider.script = script
    door = await open_session(open_door, provider)

    async with connect(door) as socket:
        messages = [message.data async for message in socket]

    assert messages[0] == seconds
    assert orjson.loads(messages[1])["error"]["code"] == "model_not_priced"
    assert (await the_event(door)).admission_nano == usd("0.10")
