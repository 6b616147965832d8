"""Amazon Bedrock: one host per region, the model in the path, requests signed or with an API key.

With `api_key` a call carries that (an Amazon Bedrock API key); with `options.access_key_id` it is
signed with these keys; with neither by what botocore's chain finds, for which the extra `bedrock`
has to be installed.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from urllib.parse import quote

from metering.clock import now_ns
from proxy.settings import Provider, Secret
from proxy.transport import Call, Fault, Transport, TransportError
from proxy.vendors import VendorOption
from proxy.vendors.bedrock.credentials import CHAIN
from proxy.vendors.bedrock.sigv4 import Keys, signature_headers
from proxy.wire.bedrock_converse.frames import EVENT_STREAM

BASE_URL: str | None = "https://bedrock-runtime.region.amazonaws.com"
"""With the region of the options for `region`."""

OPTIONS: Mapping[str, VendorOption] = {
    "region": VendorOption(
        "The AWS region, such as `us-east-1`: it stands in the host and in every signature.",
        is_required=True,
    ),
    "access_key_id": VendorOption(
        "The access key that signs, where `api_key` is not set.",
        is_secret=True,
        needs=("secret_access_key",),
    ),
    "secret_access_key": VendorOption(
        "The secret of that access key.", is_secret=True, needs=("access_key_id",)
    ),
    "session_token": VendorOption(
        "The token that comes with temporary keys; they end, and it is not renewed.",
        is_secret=True,
        needs=("access_key_id",),
    ),
}

HASHED_IN_THREAD_ABOVE_BYTES = 1024 * 1024
"""A megabyte takes 0.6 to 3 ms, by the processor; nothing else would move meanwhile."""


def formats(provider: Provider) -> Sequence[str]:
    """Converse."""
    return ("bedrock_converse",)


def url(provider: Provider, *, format: str, model: str, stream: bool) -> str:  # noqa: A002
    """`<base_url>/model/<model>/converse`, or `converse-stream`; ids have colons, ARNs slashes."""
    base_url = provider.base_url
    if base_url == BASE_URL:
        region = _region(provider)
        base_url = base_url.replace(".region.", f".{region}.")
        if region.startswith("cn-"):
            base_url += ".cn"
    verb = "converse-stream" if stream else "converse"
    return f"{base_url}/model/{quote(model, safe='')}/{verb}"


def headers(provider: Provider) -> dict[str, str]:
    """The API key; nothing where calls are signed."""
    if provider.api_key is None:
        return {}
    return {"Authorization": f"Bearer {provider.api_key.reveal()}"}


def output_limit_field(provider: Provider) -> str:
    """`max_tokens`: the format has one place for it, whatever it was called."""
    return "max_tokens"


async def prepare(provider: Provider, call: Call, transport: Transport) -> Call:
    """The call that asks for the stream as AWS sends it, signed where it has no API key."""
    sent = dict(call.headers)
    sent["Accept"] = EVENT_STREAM if call.url.endswith("-stream") else "application/json"
    if provider.api_key is None:
        keys = _static_keys(provider) or await CHAIN.keys()
        sent |= signature_headers(
            call.url,
            sent.setdefault("Content-Type", "application/json"),
            await _sha256(call.body),
            keys=keys,
            region=_region(provider),
            now_s=now_ns() // 1_000_000_000,
        )
    return replace(call, headers=sent)


async def _sha256(body: bytes) -> str:
    if len(body) > HASHED_IN_THREAD_ABOVE_BYTES:
        return (await asyncio.to_thread(hashlib.sha256, body)).hexdigest()
    return hashlib.sha256(body).hexdigest()


def _static_keys(provider: Provider) -> Keys | None:
    """The keys in the settings; TransportError for a part of them."""
    key = _option(provider, "access_key_id")
    secret = _option(provider, "secret_access_key")
    if not key and not secret:
        return None
    if not key or not secret:
        lacking = "secret_access_key" if key else "access_key_id"
        raise TransportError(
            Fault.UNREACHABLE, f"providers.{provider.name}.options lacks {lacking!r}"
        )
    return Keys(key, secret, _option(provider, "session_token"))


def _region(provider: Provider) -> str:
    return _option(provider, "region") or ""


def _option(provider: Provider, name: str) -> str | None:
    value = provider.options.get(name)
    return (value.reveal() if isinstance(value, Secret) else value) or None
