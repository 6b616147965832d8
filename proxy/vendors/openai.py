"""OpenAI and every server that speaks its API: a base URL and a bearer key."""

from __future__ import annotations

from proxy.settings import Provider


def chat_url(provider: Provider) -> str:
    """`<base_url>/chat/completions`; the base URL carries the version, as OpenAI's own does."""
    return f"{provider.base_url}/chat/completions"


def headers(provider: Provider) -> dict[str, str]:
    """The bearer key; nothing for a server that wants none."""
    if provider.api_key is None:
        return {}
    return {"Authorization": f"Bearer {provider.api_key.reveal()}"}
