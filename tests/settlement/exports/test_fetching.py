"""Asking providers: pages, busy providers, refusals; and where the key goes."""

from __future__ import annotations

from pathlib import Path

import pytest
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

from metering.settlement.exports import anthropic, openai
from metering.settlement.exports.fetching import TRIES_MAX, Fetched, FetchError, Source, fetch
from metering.settlement.exports.rows import ExportError

DATA = Path(__file__).parent / "data"
KEY = "sk-admin-secret"
OPENAI, ANTHROPIC = "openai", "anthropic"
SINCE, UNTIL = "2026-11-01", "2026-11-03"
NOTHING = b'{"data":[],"has_more":false,"next_page":null}'


class Provider:
    """A server that answers by path, each with a list that is given in turn; the last stays."""

    def __init__(self, **answers: list[tuple[int, bytes]]) -> None:
        self.answers = answers
        self.asked: list[tuple[URL, CIMultiDict[str]]] = []
        self.waits: list[float] = []
        self.headers: dict[str, str] = {}

    async def answer(self, request: web.Request) -> web.Response:
        self.asked.append((request.url, request.headers.copy()))
        queue = self.answers.get(request.path.rpartition("/")[2], [(200, NOTHING)])
        status, body = queue.pop(0) if len(queue) > 1 else queue[0]
        return web.Response(status=status, body=body, headers=self.headers)

    async def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)

    async def fetch(self, type_: str) -> list[Fetched]:
        app = web.Application()
        app.router.add_get("/{tail:.*}", self.answer)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            host, port = runner.addresses[0]
            source = Source(type_, KEY, f"http://{host}:{port}/v1/")
            return await fetch(source, SINCE, UNTIL, sleep=self.sleep)
        finally:
            await runner.cleanup()


def _page(body: bytes, after: str) -> bytes:
    return body.replace(
        b'"has_more":false,"next_page":null', b'"has_more":true,"next_page":"%s"' % after.encode()
    )


async def test_every_page_is_read() -> None:
    """Until there are no more; the next is asked for with the same days and groups."""
    body = (DATA / "anthropic_usage.json").read_bytes()
    provider = Provider(messages=[(200, _page(body, "p2")), (200, body)])

    used, cost = await provider.fetch(ANTHROPIC)

    assert sum(row.quantity for row in used.export.usage) == 2 * 3_710
    assert (used.export.since, used.export.until, cost.export.costs) == (SINCE, UNTIL, ())
    first, second = (url for url, _ in provider.asked if url.path.endswith("messages"))
    assert dict(second.query) | {"page": "p2"} == dict(first.query) | {"page": "p2"}
    assert second.query["page"] == "p2"


async def test_openai_is_asked_for_each_kind_of_usage() -> None:
    """Completions, embeddings, images and the others, then costs; with the key as a bearer."""
    provider = Provider(
        completions=[(200, (DATA / "openai_usage.json").read_bytes())],
        costs=[(200, (DATA / "openai_costs.json").read_bytes())],
    )

    used, cost = await provider.fetch(OPENAI)

    paths = [url.path.removeprefix("/v1") for url, _ in provider.asked]
    assert paths == [*openai.USAGE_PATHS, *openai.COST_PATHS]
    assert all(headers["authorization"] == f"Bearer {KEY}" for _, headers in provider.asked)
    assert (len(used.export.usage), len(cost.export.costs)) == (8, 4)
    assert used.sha256 != cost.sha256


async def test_a_busy_provider_is_asked_again_when_it_says() -> None:
    """429 and 5xx; the wait is what was asked for."""
    provider = Provider(messages=[(429, b""), (503, b""), (200, NOTHING)])
    provider.headers = {"retry-after": "7"}

    await provider.fetch(ANTHROPIC)

    assert provider.waits == [7.0, 7.0]


async def test_a_provider_that_stays_busy_is_given_up() -> None:
    """After a few tries that are further and further apart; nothing is kept."""
    provider = Provider(cost_report=[(500, b"")])

    with pytest.raises(FetchError, match="answered 500, 5 times"):
        await provider.fetch(ANTHROPIC)
    assert provider.waits == [1.0, 2.0, 4.0, 8.0]


@pytest.mark.parametrize("status", [400, 401, 403, 404, 302])
async def test_a_refusal_is_no_reason_to_ask_again(status: int) -> None:
    """Nor is a redirect: the key goes nowhere else. No message has it."""
    provider = Provider(messages=[(status, b"")])

    with pytest.raises(FetchError) as failed:
        await provider.fetch(ANTHROPIC)
    assert len(provider.asked) == 1
    assert ("admin key" in str(failed.value)) is (status in (401, 403))
    assert KEY not in str(failed.value)
    assert KEY not in repr(Source("anthropic", KEY))


@pytest.mark.parametrize(
    "body",
    [b"<html>", _page(NOTHING, "same"), NOTHING.replace(b"false", b"true")],
    ids=["no page", "pages in a circle", "more, and nowhere"],
)
async def test_half_an_export_is_none(body: bytes) -> None:
    """What does not come to its end is not compared."""
    with pytest.raises(ExportError):
        await Provider(messages=[(200, body)]).fetch(ANTHROPIC)


async def test_the_vendors_own_address_is_the_usual_one() -> None:
    """Another may be named; Anthropic is shown the key in a header of its own."""
    provider = Provider()

    await provider.fetch(ANTHROPIC)

    assert Source("openai", KEY).url == openai.ADDRESS
    assert provider.asked[0][0].path == f"/v1{anthropic.USAGE_PATHS[0]}"
    assert provider.asked[0][1]["x-api-key"] == KEY


async def test_a_provider_that_is_away_is_asked_again() -> None:
    """A connection that is refused is trouble like any other."""
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    with pytest.raises(FetchError, match="was not reached"):
        await fetch(Source("openai", KEY, "http://127.0.0.1:1/v1"), SINCE, UNTIL, sleep=sleep)
    assert len(waits) == TRIES_MAX - 1
