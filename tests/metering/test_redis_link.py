"""The connection to Redis: order, deadlines, failure and return. Real servers, on both loops."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import uvloop
from fixtures_needs import need
from fixtures_redis import RedisServer, start_redis, stop_redis

from metering.caps import CapsUnavailableError
from metering.redis_link import RedisLink
from metering.redis_url import RedisTarget
from metering.redis_wire import PENDING_MAX, RedisReplyError
from metering.scripts import Script, ScriptBody

SHA = "0" * 40


class ScriptedServer(asyncio.Protocol):
    """A peer that answers each piece of input with the next of its lines, or not at all."""

    def __init__(self, answers: list[bytes]) -> None:
        self.answers = answers
        self.received: list[bytes] = []
        self.gone = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self.gone.set()

    def data_received(self, data: bytes) -> None:
        self.received.append(data)
        for _ in range(data.count(b"*")):
            if self.answers:
                self.transport.write(self.answers.pop(0))  # type: ignore[attr-defined]


GREETING = [b"+PONG\r\n", b"+OK\r\n", b"-NOPERM info\r\n", b"-NOPERM role\r\n"]


@contextlib.asynccontextmanager
async def scripted(
    folder: Path, *answers: bytes
) -> AsyncIterator[tuple[RedisLink, ScriptedServer]]:
    peers: list[ScriptedServer] = []

    def accept() -> ScriptedServer:
        peers.append(ScriptedServer([*GREETING, *answers]))
        return peers[-1]

    path = str(folder / "s")
    server = await asyncio.get_running_loop().create_unix_server(accept, path)
    async with RedisLink(RedisTarget(path=path), timeout_ms=100, jitter=lambda: 1.0) as link:
        await link.wait_up(5)
        yield link, peers[0]
    server.close()
    for peer in peers:
        peer.transport.abort()  # type: ignore[attr-defined]


async def test_replies_reach_their_callers_in_order(redis_link: RedisLink) -> None:
    """Any number of calls in flight, each with the reply that is its own."""
    replies = await asyncio.gather(*(redis_link.call("ECHO", str(n)) for n in range(500)))

    assert replies == [str(n).encode() for n in range(500)]


async def test_calls_of_one_turn_leave_in_one_write(tmp_path: Path) -> None:
    """That is what makes thirty-two in flight cheap."""
    async with scripted(tmp_path, *[b":1\r\n"] * 3) as (link, peer):
        before = len(peer.received)

        await asyncio.gather(*(link.call("INCR", key) for key in "abc"))

    assert len(peer.received) - before == 1


async def test_a_refusal_is_the_callers_alone(redis_link: RedisLink) -> None:
    """Its code is the first word; the calls around it are answered."""
    await redis_link.call("SET", "text", "x")

    answers = await asyncio.gather(
        redis_link.call("ECHO", "a"),
        redis_link.call("HGET", "text", "x"),
        redis_link.call("ECHO", "b"),
        return_exceptions=True,
    )

    assert (answers[0], answers[2]) == (b"a", b"b")
    assert isinstance(answers[1], RedisReplyError)
    assert answers[1].code == "WRONGTYPE"


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("NOSCRIPT No matching script.", "NOSCRIPT"),
        ("OOM command not allowed when used memory > 'maxmemory'.", "OOM"),
        ("READONLY You can't write against a read only replica.", "READONLY"),
        ("BUSY Redis is busy running a script.", "BUSY"),
        ("MOVED 3999 127.0.0.1:6381", "MOVED"),
        ("LOADING Redis is loading the dataset in memory", "LOADING"),
        ("ERR Error running script (call to f_1): @user_script:1: -OOM command not allowed", "OOM"),
        ("ERR unknown command", "ERR"),
    ],
)
def test_an_error_has_the_code_redis_gave_it(message: str, code: str) -> None:
    """Also where an old server wraps it."""
    assert RedisReplyError(message).code == code


async def test_a_cancelled_call_keeps_its_place_in_line(redis_link: RedisLink) -> None:
    """Its reply is dropped and nobody else gets it."""
    given_up = asyncio.ensure_future(redis_link.call("ECHO", "mine"))
    await asyncio.sleep(0)
    given_up.cancel()

    assert await redis_link.call("ECHO", "yours") == b"yours"


async def test_silence_fails_every_pending_call_at_the_time_limit(tmp_path: Path) -> None:
    """One timer for all; the connection is given up since replies would come out of step."""
    async with scripted(tmp_path, b":1\r\n") as (link, _):
        loop = asyncio.get_running_loop()
        began = loop.time()

        answers = await asyncio.gather(
            *(link.call("PING") for _ in range(4)), return_exceptions=True
        )

        assert answers[0] == 1
        assert all(isinstance(answer, CapsUnavailableError) for answer in answers[1:])
        assert 0.09 < loop.time() - began < 1.0


@pytest.mark.parametrize("nonsense", [b"!what\r\n", b":1\r\n:2\r\n"])
async def test_nonsense_gives_the_connection_up(tmp_path: Path, nonsense: bytes) -> None:
    """Replies that do not parse, or that nobody asked for: what follows cannot be trusted."""
    async with scripted(tmp_path, nonsense) as (link, peer):
        with contextlib.suppress(CapsUnavailableError):
            await link.call("PING")
        await peer.gone.wait()


async def test_without_a_server_a_call_fails_at_once(tmp_path: Path) -> None:
    """Nobody waits for a connection; the error says which server and why."""
    async with RedisLink(RedisTarget(path=str(tmp_path / "none"))) as link:
        with pytest.raises(CapsUnavailableError, match="none"):
            await link.call("PING")
        with pytest.raises(CapsUnavailableError, match="No such file"):
            await link.wait_up(0.1)


def stop_and_go(server: RedisServer) -> None:
    async def main() -> None:
        async with RedisLink(server.target, timeout_ms=100) as link:
            await link.wait_up(5)
            server.pause()
            answers = await asyncio.gather(
                *(link.call("PING") for _ in range(3)), return_exceptions=True
            )
            assert all(isinstance(answer, CapsUnavailableError) for answer in answers)
            with pytest.raises(CapsUnavailableError):
                await link.call("PING")
            server.resume()
            await link.wait_up(5)
            assert await link.call("PING") == b"PONG"

    asyncio.run(main())


@pytest.mark.parametrize("policy", [asyncio.DefaultEventLoopPolicy, uvloop.EventLoopPolicy])
def test_a_stopped_server_is_found_again(own_redis_server: RedisServer, policy: type) -> None:
    """Calls fail within the limit while it is stopped, and succeed after without a restart."""
    before = asyncio.get_event_loop_policy()
    asyncio.set_event_loop_policy(policy())
    try:
        stop_and_go(own_redis_server)
    finally:
        asyncio.set_event_loop_policy(before)


async def test_a_killed_server_is_found_again(tmp_path: Path) -> None:
    """Its socket goes, and a new server on the same path is connected to."""
    binary = need("redis-server")
    first = start_redis(binary, tmp_path)
    async with RedisLink(first.target) as link:
        await link.wait_up(5)
        stop_redis(first)
        Path(first.path).unlink()
        with pytest.raises(CapsUnavailableError):
            await link.call("PING")

        second = start_redis(binary, tmp_path)
        await link.wait_up(5)
        assert await link.call("PING") == b"PONG"
        stop_redis(second)


async def test_pending_calls_have_a_bound(redis_link: RedisLink) -> None:
    """A server that is ten thousand calls behind would answer none of them in time."""
    calls = [asyncio.ensure_future(redis_link.call("PING")) for _ in range(PENDING_MAX + 5)]

    answers = await asyncio.gather(*calls, return_exceptions=True)

    refused = [answer for answer in answers if isinstance(answer, CapsUnavailableError)]
    assert len(refused) == 5
    assert await redis_link.call("PING") == b"PONG"


async def test_closing_fails_what_is_pending(tmp_path: Path) -> None:
    """Nothing waits for a link that is gone."""
    async with scripted(tmp_path) as (link, _):
        pending = asyncio.ensure_future(link.call("PING"))
        await asyncio.sleep(0)
        await link.close()

        with pytest.raises(CapsUnavailableError):
            await pending


async def test_a_user_and_a_database_are_used(own_redis_server: RedisServer) -> None:
    """AUTH, SELECT and the client's name come before the first call."""
    async with RedisLink(own_redis_server.target) as admin:
        await admin.wait_up(5)
        await admin.call("ACL", "SETUSER", "weir", "on", ">secret", "allkeys", "+@all")
        target = RedisTarget(path=own_redis_server.path, db=2, username="weir", password="secret")
        async with RedisLink(target, name="proxy-1") as link:
            await link.wait_up(5)

            info = (await link.call("CLIENT", "LIST")).decode()

    assert any("name=proxy-1" in line and "db=2" in line for line in info.splitlines())


