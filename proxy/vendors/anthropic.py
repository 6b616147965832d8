"""Anthropic's API, and servers that speak it: a base URL and a key in `x-api-key`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

from proxy.settings import Provider
from proxy.vendors import VendorOption

BASE_URL: str | None = "https://api.anthropic.com/v1"
MODELS_PATH = "/models"
OPTIONS: Mapping[str, VendorOption] = {
    "version": VendorOption(
        "The version of the API, which is sent as `anthropic-version`. Left out: `2023-06-01`."
    ),
    "beta": VendorOption(
        "Beta features that every call asks for, separated by commas, which are sent as "
        "`anthropic-beta`. Left out: none."
    ),
    "client_betas": VendorOption(
        "Beta features that clients may ask for themselves, separated by commas; `*` stands for "
        "any part of a name. Others are taken out of their `anthropic-beta`. Some change what "
        "Anthropic bills (`fast-mode-*`, `context-1m-*`): give these a price, `service_tier: "
        "{fast: ...}` and `context_tiers`. Left out: `*`, all of them."
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
        found["anthropic-beta"] = ",".join(_names(beta))
    return found


def of_client(provider: Provider, headers: Mapping[str, str]) -> dict[str, str]:
    """Those of a client's headers that go on: the beta features that it may ask for."""
    may_ask = _names(_option(provider, "client_betas") or "*")
    found = dict(headers)
    if (asked := found.pop("anthropic-beta", None)) is not None:
        betas = [name for name in _names(asked) if any(fnmatchcase(name, each) for each in may_ask)]
        if betas:
            found["anthropic-beta"] = ",".join(betas)
    return found


def _names(listed: str) -> list[str]:
    return [name for each in listed.split(",") if (name := each.strip())]


def output_limit_field(provider: Provider) -> str:
    """`max_tokens`: there is no other."""
    return "max_tokens"


def _option(provider: Provider, name: str) -> str:
    value = provider.options.get(name)
    return value.strip() if isinstance(value, str) else ""
