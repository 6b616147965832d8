"""What goes out to an upstream, and which of its headers come back: the whole lists.

Rules: scheme, host, port and path come from the settings alone, whatever a request says; no header
of the client's goes on; of an upstream's headers only those named here reach the client, and only
in signs that a header may have, without the provider's credential.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache

from proxy import vendors
from proxy.chat import ChatRequest
from proxy.passage import Passage, passage
from proxy.redaction import Redaction, credentials_in
from proxy.reply import label
from proxy.settings import Provider, Secret
from proxy.transport import Answer, Call, Transport
from proxy.wire import Sending

REQUEST_HEADERS = {
    "Content-Type": "application/json",
    "Accept": "application/json, text/event-stream",
    "Accept-Encoding": "identity",
    "User-Agent": "tokenweir",
}
"""Sent with every call, beside those by which the vendor knows us."""

CREDENTIAL_HEADERS = frozenset({"authorization", "x-api-key", "api-key", "x-goog-api-key"})
"""Those by which vendors know us; what else they want to be sent is no secret."""

TOKEN_HEADERS = frozenset({"x-amz-security-token"})
"""Those with a token that was fetched, as it is; others have it after `Bearer`."""

_BEARER = "bearer "

REQUEST_ID_HEADERS = ("x-request-id", "request-id", "x-amzn-requestid")
"""OpenAI's, Anthropic's and Amazon's."""

ERROR_HEADERS = ("Content-Type", "Retry-After", "retry-after-ms")
"""Passed on with an upstream's error that is relayed."""


@lru_cache(maxsize=256)
def passage_to(provider: Provider, client: str) -> Passage | None:
    """The way from a client's format to one that this provider speaks; None where there is none."""
    return passage(client, tuple(vendors.vendor(provider.type).formats(provider)))


def call_to(
    provider: Provider,
    way: Passage,
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
    passing = vendors.of_client(vendor, provider, request.headers) if way.is_same else {}
    sending = Sending(
        model=model,
        output_max=output_max,
        limit_field=vendor.output_limit_field(provider),
        instruct=instruct,
        inject_usage=provider.stream_usage == "inject",
        drop_unsupported=provider.drop_unsupported,
    )
    return Call(
        url=vendor.url(provider, format=way.format, model=model, stream=request.stream),
        headers=_headers(vendor.headers(provider), passing),
        is_signed=bool(passing),
        body=way.body(request, sending),
        timeout_s=provider.timeout_s,
        connect_timeout_s=provider.connect_timeout_s,
        max_answer_s=provider.max_answer_s,
        ca_file=provider.ca_file,
    )


def _headers(of_vendor: Mapping[str, str], of_client: Mapping[str, str]) -> dict[str, str]:
    """All that is sent; what both name is a list, and has the words of both."""
    headers = {**REQUEST_HEADERS, **of_vendor}
    for name, value in of_client.items():
        headers[name] = f"{headers[name]},{value}" if name in headers else value
    return headers


async def prepared(provider: Provider, call: Call, transport: Transport) -> Call:
    """The call, signed where its vendor wants that; TransportError where it cannot be."""
    signing = vendors.signing(vendors.vendor(provider.type))
    if signing is None:
        return call
    return replace(await signing.prepare(provider, call, transport), is_signed=True)


def redaction_of(provider: Provider) -> Redaction:
    """What hides the credentials by which this provider knows us."""
    return _redaction(provider, ())


def redaction_for(provider: Provider, call: Call) -> Redaction:
    """The same with what was fetched for this call and stands in no setting: a token of some hour.
    The signature of a call is none, for it is worth nothing for any other."""
    if vendors.signing(vendors.vendor(provider.type)) is None:
        return _redaction(provider, ())
    fetched = [value for name, value in call.headers.items() if _is_token(name.lower(), value)]
    return _redaction(provider, tuple(fetched))


def _is_token(name: str, value: str) -> bool:
    return name in TOKEN_HEADERS or (
        name in CREDENTIAL_HEADERS and value[: len(_BEARER)].lower() == _BEARER
    )


@lru_cache(maxsize=256)
def _redaction(provider: Provider, fetched: tuple[str, ...]) -> Redaction:
    sent = vendors.vendor(provider.type).headers(provider)
    keys = [value for name, value in sent.items() if name.lower() in CREDENTIAL_HEADERS]
    secrets = [each.reveal() for each in provider.options.values() if isinstance(each, Secret)]
    own = [provider.api_key.reveal()] if provider.api_key is not None else []
    return Redaction([*credentials_in([*keys, *fetched]), *secrets, *own])


def request_id_of(answer: Answer, redaction: Redaction) -> str | None:
    """What the upstream calls this request, by the header that its vendor has for it."""
    for name in REQUEST_ID_HEADERS:
        if (found := label(answer.header(name), redaction)) is not None:
            return found
    return None


def error_answer(
    answer: Answer, body: bytes, way: Passage, *, redaction: Redaction, request_id: str
) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of an upstream's error as the client gets them."""
    headers = {
        name: value
        for name in ERROR_HEADERS
        if (value := label(answer.header(name), redaction)) is not None
    }
    if not way.is_same:
        headers["Content-Type"] = "application/json"
    told = way.error_body(answer.status, redaction.data(body), request_id)
    return answer.status, headers, told
