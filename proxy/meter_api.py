"""`POST /v1/meter`: what would become of a request, for callers that run theirs elsewhere.

The same steps as a real request up to the reserve, which is only looked at: nothing is held, sent
or recorded. So the answer holds for this moment; whoever wants the room has to send a request.
"""

from __future__ import annotations

import asyncio
import os
from typing import Any

from aiohttp import web

from metering.caps import CapState, CapsUnavailableError, Denial, DenialReason, Hold, Looked
from metering.clock import monotonic_s, now_ns
from metering.ids import uuid7
from metering.money import format_usd
from metering.window import is_rate
from proxy.admission import PromptCount, Route, count_prompts
from proxy.allowance import clamp
from proxy.around import around_of
from proxy.degraded import only_cached, steps_taken
from proxy.door import Door
from proxy.errors import ApiError, InternalError
from proxy.front import front_of
from proxy.ingress import (
    MEMORY,
    PATIENCE,
    authenticated,
    fresh_request_id,
    plain_json,
    planned,
    refusal,
)
from proxy.intake import read_body
from proxy.limit_words import is_margin, resets_at, scope_text, window_text
from proxy.meter_request import MeterRequest, asked_for, parse_meter
from proxy.pace import Asked, Judged
from proxy.paced import target_ms
from proxy.refusals import backend_unavailable, denied
from proxy.standing import check_context, labels_of
from proxy.telling import tell_refusal
from proxy.wishes import wishes_of
from routing.cost_to_serve import Mode, Verdict

_THREAD_ABOVE_BYTES = 16 * 1024


async def meter(request: web.Request) -> web.Response:
    """`POST /v1/meter`: allow, throttle or route."""
    door, request_id = front_of(request).door, fresh_request_id()
    response: web.Response | None = None
    try:
        body = await _judge(request)
        door.metrics.metered(body["decision"])
        response = plain_json(body, request_id=request_id)
    except ApiError as error:
        door.log.info("meter_refused", request_id=request_id, code=error.label)
        tell_refusal(door, error.label)
        response = refusal(error, request_id)
    except Exception as error:  # the top of a request's task: logged with its cause
        door.log.error("meter_failed", request_id=request_id, exc_info=error)
        internal = InternalError(f"The gateway failed; its log has the cause under {request_id}.")
        tell_refusal(door, internal.label)
        response = refusal(internal, request_id)
    finally:
        door.metrics.answered(499 if response is None else response.status)
    return response


