"""Tokens are fetched once, kept while they are good, and told to nobody."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from wire_samples import any_json

from proxy.client_credentials import FAILURE_S, Grant, Tokens, read_token, tokens_of
from proxy.settings import Secret
from proxy.transport import Call, Fault, TransportError

SECRET = "s3cr3t&=canary"
GRANT = Grant("https://login.test/t/oauth2/v2.0/token", "app", Secret(SECRET), "scope/.default")


class Authority:
    """A transport whose other end gives tokens, numbered, or what it is told to."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.status = 200
        self.failure: TransportError | None = None
        self.fields: dict[str, Any] = {"token_type": "Bearer", "expires_in": 3600}
        self.gate = asyncio.Event()
        self.gate.set()

    async def send(self, call: Call, on_sent: Callable[[], None] = lambda: None) -> Authority.Reply:
        """The next token, once the gate is open."""
        self.calls.append(call)
        number = len(self.calls)
        await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        token = {"access_token": f"token-{number}"} if self.status == 200 else {}
        return Authority.Reply(self.status, orjson.dumps({**token, **self.fields}))

    async def close(self) -> None:
        """Nothing is open."""

    class Reply:
        """One answer."""

        def __init__(self, status: int, body: bytes) -> None:
            self.status, self._body = status, body

        def header(self, name: str) -> str | None:
            return None

        async def chunk(self) -> bytes:
            return self._body

        async def read(self, limit: int) -> bytes:
            assert len(self._body) <= limit
            return self._body

        def close(self) -> None:
            pass


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def authority() -> Authority:
    return Authority()


@pytest.fixture
def ask(clock: Clock, authority: Authority) -> Callable[[], Any]:
    """Asks for the token of GRANT."""
    tokens = Tokens(clock=clock)
    return lambda: tokens.token(GRANT, authority, connect_timeout_s=5.0)


async def test_the_request_is_a_form(ask, authority):
    """Client, secret and scope are posted, and stand in no address and no header."""
    assert await ask() == "token-1"

    [call] = authority.calls
    assert parse_qs(call.body.decode()) == {
        "grant_type": ["client_credentials"],
        "client_id": ["app"],
        "client_secret": [SECRET],
        "scope": ["scope/.default"],
    }
    assert call.headers["Content-Type"] == "application/x-www-form-urlencoded"
    assert SECRET not in f"{call.url}{call.headers}{GRANT!r}"


async def test_a_token_is_kept_until_shortly_before_its_end(ask, authority, clock):
    """One fetch serves everybody for as long as the token is good, less five minutes."""
    assert [await ask() for _ in range(3)] == ["token-1"] * 3

    clock.now_s += 3600 - 331
    assert await ask() == "token-1"
    clock.now_s += 2
    assert await ask() == "token-2"
    assert len(authority.calls) == 2


async def test_many_wait_for_one_fetch(ask, authority):
    """The first request fetches; those beside it wait for the same token."""
    authority.gate.clear()
    waiting = [asyncio.ensure_future(ask()) for _ in range(20)]
    await asyncio.sleep(0)
    authority.gate.set()

    assert set(await asyncio.gather(*waiting)) == {"token-1"}
    assert len(authority.calls) == 1


async def test_while_one_refreshes_the_others_go_on(ask, authority, clock):
    """Ahead of the end nobody waits but the request that fetches."""
    await ask()
    clock.now_s += 3300
    authority.gate.clear()
    refreshing = asyncio.ensure_future(ask())
    await asyncio.sleep(0)

    assert await ask() == "token-1"

    authority.gate.set()
    assert await refreshing == "token-2"
    assert await ask() == "token-2"


async def test_a_client_that_leaves_does_not_fail_the_others(ask, authority):
    """When the request that fetches is cancelled, the next one fetches."""
    authority.gate.clear()
    first, second = asyncio.ensure_future(ask()), asyncio.ensure_future(ask())
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.sleep(0)
    authority.gate.set()

    assert await second == "token-2"


