"""The scripted upstream of a fault run, in a process that is never struck; it keeps a journal.

    python -m faults.upstream SOCKET_PORT JOURNAL

Every answer is made of words that are one token each, so that what was written can be compared
with what was billed, to the token. The model names the pace, and the last message the reference.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import sys
from dataclasses import dataclass

import orjson
from aiohttp import web

WORDS = (" the", " of", " and", " to", " in", " is", " that", " for", " it", " as")
PACE = {"steady": (40, 0.02), "long": (400, 0.02), "quick": (20, 0.0), "flaky": (20, 0.01)}
"""Model: tokens of an answer, seconds between them."""

PROMPT_TOKENS = 11
"""What this upstream reports for every prompt, whatever it is: a provider's word stands."""

_calls = itertools.count()


class Journal:
    """Lines of JSON, each written whole at once."""

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def write(self, **line: object) -> None:
        os.write(self._file, orjson.dumps(line) + b"\n")


async def answer(request: web.Request) -> web.StreamResponse:
    journal: Journal = request.app["journal"]
    body = orjson.loads(await request.read())
    ref = body["messages"][-1]["content"].rpartition(" ")[2]
    number = next(_calls)
    journal.write(ref=ref, n=number, event="call", model=body["model"])
    if body["model"] == "flaky" and number % 3 == 0:
        journal.write(ref=ref, n=number, event="end", sent=0)
        return web.json_response({"error": {"message": "busy", "type": "server_error"}}, status=503)
    tokens, pause_s = PACE[body["model"]]
    tokens = min(tokens, body.get("max_tokens") or tokens)
    usage = {
        "prompt_tokens": PROMPT_TOKENS,
        "completion_tokens": tokens,
        "total_tokens": PROMPT_TOKENS + tokens,
    }
    words = [WORDS[at % len(WORDS)] for at in range(tokens)]
    if not body.get("stream"):
        await asyncio.sleep(0.05)
        journal.write(ref=ref, n=number, event="end", sent=tokens, reported=[PROMPT_TOKENS, tokens])
        message = {"role": "assistant", "content": "".join(words)}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return web.json_response(_envelope(body, choices=[choice], usage=usage))
    return await _stream(request, body, _Answer(words, usage, pause_s, ref, number))


@dataclass(frozen=True)
class _Answer:
    words: list[str]
    usage: dict
    pause_s: float
    ref: str
    number: int


async def _stream(request: web.Request, body: dict, answer: _Answer) -> web.StreamResponse:
    words, journal = answer.words, request.app["journal"]
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    sent = 0
    reported = None
    try:
        await response.prepare(request)
        for word in words:
            sent += 1  # counted before it is written: what may have arrived may be billed
            await _event(response, body, [{"index": 0, "delta": {"content": word}}])
            await asyncio.sleep(answer.pause_s)
        stop = {"index": 0, "delta": {}, "finish_reason": "stop"}
        await _event(response, body, [stop])
        reported = [PROMPT_TOKENS, len(words)]
        await _event(response, body, [], usage=answer.usage)
        await response.write(b"data: [DONE]\n\n")
    finally:
        journal.write(ref=answer.ref, n=answer.number, event="end", sent=sent, reported=reported)
    return response


async def _event(response: web.StreamResponse, body: dict, choices: list, **more: object) -> None:
    chunk = _envelope(body, choices=choices, object="chat.completion.chunk", **more)
    await response.write(b"data: " + orjson.dumps(chunk) + b"\n\n")


def _envelope(body: dict, **more: object) -> dict:
    return {
        "id": "chatcmpl-fault",
        "object": "chat.completion",
        "created": 1,
        "model": body["model"],
        **more,
    }


def main(port: int, journal: str) -> None:
    app = web.Application(client_max_size=1 << 24)
    app["journal"] = Journal(journal)
    app.router.add_post("/v1/chat/completions", answer)
    with contextlib.suppress(KeyboardInterrupt):
        web.run_app(
            app, host="127.0.0.1", port=port, print=None, handler_cancellation=True, access_log=None
        )


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
