"""`POST /webhooks/stripe`: Stripe says that something happened.

Rules: no key, the signature instead, over the bytes as they came. Only which event it was is taken
on; what it is about is asked of Stripe by the worker. 200 is said once Redis has it, and 503 when
it has not, so that Stripe sends it again. Without `stripe.webhook_secrets` there is no such path.
"""

from __future__ import annotations

import re

import orjson
from aiohttp import web

from metering.callbacks import Callback
from metering.caps import CapsUnavailableError
from metering.clock import now_ns
from metering.stripe_signature import BadSignatureError, verify_signature
from proxy.callback_errors import CallbackNotTaken, InvalidSignature
from proxy.errors import ApiError, BodyTooLarge, InternalError, InvalidRequest, PathNotFound
from proxy.front import front_of
from proxy.ingress import MEMORY, PATIENCE, fresh_request_id, plain_json, refusal
from proxy.intake import read_body
from proxy.telling import tell_refusal

PATH = "/webhooks/stripe"
BODY_KB_MAX = 256
"""Events of Stripe's take a few; a signature is not looked at before a body is whole."""

_BODY_MB_MAX = 1
_EVENT_ID = re.compile(r"evt_[A-Za-z0-9_]{1,200}")
_TYPE = re.compile(r"[a-z0-9_.]{1,100}")


async def stripe_webhook(request: web.Request) -> web.Response:
    """`POST /webhooks/stripe`."""
    request_id = fresh_request_id()
    door = front_of(request).door
    response: web.Response | None = None
    try:
        callback = await _read(request)
        try:
            await door.callbacks.take(callback)
        except CapsUnavailableError:
            raise CallbackNotTaken("Redis is away: send it again.") from None
        door.log.info("callback", request_id=request_id, id=callback.id, type=callback.type)
        response = plain_json({"received": True}, request_id=request_id)
    except ApiError as error:
        door.log.info("refused", request_id=request_id, code=error.label, status=error.status)
        tell_refusal(door, error.label)
        response = refusal(error, request_id)
    except Exception as error:  # the top of a request's task: logged with its cause
        door.log.error("request_failed", request_id=request_id, exc_info=error)
        internal = InternalError(f"The gateway failed; its log has the cause under {request_id}.")
        tell_refusal(door, internal.label)
        response = refusal(internal, request_id)
    finally:
        door.metrics.answered(499 if response is None else response.status)
    return response


async def _read(request: web.Request) -> Callback:
    stripe = front_of(request).door.settings.stripe
    if stripe is None or not stripe.webhook_secrets:
        raise PathNotFound(f"Unknown request URL: POST {PATH}.")
    raw = await _body(request)
    signatures = request.headers.getall("Stripe-Signature", [])
    if len(signatures) != 1:
        raise InvalidSignature("Send one header Stripe-Signature.", param="Stripe-Signature")
    now_s = now_ns() // 1_000_000_000
    try:
        verify_signature(raw, signatures[0], stripe.webhook_secrets, now_s=now_s)
    except BadSignatureError as error:
        message = f"The request is refused: {error}."
        raise InvalidSignature(message, param="Stripe-Signature") from None
    return _callback(raw)


async def _body(request: web.Request) -> bytes:
    too_large = f"The body is over {BODY_KB_MAX} kB."
    if (request.content_length or 0) > BODY_KB_MAX * 1024:
        raise BodyTooLarge(too_large)
    patience = request.app[PATIENCE]
    try:
        with request.app[MEMORY].body() as share:
            raw = await read_body(request, limit_mb=_BODY_MB_MAX, patience=patience, share=share)
    except BodyTooLarge:
        raise BodyTooLarge(too_large) from None
    if len(raw) > BODY_KB_MAX * 1024:
        raise BodyTooLarge(too_large)
    return raw


def _callback(raw: bytes) -> Callback:
    """What is taken on of an event that Stripe has signed."""
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError:
        raise InvalidRequest("The body is no JSON.") from None
    found = body if isinstance(body, dict) else {}
    name, kind, created = found.get("id"), found.get("type"), found.get("created")
    if not isinstance(name, str) or not _EVENT_ID.fullmatch(name):
        raise InvalidRequest("`id` is no id of an event at Stripe.", param="id")
    if not isinstance(kind, str) or not _TYPE.fullmatch(kind):
        raise InvalidRequest("`type` is no type of event at Stripe.", param="type")
    if type(created) is not int or not 0 <= created < 2**40:
        raise InvalidRequest("`created` is no time in Unix seconds.", param="created")
    return Callback(name, kind, created)