async def test_a_wrong_password_is_told(own_redis_server: RedisServer) -> None:
    """The link goes on trying, and whoever waits learns why."""
    target = RedisTarget(path=own_redis_server.path, username="weir", password="wrong")
    async with RedisLink(target) as link:
        with pytest.raises(CapsUnavailableError, match="WRONGPASS"):
            await link.wait_up(0.2)


@pytest.mark.parametrize("forbidden", [("-evalsha",), ("-script",)])
async def test_where_scripts_cannot_be_kept_the_text_is_sent(
    own_redis_server: RedisServer, forbidden: tuple[str, ...]
) -> None:
    """Some managed servers forbid EVALSHA or SCRIPT; EVAL does the same for more bytes."""
    text = "#!lua\nreturn ARGV[1]"
    script = Script("echo", ScriptBody(text, SHA), ScriptBody(text, SHA))
    async with RedisLink(own_redis_server.target) as link:
        await link.wait_up(5)
        await link.call("ACL", "SETUSER", "default", *forbidden)

        assert await link.eval(script, ["k"], ["said"]) == b"said"
        assert await link.eval(script, ["k"], ["again"]) == b"again"


async def test_a_peer_that_sends_garbage_does_not_end_the_link(tmp_path: Path) -> None:
    """Whatever the greeting is answered with: it is told, and the next try finds a sane server."""
    answers = [[b"+PONG\r\n", b"+OK\r\n", b"*1\r\n:7\r\n"], [b"\xff\xfe\x00\r\n"], [*GREETING]]
    peers: list[ScriptedServer] = []
    told: list[Exception] = []

    def accept() -> ScriptedServer:
        peers.append(ScriptedServer(answers.pop(0)))
        return peers[-1]

    path = str(tmp_path / "s")
    server = await asyncio.get_running_loop().create_unix_server(accept, path)
    target = RedisTarget(path=path)
    async with RedisLink(target, timeout_ms=100, on_error=told.append) as link:
        await link.wait_up(5)
        is_up = link.is_up
    server.close()
    for peer in peers:
        peer.transport.abort()  # type: ignore[attr-defined]

    assert is_up
    assert len(peers) == 3
    assert [type(error) for error in told] == [TypeError]


