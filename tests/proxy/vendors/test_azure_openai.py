"""Azure OpenAI: its two surfaces, its key and its tokens, and what its content filter says."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
import pytest
from aiohttp import web
from wire_samples import meter, read_cut, way

from proxy.outgoing import redaction_for, redaction_of
from proxy.pool import HttpTransport
from proxy.settings import Provider, Secret
from proxy.transport import Call, Fault, TransportError
from proxy.vendors import signing, vendor
from proxy.wire import client_format
from routing.fallback import Outcome

AZURE = vendor("azure_openai")
RESOURCE = "https://acme.openai.azure.com"
KEY = "azure-key-canary-31337"
ENTRA = {"tenant_id": "t-1", "client_id": "c-1", "client_secret": Secret("secret-canary-1")}
CALL = Call("https://x", {"Content-Type": "application/json"}, b"{}", 5.0, 5.0)


def azure(base_url: str = RESOURCE, *, key: str | None = KEY, **options: Any) -> Provider:
    return Provider(
        name="azure",
        type="azure_openai",
        base_url=base_url,
        api_key=Secret(key) if key else None,
        options=options,
    )


@pytest.mark.parametrize(
    ("options", "form", "url"),
    [
        ({}, "openai_chat", "/openai/v1/chat/completions"),
        ({"api_version": "v1"}, "openai_responses", "/openai/v1/responses"),
        ({"api_version": "latest"}, "openai_chat", "/openai/v1/chat/completions"),
        (
            {"api_version": "preview"},
            "openai_chat",
            "/openai/v1/chat/completions?api-version=preview",
        ),
        (
            {"api_version": "2024-10-21"},
            "openai_chat",
            "/openai/deployments/my%20gpt%2F4/chat/completions?api-version=2024-10-21",
        ),
        (
            {"api_version": "2024-10-21"},
            "openai_embeddings",
            "/openai/deployments/my%20gpt%2F4/embeddings?api-version=2024-10-21",
        ),
        (
            {"api_version": "2024-10-21&x=y"},
            "openai_completions",
            "/openai/deployments/my%20gpt%2F4/completions?api-version=2024-10-21%26x%3Dy",
        ),
    ],
)
@pytest.mark.parametrize("written", [RESOURCE, f"{RESOURCE}/openai/v1", f"{RESOURCE}/openai"])
def test_where_requests_go(written: str, options: dict[str, Any], form: str, url: str) -> None:
    """By deployment and date, or under v1; whichever address of the resource was written."""
    provider = azure(written, **options)

    assert form in AZURE.formats(provider)
    assert AZURE.url(provider, format=form, model="my gpt/4", stream=True) == RESOURCE + url


def test_responses_are_spoken_on_the_v1_surface_only() -> None:
    """A dated version has no path for them that we know."""
    assert "openai_responses" in AZURE.formats(azure())
    assert "openai_responses" not in AZURE.formats(azure(api_version="2024-10-21"))


def test_the_key_goes_in_azures_header() -> None:
    """A key is sent as it is; with a tenant, a token takes its place."""
    assert AZURE.headers(azure()) == {"api-key": KEY}
    assert AZURE.headers(azure(key=None)) == {}
    assert AZURE.headers(azure(**ENTRA)) == {}


@pytest.mark.parametrize(
    ("version", "field"),
    [
        (None, "max_completion_tokens"),
        ("2024-10-21", "max_completion_tokens"),
        ("2024-06-01", "max_tokens"),
    ],
)
def test_where_a_limit_is_written(version: str | None, field: str) -> None:
    """By the name that this version knows."""
    options = {} if version is None else {"api_version": version}

    assert AZURE.output_limit_field(azure(**options)) == field


async def test_a_key_needs_no_token() -> None:
    """Nothing is fetched where a key is sent."""
    sign = signing(AZURE)
    assert sign is not None
    transport = HttpTransport()

    assert await sign.prepare(azure(), CALL, transport) is CALL

    await transport.close()


async def test_a_token_is_fetched_over_the_wire() -> None:
    """The tenant's token comes from its authority, once, and goes out as a bearer."""
    asked = []

    async def token(request: web.Request) -> web.Response:
        asked.append((request.path, dict(await request.post())))
        return web.json_response({"access_token": "jwt.canary", "expires_in": 3599})

    app = web.Application()
    app.router.add_post("/{tenant}/oauth2/v2.0/token", token)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    authority = f"http://127.0.0.1:{runner.addresses[0][1]}/"
    provider = azure(authority=authority, scope="https://c.azure.us/.default", **ENTRA)
    transport = HttpTransport()
    sign = signing(AZURE)
    assert sign is not None

    calls = [await sign.prepare(provider, CALL, transport) for _ in range(2)]

    await transport.close()
    await runner.cleanup()
    assert [call.headers["Authorization"] for call in calls] == ["Bearer jwt.canary"] * 2
    assert calls[0].headers["Content-Type"] == "application/json"
    assert asked == [
        (
            "/t-1/oauth2/v2.0/token",
            {
                "grant_type": "client_credentials",
                "client_id": "c-1",
                "client_secret": "secret-canary-1",
                "scope": "https://c.azure.us/.default",
            },
        )
    ]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"tenant_id": "t", "client_id": "c"}, "lacks the options client_secret"),
        ({"client_secret": Secret("secret-1")}, "lacks the options tenant_id, client_id"),
        ({**ENTRA, "authority": "http://login.test"}, "must begin with https://"),
    ],
)
async def test_a_token_that_cannot_be_asked_for(options: dict[str, Any], told: str) -> None:
    """What is missing is said by name, and no secret goes out in clear text."""
    sign = signing(AZURE)
    assert sign is not None
    transport = HttpTransport()

    with pytest.raises(TransportError, match=told) as caught:
        await sign.prepare(azure(key=None, **options), CALL, transport)

    await transport.close()
    assert caught.value.fault is Fault.UNREACHABLE