async def test_a_failed_refresh_leaves_what_is_good(ask, authority, clock):
    """An authority that is away costs nobody anything while the old token lasts."""
    await ask()
    clock.now_s += 3300
    authority.failure = TransportError(Fault.TIMEOUT, "silence")

    assert [await ask() for _ in range(3)] == ["token-1"] * 3
    assert len(authority.calls) == 2
    clock.now_s += FAILURE_S
    authority.failure = None
    assert await ask() == "token-3"


async def test_a_failure_is_remembered_for_a_moment(ask, authority, clock):
    """Without a token everybody fails alike, at once, and then it is tried again."""
    authority.failure = TransportError(Fault.TIMEOUT, "silence")
    told = set()
    for _ in range(3):
        with pytest.raises(TransportError) as caught:
            await ask()
        told.add((caught.value.fault, str(caught.value)))

    assert told == {(Fault.TIMEOUT, "timeout: silence")}
    assert len(authority.calls) == 1
    clock.now_s += FAILURE_S
    authority.failure = None
    assert await ask() == "token-2"


async def test_a_lapsed_token_is_not_sent(ask, authority, clock):
    """Past its end, a token that cannot be replaced is no token."""
    await ask()
    clock.now_s += 3600
    authority.failure = TransportError(Fault.UNREACHABLE, "no route")

    with pytest.raises(TransportError, match="no route"):
        await ask()


async def test_another_secret_is_another_grant(authority, clock):
    """A secret that was changed gets a token of its own."""
    tokens = Tokens(clock=clock)
    other = Grant(GRANT.url, GRANT.client_id, Secret("new"), GRANT.scope)

    first = await tokens.token(GRANT, authority, connect_timeout_s=5.0)

    assert await tokens.token(other, authority, connect_timeout_s=5.0) != first


def test_tokens_belong_to_a_transport(authority):
    """A process asks once; another transport has nothing of it."""
    assert tokens_of(authority) is tokens_of(authority)
    assert tokens_of(authority) is not tokens_of(Authority())


def test_a_refusal_says_what_the_authority_calls_it():
    """Its code and its numbers, and nothing of its prose, which quotes what it was sent."""
    body = orjson.dumps(
        {
            "error": "invalid_client",
            "error_description": f"AADSTS7000215: Invalid client secret {SECRET}.",
            "error_codes": [7000215],
        }
    )

    with pytest.raises(TransportError) as caught:
        read_token(GRANT.url, 401, body)

    assert str(caught.value).endswith("gave no token: 401 invalid_client (7000215)")
    assert caught.value.fault is Fault.UNREACHABLE


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"access_token": "", "expires_in": 1},
        {"access_token": "a b", "expires_in": 1},
        {"access_token": "a\r\nX: y", "expires_in": 1},
        {"access_token": "ä", "expires_in": 1},
        {"access_token": "t" * 20_000, "expires_in": 1},
        {"access_token": "t"},
        {"access_token": "t", "expires_in": 0},
        {"access_token": "t", "expires_in": True},
        {"access_token": "t", "expires_in": "soon"},
    ],
    ids=lambda fields: str(fields)[:40],
)
def test_what_cannot_be_sent_is_no_token(fields):
    """Signs that no header may have, and a token without an end, are refused."""
    with pytest.raises(TransportError):
        read_token("u", 200, orjson.dumps(fields))


def test_a_lifetime_may_be_a_string_and_has_a_bound():
    """Older authorities write seconds as text; a year is believed to be a week."""
    assert read_token("u", 200, b'{"access_token":"t","expires_in":"3599"}') == ("t", 3599.0)
    assert read_token("u", 200, b'{"access_token":"t","expires_in":99999999}')[1] == 604_800.0


@given(st.integers(100, 599), any_json("access_token", "expires_in", "error", "error_codes"))
def test_hostile_answers_are_errors_of_the_transport(status, value):
    """Any JSON gives a token or one kind of error."""
    try:
        token, lifetime_s = read_token("u", status, orjson.dumps(value))
    except TransportError as error:
        assert error.fault is Fault.UNREACHABLE  # noqa: PT017 - either way is right here
    else:
        assert token and lifetime_s > 0