@pytest.mark.parametrize(
    "reply",
    [
        b"-READONLY You can't write against a read only replica.\r\n",
        b"-LOADING Redis is loading the dataset in memory\r\n",
        b"-MASTERDOWN Link with MASTER is down\r\n",
        b"-ERR Error running script (call to f_1): @user_script:1: -READONLY You can't\r\n",
    ],
)
async def test_who_is_no_master_is_left(tmp_path: Path, reply: bytes) -> None:
    """Behind one address there may be another server by now: the link asks who is there."""
    async with scripted(tmp_path, reply) as (link, peer):
        with pytest.raises(RedisReplyError):
            await link.call("SET", "k", "v")
        async with asyncio.timeout(5):
            await peer.gone.wait()
        await link.wait_up(5)


async def test_a_replica_is_waited_out(own_redis_server: RedisServer) -> None:
    """The link is down while its address leads to one; after that its data is another's."""
    async with (
        RedisLink(own_redis_server.target, any_role=True) as admin,
        RedisLink(own_redis_server.target) as link,
    ):
        await admin.wait_up(5)
        await link.wait_up(5)
        await admin.call("REPLICAOF", "127.0.0.1", "1")
        with pytest.raises(RedisReplyError, match="READONLY"):
            await link.call("SET", "k", "v")
        with pytest.raises(CapsUnavailableError, match=r"is a replica of 127\.0\.0\.1:1"):
            await link.wait_up(0.1)

        await admin.call("REPLICAOF", "NO", "ONE")
        await link.wait_up(5)
        assert await link.call("SET", "k", "v") == b"OK"
        assert (link.generation, admin.generation) == (1, 0)


