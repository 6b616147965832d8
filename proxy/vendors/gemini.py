"""Google's Gemini API, and Gemini models on Vertex AI: the same format at another base URL.

The key goes into a header, never into the URL. On Vertex AI the base URL ends in
`/projects/P/locations/L/publishers/google`; there `auth: bearer` sends the credential as an OAuth
access token. Tokens are not fetched or renewed here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from urllib.parse import quote

from proxy.settings import Provider
from proxy.vendors import VendorOption

BASE_URL: str | None = "https://generativelanguage.googleapis.com/v1beta"
MODELS_PATH = "/models"
OPTIONS: Mapping[str, VendorOption] = {
    "auth": VendorOption(
        "How the credential is sent: `api_key` (the default, as `x-goog-api-key`), or `bearer` for "
        "an OAuth access token, as Vertex AI wants it.",
        values=("api_key", "bearer"),
    )
}

_KINDS = ("models", "tunedModels", "endpoints")


def formats(provider: Provider) -> Sequence[str]:
    """Gemini's own; its OpenAI-compatible API is a provider of type `openai`."""
    return ("gemini",)


def url(provider: Provider, *, format: str, model: str, stream: bool) -> str:  # noqa: A002
    """`<base_url>/models/<model>:generateContent`; a name may say that it is a tuned model."""
    kind, slash, name = model.partition("/")
    if not slash or kind not in _KINDS:
        kind, name = _KINDS[0], model
    verb = "streamGenerateContent?alt=sse" if stream else "generateContent"
    return f"{provider.base_url}/{kind}/{quote(name, safe='')}:{verb}"


def headers(provider: Provider) -> dict[str, str]:
    """The key, or the token; nothing for a server that wants none."""
    if provider.api_key is None:
        return {}
    if provider.options.get("auth") == "bearer":
        return {"Authorization": f"Bearer {provider.api_key.reveal()}"}
    return {"x-goog-api-key": provider.api_key.reveal()}


def output_limit_field(provider: Provider) -> str:
    """By OpenAI's older name; either becomes `maxOutputTokens`."""
    return "max_tokens"
