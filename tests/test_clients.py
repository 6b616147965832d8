"""Clients that people use, unchanged, on real sockets: each says in JSON what it got.

They live in environments of their own (tests/clients), because their pins are not ours.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from fixtures_door import KEY, OpenDoor, RunningDoor, held, rule, settings
from fixtures_provider import HELLO, Talker

from proxy.cache_rules import CacheSettings
from routing.upstreams import Model, Upstream

PROGRAMS = Path(__file__).parent / "clients" / "programs"
SUNNY = "It is sunny."
PARIS = {"city": "Paris"}

Run = Callable[..., Awaitable[Any]]

pytestmark = [pytest.mark.slow(60), pytest.mark.timeout(90)]


@pytest.fixture
async def door(open_door: OpenDoor, talker: Talker) -> RunningDoor:
    """`m` at a server that is called compatible, `claude` at Anthropic's, `dear` for nobody."""
    made = settings(
        {"one": f"{talker.url}/v1", "two": f"{talker.url}/anthropic"},
        models={
            name: Model(name, (Upstream(provider, f"up-{name}", name),))
            for name, provider in (("m", "one"), ("claude", "two"), ("dear", "one"))
        },
        rules=(rule("*"), rule("up-dear", "500000")),
    )
    providers = {**made.providers, "two": replace(made.providers["two"], type="anthropic")}
    return await open_door(replace(made, providers=providers))


@pytest.fixture
def run(door: RunningDoor) -> Run:
    """Runs a program against the door, with nothing of this machine's environment."""

    async def start(*command: str | Path) -> bytes:
        kept = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "NO_PROXY": "127.0.0.1"}
        child = await asyncio.create_subprocess_exec(
            *command,
            door.url,
            KEY,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=kept,
        )
        try:
            said, complaints = await child.communicate()
        finally:
            if child.returncode is None:
                child.kill()
        assert child.returncode == 0, complaints.decode()[-2000:]
        return said

    return start


def last(said: bytes) -> Any:
    """What a program printed last: libraries greet before it."""
    return orjson.loads(said.strip().splitlines()[-1])


def settled(door: RunningDoor) -> bool:
    """Whether every exchange was billed and nothing is held any more."""
    return held(door) == [] and all(event.billable for event in door.events)


async def test_openai_python(need: Any, run: Run, door: RunningDoor) -> None:
    """Chat, completions, embeddings, responses, models; tools, schemas, pictures; its errors."""
    found = last(await run(need("clients"), PROGRAMS / "openai_python.py"))

    assert found == {
        "chat": HELLO,
        "chat_usage": 15,
        "chat_stream": HELLO,
        "chat_stream_usage": 15,
        "tools": ["weather", PARIS, PARIS, SUNNY],
        "structured": {"x": 1, "y": 2},
        "vision": "A picture.",
        "completions": HELLO,
        "embeddings": [2, 3],
        "responses": HELLO,
        "responses_stream": HELLO,
        "models": ["m", "claude", "dear"],
        "errors": [
            "NotFoundError 404 model_not_found",
            "BadRequestError 400 None",
            "BadRequestError 400 request_exceeds_budget",
            "AuthenticationError 401 invalid_api_key",
            "NotFoundError 404 model_not_found",
        ],
        "async": [HELLO, HELLO],
    }
    assert settled(door)


async def test_anthropic_python(need: Any, run: Run, door: RunningDoor) -> None:
    """The same words from a compatible server and from Anthropic's own; its errors."""
    found = last(await run(need("clients"), PROGRAMS / "anthropic_python.py"))

    both = {
        "text": HELLO,
        "stop": "end_turn",
        "usage": [True, 5],
        "stream": HELLO,
        "stream_usage": [True, 5],
        "tools": ["weather", PARIS, PARIS, "tool_use", SUNNY],
        "vision": "A picture.",
        "counted": True,
    }
    assert found == {
        "m": both,
        "claude": both,
        "errors": [
            "NotFoundError 404 not_found_error",
            "BadRequestError 400 invalid_request_error",
            "BadRequestError 400 invalid_request_error",
            "AuthenticationError 401 authentication_error",
        ],
        "async": HELLO,
    }
    assert {event.units["output_text"] for event in door.events} == {5}
    assert settled(door)


