"""A provider in the package: a real HTTP server that speaks OpenAI's API, and its failures.

It answers without a key and without the network, so that the first curl works, demonstrations
need no account, and tests can meet every failure that providers have been seen to show. Answers
depend on the prompt alone; usage is counted with the real tokenizer. `demo-` names that are not
in this table are 404; any other name answers as `demo` does. Chats, legacy completions and
embeddings are answered (`proxy.simulator_texts`).

======================  ==========================================================================
model                   what it does
======================  ==========================================================================
demo                    answers after 20 ms, a token every 10 ms
demo-mini               the same, twice as fast
demo-slow               1 s before the first byte, 50 ms per chunk
demo-400                400 with an error in OpenAI's shape
demo-401                401 invalid_api_key
demo-429                429 rate_limit_exceeded with Retry-After: 1
demo-quota              429 insufficient_quota
demo-500                500 server_error
demo-503                503 server_is_overloaded
demo-cut                the connection is reset in mid-stream (or before the first byte)
demo-eof                the stream ends with a FIN in the middle; without chunks, it looks complete
demo-stall              stops sending in mid-stream and keeps the connection
demo-no-done            ends properly, but for the missing [DONE]
demo-no-usage           never reports usage
demo-usage-early        reports usage on the last content chunk, asked or not
demo-usage-cumulative   reports usage so far on every chunk
demo-usage-split        reports input on the first chunk, output on the last
demo-usage-zero         reports zero for everything
demo-usage-negative     reports a negative output
demo-usage-huge         reports 10^15 output tokens
demo-usage-lies         reports a negative input and 10^18 output tokens
demo-usage-text         reports its numbers as strings
demo-garbage            answers with something that is not HTTP
demo-not-json           answers 200 with something that is not JSON
demo-crlf               ends lines with CRLF and sends comments
demo-split              writes a few bytes at a time, cutting lines and characters
demo-reasoning          counts 64 hidden reasoning tokens
demo-cached             counts half of the input as cached
demo-tools              calls the first tool whenever it is given any
======================  ==========================================================================

Options follow a question mark: see `proxy.simulator_faults`. Nothing here reads our settings.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import secrets
import signal
import socket
import struct
from collections import deque
from collections.abc import Iterable
from itertools import cycle
from typing import Any

import orjson
from aiohttp import web

from metering.clock import monotonic_s, now_ms
from metering.tokenizer import encoding_name, load_encoding
from proxy.simulator_answers import Answer, BadRequestError, Json, tier_of
from proxy.simulator_chunks import Envelope, encoded, event
from proxy.simulator_faults import BEHAVIOURS, Behaviour, ErrorAnswer, behaviour_of
from proxy.simulator_texts import SURFACES

JOURNAL_MAX = 10_000
BODY_BYTES_MAX = 64 * 1024 * 1024
THREAD_ABOVE_BYTES = 64 * 1024
"""A longer request is counted in a thread: the streams of others go on meanwhile."""
STALL_S = 600.0
SHUTDOWN_S = 1.0

DELAY_SCALE = web.AppKey("delay_scale", float)
JOURNAL = web.AppKey("journal", deque[Json])

_SPLIT_SIZES = (1, 7, 3, 11, 2, 23, 5)
_GONE_POLL_S = 0.05


def create_simulator_app(delay_scale: float = 1.0, *, journal: bool = False) -> web.Application:
    """The server as an application; `delay_scale` 0 makes it answer at once.

    With `journal`, GET /journal lists what was received, headers and bodies included.
    """
    app = web.Application(client_max_size=BODY_BYTES_MAX)
    app[DELAY_SCALE] = delay_scale
    for path in SURFACES:
        app.router.add_post(path, _answered)
    app.router.add_get("/v1/models", _models)
    app.router.add_get("/v1/models/{model}", _model)
    if journal:
        app[JOURNAL] = deque(maxlen=JOURNAL_MAX)
        app.router.add_get("/journal", _read_journal)
    return app


def serve_simulator(sock: socket.socket) -> int:
    """Serve on a listening socket until SIGTERM; the main function of a child process."""
    asyncio.run(_serve(sock))
    return 0


async def _serve(sock: socket.socket) -> None:
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    runner = web.AppRunner(
        create_simulator_app(), access_log=None, shutdown_timeout=SHUTDOWN_S, keepalive_timeout=75
    )
    await runner.setup()
    try:
        await web.SockSite(runner, sock).start()
        await stopping.wait()
    finally:
        await runner.cleanup()


async def _answered(request: web.Request) -> web.StreamResponse:
    surface = SURFACES[request.path]
    started_s = monotonic_s()
    raw = await request.read()
    _note(request, raw)
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return _bad_request("We could not parse the JSON body of your request.", None)
    if not isinstance(body, dict) or not isinstance(body.get("model"), str):
        return _bad_request("you must provide a model parameter", "model")
    behaviour = behaviour_of(body["model"])
    if behaviour is None:
        return _not_found(body["model"])
    await _pause(request, behaviour.first_ms)
    if behaviour.error is not None:
        return _error(behaviour.error)
    if behaviour.garbage is not None:
        return _garbage(request, behaviour)
    try:
        encoding, tier = load_encoding(encoding_name(body["model"])), tier_of(body)
        if len(raw) > THREAD_ABOVE_BYTES:
            said = await asyncio.to_thread(surface.answer, body, behaviour, encoding)
        else:
            said = surface.answer(body, behaviour, encoding)
    except BadRequestError as wrong:
        return _bad_request(str(wrong), wrong.param)
    answer_id = f"{surface.id_prefix}{secrets.token_hex(12)}"
    envelope = Envelope(answer_id, now_ms() // 1000, body["model"], tier)
    headers = _headers(said, started_s)
    if body.get("stream") and surface.chunks is not None:
        options = body.get("stream_options") or {}
        asked = isinstance(options, dict) and options.get("include_usage") is True
        made = surface.chunks(said, envelope, include_usage=asked)
        return await _stream(request, said, made, headers)
    return await _whole(request, said, surface.whole(said, envelope), headers)


async def _whole(
    request: web.Request, said: Answer, written: Json, headers: dict[str, str]
) -> web.StreamResponse:
    body = orjson.dumps(written)
    end = said.behaviour.end
    if end in ("done", "no_done"):
        return web.Response(body=body, headers=headers, content_type="application/json")
    # A body cut short: half of it, under a length that promises all (or none, for `eof`).
    head = _raw_head(headers | {"content-type": "application/json"})
    length = b"" if end == "eof" else b"content-length: %d\r\n" % len(body)
    return await _break_off(request, head + length + b"\r\n" + body[: len(body) // 2], end)


async def _stream(
    request: web.Request, said: Answer, made: Iterable[Json], headers: dict[str, str]
) -> web.StreamResponse:
    behaviour = said.behaviour
    headers = headers | {"content-type": "text/event-stream; charset=utf-8"}
    events = [encoded(each, behaviour.newline) for each in made]
    if behaviour.end == "eof":
        head = _raw_head(headers) + b"\r\n"
        return await _break_off(request, head + b"".join(events[: behaviour.after]), "eof")
    response = web.StreamResponse(headers=headers)
    response.enable_chunked_encoding()
    await response.prepare(request)
    if behaviour.end in ("reset", "stall"):
        events = events[: behaviour.after]
    elif behaviour.end == "done":
        events.append(event(b"[DONE]", behaviour.newline))
    with contextlib.suppress(ConnectionResetError):  # the client has left: nothing to do
        await _write_all(request, response, events, behaviour)
        if behaviour.end in ("reset", "stall"):
            return await _break_off(request, b"", behaviour.end, response)
        await response.write_eof()
    return response


async def _write_all(
    request: web.Request, response: web.StreamResponse, events: list[bytes], behaviour: Behaviour
) -> None:
    if behaviour.comments:
        await response.write(f": simulator{behaviour.newline * 2}".encode())
    sizes = cycle(_SPLIT_SIZES)
    for each in events:
        data = each
        while behaviour.is_split and data:
            size = next(sizes)
            await response.write(data[:size])
            data = data[size:]
            await asyncio.sleep(0)
        if data:
            await response.write(data)
        await _pause(request, behaviour.chunk_ms)


async def _break_off(
    request: web.Request, data: bytes, end: str, response: web.StreamResponse | None = None
) -> web.StreamResponse:
    """Send `data` past the HTTP layer, then end the connection as `end` says."""
    transport = request.transport
    if transport is not None:
        if data:
            transport.write(data)
        if end == "stall":
            await _until_gone(request)
        elif end == "reset":
            await asyncio.sleep(_GONE_POLL_S)  # what was written leaves before the reset
            raw = transport.get_extra_info("socket")
            # Lingering for zero seconds turns the close into a reset.
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            transport.abort()
        transport.close()
    return response if response is not None else web.Response()


async def _until_gone(request: web.Request) -> None:
    deadline_s = monotonic_s() + STALL_S
    while request.transport is not None and not request.transport.is_closing():
        if monotonic_s() > deadline_s:
            return
        await asyncio.sleep(_GONE_POLL_S)


def _garbage(request: web.Request, behaviour: Behaviour) -> web.Response:
    if behaviour.garbage == "json":
        return web.Response(text="<html><body>It works!</body></html>", content_type="text/html")
    if request.transport is not None:
        request.transport.write(b"SSH-2.0-OpenSSH_9.2\r\n")
        request.transport.close()
    return web.Response()


async def _models(_request: web.Request) -> web.Response:
    return _json({"object": "list", "data": [_card(name) for name in BEHAVIOURS]})


async def _model(request: web.Request) -> web.Response:
    name = request.match_info["model"]
    return _json(_card(name)) if behaviour_of(name) is not None else _not_found(name)


async def _read_journal(request: web.Request) -> web.Response:
    received = request.app[JOURNAL]
    return _json({"requests": list(received)})


def _note(request: web.Request, body: bytes) -> None:
    if JOURNAL not in request.app:
        return
    headers = [[each.decode("latin-1") for each in pair] for pair in request.raw_headers]
    request.app[JOURNAL].append(
        {
            "method": request.method,
            "path": request.path_qs,
            "headers": headers,
            "body_base64": base64.b64encode(body).decode(),
        }
    )


async def _pause(request: web.Request, milliseconds: int) -> None:
    seconds = milliseconds / 1000 * request.app[DELAY_SCALE]
    if seconds > 0:
        await asyncio.sleep(seconds)


def _headers(said: Answer, started_s: float) -> dict[str, str]:
    return {
        "x-request-id": f"req_{secrets.token_hex(16)}",
        "openai-organization": "simulator",
        "openai-version": "2020-10-01",
        "openai-processing-ms": str(round((monotonic_s() - started_s) * 1000)),
        "x-ratelimit-limit-requests": "10000",
        "x-ratelimit-limit-tokens": "2000000",
        "x-ratelimit-remaining-requests": "9999",
        "x-ratelimit-remaining-tokens": str(max(0, 2_000_000 - said.prompt_tokens)),
        "x-ratelimit-reset-requests": "6ms",
        "x-ratelimit-reset-tokens": "0s",
    }


def _raw_head(headers: dict[str, str]) -> bytes:
    """A response head without a length: the end of the connection is the end of the body."""
    lines = ["HTTP/1.1 200 OK", "connection: close"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n").encode()


def _card(name: str) -> Json:
    return {"id": name, "object": "model", "created": 0, "owned_by": "simulator"}


def _bad_request(message: str, param: str | None) -> web.Response:
    return _error(ErrorAnswer(400, "invalid_request_error", None, message, param))


def _not_found(model: str) -> web.Response:
    message = f"The model `{model}` does not exist or you do not have access to it."
    return _error(ErrorAnswer(404, "invalid_request_error", "model_not_found", message, "model"))


def _error(wrong: ErrorAnswer) -> web.Response:
    body = {
        "message": wrong.message,
        "type": wrong.type,
        "param": wrong.param,
        "code": wrong.code,
    }
    headers = {"x-request-id": f"req_{secrets.token_hex(16)}", **dict(wrong.headers)}
    return _json({"error": body}, status=wrong.status, headers=headers)


def _json(body: Any, *, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(
        body=orjson.dumps(body), status=status, headers=headers, content_type="application/json"
    )
