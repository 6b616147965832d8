"""T-41, T-51: each route of the application has a decision: who may ask, and who pays."""

from __future__ import annotations

import pytest
from aiohttp import web
from fixtures_door import KEY, RunningDoor
from fixtures_upstream import ScriptedUpstream, body, completion
from raw_http import BEARER, BODY, one

OPEN, KEYED, REFUSED = "open", "keyed", "refused"
METERED, FREE, REPORTED = "metered", "free", "reported"

DECISIONS = {
    ("POST", "/v1/chat/completions"): (KEYED, METERED),
    ("POST", "/v1/completions"): (KEYED, METERED),
    ("POST", "/v1/embeddings"): (KEYED, METERED),
    ("POST", "/v1/messages"): (KEYED, METERED),
    ("POST", "/v1/messages/count_tokens"): (KEYED, FREE),
    ("POST", "/v1/responses"): (KEYED, METERED),
    ("POST", "/v1/events"): (KEYED, REPORTED),
    ("POST", "/v1/meter"): (KEYED, FREE),
    ("POST", "/webhooks/stripe"): (REFUSED, FREE),  # signed, where it is configured; else absent
    ("GET", "/v1/key"): (KEYED, FREE),
    ("GET", "/v1/usage"): (KEYED, FREE),
    ("GET", "/v1/models"): (KEYED, FREE),
    ("GET", "/v1/models/{model}"): (KEYED, FREE),
    ("GET", "/healthz"): (OPEN, FREE),
    ("GET", "/readyz"): (OPEN, FREE),
    ("HEAD", "/healthz"): (OPEN, FREE),
    ("HEAD", "/readyz"): (OPEN, FREE),
    ("GET", "/v1/realtime"): (REFUSED, FREE),  # as what follows, until there is `passthrough`
    ("*", "/v1/{path:.*}"): (REFUSED, FREE),
    ("*", "/{path:.*}"): (REFUSED, FREE),
}
"""Whoever adds a route says here who may call it and whether it costs: metered, free because
nothing is sent to an upstream, or reported: usage that its sender had elsewhere."""


BODIES = {
    "/v1/completions": b'{"model":"m","prompt":"hi"}',
    "/v1/embeddings": b'{"model":"m","input":"hi"}',
    "/v1/messages": b'{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"hi"}]}',
    "/v1/responses": b'{"model":"m","input":"hi"}',
}
"""What is asked where it is no chat."""

ANSWERS = {
    "/v1/completions": body({"choices": [{"text": "Hello", "finish_reason": "stop"}]}),
    "/v1/embeddings": body({"data": [{"embedding": [0.5]}], "usage": {"prompt_tokens": 1}}),
}
"""What an upstream answers there; a chat completion elsewhere."""

ASKED = [each for each in DECISIONS if each[0] != "HEAD"]
"""The handlers of HEAD are those of GET."""


def routes(app: web.Application) -> list[tuple[str, str]]:
    """Every route as it was written: method and path."""
    found = []
    for route in app.router.routes():
        assert route.resource is not None
        told = route.resource.get_info()
        path = told.get("path") or told["formatter"].replace("{path}", "{path:.*}")
        found.append((route.method, path))
    return found


def request(method: str, path: str, more: str = "") -> bytes:
    filled = path.replace("{model}", "m").replace("{path:.*}", "v1/nothing")
    asked = BODIES.get(path, BODY) if method != "GET" else b""
    return (
        f"{'POST' if method == '*' else method} {filled} HTTP/1.1\r\nHost: x\r\n{more}"
        f"Connection: close\r\nContent-Length: {len(asked)}\r\n\r\n".encode()
        + asked
    )


def test_t41_t51_every_route_has_a_decision(door: RunningDoor) -> None:
    """T-41, T-51: a route without a row in the table, or a row without its route, fails here."""
    assert door.runner.app is not None
    found = routes(door.runner.app)

    assert len(found) == len(set(found))
    assert set(found) == set(DECISIONS)


@pytest.mark.parametrize(("method", "path"), ASKED)
async def test_t41_who_may_ask(
    door: RunningDoor, upstream: ScriptedUpstream, method: str, path: str
) -> None:
    """T-41: without a key a keyed route is a 401, and nothing goes out."""
    upstream.scripts = [[completion()]]

    said = await one(door.url, request(method, path))

    assert said.status == {OPEN: 200, KEYED: 401, REFUSED: 404}[DECISIONS[method, path][0]]
    assert upstream.received == []
    assert door.events == []


@pytest.mark.parametrize(("method", "path"), ASKED)
async def test_t51_what_reaches_an_upstream_is_metered(
    door: RunningDoor, upstream: ScriptedUpstream, method: str, path: str
) -> None:
    """T-51: as many calls to the upstream as events with a price, and none where it is free."""
    upstream.scripts = [[ANSWERS.get(path, completion())]]

    said = await one(door.url, request(method, path, BEARER))

    who, cost = DECISIONS[method, path]
    # a chat is no event
    assert said.status == (404 if who == REFUSED else 400 if cost == REPORTED else 200)
    assert len(upstream.received) == len(door.events) == (cost == METERED)
    assert all(event.admission_nano > 0 for event in door.events)


@pytest.mark.parametrize(
    "path",
    [
        "images/generations",
        "audio/speech",
        "batches",
        "files",
    ],
)
async def test_t51_paths_that_others_bill_are_refused(
    door: RunningDoor, upstream: ScriptedUpstream, path: str
) -> None:
    """T-51: none of them is passed on."""
    said = await one(door.url, request("POST", f"/v1/{path}", BEARER))

    assert (said.status, upstream.received, door.events) == (404, [], [])
    assert KEY.encode() not in said.body
