"""What goes out to an upstream, and which of its headers come back: the whole lists.

Rules: scheme, host, port and path come from the settings alone, whatever a request says; no header
of the client's goes on; of an upstream's headers only those named here reach the client, and only
in signs that a header may have, without the provider's credential.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

from proxy import vendors
from proxy.changes import instructed
from proxy.chat import ChatRequest
from proxy.redaction import Redaction, credentials_in
from proxy.settings import Provider
from proxy.transport import Answer, Call
from proxy.wire import openai_chat

REQUEST_HEADERS = {
    "Content-Type": "application/json",
    "Accept": "application/json, text/event-stream",
    "Accept-Encoding": "identity",
    "User-Agent": "tokenweir",
}
"""Sent with every call, beside those by which the vendor knows us."""

ERROR_HEADERS = ("Content-Type", "Retry-After", "retry-after-ms")
"""Passed on with an upstream's error that is relayed."""


def call_to(
    provider: Provider,
    request: ChatRequest,
    *,
    model: str,
    output_max: int | None = None,
    instruct: str | None = None,
) -> Call:
    """The request as it goes to this provider, for its model of that name.

    `output_max` is what a choice may say at most, where that is less than was asked for;
    `instruct` is a system message that is added.
    """
    vendor = vendors.vendor(provider.type)
    if instruct is not None:
        request = replace(request, body=instructed(request.body, instruct))
    return Call(
        url=vendor.chat_url(provider),
        headers={**REQUEST_HEADERS, **vendor.headers(provider)},
        body=openai_chat.upstream_body(
            request,
            model=model,
            inject_usage=provider.stream_usage == "inject",
            output_max=output_max,
            limit_field=vendor.output_limit_field(provider),
        ),
        timeout_s=provider.timeout_s,
        connect_timeout_s=provider.connect_timeout_s,
        max_answer_s=provider.max_answer_s,
        ca_file=provider.ca_file,
    )


@lru_cache(maxsize=256)
def redaction_of(provider: Provider) -> Redaction:
    """What hides the credentials by which this provider knows us."""
    sent = vendors.vendor(provider.type).headers(provider)
    return Redaction(credentials_in(sent.values()))


def error_answer(
    answer: Answer, body: bytes, redaction: Redaction
) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of an upstream's error as the client gets them."""
    headers = {
        name: value
        for name in ERROR_HEADERS
        if (value := openai_chat.label(answer.header(name), redaction)) is not None
    }
    return answer.status, headers, redaction.data(body)
