"""The simulator is a provider: its good answers, and each of its failures, over real sockets."""

import asyncio
import base64
import contextlib
import json
import os
import re
import socket
import sys
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from metering.tokenizer import load_encoding
from proxy import simulator
from proxy.simulator import create_simulator_app
from proxy.simulator_faults import BEHAVIOURS

QUESTION = {"messages": [{"role": "user", "content": "What is a weir?"}]}
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
        },
    },
}


@pytest.fixture
async def ask():
    """A client of a running simulator that answers without delays."""
    runner = web.AppRunner(create_simulator_app(0.0, journal=True), shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:

        @contextlib.asynccontextmanager
        async def post(model, **fields):
            body = QUESTION | {"model": model} | fields
            async with session.post("/v1/chat/completions", json=body) as response:
                yield response

        post.session = session
        yield post
    await runner.cleanup()


async def streamed(ask, model, **fields):
    """The data of every event, decoded but for [DONE]."""
    async with ask(model, stream=True, **fields) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        text = (await response.read()).decode()
    data = re.findall(r"^data: (.*?)\r?$", text, re.MULTILINE)
    return [each if each == "[DONE]" else json.loads(each) for each in data]


def content(chunks):
    return "".join(
        choice["delta"].get("content") or ""
        for chunk in chunks
        if chunk != "[DONE]"
        for choice in chunk["choices"]
        if choice["index"] == 0
    )


def usages(chunks):
    return [chunk["usage"] for chunk in chunks if chunk != "[DONE]" and chunk.get("usage")]


async def test_the_same_question_gets_the_same_answer(ask):
    """Streamed or whole, the words depend on the prompt and on nothing else."""
    async with ask("demo") as response:
        whole = await response.json()
    chunks = await streamed(ask, "demo")
    async with ask("demo", messages=[{"role": "user", "content": "Else?"}]) as response:
        other = await response.json()

    said = whole["choices"][0]["message"]["content"]
    assert "What is a weir?" in said
    assert content(chunks) == said
    assert other["choices"][0]["message"]["content"] != said
    assert chunks[-1] == "[DONE]"


async def test_usage_is_what_the_tokenizer_counts(ask):
    """The completion tokens are those of the text, in the model's encoding."""
    async with ask("demo") as response:
        body = await response.json()

    said = body["choices"][0]["message"]["content"]
    usage = body["usage"]
    assert usage["completion_tokens"] == len(load_encoding("o200k_base").encode_ordinary(said))
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]


async def test_a_stream_reports_usage_only_when_asked(ask):
    """As OpenAI: null on every chunk, then one chunk without choices; else no such field."""
    asked = await streamed(ask, "demo", stream_options={"include_usage": True})
    unasked = await streamed(ask, "demo")

    assert asked[-2]["choices"] == []
    assert asked[-2]["usage"]["completion_tokens"] > 0
    assert all(chunk["usage"] is None for chunk in asked[:-2])
    assert all("usage" not in chunk for chunk in unasked[:-1])


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
async def test_a_limit_ends_the_answer(ask, name):
    """At the limit the finish reason is `length` and usage is the limit."""
    async with ask("demo", **{name: 5}) as response:
        body = await response.json()

    assert body["choices"][0]["finish_reason"] == "length"
    assert body["usage"]["completion_tokens"] == 5


async def test_n_choices_share_one_stream(ask):
    """Every choice has its index, its own text and its own end."""
    chunks = await streamed(ask, "demo", n=3)

    ends = [
        choice["index"]
        for chunk in chunks[:-1]
        for choice in chunk["choices"]
        if choice["finish_reason"]
    ]
    assert ends == [0, 1, 2]


async def test_a_required_tool_is_called(ask):
    """Arguments come in pieces and follow the schema."""
    chunks = await streamed(ask, "demo", tools=[WEATHER], tool_choice="required")

    calls = [
        call
        for chunk in chunks[:-1]
        for choice in chunk["choices"]
        for call in choice["delta"].get("tool_calls", [])
    ]
    assert calls[0]["function"]["name"] == "weather"
    assert len(calls) > 3
    arguments = json.loads("".join(call["function"]["arguments"] for call in calls))
    assert arguments == {"city": "What is a weir?", "days": 1}
    assert chunks[-2]["choices"][0]["finish_reason"] == "tool_calls"


