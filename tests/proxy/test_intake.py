"""Reading a body; what strangers do with theirs is in tests/threats."""

from __future__ import annotations

from fixtures_door import OpenDoor, settings
from fixtures_upstream import ScriptedUpstream, completion
from raw_http import BEARER, BODY, CHAT, close, connect, one, post, read_one


async def test_a_body_may_come_in_pieces(open_door: OpenDoor, upstream: ScriptedUpstream) -> None:
    """However the network cuts it, the body is one."""
    upstream.scripts = [[completion()]]
    door = await open_door(settings({"one": upstream.url}))
    reader, writer = await connect(door.url)
    for byte in post():
        writer.write(bytes([byte]))
        await writer.drain()

    said = await read_one(reader)

    await close(writer)
    assert said.status == 200


async def test_an_encoding_that_is_none_is_fine(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """`identity` says that nothing was done to the body."""
    upstream.scripts = [[completion()]]
    door = await open_door(settings({"one": upstream.url}))

    assert (await one(door.url, post(BODY, "Content-Encoding: Identity"))).status == 200


async def test_a_connection_lives_on_after_an_ordinary_refusal(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """Only what cannot be trusted closes; a mistake in the JSON does not."""
    upstream.scripts = [[completion()]]
    door = await open_door(settings({"one": upstream.url}))
    reader, writer = await connect(door.url)
    head = f"POST {CHAT} HTTP/1.1\r\nHost: x\r\n{BEARER}Content-Length: 1\r\n\r\n"
    writer.write(head.encode() + b"{" + post())

    first, second = await read_one(reader), await read_one(reader)

    await close(writer)
    assert (first.status, second.status) == (400, 200)
