"""Anthropic's API, and servers that speak it: a base URL and a key in `x-api-key`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from proxy.settings import Provider
from proxy.vendors import VendorOption

BASE_URL: str | None = "https://api.anthropic.com/v1"
OPTIONS: Mapping[str, VendorOption] = {
    "version": VendorOption(
        "The version of the API, which is sent as `anthropic-version`. Left out: `2023-06-01`."
    ),
    "beta": VendorOption(
        "Beta features that every call asks for, separated by commas, which are sent as "
        "`anthropic-beta`. Left out: none."
    ),
}

_VERSION = "2023-06-01"


def formats(provider: Provider) -> Sequence[str]:
    """Messages; everything else is translated into them."""
    return ("anthropic_messages",)


def url(provider: Provider, *, format: str, model: str, stream: bool) -> str:  # noqa: A002
    """`<base_url>/messages`, streamed or not; the base URL carries the version in its path."""
    return f"{provider.base_url}/messages"


def headers(provider: Provider) -> dict[str, str]:
    """The key, if there is one, the version, and the beta features."""
    found = {"anthropic-version": _option(provider, "version") or _VERSION}
    if provider.api_key is not None:
        found["x-api-key"] = provider.api_key.reveal()
    if beta := _option(provider, "beta"):
        found["anthropic-beta"] = ",".join(name.strip() for name in beta.split(","))
    return found


def output_limit_field(provider: Provider) -> str:
    """`max_tokens`: there is no other."""
    return "max_tokens"


def _option(provider: Provider, name: str) -> str:
    value = provider.options.get(name)
    return value.strip() if isinstance(value, str) else ""