@pytest.mark.parametrize(
    ("model", "choice", "reason"),
    [
        ("demo", "auto", "stop"),
        ("demo", {"type": "function", "function": {"name": "weather"}}, "tool_calls"),
        ("demo-tools", "auto", "tool_calls"),
        ("demo-tools", "none", "stop"),
    ],
)
async def test_when_tools_are_called(ask, model, choice, reason):
    """Required, named, or by the model whose habit it is; never when forbidden."""
    async with ask(model, tools=[WEATHER], tool_choice=choice) as response:
        body = await response.json()

    assert body["choices"][0]["finish_reason"] == reason


@pytest.mark.parametrize(
    ("model", "status", "code"),
    [
        ("demo-400", 400, "invalid_value"),
        ("demo-401", 401, "invalid_api_key"),
        ("demo-429", 429, "rate_limit_exceeded"),
        ("demo-quota", 429, "insufficient_quota"),
        ("demo-500", 500, None),
        ("demo-503", 503, "server_is_overloaded"),
        ("demo-unheard-of", 404, "model_not_found"),
    ],
)
async def test_errors_have_the_shape_of_openai(ask, model, status, code):
    """All four fields are there, and a request id."""
    async with ask(model, stream=True) as response:
        body = await response.json()

    assert response.status == status
    assert set(body["error"]) == {"message", "type", "param", "code"}
    assert body["error"]["code"] == code
    assert response.headers["x-request-id"].startswith("req_")
    assert ("retry-after" in response.headers) == (model == "demo-429")


@pytest.mark.parametrize("fields", [{"messages": []}, {"n": 0}, {"max_tokens": "many"}])
async def test_nonsense_is_refused(ask, fields):
    """What OpenAI would refuse is refused, naming the parameter."""
    async with ask("demo", **fields) as response:
        body = await response.json()

    assert response.status == 400
    assert body["error"]["param"] in fields


async def test_a_cut_stream_is_an_error_after_some_data(ask):
    """demo-cut: the client sees some events, then a broken connection."""
    read = bytearray()

    async def read_all():
        async with ask("demo-cut", stream=True) as response:
            async for data in response.content.iter_any():
                read.extend(data)

    with pytest.raises(aiohttp.ClientError):
        await read_all()

    assert read.count(b"data: ") == 5
    assert b"[DONE]" not in read


async def test_a_closed_stream_looks_complete(ask):
    """demo-eof: no error at all, only the end is missing."""
    chunks = await streamed(ask, "demo-eof?after=3")

    assert len(chunks) == 3
    assert "[DONE]" not in chunks


async def test_a_cut_body_breaks_its_promise(ask):
    """demo-cut without a stream: the length says more than what came."""
    with pytest.raises(aiohttp.ClientError):
        async with ask("demo-cut") as response:
            await response.read()


async def test_a_stalled_stream_says_nothing_more(ask):
    """demo-stall: the events stop and the connection stays."""
    async with ask("demo-stall", stream=True) as response:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await response.read()


async def test_garbage_is_no_http(ask):
    """demo-garbage cannot be parsed; demo-not-json can, but only as HTTP."""
    with pytest.raises(aiohttp.ClientError):
        async with ask("demo-garbage"):
            pass
    async with ask("demo-not-json") as response:
        assert response.status == 200
        with pytest.raises(aiohttp.ContentTypeError):
            await response.json()


async def test_the_end_may_be_missing(ask):
    """demo-no-done ends without [DONE], after usage."""
    chunks = await streamed(ask, "demo-no-done", stream_options={"include_usage": True})

    assert chunks[-1]["usage"]["completion_tokens"] > 0


async def test_usage_may_never_come(ask):
    """demo-no-usage leaves it out, asked or not."""
    chunks = await streamed(ask, "demo-no-usage", stream_options={"include_usage": True})
    async with ask("demo-no-usage") as response:
        body = await response.json()

    assert usages(chunks) == []
    assert "usage" not in body


async def test_usage_may_come_early(ask):
    """demo-usage-early: on a chunk that has content, and only there."""
    chunks = await streamed(ask, "demo-usage-early")

    [carrier] = [chunk for chunk in chunks[:-1] if chunk.get("usage")]
    assert carrier["choices"][0]["delta"]["content"]