def test_key_and_secret_are_hidden() -> None:
    """What an upstream quotes of the key or the client's secret is taken out."""
    redaction = redaction_of(azure())
    entra = redaction_of(azure(key=None, **ENTRA))

    assert redaction.text(f"no {KEY}") == "no ***"
    assert entra.text("no secret-canary-1") == "no ***"


def test_a_token_that_was_fetched_is_hidden() -> None:
    """It stands in no setting, only in the call; a signature of AWS hides nothing of its own."""
    provider = azure(key=None, **ENTRA)
    sent = replace(CALL, headers={"Authorization": "Bearer eyJ.token.canary", "Accept": "x"})
    redaction = redaction_for(provider, sent)

    assert redaction.text("bad eyJ.token.canary or secret-canary-1") == "bad *** or ***"
    assert redaction_for(provider, sent) is redaction
    assert redaction_for(provider, CALL) is redaction_of(provider)


FILTERED = {
    "error": {
        "inner_error": {"code": "ResponsibleAIPolicyViolation"},
        "code": "content_filter",
        "message": "The response was filtered due to the prompt triggering the policy.",
        "param": "prompt",
        "type": None,
        "status": 400,
    }
}


def test_a_filtered_prompt_is_the_clients_fault() -> None:
    """The error is relayed as Azure wrote it, and no upstream is asked but those named for it."""
    between, body = way("openai_chat", "openai_chat"), orjson.dumps(FILTERED)

    assert between.upstream.classify_error(400, body) is Outcome.CONTENT_POLICY
    assert between.error_body(400, body, "r") == body
    words = between.upstream.read_error(400, body)
    assert (words.code, words.param) == ("content_filter", "prompt")


FILTER_CHUNK = (
    b'data: {"choices":[],"created":0,"id":"","model":"","object":"","prompt_filter_results":'
    b'[{"prompt_index":0,"content_filter_results":{"hate":{"filtered":false,"severity":"safe"}}}]}'
    b"\n\n"
)
ANSWER = (
    b'data: {"choices":[{"content_filter_results":{},"delta":{"content":"Hello"},"finish_reason":'
    b'null,"index":0}],"created":1712,"id":"chatcmpl-9","model":"gpt-4o-2024-08-06","object":'
    b'"chat.completion.chunk","system_fingerprint":"fp_1"}\n\n'
)
ASYNC_FILTER = (
    b'data: {"choices":[{"content_filter_offsets":{"check_offset":44,"start_offset":44,'
    b'"end_offset":198},"content_filter_results":{"hate":{"filtered":false}},"finish_reason":null,'
    b'"index":0}],"created":0,"id":"","model":"","object":""}\n\n'
)
END = (
    b'data: {"choices":[{"content_filter_results":{},"delta":{},"finish_reason":"content_filter",'
    b'"index":0}],"created":1712,"id":"chatcmpl-9","model":"gpt-4o-2024-08-06","object":'
    b'"chat.completion.chunk"}\n\n'
)
USAGE = (
    b'data: {"choices":[],"created":1712,"id":"chatcmpl-9","model":"gpt-4o-2024-08-06","object":'
    b'"chat.completion.chunk","usage":{"prompt_tokens":7,"completion_tokens":1,"total_tokens":8}}'
    b"\n\n"
)
DONE = b"data: [DONE]\n\n"


def chat(**fields: Any) -> Any:
    body = {"model": "m", "messages": [], "stream": True, **fields}
    return client_format("openai_chat").parse_request(orjson.dumps(body))


def test_the_content_filters_chunks_are_relayed() -> None:
    """Chunks about the filter have no delta or no choices; they pass, and the answer is metered."""
    between = way("openai_chat", "openai_chat")
    stream = FILTER_CHUNK + ANSWER + ASYNC_FILTER + END + USAGE + DONE

    for cut in range(len(stream)):
        relayed, tail, reader, used = read_cut(between, chat(), stream, cut)
        assert relayed == FILTER_CHUNK + ANSWER + ASYNC_FILTER + END
        assert tail == DONE
        assert reader.reply.model == "gpt-4o-2024-08-06"
        assert reader.reply.finish_reason == "content_filter"
        assert used.final().units == {"input_uncached": 7, "output_text": 1}


@pytest.mark.parametrize("form", ["openai_chat", "openai_completions"])
def test_an_end_of_ours_is_told_as_the_answer_was(form: str) -> None:
    """What the last chunks repeat is that of the answer, not the filter's empty fields."""
    between = way(form, form)
    raw = orjson.dumps({"model": "m", "messages": [], "prompt": "a", "stream": True})

    reader = between.reader(between.client.parse_request(raw), meter(), created_s=1)
    reader.feed(FILTER_CHUNK + ANSWER.replace(b"chatcmpl-9", b"id-9"))

    end = orjson.loads(reader.end_softly().partition(b"\n\n")[0][6:])

    assert (end["id"], end["model"], end["created"]) == ("id-9", "gpt-4o-2024-08-06", 1712)
