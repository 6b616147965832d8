"""The simulator's completions and embeddings, as a client on a socket sees them."""

from __future__ import annotations

import base64
import json
import re
import struct
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from metering.tokenizer import load_encoding
from proxy.simulator import create_simulator_app
from proxy.simulator_texts import SURFACES

PROMPT = "What is a weir?"


@pytest.fixture
async def post():
    """Posts to a running simulator without delays; gives status and text."""
    runner = web.AppRunner(create_simulator_app(0.0), shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    async with aiohttp.ClientSession(f"http://127.0.0.1:{runner.addresses[0][1]}") as session:

        async def ask(path: str, **body: Any) -> tuple[int, str]:
            async with session.post(f"/v1/{path}", json={"model": "demo", **body}) as response:
                return response.status, await response.text()

        yield ask
    await runner.cleanup()


def chunks(text: str) -> list[Any]:
    found = re.findall(r"^data: (.*?)\r?$", text, re.MULTILINE)
    return [each if each == "[DONE]" else json.loads(each) for each in found]


async def test_a_completion_is_sixteen_tokens_unless_more_are_asked_for(post):
    """As OpenAI documents, and counted as they are."""
    _, short = await post("completions", prompt=PROMPT)
    _, long = await post("completions", prompt=PROMPT, max_tokens=1000)

    assert json.loads(short)["object"] == "text_completion"
    assert json.loads(short)["usage"]["completion_tokens"] == 16
    assert json.loads(short)["choices"][0]["finish_reason"] == "length"
    text = json.loads(long)["choices"][0]["text"]
    encoding = load_encoding("o200k_base")
    assert json.loads(long)["usage"]["completion_tokens"] == len(encoding.encode_ordinary(text))
    assert json.loads(long)["usage"]["prompt_tokens"] == len(encoding.encode_ordinary(PROMPT))
    assert json.loads(long)["choices"][0]["finish_reason"] == "stop"


async def test_a_streamed_completion_says_the_same(post):
    """Chunks of text, their usage where it is asked for, and the end."""
    _, whole = await post("completions", prompt=PROMPT, max_tokens=50)
    options = {"include_usage": True}
    _, text = await post(
        "completions", prompt=PROMPT, max_tokens=50, stream=True, stream_options=options
    )

    *said, usage, done = chunks(text)

    assert done == "[DONE]"
    assert usage["usage"]["completion_tokens"] == 50
    assert {each["object"] for each in said} == {"text_completion"}
    joined = "".join(choice["text"] for each in said for choice in each["choices"])
    assert joined == json.loads(whole)["choices"][0]["text"]


@pytest.mark.parametrize(
    ("prompt", "tokens"), [(["a", "b"], 2), ([[1, 2, 3], [4]], 4), ([1, 2, 3], 3)], ids=str
)
async def test_prompts_of_every_shape(post, prompt, tokens):
    """Each prompt has its choices; tokens are counted by their number."""
    _, text = await post("completions", prompt=prompt, n=2)

    answer = json.loads(text)
    assert answer["usage"]["prompt_tokens"] == tokens
    number = 1 if isinstance(prompt[0], int) else len(prompt)
    assert [each["index"] for each in answer["choices"]] == list(range(2 * number))


async def test_an_echo_is_no_output(post):
    """The prompt comes first and is not counted; nothing may follow it."""
    _, text = await post("completions", prompt=PROMPT, echo=True, max_tokens=0)

    answer = json.loads(text)
    assert answer["choices"][0]["text"] == PROMPT
    assert answer["usage"]["completion_tokens"] == 0


async def test_a_text_has_one_vector(post):
    """The same text, the same numbers, in either form; another text, others."""
    _, plain = await post("embeddings", input=["weir", "dam", "weir"], dimensions=40)
    _, packed = await post("embeddings", input="weir", dimensions=40, encoding_format="base64")

    first, second, third = [each["embedding"] for each in json.loads(plain)["data"]]
    raw = base64.b64decode(json.loads(packed)["data"][0]["embedding"])
    assert first == third != second
    assert list(struct.unpack("<40f", raw)) == first
    assert json.loads(plain)["usage"] == {"prompt_tokens": 5, "total_tokens": 5}


@pytest.mark.parametrize(
    ("path", "fields", "param"),
    [
        ("completions", {}, "prompt"),
        ("completions", {"prompt": [{}]}, "prompt"),
        ("completions", {"prompt": [2**31]}, "prompt"),
        ("completions", {"prompt": [2**70]}, "prompt"),
        ("completions", {"prompt": "a", "n": 0}, "n"),
        ("completions", {"prompt": "a", "max_tokens": -1}, "max_tokens"),
        ("embeddings", {"input": []}, "input"),
        ("embeddings", {"input": "a", "dimensions": 0}, "dimensions"),
        ("embeddings", {"input": "a", "encoding_format": "int8"}, "encoding_format"),
    ],
)
async def test_nonsense_is_refused(post, path, fields, param):
    """In OpenAI's shape, with the field's name."""
    status, text = await post(path, **fields)

    assert status == 400
    assert json.loads(text)["error"]["param"] == param


async def test_faults_are_those_of_chats(post):
    """The model's name decides, whatever the path."""
    for path, fields in (("completions", {"prompt": "a"}), ("embeddings", {"input": "a"})):
        status, _ = await post(path, **{**fields, "model": "demo-429"})
        assert status == 429
        _, text = await post(path, **{**fields, "model": "demo-no-usage"})
        assert "usage" not in json.loads(text)
        _, text = await post(path, **{**fields, "model": "demo-usage-lies"})
        assert json.loads(text)["usage"]["prompt_tokens"] < 0


def test_embeddings_do_not_stream():
    """Only they have no chunks."""
    assert [path for path, each in SURFACES.items() if each.chunks is None] == ["/v1/embeddings"]