async def _judge(request: web.Request) -> dict[str, Any]:
    app, front = request.app, front_of(request)
    door = front.door
    principal = authenticated(request)
    with app[MEMORY].body() as share:
        limit_mb = door.settings.server.max_body_mb
        raw = await read_body(request, limit_mb=limit_mb, patience=app[PATIENCE], share=share)
        is_long = len(raw) > _THREAD_ABOVE_BYTES
        asked = await asyncio.to_thread(parse_meter, raw) if is_long else parse_meter(raw)
    who = asked_for(principal, asked.tenant_id, door.settings.tenants)
    headers, chat = {**request.headers, **asked.labels}, asked.chat
    headers = {name.lower(): value for name, value in headers.items()}
    wishes = wishes_of(headers, who.tenant)
    route = front.routes.find(who.tenant, chat.model, who.key.project, at_ns=now_ns())
    labels = labels_of(who.key, headers, chat.user)
    standing = front.standings.find(who.tenant, who.key, labels)
    standing = door.balances.stand(who.tenant, standing)
    prompt = await _count(asked, route, is_long=is_long)
    check_context(who.tenant, labels.feature, prompt.tokens(route.own[0].upstream))
    pace = front.pace
    wanted_ms = target_ms(door.settings, chat.model, wishes)
    exchange_id = uuid7(now_ns() // 1_000_000, os.urandom(10))
    around = around_of(
        door,
        route,
        chat,
        wishes,
        who=who,
        labels=labels,
        exchange_id=exchange_id,
        target_ms=wanted_ms,
    )
    judged = pace.judge(
        await planned(
            route,
            chat,
            prompt,
            wishes,
            around,
            count=lambda other: _count(asked, other, is_long=is_long),
        ),
        Asked(wanted_ms, chat.stream, may_change_model=wishes.degrade),
        monotonic_s(),
    )
    caps = pace.caps(standing.caps, chat.model) if judged.is_throttled else standing.caps
    hold = Hold(who.tenant.id, exchange_id, caps, standing.stops)
    looked = await _look(door, hold, judged)
    is_enforced = pace.rules.mode is Mode.ENFORCE
    return answer(asked, judged, looked, tenant=who.tenant.id, is_enforced=is_enforced)


async def _count(asked: MeterRequest, route: Route, *, is_long: bool) -> PromptCount:
    told = asked.count(route)
    if told is not None:
        return told
    if is_long:
        return await asyncio.to_thread(count_prompts, asked.chat, route)
    return count_prompts(asked.chat, route)


async def _look(door: Door, hold: Hold, judged: Judged) -> Looked:
    candidates = judged.plan.admission.candidates
    try:
        looked = await door.caps.look(hold, candidates, stairs=judged.plan.stairs)
    except CapsUnavailableError as error:
        raise backend_unavailable() from error
    answer = looked.answer
    if isinstance(answer, Denial) and answer.reason is DenialReason.REBUILDING:
        raise denied(answer, hold.tenant)
    return looked


def answer(
    asked: MeterRequest, judged: Judged, looked: Looked, *, tenant: str, is_enforced: bool
) -> dict[str, Any]:
    """The body of the answer."""
    decided = (
        _refused(judged, looked.answer, tenant)
        if isinstance(looked.answer, Denial)
        else _admitted(asked, judged, looked, is_enforced=is_enforced)
    )
    return {
        "object": "meter.decision",
        "tenant_id": tenant,
        **decided,
        "caps": [_cap(state, tenant) for state in looked.states if _is_told(state)],
    }


def _refused(judged: Judged, denial: Denial, tenant: str) -> dict[str, Any]:
    error = only_cached(judged.plan, denial, tenant) or denied(denial, tenant)
    wait = error.headers().get("Retry-After")
    is_throttled = denial.state is not None and is_margin(denial.state)
    return {
        "decision": Verdict.THROTTLE,
        "model": judged.plan.admission.options[0].upstream.public_name,
        "reason": "margin" if is_throttled else error.label,
        "message": error.message,
        "estimate": _estimate(judged, 0),
        "retry_after_s": None if wait is None else int(wait),
    }


def _admitted(
    asked: MeterRequest, judged: Judged, looked: Looked, *, is_enforced: bool
) -> dict[str, Any]:
    answer = looked.answer
    assert not isinstance(answer, Denial)
    option = judged.plan.admission.options[answer.index]
    served, steps = option.upstream.public_name, steps_taken(judged.plan, answer)
    is_under = judged.is_throttled and is_enforced
    reason = steps.taken.reason if steps.taken else "margin" if is_under else None
    clamped = clamp(option, answer.vector or option.hold, asked.chat)
    return {
        "decision": Verdict.ALLOW if served == judged.plan.model else Verdict.ROUTE,
        "model": served,
        "reason": reason,
        "message": None,
        "estimate": {
            **_estimate(judged, answer.index),
            "max_tokens": option.changes.max_tokens if clamped is None else clamped,
        },
        "retry_after_s": None,
    }


def _estimate(judged: Judged, index: int) -> dict[str, Any]:
    """An upper bound, as it would be held; what it costs us is no business of a tenant's."""
    option = judged.plan.admission.options[index]
    priced = option.price is not None
    return {
        "sell_usd": format_usd(option.hold.nano, places=9) if priced else None,
        "input_tokens": option.prompt_tokens,
        "output_tokens": option.output_tokens,
        "price_version": option.price.sell.version if option.price else None,
        "max_tokens": None,
    }


def _is_told(state: CapState) -> bool:
    limit = state.cap.limit
    bounds = (limit.nano, limit.tokens, limit.requests)
    return not is_margin(state) and any(bound is not None for bound in bounds)


def _cap(state: CapState, tenant: str) -> dict[str, Any]:
    """One cap as it stands before this request."""
    limit, spent, held = state.cap.limit, state.spent, state.held
    row: dict[str, Any] = {
        "scope": scope_text(state, tenant),
        "window": window_text(state.cap.window),
        "mode": state.cap.mode,
        "is_rate": is_rate(state.cap.window),
        "resets_at": resets_at(state),
    }
    if limit.nano is not None:
        row["remaining_usd"] = format_usd(max(0, limit.nano - spent.nano - held.nano))
    if limit.tokens is not None:
        row["remaining_tokens"] = max(0, limit.tokens - spent.tokens - held.tokens)
    if limit.requests is not None:
        row["remaining_requests"] = max(0, limit.requests - spent.requests - held.requests)
    return row
