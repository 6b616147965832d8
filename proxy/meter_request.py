"""The body of `POST /v1/meter`: a request that is not to be run, only judged. Pure.

It is read into the same `ChatRequest` that a real request is, so that everything after it is the
same, too. `messages` are counted; `input_tokens` are taken as they stand.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from metering.caps import ScopeKind
from metering.tenants import DEFAULT_PROJECT, ApiKey, Principal, Tenant
from proxy import request_fields
from proxy.admission import PromptCount, Route
from proxy.chat import OUTPUT_TOKENS_MAX, ChatRequest
from proxy.errors import InvalidRequest, TenantNotAllowed
from proxy.standing import HEADERS
from proxy.wire.openai_chat.client import parse_request
from proxy.wishes import TARGET

_OWN = ("tenant_id", "input_tokens", "target_latency_ms", "feature", "session", "run")
_LABELS = {
    "feature": HEADERS[ScopeKind.FEATURE],
    "session": HEADERS[ScopeKind.SESSION],
    "run": HEADERS[ScopeKind.RUN],
}


@dataclass(frozen=True, slots=True)
class MeterRequest:
    """What is asked: `labels` are in the form of the headers that a real request carries."""

    chat: ChatRequest
    tenant_id: str | None = None
    input_tokens: int | None = None
    labels: Mapping[str, str] = field(default_factory=dict)

    def count(self, route: Route) -> PromptCount | None:
        """The prompt where its length was told; None where its messages have to be counted."""
        if self.input_tokens is None:
            return None
        names = {place.upstream.model for place in route.places}
        return PromptCount(dict.fromkeys(names, self.input_tokens))


def parse_meter(raw: bytes) -> MeterRequest:
    """The request behind a body; InvalidRequest names the field that is wrong."""
    body = request_fields.load_object(raw)
    input_tokens = _whole(body, "input_tokens", least=0)
    if (input_tokens is None) == (body.get("messages") is None):
        raise InvalidRequest(
            "Send either `messages` or `input_tokens`, the length of a prompt.",
            param="input_tokens" if input_tokens is not None else "messages",
        )
    labels = {header: value for name, header in _LABELS.items() if (value := _text(body, name))}
    target_ms = _whole(body, "target_latency_ms", least=1)
    if target_ms is not None:
        labels[TARGET] = str(target_ms)
    asked = {name: value for name, value in body.items() if name not in _OWN}
    if input_tokens is not None:
        asked["messages"] = []
    return MeterRequest(
        chat=parse_request(orjson.dumps(asked)),
        tenant_id=_text(body, "tenant_id"),
        input_tokens=input_tokens,
        labels=labels,
    )


def asked_for(
    principal: Principal, tenant_id: str | None, tenants: Mapping[str, Tenant]
) -> Principal:
    """Whose request is judged: the key's own tenant, or one that it may act for.

    A tenant that does not exist is refused like one that it may not act for: nobody learns which.
    """
    if tenant_id is None or tenant_id == principal.tenant.id:
        return principal
    tenant = tenants.get(tenant_id) if tenant_id in principal.key.act_for else None
    if tenant is None:
        raise TenantNotAllowed(
            f"This key may not ask for tenant `{tenant_id[:64]}`: `tenants[].keys[].act_for` in "
            "the configuration does not name it.",
            param="tenant_id",
        )
    return Principal(tenant, ApiKey(principal.key.id, "", DEFAULT_PROJECT))


def _whole(body: Mapping[str, Any], name: str, *, least: int) -> int | None:
    value = body.get(name)
    if value is None:
        return None
    if type(value) is not int or not least <= value <= OUTPUT_TOKENS_MAX:
        raise InvalidRequest(
            f"`{name}` must be a whole number from {least} to {OUTPUT_TOKENS_MAX}.", param=name
        )
    return value


def _text(body: Mapping[str, Any], name: str) -> str | None:
    value = body.get(name)
    if value is not None and (not isinstance(value, str) or not value):
        raise InvalidRequest(f"`{name}` must be a non-empty string.", param=name)
    return value
