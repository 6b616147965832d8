"""OpenAI's own client on the paths that are relayed as they are."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import web
from fixtures_door import KEY, OpenDoor, held, rule, tenant, usd
from passthrough_samples import MP3, passing_settings, terms

from proxy.passthrough_rules import Terms
from routing.upstreams import Model, Upstream

PROGRAM = Path(__file__).parent / "clients" / "programs" / "openai_paths.py"

pytestmark = [pytest.mark.slow(30), pytest.mark.timeout(60)]

FILE = {
    "id": "file-1",
    "object": "file",
    "filename": "rows.jsonl",
    "bytes": 8,
    "created_at": 1,
    "purpose": "batch",
    "status": "processed",
}
FOREIGN = {**FILE, "id": "file-foreign"}
BATCH = {
    "id": "batch_1",
    "object": "batch",
    "status": "in_progress",
    "input_file_id": "file-1",
    "endpoint": "/v1/chat/completions",
    "completion_window": "24h",
    "created_at": 1,
}
ANSWERS: dict[tuple[str, str], Any] = {
    ("POST", "images/generations"): {"created": 1, "data": [{"url": "a"}, {"url": "b"}]},
    ("POST", "images/edits"): {"created": 1, "data": [{"url": "c"}]},
    ("POST", "audio/speech"): MP3,
    ("POST", "audio/transcriptions"): {
        "text": "hello",
        "usage": {"type": "duration", "seconds": 2},
    },
    ("POST", "moderations"): {"id": "m", "model": "x", "results": [{"flagged": False}]},
    ("POST", "files"): FILE,
    ("GET", "files"): {"object": "list", "data": [FOREIGN, FILE], "has_more": False},
    ("GET", "files/file-1"): FILE,
    ("GET", "files/file-1/content"): b'{"a":1}\n',
    ("DELETE", "files/file-1"): {"id": "file-1", "object": "file", "deleted": True},
    ("POST", "batches"): BATCH,
    ("GET", "batches/batch_1"): BATCH,
}


@pytest.fixture
async def provider() -> AsyncIterator[str]:
    """Answers as OpenAI does, with what stands above."""

    async def talk(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        assert (await socket.receive_json())["type"] == "session.update"
        await socket.send_json({"type": "session.updated", "event_id": "e1", "session": {}})
        assert (await socket.receive_json())["type"] == "response.create"
        usage = {"input_tokens": 10, "output_tokens": 20}
        await socket.send_json(
            {"type": "response.done", "event_id": "e2", "response": {"usage": usage}}
        )
        await socket.receive()
        return socket

    async def serve(request: web.Request) -> web.StreamResponse:
        if request.match_info["path"] == "realtime":
            return await talk(request)
        await request.read()
        answer = ANSWERS[request.method, request.match_info["path"]]
        if isinstance(answer, bytes):
            return web.Response(body=answer, content_type="application/octet-stream")
        return web.Response(body=orjson.dumps(answer), content_type="application/json")

    app = web.Application()
    app.router.add_route("*", "/v1/{path:.*}", serve)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    await runner.cleanup()


async def test_openai_python_on_other_paths(need: Any, open_door: OpenDoor, provider: str) -> None:
    """Images, audio, files, batches under a money cap; its errors are the client's own classes."""
    configured = passing_settings(
        provider,
        who=tenant(),
        models={"art": Model("art", (Upstream("one", "dall-e-3", "art"),))},
        rules=(rule("gpt-realtime"),),
        passthrough=terms(
            terms={
                "images": Terms(usd("0.25"), usd("0.04")),
                "batches": Terms(usd("2")),
                "realtime": Terms(usd("0.10")),
            }
        ),
    )
    door = await open_door(configured)
    child = await asyncio.create_subprocess_exec(
        need("clients"),
        PROGRAM,
        door.url,
        KEY,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={"PATH": "/usr/bin", "HOME": "/nonexistent", "NO_PROXY": "127.0.0.1"},
    )
    said, complaints = await child.communicate()

    assert child.returncode == 0, complaints.decode()[-2000:]
    assert orjson.loads(said) == {
        "images": ["a", "b"],
        "edited": 1,
        "speech": len(MP3),
        "heard": "hello",
        "flagged": False,
        "file": "rows.jsonl",
        "content": '{"a":1}\n',
        "files": [True],
        "batch": "in_progress",
        "deleted": True,
        "realtime": ["session.updated", "response.done"],
        "errors": [
            "NotFoundError 404 object_not_found",
            "NotFoundError 404 object_not_found",
            "PermissionDeniedError 403 path_not_held",
            "PermissionDeniedError 403 path_not_allowed",
        ],
    }
    assert held(door) == []
    flat_nano = usd("0.12") + 3 * usd("0.50") + usd("2")
    assert sum(made.admission_nano for made in door.events) == flat_nano + 90_000