class SlowServer(ScriptedServer):
    """Answers everything 60 ms late."""

    def data_received(self, data: bytes) -> None:
        asyncio.get_running_loop().call_later(0.06, super().data_received, data)


async def test_a_script_that_must_be_loaded_has_one_limit_altogether(tmp_path: Path) -> None:
    """Three answers that are each in time take too long together."""
    answers = [*GREETING, b"-NOSCRIPT none\r\n", b"+sha\r\n", b"+late\r\n"]
    path, peers = str(tmp_path / "s"), list[SlowServer]()

    def accept() -> SlowServer:
        peers.append(SlowServer(answers))
        return peers[-1]

    server = await asyncio.get_running_loop().create_unix_server(accept, path)
    script = Script("echo", ScriptBody("return 1", SHA), ScriptBody("return 1", SHA))
    async with RedisLink(RedisTarget(path=path), timeout_ms=100) as link:
        await link.wait_up(5)
        began_s = time.monotonic()
        with pytest.raises(CapsUnavailableError, match="no time was left"):
            await link.eval(script, ["k"], [])
        took_s = time.monotonic() - began_s
    server.close()
    for peer in peers:
        peer.transport.abort()  # type: ignore[attr-defined]

    assert 0.09 < took_s < 0.5


async def test_a_server_that_does_not_say_who_it_is_counts_as_another_each_time(
    own_redis_server: RedisServer,
) -> None:
    """Whoever has a copy of what was committed sends it once too often rather than once less."""
    async with RedisLink(own_redis_server.target) as link:
        await link.wait_up(5)
        await link.call("ACL", "SETUSER", "default", "-info", "-role")
        for _ in range(2):
            await _tolerate_quit(link)
            await link.wait_up(5)
        assert link.generation == 2


async def test_generation_grows_when_the_server_is_another(own_redis_server: RedisServer) -> None:
    folder = Path(own_redis_server.path).parent
    async with RedisLink(own_redis_server.target, timeout_ms=2_000) as link:
        await link.wait_up(5)
        assert link.generation == 0
        await _tolerate_quit(link)
        await link.wait_up(5)
        assert await link.call("PING") == b"PONG"
        assert link.generation == 0, "the same server again"

        stop_redis(own_redis_server)
        Path(own_redis_server.path).unlink()
        restarted = start_redis(need("redis-server"), folder)
        try:
            while link.generation == 0:
                await asyncio.sleep(0.01)
        finally:
            stop_redis(restarted)
    assert link.generation == 1


async def _tolerate_quit(link: RedisLink) -> None:
    with contextlib.suppress(CapsUnavailableError):
        await link.call("QUIT")
        await link.call("PING")
