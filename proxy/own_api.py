"""`GET /v1/key` and `GET /v1/usage`: what a client may know of itself, and of nobody else.

Rules:
- Who is asked about is who asks: the key's tenant, project and pins, and the labels of the request.
  There is no parameter by which to name another.
- Amounts are the tenant's own; what a provider charges does not show.
- One look at Redis, which holds nothing. While Redis is away a key still knows what it is.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from metering.caps import (
    Candidate,
    Cap,
    CapMode,
    CapState,
    CapsUnavailableError,
    Denial,
    DenialReason,
    Hold,
    Vector,
)
from metering.clock import now_ns
from metering.ids import uuid7
from metering.money import format_usd
from metering.scope_names import scope_text
from metering.tenants import Principal
from proxy.door import Door
from proxy.errors import ApiError, InternalError
from proxy.front import front_of
from proxy.ingress import authenticated, fresh_request_id, plain_json, refusal
from proxy.limit_words import resets_at, rfc3339_ms, window_text
from proxy.refusals import backend_unavailable
from proxy.standing import labels_of
from proxy.telling import tell_refusal

_NOTHING = (Candidate("look", Vector()),)
"""What is asked for: whether something would fit that needs no room."""


@dataclass(frozen=True, slots=True)
class Own:
    """Who asks, what stands over it, and how that stands; None where Redis cannot say."""

    principal: Principal
    caps: tuple[Cap, ...]
    states: tuple[CapState, ...] | None
    stopped: str | None = None
    """`paused` or `killed` while its requests are refused by hand; `rebuilding` while it is not
    known what was spent."""


async def get_key(request: web.Request) -> web.Response:
    """`GET /v1/key`: whose key this is, and what it may do."""
    return await _answered(request, _key)


async def get_usage(request: web.Request) -> web.Response:
    """`GET /v1/usage`: what is spent, held and left under each cap, and when room frees."""
    return await _answered(request, _usage)


async def _answered(
    request: web.Request, make: Callable[[web.Request], Awaitable[dict[str, Any]]]
) -> web.Response:
    door, request_id = front_of(request).door, fresh_request_id()
    response: web.Response | None = None
    try:
        response = plain_json(await make(request), request_id=request_id)
    except ApiError as error:
        tell_refusal(door, error.label)
        response = refusal(error, request_id)
    except Exception as error:  # the top of a request's task: logged with its cause
        door.log.error("own_usage_failed", request_id=request_id, exc_info=error)
        internal = InternalError(f"The gateway failed; its log has the cause under {request_id}.")
        tell_refusal(door, internal.label)
        response = refusal(internal, request_id)
    finally:
        door.metrics.answered(499 if response is None else response.status)
    return response


async def _key(request: web.Request) -> dict[str, Any]:
    own = await _look(request)
    door, key, tenant = front_of(request).door, own.principal.key, own.principal.tenant
    return {
        "object": "key",
        "id": key.id,
        "tenant": tenant.id,
        "tenant_name": tenant.name,
        "project": key.project,
        "pinned_to": {kind.value: value for kind, value in key.pins.items()},
        "expires_at": None if key.expires_ns is None else rfc3339_ms(key.expires_ns // 1_000_000),
        "models": [name for name in door.settings.models if tenant.may_use(name)],
        "stopped": own.stopped,
        "remaining_usd": _least_left(own.states),
        "limits": [_limits(cap, tenant.id) for cap in own.caps if _is_bound(cap)],
    }


async def _usage(request: web.Request) -> dict[str, Any]:
    own = await _look(request)
    if own.states is None and own.stopped is None:
        raise backend_unavailable()
    tenant = own.principal.tenant.id
    return {
        "object": "usage",
        "tenant": tenant,
        "project": own.principal.key.project,
        "key": own.principal.key.id,
        "at": rfc3339_ms(now_ns() // 1_000_000),
        "stopped": own.stopped,
        "remaining_usd": _least_left(own.states),
        "caps": [_state(each, tenant) for each in own.states or ()],
    }


async def _look(request: web.Request) -> Own:
    principal, front = authenticated(request), front_of(request)
    door: Door = front.door
    headers = {name.lower(): value for name, value in request.headers.items()}
    labels = labels_of(principal.key, headers, None)
    standing = front.standings.find(principal.tenant, principal.key, labels)
    standing = door.balances.stand(principal.tenant, standing)
    exchange_id = uuid7(now_ns() // 1_000_000, os.urandom(10))
    hold = Hold(principal.tenant.id, exchange_id, standing.caps, standing.stops)
    try:
        looked = await door.caps.look(hold, _NOTHING)
    except CapsUnavailableError:
        return Own(principal, standing.caps, None)
    answer, states = looked.answer, looked.states
    if isinstance(answer, Denial) and answer.reason is DenialReason.REBUILDING:
        return Own(principal, standing.caps, None, "rebuilding")
    stopped = None
    if isinstance(answer, Denial) and answer.reason in (DenialReason.PAUSED, DenialReason.KILLED):
        stopped = answer.reason.value
    return Own(principal, standing.caps, states, stopped)


def _is_bound(cap: Cap) -> bool:
    limit = cap.limit
    return any(
        bound is not None for bound in (limit.nano, limit.tokens, limit.requests, limit.concurrent)
    )


def _least_left(states: tuple[CapState, ...] | None) -> str | None:
    """Of the money caps that refuse, what is left under the fullest; None where there is none."""
    left = [
        max(0, limit - each.spent.nano - each.held.nano)
        for each in states or ()
        if (limit := each.cap.limit.nano) is not None and each.cap.mode is CapMode.ENFORCE
    ]
    return format_usd(min(left), places=9) if left else None


def _limits(cap: Cap, tenant: str) -> dict[str, Any]:
    limit = cap.limit
    return {
        "scope": scope_text(cap.scope, tenant),
        "window": window_text(cap.window),
        "mode": cap.mode.value,
        "limit_usd": None if limit.nano is None else format_usd(limit.nano, places=9),
        "limit_tokens": limit.tokens,
        "limit_requests": limit.requests,
        "limit_concurrent": limit.concurrent,
    }


def _state(state: CapState, tenant: str) -> dict[str, Any]:
    limit, spent, held = state.cap.limit, state.spent, state.held
    return {
        **_limits(state.cap, tenant),
        "spent_usd": format_usd(spent.nano, places=9),
        "held_usd": format_usd(held.nano, places=9),
        "remaining_usd": None
        if limit.nano is None
        else format_usd(max(0, limit.nano - spent.nano - held.nano), places=9),
        "spent_tokens": spent.tokens,
        "remaining_tokens": _left(limit.tokens, spent.tokens + held.tokens),
        "spent_requests": spent.requests,
        "remaining_requests": _left(limit.requests, spent.requests + held.requests),
        "resets_at": resets_at(state),
    }


def _left(limit: int | None, used: int) -> int | None:
    return None if limit is None else max(0, limit - used)