async def test_usage_may_grow(ask):
    """demo-usage-cumulative: on every chunk, never falling, true at the end."""
    async with ask("demo") as response:
        true = (await response.json())["usage"]
    chunks = await streamed(ask, "demo-usage-cumulative")

    counts = [usage["completion_tokens"] for usage in usages(chunks)]
    assert len(counts) == len(chunks) - 1
    assert counts == sorted(counts)
    assert usages(chunks)[-1] == true


async def test_usage_may_come_in_halves(ask):
    """demo-usage-split: the input first, the output last."""
    first, last = usages(await streamed(ask, "demo-usage-split"))

    assert (first["prompt_tokens"] > 0, first["completion_tokens"]) == (True, 0)
    assert (last["prompt_tokens"], last["completion_tokens"] > 0) == (0, True)


@pytest.mark.parametrize(
    ("model", "holds"),
    [
        ("demo-usage-zero", lambda usage: usage["total_tokens"] == 0),
        ("demo-usage-negative", lambda usage: usage["completion_tokens"] < 0),
        ("demo-usage-huge", lambda usage: usage["completion_tokens"] == 10**15),
        ("demo-usage-lies", lambda usage: usage["prompt_tokens"] < 0),
        ("demo-usage-text", lambda usage: isinstance(usage["completion_tokens"], str)),
    ],
)
async def test_usage_may_be_wrong(ask, model, holds):
    """Whole or streamed, the provider claims what it claims."""
    async with ask(model) as response:
        body = await response.json()
    [usage] = usages(await streamed(ask, model, stream_options={"include_usage": True}))

    assert holds(body["usage"])
    assert holds(usage)


@pytest.mark.parametrize("model", ["demo-crlf", "demo-split"])
async def test_a_dialect_says_the_same(ask, model):
    """CRLF, comments and odd cuts change the bytes and nothing that they mean."""
    plain = await streamed(ask, "demo")
    dialect = await streamed(ask, model)

    assert content(dialect) == content(plain)
    assert dialect[-1] == "[DONE]"


async def test_details_of_usage(ask):
    """Hidden reasoning is part of the output, cached input part of the input."""
    async with ask("demo-reasoning") as response:
        reasoning = (await response.json())["usage"]
    async with ask("demo-cached") as response:
        cached = (await response.json())["usage"]

    assert reasoning["completion_tokens_details"]["reasoning_tokens"] == 64
    assert reasoning["completion_tokens"] > 64
    assert cached["prompt_tokens_details"]["cached_tokens"] == cached["prompt_tokens"] // 2


async def test_options_in_the_name(ask):
    """`tokens` sets the length; the model in the answer is the one that was asked for."""
    async with ask("demo?tokens=300") as response:
        body = await response.json()

    assert body["usage"]["completion_tokens"] == 300
    assert body["model"] == "demo?tokens=300"


async def test_every_model_is_listed_and_documented(ask):
    """/v1/models and the table in the docstring name exactly what there is."""
    async with ask.session.get("/v1/models") as response:
        listed = [model["id"] for model in (await response.json())["data"]]
    documented = re.findall(r"^(demo\S*) ", simulator.__doc__, re.MULTILINE)

    assert listed == list(BEHAVIOURS)
    assert sorted(documented) == sorted(BEHAVIOURS)


async def test_the_journal_keeps_what_came(ask):
    """Tests read back the headers and the very bytes of each request."""
    async with ask("demo", user="ü"):
        pass
    async with ask.session.get("/journal") as response:
        [entry] = (await response.json())["requests"]

    assert entry["path"] == "/v1/chat/completions"
    assert "Content-Type" in dict(entry["headers"])
    assert json.loads(base64.b64decode(entry["body_base64"]))["user"] == "ü"


async def test_it_serves_as_a_child_process():
    """On a socket that it inherits, with real delays, until SIGTERM; then it exits with 0."""
    program = (
        "import socket, sys; from proxy.simulator import serve_simulator; "
        "sys.exit(serve_simulator(socket.socket(fileno=int(sys.argv[1]))))"
    )
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/v1/chat/completions"
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", program, str(listening.fileno())),
            pass_fds=[listening.fileno()],
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        )
    body = QUESTION | {"model": "demo-mini", "stream": True, "max_tokens": 3}
    async with aiohttp.ClientSession() as session, session.post(url, json=body) as response:
        text = await response.text()
    process.terminate()

    assert text.endswith("data: [DONE]\n\n")
    assert await process.wait() == 0
