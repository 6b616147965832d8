"""OpenAI and every server that speaks its API: a base URL and a bearer key."""

from __future__ import annotations

from urllib.parse import urlsplit

from proxy.settings import Provider


def chat_url(provider: Provider) -> str:
    """`<base_url>/chat/completions`; the base URL carries the version, as OpenAI's own does."""
    return f"{provider.base_url}/chat/completions"


def headers(provider: Provider) -> dict[str, str]:
    """The bearer key; nothing for a server that wants none."""
    if provider.api_key is None:
        return {}
    return {"Authorization": f"Bearer {provider.api_key.reveal()}"}


def output_limit_field(provider: Provider) -> str:
    """`max_completion_tokens` at OpenAI and Azure, whose reasoning models refuse the older name;
    `max_tokens` elsewhere: every server knows it, and one that knows no other would not be bound.
    """
    host = f".{urlsplit(provider.base_url).hostname}"
    is_openai = host.endswith((".openai.com", ".openai.azure.com"))
    return "max_completion_tokens" if is_openai else "max_tokens"
