"""Streams that break off, and what is asked and answered to go on with them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import orjson
from fixtures_door import settings, tenant
from fixtures_upstream import (
    DONE,
    FINISH,
    Act,
    Step,
    chunk,
    delta,
    event,
    stream_head,
    streamed,
    usage_event,
)

from proxy.admission import Routes, count_prompts
from proxy.chat import ChatRequest
from proxy.continuable import Continuable
from proxy.planning import plan
from proxy.settings import Settings
from proxy.wire import client_format
from routing.policy import Option
from routing.retries import OnFailure
from routing.upstreams import Model, Upstream

PARTS = ("Once upon a time ", "there was a weir ", "that counted every drop")
REST = (" of the river.", " The end.")
WHOLE = "".join((*PARTS, *REST))

CLAUDE = "claude-haiku-4-5"
NEW_CLAUDE = "claude-opus-4-7"


def going(
    urls: dict[str, str],
    *,
    kinds: dict[str, str] | None = None,
    names: dict[str, str] | None = None,
    cap: str | None = "10.00",
    continues: bool = True,
    **bounds: Any,
) -> Settings:
    """Settings whose model `m` goes on, if it `continues`, at the next of these upstreams; `kinds`
    are vendors, `names` models, by the name of the upstream."""
    kinds, names = kinds or {}, names or {}
    upstreams = tuple(Upstream(each, names.get(each, "up-m"), "m") for each in urls)
    model = Model("m", upstreams, on_failure=OnFailure(continue_on_cut=continues))
    made = settings(urls, models={"m": model}, who=tenant(cap))
    providers = {
        name: replace(each, type=kinds.get(name, "openai"), **bounds)
        for name, each in made.providers.items()
    }
    return replace(made, providers=providers)


def cut(*events: bytes, end: Act = Act.CLOSE) -> list[Step]:
    """A stream that ends so after these events, which come one by one."""
    steps: list[Step] = [stream_head()]
    for each in events:
        steps += [chunk(each), Act.PAUSE]
    return [*steps, end]


def message_events(
    parts: Sequence[str], *, number: int = 1, prompt: int = 10, output: int = 7
) -> list[bytes]:
    """The events of a streamed message of one text block."""
    start = {
        "id": f"msg_{number}",
        "type": "message",
        "role": "assistant",
        "model": f"claude-{number}",
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": prompt, "output_tokens": 1},
    }
    block = {"type": "text", "text": ""}
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": start},
        {"type": "content_block_start", "index": 0, "content_block": block},
    ]
    for part in parts:
        said = {"type": "text_delta", "text": part}
        events.append({"type": "content_block_delta", "index": 0, "delta": said})
    ended = {"stop_reason": "end_turn", "stop_sequence": None}
    events += [
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": ended, "usage": {"output_tokens": output}},
        {"type": "message_stop"},
    ]
    return [named(each) for each in events]


def named(data: dict[str, Any]) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (data["type"].encode(), orjson.dumps(data))


def read_events(raw: bytes) -> list[dict[str, Any]]:
    """The objects in a stream, comments and `[DONE]` left out."""
    lines = [line[6:] for line in raw.split(b"\n") if line.startswith(b"data: ")]
    return [orjson.loads(line) for line in lines if line != b"[DONE]"]


def text_of(events: Sequence[dict[str, Any]]) -> str:
    """The text of a chat completion's chunks."""
    deltas = [each["choices"][0]["delta"] for each in events if each.get("choices")]
    return "".join(delta.get("content") or "" for delta in deltas)


OPENED = event(
    {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 11,
        "model": "m-1",
        "choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}],
    }
)


def second(*texts: str, prompt: int = 40, output: int = 6) -> list[Any]:
    """A whole stream of another answer, by another model."""
    own = {"id": "chatcmpl-2", "model": "m-2", "created": 22}
    opened = event(
        {**own, "choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]}
    )
    said = [delta(text, **own) for text in texts]
    return streamed(opened, *said, FINISH, usage_event(prompt, output), DONE)


def check_is_one(raw: bytes, text: str = WHOLE) -> list[dict[str, Any]]:
    """The stream is that of one answer, from its first chunk to its end."""
    events = read_events(raw)
    assert text_of(events) == text
    assert {each["id"] for each in events if each.get("choices")} == {"chatcmpl-1"}
    assert {each["model"] for each in events if each.get("choices")} == {"m-1"}
    choices = [each["choices"][0] for each in events if each.get("choices")]
    ends = [each for each in choices if each.get("finish_reason")]
    assert len(ends) == 1
    roles = [each for each in choices if "role" in each["delta"]]
    assert len(roles) <= 1
    assert raw.count(DONE) == 1
    assert raw.endswith(DONE)
    return events


NAMES = {"one": "up-m", "two": CLAUDE, "three": NEW_CLAUDE, "four": f"us.anthropic.{CLAUDE}-v1:0"}
KINDS = {"two": "anthropic", "three": "anthropic", "four": "bedrock"}
SAID = "Once upon a time "


def asked(client: str = "openai_chat", **fields: Any) -> ChatRequest:
    body = {
        "model": "m",
        "messages": [{"role": "user", "content": "hi"}],
        "stream": True,
        "max_tokens": 100,
        **fields,
    }
    return client_format(client).parse_request(orjson.dumps(body))


def continuable(request: ChatRequest) -> tuple[Continuable, dict[str, Option]]:
    """The request on its route, and the options of its plan by provider."""
    urls = dict.fromkeys(NAMES, "http://x")
    route = Routes(going(urls, names=NAMES, kinds=KINDS)).find(tenant(), "m")
    made = plan(route, request, count_prompts(request, route))
    assert made.continuable is not None
    return made.continuable, {each.upstream.provider: each for each in made.options}
