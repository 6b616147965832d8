"""T-01 to T-05: what proves who is asking, and what does not."""

from __future__ import annotations

import ast
import hashlib
import random
import statistics
import time
from dataclasses import replace
from pathlib import Path

import pytest
from fixtures_door import KEY, PROVIDER_KEY, OpenDoor, RunningDoor, held, settings, tenant
from fixtures_upstream import ScriptedUpstream, completion
from raw_http import BODY, CHAT, Said, one

from metering.tenants import ApiKey
from proxy.auth import Authenticator

ROOT = Path(__file__).parents[2]


def request(*lines: str, path: str = CHAT, body: bytes = BODY) -> bytes:
    """A chat request with exactly these header lines beside `Host` and the length."""
    own = "".join(f"{line}\r\n" for line in lines)
    start = f"POST {path} HTTP/1.1\r\nHost: x\r\n{own}Content-Length: {len(body)}\r\n\r\n"
    return start.encode("utf-8", "surrogateescape") + body


NOISE = random.Random(1).randbytes(4000).hex()
WRONG = {
    "none": "X: y",
    "sql": "Authorization: Bearer ' OR 1=1--",
    "noise": f"Authorization: Bearer {NOISE[:7000]}",
    "percent": "Authorization: Bearer %s%n%00",
    "unicode": "Authorization: Bearer sk-weir-\u00e9\u4e2d",
    "bytes": "Authorization: Bearer \udcff\udcfe",
    "json": 'Authorization: Bearer ["a"]',
    "two_words": f"Authorization: Bearer {KEY} {KEY}",
    "no_scheme": f"Authorization: {KEY}",
    "basic": f"Authorization: Basic {KEY}",
    "hash_of_it": f"Authorization: Bearer {hashlib.sha256(KEY.encode()).hexdigest()}",
    "upper_case": f"Authorization: Bearer {KEY.upper()}",
    "cut": f"Authorization: Bearer {KEY[:-1]}",
    "longer": f"Authorization: Bearer {KEY}x",
    "the_providers": f"Authorization: Bearer {PROVIDER_KEY}",
}


@pytest.mark.parametrize("name", WRONG)
async def test_t01_every_wrong_key_gets_the_same_answer(
    door: RunningDoor, upstream: ScriptedUpstream, name: str
) -> None:
    """T-01: a key that is none cannot be told from one that is not known; nothing is touched."""
    said = await one(door.url, request(WRONG[name]))
    reference = await one(door.url, request("Authorization: Bearer sk-weir-nobody"))

    assert (said.status, said.body) == (401, reference.body)
    assert said.headers.keys() == reference.headers.keys()
    assert (upstream.received, held(door)) == ([], [])


async def test_t01_a_control_byte_in_a_key_is_no_http(door: RunningDoor) -> None:
    """T-01: NUL and its like do not get as far as a look-up."""
    assert (await one(door.url, request("Authorization: Bearer a\0b"))).status == 400


SQL_TAKERS = {"execute", "executemany", "executescript", "exec_driver_sql", "text"}


def test_t01_no_sql_is_made_of_text() -> None:
    """T-01: no statement is built by formatting, but of constants of ours; the schema aside,
    which is made of the names of its tables."""
    sources = [path for room in ("metering", "proxy") for path in (ROOT / room).rglob("*.py")]

    found = [
        f"{path.name}:{call.lineno}"
        for path in sources
        if path.parent.name != "versions" and path.name != "new_schema.py"
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(call, ast.Call) and _takes_sql(call.func) and call.args
        if _is_built(call.args[0])
    ]

    assert sources
    assert found == []


def _takes_sql(called: ast.expr) -> bool:
    return getattr(called, "attr", getattr(called, "id", None)) in SQL_TAKERS


def _is_built(statement: ast.expr) -> bool:
    """Whether something flows into it that is no constant of a module."""
    if isinstance(statement, ast.JoinedStr):
        parts = [part.value for part in statement.values if isinstance(part, ast.FormattedValue)]
        return not all(isinstance(part, ast.Name) and part.id.isupper() for part in parts)
    is_format = isinstance(statement, ast.Call) and getattr(statement.func, "attr", "") == "format"
    return is_format or isinstance(statement, ast.BinOp)


def test_t03_wrong_keys_cost_the_same_however_near_they_are() -> None:
    """T-03: the look-up is by hash, so what a guess shares with a real key does not show."""
    real = "sk-weir-000000000000-" + "a" * 43
    digest = hashlib.sha256(real.encode()).hexdigest()
    who = replace(tenant(), keys=(ApiKey("k", digest, "default"),))
    authenticator = Authenticator([who], lambda: 0)
    guesses = {near: real[:near] + "b" * (len(real) - near) for near in (0, 8, 31, 63)}
    times: dict[int, list[int]] = {near: [] for near in guesses}
    for _ in range(5000):
        for near, guess in guesses.items():
            before = time.perf_counter_ns()
            assert authenticator.by_key(guess) is None
            times[near].append(time.perf_counter_ns() - before)

    medians = {near: statistics.median(taken) for near, taken in times.items()}
    print(medians)
    assert max(medians.values()) < 1.5 * min(medians.values())


