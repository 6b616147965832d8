"""Gemini models on Vertex AI, as the service account of the machine.

On Compute Engine, Kubernetes Engine and Cloud Run Google's metadata server gives tokens for that
account, so no key is kept anywhere. With `api_key` that is sent instead, as an access token.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from urllib.parse import quote
from weakref import WeakKeyDictionary

from metering.clock import monotonic_s
from proxy.client_credentials import ANSWER_BYTES_MAX, read_token
from proxy.settings import Provider
from proxy.transport import Call, Transport
from proxy.vendors import VendorOption

BASE_URL: str | None = "https://aiplatform.googleapis.com/v1"
"""The global endpoint; another `location` has a host of its own."""

METADATA = "http://metadata.google.internal"
_TOKEN = "/computeMetadata/v1/instance/service-accounts/default/token"  # noqa: S105 - a path

OPTIONS: Mapping[str, VendorOption] = {
    "project": VendorOption("The Google Cloud project that pays.", is_required=True),
    "location": VendorOption("Where the model runs, as `europe-west4`. Left out: `global`."),
    "metadata": VendorOption(
        f"Where the metadata server is; `{METADATA}` where left out. Name it in `egress.no_proxy` "
        "if there is a proxy on the way out."
    ),
}

REFRESH_AHEAD_S = 240.0
"""The metadata server itself has a new token five minutes before the old one ends."""

TIMEOUT_S = 5.0


@dataclass(slots=True)
class _Kept:
    """The token of one metadata server, and until when nobody needs another."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    token: str = field(default="", repr=False)
    until_s: float = 0.0


_OF_TRANSPORT: WeakKeyDictionary[Transport, dict[str, _Kept]] = WeakKeyDictionary()
"""They live as long as the transport, and in the same event loop."""


def formats(provider: Provider) -> Sequence[str]:
    """Gemini's own."""
    return ("gemini",)


def url(provider: Provider, *, format: str, model: str, stream: bool) -> str:  # noqa: A002
    """`.../projects/P/locations/L/publishers/google/models/<model>:generateContent`."""
    location = _option(provider, "location") or "global"
    root = provider.base_url
    if root == BASE_URL and location != "global":
        root = root.replace("https://", f"https://{quote(location, safe='')}-")
    place = f"projects/{quote(_option(provider, 'project'), safe='')}"
    place += f"/locations/{quote(location, safe='')}/publishers/google"
    verb = "streamGenerateContent?alt=sse" if stream else "generateContent"
    return f"{root}/{place}/models/{quote(model, safe='')}:{verb}"


def headers(provider: Provider) -> dict[str, str]:
    """The token of the settings; nothing where one is fetched, which `prepare` adds."""
    if provider.api_key is None:
        return {}
    return {"Authorization": f"Bearer {provider.api_key.reveal()}"}


def output_limit_field(provider: Provider) -> str:
    """By OpenAI's older name; either becomes `maxOutputTokens`."""
    return "max_tokens"


async def prepare(provider: Provider, call: Call, transport: Transport) -> Call:
    """The call with a token of the machine's account; TransportError where there is none."""
    if provider.api_key is not None:
        return call
    server = (_option(provider, "metadata") or METADATA).rstrip("/")
    kept = _OF_TRANSPORT.setdefault(transport, {}).setdefault(server, _Kept())
    if monotonic_s() >= kept.until_s:
        async with kept.lock:
            if monotonic_s() >= kept.until_s:  # nobody else was here first
                await _fetch(kept, server, transport)
    return replace(call, headers={**call.headers, "Authorization": f"Bearer {kept.token}"})


async def _fetch(kept: _Kept, server: str, transport: Transport) -> None:
    call = Call(
        url=f"{server}{_TOKEN}",
        headers={"Metadata-Flavor": "Google", "Accept": "application/json"},
        body=b"",
        timeout_s=TIMEOUT_S,
        connect_timeout_s=TIMEOUT_S,
        max_answer_s=TIMEOUT_S,
        method="GET",
    )
    answer = await transport.send(call)
    try:
        body = await answer.read(ANSWER_BYTES_MAX)
    finally:
        answer.close()
    token, lifetime_s = read_token(server, answer.status, body)
    kept.token, kept.until_s = token, monotonic_s() + max(1.0, lifetime_s - REFRESH_AHEAD_S)


def _option(provider: Provider, name: str) -> str:
    value = provider.options.get(name)
    return value.strip() if isinstance(value, str) else ""
