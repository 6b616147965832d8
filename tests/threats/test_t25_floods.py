"""T-25: an upstream that says too much: bounded memory and time, and what was not read is said."""

from __future__ import annotations

import asyncio
import tracemalloc
from dataclasses import replace

import aiohttp
import pytest
from fixtures_door import KEY, OpenDoor, RunningDoor, held, settings
from fixtures_upstream import (
    DONE,
    FINISH,
    LAST_CHUNK,
    Act,
    ScriptedUpstream,
    Step,
    chunk,
    delta,
    stream_head,
    streamed,
    usage_event,
)
from format_samples import chat_reader, read_reply

from metering.meter import Meter
from metering.tokenizer import tokenizer_for
from proxy.json_bounds import VALUES_MAX
from proxy.reply import Reply
from proxy.settings import Server, Settings
from proxy.sse import EVENT_BYTES_MAX

KB = 1024
MB = 1024 * KB
PIECE = 64 * KB
"""About what a socket gives at once."""

FLOODS: dict[str, tuple[bytes, bytes, int]] = {
    "never_ending_line": (b"data: ", b"x" * PIECE, 64),
    "huge_json_event": (b'data: {"choices":[{"delta":{"content":"', b"word " * (PIECE // 5), 64),
    "comments": (b"", b": a comment\n" * (PIECE // 12), 64),
    "empty_events": (b"", b"\n\n" * (PIECE // 2), 64),
    "carriage_returns": (b"", b"\r" * PIECE, 64),
    "comment_events": (b"", b": c\n\n" * (PIECE // 5), 4),
    "empty_data": (b"", b"data:\n\n" * (PIECE // 7), 4),
}
"""What begins it, what goes on, and how often: 4 MB, or what is cut into many small events."""


@pytest.mark.parametrize("name", FLOODS)
def test_t25_a_flood_is_read_in_bounded_memory(name: str) -> None:
    """Of what never means anything, no more than an event and what it is made into is kept."""
    first, piece, times = FLOODS[name]
    reader = chat_reader(Meter(tokenizer_for("gpt-4o"), 1), strip_usage=True)
    reader.feed(delta("warm") + first)
    passed = 0

    tracemalloc.start()
    for _ in range(times):
        passed += len(reader.feed(piece))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak < 3 * EVENT_BYTES_MAX + 50 * PIECE
    assert passed > times * len(piece) - EVENT_BYTES_MAX - PIECE


def test_t25_an_event_that_is_too_long_is_estimated_and_said() -> None:
    """64 MiB in one event: relayed to the byte, counted as an estimate, flagged, never for free."""
    meter = Meter(tokenizer_for("gpt-4o"), 1, output_max=1000)
    reader = chat_reader(meter, strip_usage=True)
    pieces = [b'data: {"choices":[{"delta":{"content":"', *[b"a" * PIECE] * 1024, b'"}}]}\n\n']

    relayed = sum(len(reader.feed(piece)) for piece in pieces)
    after = reader.feed(delta("Hello world") + FINISH)

    assert relayed == sum(map(len, pieces))
    assert after == delta("Hello world") + FINISH
    assert meter.output_tokens == -(-relayed // 4) + 2
    usage = meter.final()
    assert usage.units["output_text"] == 1000
    assert usage.counted["output_text"] == meter.output_tokens
    assert usage.suspect == f"{relayed} bytes of the answer could not be read and are estimated"


def test_t25_the_provider_may_still_say_what_was_not_read() -> None:
    """After an unread event a believable report is billed; that something was unread stays said."""
    meter = Meter(tokenizer_for("gpt-4o"), 1, output_max=1000)
    reader = chat_reader(meter, strip_usage=True)

    reader.feed(b"data: " + b"x" * 2 * MB + b"\n\n" + FINISH + usage_event(10, 77))

    usage = meter.final()
    assert (usage.units, usage.source) == ({"input_uncached": 10, "output_text": 77}, "provider")
    assert usage.suspect is not None


FULL = b'{"choices":[{"index":0,"message":{"content":"hi"}}],"x":[%s0]%s}'
"""An answer with room for a million lists, and for what follows them."""


def metered(raw: bytes) -> tuple[Meter, Reply | None]:
    meter = Meter(tokenizer_for("gpt-4o"), 1, output_max=1000)
    return meter, read_reply(raw, meter)


def test_t25_an_answer_of_countless_values_is_not_built() -> None:
    """Four MB that would become a hundred: relayed, billed by its size as far as was held."""
    raw = FULL % (b"[]," * 1_400_000, b"")

    tracemalloc.start()
    meter, reply = metered(raw)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak < 3 * len(raw)
    assert reply is not None and reply.is_finished
    assert meter.final().units["output_text"] == 1000
    assert meter.output_tokens == -(-len(raw) // 4)
    assert meter.final().suspect is not None


REPORTS = {
    "plain": (b'{"prompt_tokens":7,"completion_tokens":9,"total_tokens":16}', True),
    "details": (
        b'{"completion_tokens":9, "completion_tokens_details":{"reasoning_tokens":0}}',
        True,
    ),
    "cut": (b'{"completion_tokens":9,"x":[{', False),
    "no_json": (b'{"prompt_tokens":7,,"completion_tokens":9}', False),
    "long": (b'{"completion_tokens":9,"x":"' + b"x" * 5000 + b'"}', False),
    "in_a_string": (rb'null, "s":"\"usage\": {\"completion_tokens\":9}"', False),
}


@pytest.mark.parametrize("name", REPORTS)
def test_t25_an_answer_that_is_not_built_is_billed_as_it_reports(name: str) -> None:
    """Its usage is found without the rest; what only looks like one within a text is none."""
    report, is_believed = REPORTS[name]
    meter, reply = metered(FULL % (b"0," * VALUES_MAX, b', "usage" : ' + report))

    assert reply is not None
    assert meter.final().units["output_text"] == (9 if is_believed else 1000)
    assert meter.final().suspect is not None


@pytest.mark.parametrize("raw", [b"[%s0]" % (b"0," * VALUES_MAX), b'{"x":[%s' % (b"0," * 10**6)])
def test_t25_countless_values_that_are_no_completion(raw: bytes) -> None:
    """Nothing says that it is an answer to the question: another upstream may give one."""
    assert metered(raw)[1] is None


def test_t25_an_event_of_countless_values_is_not_built() -> None:
    """Relayed, estimated and flagged, like one that is too long."""
    meter = Meter(tokenizer_for("gpt-4o"), 1)
    reader = chat_reader(meter, strip_usage=True)
    event = b'data: {"choices":[],"x":[%s0]}\n\n' % (b"[]," * 60_000)

    assert reader.feed(event) == event
    assert meter.output_tokens == -(-(len(event) - 8) // 4)


@pytest.mark.parametrize(
    "data",
    [b'{"choices":[{"delta":{"content":"unread words"}}', b"unread words, no JSON at all " * 3],
    ids=["cut_json", "text"],
)
def test_t25_what_is_no_json_is_not_for_nothing(data: bytes) -> None:
    """An event that a lenient client may understand and we do not is estimated and flagged."""
    meter = Meter(tokenizer_for("gpt-4o"), 1)
    reader = chat_reader(meter, strip_usage=True)

    assert reader.feed(b"data: " + data + b"\n\n") == b"data: " + data + b"\n\n"

    assert meter.final().units["output_text"] == -(-len(data) // 4)
    assert meter.final().suspect is not None


def bounded(one: Settings, **bounds: float) -> Settings:
    providers = {name: replace(each, **bounds) for name, each in one.providers.items()}
    return replace(one, providers=providers)


async def test_t25_a_stream_past_its_bytes_is_ended(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """`max_answer_mb`: the upstream is stopped, the client told which bound, the rest billed."""
    door = await open_door(bounded(settings({"one": upstream.url}), max_answer_mb=1))
    upstream.scripts = [[stream_head(), *[chunk(delta("word " * 4000))] * 100, Act.HANG]]

    answer = await door.chat(stream=True)
    raw = await answer.read()
    await upstream.left.wait()

    assert len(raw) < 1.5 * MB
    assert b"max_answer_mb" in raw[-400:]
    assert DONE not in raw
    event = door.events[0]
    assert (event.status, event.usage_source, event.billable) == ("truncated", "counted", True)
    assert event.units["output_text"] > 40_000
    assert held(door) == []


async def test_t25_a_stream_past_its_time_is_ended(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """`max_answer_s`: comments keep a connection alive, and no stream open for ever."""
    door = await open_door(bounded(settings({"one": upstream.url}), max_answer_s=0.3))
    upstream.scripts = [[stream_head(), chunk(delta("Hello world")), Act.WAIT, *TICKS, Act.HANG]]

    answer = await door.chat(stream=True)
    upstream.proceed.set()
    raw = await answer.read()
    await upstream.left.wait()

    assert b"max_answer_s" in raw[-400:]
    assert (door.events[0].status, door.events[0].units["output_text"]) == ("truncated", 2)


TICKS: list[Step] = [chunk(b": still here\n\n")] * 50


async def test_t25_a_body_that_drips_is_a_timeout(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """A whole body has the same bound, however little silence there is."""
    door = await open_door(bounded(settings({"one": upstream.url}), max_answer_s=0.2))
    upstream.scripts = [[b"HTTP/1.1 200 X\r\nContent-Length: 9999\r\n\r\n{", Act.HANG]]

    answer = await door.chat()

    assert (answer.status, (await answer.json())["error"]["code"]) == (504, "upstream_timeout")
    assert door.events[0].billable is False


async def _leave_in_stream(door: RunningDoor) -> None:
    """A client of its own connection that reads the first event and is gone."""
    async with aiohttp.ClientSession() as session:
        answer = await session.post(
            f"{door.url}/v1/chat/completions",
            json={"model": "m", "messages": [], "stream": True},
            headers={"Authorization": f"Bearer {KEY}"},
        )
        await answer.content.readany()
        answer.close()


async def test_t25_drains_are_bounded_in_number(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """`max_drains`: so many are read on for nobody, the others are stopped and billed."""
    server = Server(on_disconnect="drain", max_drains=2)
    door = await open_door(settings({"one": upstream.url}, server=server))
    upstream.scripts = [[stream_head(), chunk(delta("Hello world")), Act.HANG]]

    for _ in range(5):
        await _leave_in_stream(door)
    while len(door.events) < 3:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.05)

    assert len(door.renewals) == 2
    assert {(event.status, event.client_disconnected) for event in door.events} == {
        ("cancelled", True)
    }
    assert len(door.events) == 3


async def test_t25_drains_are_bounded_in_time(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """`max_drain_s`: an upstream that does not end is left when nobody has listened so long."""
    server = Server(on_disconnect="drain", max_drain_s=0.1)
    door = await open_door(settings({"one": upstream.url}, server=server))
    upstream.scripts = [[stream_head(), chunk(delta("Hello world")), Act.HANG]]

    await _leave_in_stream(door)
    await upstream.left.wait()
    while not door.events:
        await asyncio.sleep(0.01)

    event = door.events[0]
    assert (event.status, event.units["output_text"], event.billable) == ("cancelled", 2, True)
    assert held(door) == []


async def test_t25_a_whole_body_is_not_drained_for_ever(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """The bound holds for an answer that is not streamed, whose client is long gone."""
    server = Server(on_disconnect="drain", max_drain_s=0.1)
    door = await open_door(settings({"one": upstream.url}, server=server))
    upstream.scripts = [[Act.HANG]]

    asking = asyncio.ensure_future(door.chat())
    while not upstream.received:
        await asyncio.sleep(0)
    asking.cancel()
    await door.http.close()
    await upstream.left.wait()
    while not door.events:
        await asyncio.sleep(0.01)

    assert (door.events[0].status, door.events[0].billable) == ("cancelled", True)
    assert held(door) == []


async def test_t25_a_huge_body_does_not_stop_the_others(
    door: RunningDoor, upstream: ScriptedUpstream
) -> None:
    """While 10 MB of an answer are counted, the loop goes round: other streams move."""
    text = b"word " * (2 * MB)
    body = b'{"choices":[{"index":0,"message":{"content":"' + text + b'"},"finish_reason":"stop"}]}'
    upstream.scripts = [[b"HTTP/1.1 200 X\r\nContent-Length: %d\r\n\r\n" % len(body) + body]]
    gaps = []

    async def tick() -> None:
        loop = asyncio.get_running_loop()
        while True:
            before = loop.time()
            await asyncio.sleep(0.005)
            gaps.append(loop.time() - before)

    ticking = asyncio.ensure_future(tick())
    answer = await door.chat()
    whole = await answer.read()
    ticking.cancel()

    assert len(whole) == len(body)
    assert door.events[0].units["output_text"] > 2 * MB
    assert len(gaps) > 10


async def test_t25_a_client_that_leaves_while_it_is_counted_pays_for_all_of_it(
    door: RunningDoor, upstream: ScriptedUpstream
) -> None:
    """The count is asked for when the thread is done with it, never in the middle."""
    body = b'{"choices":[{"message":{"content":"' + b"word " * (2 * MB) + b'"}}]}'
    upstream.scripts = [[b"HTTP/1.1 200 X\r\nContent-Length: %d\r\n\r\n" % len(body) + body]]

    asking = asyncio.ensure_future(door.chat())
    async with asyncio.timeout(5):
        while not any(task.get_name() == "read-reply" for task in asyncio.all_tasks()):
            await asyncio.sleep(0)
    asking.cancel()
    await door.http.close()
    async with asyncio.timeout(5):
        while not door.events:
            await asyncio.sleep(0.005)

    event = door.events[0]
    assert (event.status, event.client_disconnected) == ("cancelled", True)
    assert event.units["output_text"] == 2 * MB + 1
    assert held(door) == []


async def test_t25_a_million_empty_events_then_an_answer(
    door: RunningDoor, upstream: ScriptedUpstream
) -> None:
    """What means nothing costs nothing: the answer behind it is served and billed by itself."""
    flood = [chunk(b"\n\n" * 25_000)] * 40
    upstream.scripts = [
        [stream_head(), *flood, *map(chunk, [delta("Hi"), FINISH, DONE]), LAST_CHUNK]
    ]

    answer = await door.chat(stream=True)
    raw = await answer.read()

    assert raw.endswith(delta("Hi") + FINISH + DONE)
    assert len(raw) < 200_000  # what came before the first event, and was not read with it
    assert door.events[0].units["output_text"] == 1
    assert door.events[0].usage_suspect is None


async def test_t25_an_honest_stream_is_untouched_by_the_bounds(
    door: RunningDoor, upstream: ScriptedUpstream
) -> None:
    """The defaults are far from what real answers are."""
    events = [*[delta("word ")] * 2000, FINISH, DONE]
    upstream.scripts = [streamed(*events)]

    answer = await door.chat(stream=True)

    assert await answer.read() == b"".join(events)
    assert (door.events[0].status, door.events[0].usage_suspect) == ("success", None)
