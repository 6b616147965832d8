"""The bundled simulator: an OpenAI-compatible server that needs no key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from proxy.settings import Provider
from proxy.vendors import VendorOption, openai

BASE_URL: str | None = ""
"""Filled in when the simulator has its port."""
MODELS_PATH = "/models"
OPTIONS: Mapping[str, VendorOption] = {}


def formats(provider: Provider) -> Sequence[str]:
    """Chat completions first, to which others are translated."""
    return ("openai_chat", "openai_completions", "openai_embeddings")


def url(provider: Provider, *, format: str, model: str, stream: bool) -> str:  # noqa: A002
    """As OpenAI's."""
    return openai.url(provider, format=format, model=model, stream=stream)


def headers(provider: Provider) -> dict[str, str]:
    """None: it takes anybody."""
    return {}


def output_limit_field(provider: Provider) -> str:
    """It knows both, as OpenAI does."""
    return openai.output_limit_field(provider)