async def test_t04_two_keys_alike_in_forty_letters_are_two(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """T-04: nothing is found by a part of a key; each proves its own tenant."""
    upstream.scripts = [[completion()]]
    base = "sk-weir-000000000000-" + "a" * 30
    keys = {f"k{last}": f"{base}{last}" for last in (1, 2)}
    who = replace(
        tenant(),
        keys=tuple(
            ApiKey(name, hashlib.sha256(key.encode()).hexdigest(), "default")
            for name, key in keys.items()
        ),
    )
    door = await open_door(settings({"one": upstream.url}, who=who))

    statuses = [
        (await one(door.url, request(f"Authorization: Bearer {key}"))).status
        for key in (*keys.values(), f"{base}3")
    ]

    assert statuses == [200, 200, 401]
    assert [event.api_key_id for event in door.events] == ["k1", "k2"]


NOT_PROOF = [
    "X-Tenant-ID: other",
    "X-Forwarded-User: other",
    "X-Weir-Tenant: other",
    "X-Remote-User: other",
    "OpenAI-Organization: other",
    "OpenAI-Project: other",
    "Cookie: tenant=other",
    f"Proxy-Authorization: Bearer {KEY}x",
]


@pytest.mark.parametrize("line", NOT_PROOF)
async def test_t05_the_tenant_comes_from_the_key_alone(
    door: RunningDoor, upstream: ScriptedUpstream, line: str
) -> None:
    """T-05: nothing that a client says of itself changes who it is, or travels."""
    upstream.scripts = [[completion()]]

    said = await one(door.url, request(f"Authorization: Bearer {KEY}", line))

    name, _, value = line.partition(": ")
    assert said.status == 200
    assert door.events[0].tenant == "acme"
    assert name.lower() not in upstream.received[0].headers
    assert value not in str(upstream.received[0].headers)


ELSEWHERE = ["api-key: {}", "x-goog-api-key: {}", "Cookie: key={}"]


async def test_the_header_of_anthropics_clients_is_taken(
    door: RunningDoor, upstream: ScriptedUpstream
) -> None:
    """Their SDK sends the key as `x-api-key`, and no Authorization."""
    upstream.scripts = [[completion()]]

    said = await one(door.url, request(f"x-api-key: {KEY}"))

    assert said.status == 200
    assert door.events[0].tenant == "acme"
    assert KEY not in str(upstream.received[0].headers)
    assert (await one(door.url, request("x-api-key: sk-weir-guess"))).status == 401


@pytest.mark.parametrize("line", ELSEWHERE)
async def test_t05_a_key_counts_in_one_place_only(door: RunningDoor, line: str) -> None:
    """T-05: one header proves something, so that one limit holds for whatever it proves."""
    assert (await one(door.url, request(line.format(KEY)))).status == 401


@pytest.mark.parametrize("query", ["key={}", "api_key={}", "api-key={}", "access_token={}"])
async def test_t05_a_key_in_the_url_is_neither_taken_nor_logged(
    door: RunningDoor, query: str
) -> None:
    """T-05: what stands in a URL ends up in logs, so no key is taken from there."""
    path = f"{CHAT}?{query.format(KEY)}"

    said = [await one(door.url, request(path=path)), await one(door.url, request(path=path + "/x"))]
    missed = await one(door.url, request(path=f"/v1/nothing?{query.format(KEY)}"))

    assert [each.status for each in said] == [401, 401]
    assert KEY not in str(door.log.lines) + str(said) + str(missed)


TWO = {
    "two_bearers": ("Authorization: Bearer {}", "Authorization: Bearer other"),
    "the_good_one_last": ("Authorization: Bearer other", "Authorization: Bearer {}"),
    "x_api_key": ("Authorization: Bearer {}", "x-api-key: other"),
    "api_key": ("Authorization: Bearer {}", "api-key: other"),
    "goog": ("Authorization: Bearer {}", "x-goog-api-key: other"),
    "both_unknown": ("Authorization: Bearer a", "x-api-key: b"),
}


@pytest.mark.parametrize("name", TWO)
async def test_t05_two_credentials_that_differ_are_refused(
    door: RunningDoor, upstream: ScriptedUpstream, name: str
) -> None:
    """T-05: somebody in front of us may have believed the other one. Not said: which is good."""
    said = await one(door.url, request(*(line.format(KEY) for line in TWO[name])))

    assert (said.status, said.code) == (400, None)
    assert KEY.encode() not in said.body
    assert upstream.received == []


async def test_t05_the_same_credential_twice_is_one(
    door: RunningDoor, upstream: ScriptedUpstream
) -> None:
    """T-05: clients that send the key wherever a vendor may want it are served."""
    upstream.scripts = [[completion()]]

    said: Said = await one(
        door.url, request(f"Authorization: Bearer {KEY}", f"x-api-key: {KEY}", f"api-key: {KEY}")
    )

    assert said.status == 200
    assert KEY not in str(upstream.received[0].headers)


async def test_the_key_is_checked_before_a_byte_of_the_body_is_read(door: RunningDoor) -> None:
    """Who has no key is refused while the body has not come; nobody fills our memory unknown."""
    head = f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n"

    assert (await one(door.url, head.encode())).status == 401