async def test_langchain(need: Any, run: Run, door: RunningDoor) -> None:
    """Both of its chat models, structured output, embeddings."""
    found = last(await run(need("clients"), PROGRAMS / "langchain_python.py"))

    both = {"text": HELLO, "stream": HELLO, "usage": 5, "tools": ["weather", PARIS]}
    assert found == {
        "openai": both,
        "anthropic": both,
        "structured": {"x": 1, "y": 2},
        "async": HELLO,
        "embeddings": 3,
    }
    assert settled(door)


async def test_llama_index(need: Any, run: Run, door: RunningDoor) -> None:
    found = last(await run(need("clients"), PROGRAMS / "llama_index_python.py"))

    assert found == {"chat": HELLO, "stream": HELLO}
    assert settled(door)


async def test_litellm(need: Any, run: Run, door: RunningDoor) -> None:
    """As a client of ours, in both formats, whole and streamed, with tools."""
    found = last(await run(need("clients"), PROGRAMS / "litellm_python.py"))

    assert found == {
        "chat": HELLO,
        "stream": HELLO,
        "embeddings": 1,
        "anthropic": HELLO,
        "tools": ["weather", PARIS],
        "anthropic_tools": ["weather", PARIS],
        "error": 404,
    }
    assert settled(door)


async def test_openai_node(need: Any, run: Run, door: RunningDoor) -> None:
    need("node-clients")
    found = last(await run("node", PROGRAMS / "openai_node.mjs"))

    assert found == {
        "chat": HELLO,
        "stream": HELLO,
        "tools": PARIS,
        "responses": HELLO,
        "embeddings": 3,
        "error": ["NotFoundError", 404, "model_not_found"],
    }
    assert settled(door)


async def test_anthropic_node(need: Any, run: Run, door: RunningDoor) -> None:
    need("node-clients")
    found = last(await run("node", PROGRAMS / "anthropic_node.mjs"))

    assert found == {"text": HELLO, "stream": HELLO, "error": ["NotFoundError", 404]}
    assert settled(door)


async def test_vercels_ai_sdk(need: Any, run: Run, door: RunningDoor) -> None:
    """Over chat, responses and messages: text, streams, a tool in two steps, an object."""
    need("node-clients")
    found = last(await run("node", PROGRAMS / "ai_sdk_node.mjs"))

    each = {"text": HELLO, "stream": HELLO, "usage": 5, "tools": SUNNY}
    assert found == {
        "chat": each,
        "responses": each,
        "messages": each,
        "object": {"x": 1, "y": 2},
    }
    assert settled(door)


async def test_curl(need: Any, run: Run, door: RunningDoor) -> None:
    need("curl")
    said = await run("sh", PROGRAMS / "with_curl.sh")

    assert said.count(b"Hello there.") == 3  # whole, in all of three formats
    assert b"data: [DONE]" in said
    assert settled(door)


async def test_openai_python_reads_what_was_kept(
    need: Any, run: Run, open_door: OpenDoor, door: RunningDoor
) -> None:
    """A stream that is given again looks like the first one, also for a key of the client's."""
    kept = await open_door(replace(door.door.settings, cache=CacheSettings(enabled=True)))
    door.url = kept.url

    found = last(await run(need("clients"), PROGRAMS / "openai_kept.py"))

    assert found == {
        "first": ["miss", HELLO, "15"],
        "second": ["hit", HELLO, "15"],
        "keyed": [["bypass", HELLO, "15"], ["true", HELLO, "15"]],
        "refused": "504 not_cached",
    }
