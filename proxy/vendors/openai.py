"""OpenAI and every server that speaks its API: a base URL and a bearer key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from urllib.parse import urlsplit

from proxy.settings import Provider
from proxy.vendors import VendorOption

_PATHS = {
    "openai_chat": "chat/completions",
    "openai_completions": "completions",
    "openai_embeddings": "embeddings",
    "openai_responses": "responses",
}

BASE_URL: str | None = "https://api.openai.com/v1"
MODELS_PATH = "/models"
OPTIONS: Mapping[str, VendorOption] = {
    "formats": VendorOption(
        "The wire formats that the server speaks, separated by commas; `openai_chat` is always one "
        "of them. Left out: all of OpenAI's at OpenAI, all but `openai_responses` elsewhere.",
        values=tuple(_PATHS),
        is_list=True,
    )
}


def formats(provider: Provider) -> Sequence[str]:
    """As the option says; OpenAI speaks them all, others seldom responses."""
    written = provider.options.get("formats")
    if isinstance(written, str):
        named = [name.strip() for name in written.split(",")]
        return ("openai_chat", *[name for name in named if name != "openai_chat"])
    if _is_openai(provider.base_url):
        return tuple(_PATHS)
    return tuple(name for name in _PATHS if name != "openai_responses")


def url(provider: Provider, *, format: str, model: str, stream: bool) -> str:  # noqa: A002
    """`<base_url>/chat/completions`; the base URL carries the version, as OpenAI's own does."""
    return f"{provider.base_url}/{_PATHS[format]}"


def headers(provider: Provider) -> dict[str, str]:
    """The bearer key; nothing for a server that wants none."""
    if provider.api_key is None:
        return {}
    return {"Authorization": f"Bearer {provider.api_key.reveal()}"}


def output_limit_field(provider: Provider) -> str:
    """`max_completion_tokens` at OpenAI and Azure, whose reasoning models refuse the older name;
    `max_tokens` elsewhere: every server knows it, and one that knows no other would not be bound.
    """
    return "max_completion_tokens" if _is_openai(provider.base_url) else "max_tokens"


@lru_cache(maxsize=256)
def _is_openai(base_url: str) -> bool:
    host = f".{urlsplit(base_url).hostname}"
    return host.endswith((".openai.com", ".openai.azure.com"))
