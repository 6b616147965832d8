"""The bundled simulator: an OpenAI-compatible server that needs no key."""

from __future__ import annotations

from proxy.settings import Provider
from proxy.vendors import openai


def chat_url(provider: Provider) -> str:
    """As OpenAI's; the base URL is filled in when the simulator has its port."""
    return openai.chat_url(provider)


def headers(provider: Provider) -> dict[str, str]:
    """None: it takes anybody."""
    return {}


def output_limit_field(provider: Provider) -> str:
    """It knows both, as OpenAI does."""
    return openai.output_limit_field(provider)
