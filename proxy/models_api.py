"""`GET /v1/models`, and how long a prompt is: what a client may ask without spending anything."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from proxy.chat import ChatRequest
from proxy.errors import ApiError, ModelNotFound
from proxy.front import front_of
from proxy.ingress import (
    ANTHROPIC_VERSION,
    MEMORY,
    PARSE_IN_THREAD_ABOVE_BYTES,
    PATIENCE,
    authenticated,
    count_prompt,
    fresh_request_id,
    plain_json,
    refusal,
)
from proxy.intake import read_body
from proxy.wire import CountingFormat, client_format

ANTHROPIC = "anthropic_messages"
"""A header that Anthropic's clients send with everything."""

_CREATED_AT = "1970-01-01T00:00:00Z"


async def list_models(request: web.Request) -> web.Response:
    """`GET /v1/models`: the models this tenant may ask for, in the words of who asks."""
    try:
        models = _visible_models(request)
    except ApiError as error:
        return _refusal(request, error)
    if _is_anthropics(request):
        ends = {"has_more": False, "first_id": None, "last_id": None}
        if models:
            ends |= {"first_id": models[0]["id"], "last_id": models[-1]["id"]}
        return plain_json({"data": models, **ends})
    return plain_json({"object": "list", "data": models})


async def get_model(request: web.Request) -> web.Response:
    """`GET /v1/models/{model}`: one of them."""
    name = request.match_info["model"]
    try:
        for model in _visible_models(request):
            if model["id"] == name:
                return plain_json(model)
        raise ModelNotFound(f"The model `{name[:100]}` does not exist here.", param="model")
    except ApiError as error:
        return _refusal(request, error)


def counts(spoken: CountingFormat) -> Callable[[web.Request], Awaitable[web.Response]]:
    """The handler that says how many tokens a request of this format would read. It is our own
    count, as the first upstream of the model would make it: nothing is asked, held or billed."""

    async def handle(request: web.Request) -> web.Response:
        try:
            principal = authenticated(request)
            chat = await _read(request, spoken)
            route = front_of(request).routes.find(
                principal.tenant, chat.model, principal.key.project
            )
            prompt = await count_prompt(request, chat, route)
        except ApiError as error:
            return refusal(error, fresh_request_id(), spoken)
        return plain_json(spoken.count_answer(chat, prompt.tokens(route.own[0].upstream)))

    return handle


async def _read(request: web.Request, spoken: CountingFormat) -> ChatRequest:
    app = request.app
    limit_mb = front_of(request).door.settings.server.max_body_mb
    with app[MEMORY].body() as share:
        raw = await read_body(request, limit_mb=limit_mb, patience=app[PATIENCE], share=share)
        if len(raw) > PARSE_IN_THREAD_ABOVE_BYTES:  # others have their turn meanwhile
            return await asyncio.to_thread(spoken.parse_count, raw)
        return spoken.parse_count(raw)


def _visible_models(request: web.Request) -> list[dict[str, Any]]:
    principal = authenticated(request)
    names = [
        name for name in front_of(request).door.settings.models if principal.tenant.may_use(name)
    ]
    if _is_anthropics(request):
        return [
            {"type": "model", "id": name, "display_name": name, "created_at": _CREATED_AT}
            for name in names
        ]
    return [
        {"id": name, "object": "model", "created": 0, "owned_by": "tokenweir"} for name in names
    ]


def _is_anthropics(request: web.Request) -> bool:
    return ANTHROPIC_VERSION in request.headers


def _refusal(request: web.Request, error: ApiError) -> web.Response:
    spoken = client_format(ANTHROPIC) if _is_anthropics(request) else None
    return refusal(error, fresh_request_id(), spoken)
