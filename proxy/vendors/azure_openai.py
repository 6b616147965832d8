"""Azure OpenAI: models are deployments of a resource, asked for by key or by an Entra ID token.

There are two surfaces. The `v1` one is OpenAI's own under `/openai/v1`, with the deployment's name
for a model. The older one has the deployment in its path and a dated `api-version`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from urllib.parse import quote, urlsplit

from proxy.client_credentials import Grant, tokens_of
from proxy.settings import Provider, Secret
from proxy.transport import Call, Fault, Transport, TransportError
from proxy.vendors import VendorOption

BASE_URL: str | None = None
"""Each resource has its own: `https://NAME.openai.azure.com`."""

AUTHORITY = "https://login.microsoftonline.com"
SCOPE = "https://cognitiveservices.azure.com/.default"
"""Of every Azure OpenAI resource in the public cloud."""

OPTIONS: Mapping[str, VendorOption] = {
    "api_version": VendorOption(
        "A dated version, as `2024-10-21`: then deployments are asked for by their paths. Left "
        "out, `v1` or `latest`: the v1 surface; `preview`: that with its preview features."
    ),
    "tenant_id": VendorOption(
        "The Entra ID tenant that tokens come from, instead of an api_key.",
        needs=("client_id", "client_secret"),
    ),
    "client_id": VendorOption(
        "The application (client) that asks for tokens.", needs=("tenant_id",)
    ),
    "client_secret": VendorOption("Its secret.", is_secret=True, needs=("tenant_id",)),
    "authority": VendorOption(
        f"Where tokens come from; `{AUTHORITY}` where left out, `https://login.microsoftonline.us` "
        "in the US government's cloud, `https://login.chinacloudapi.cn` in China's."
    ),
    "scope": VendorOption(
        f"What tokens are for; `{SCOPE}` where left out, `https://cognitiveservices.azure.us/"
        ".default` in the US government's cloud."
    ),
}

_PATHS = {
    "openai_chat": "chat/completions",
    "openai_completions": "completions",
    "openai_embeddings": "embeddings",
    "openai_responses": "responses",
}
_V1 = ("v1", "preview", "latest")
"""`latest` is what `v1` was called before it was out (`AzureAIFoundryModelsApiVersion` of Azure's
API description). Azure knows `v1` and `preview` today, and takes the former where none is named."""
_ENTRA = ("tenant_id", "client_id", "client_secret")
_COMPLETION_LIMIT_SINCE = "2024-09-01"
"""The first dated version that knows `max_completion_tokens`; older ones refuse it."""
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


def formats(provider: Provider) -> Sequence[str]:
    """All of OpenAI's; without responses where deployments are in the path."""
    return tuple(_PATHS) if _is_v1(provider) else tuple(_PATHS)[:-1]


def url(provider: Provider, *, format: str, model: str, stream: bool) -> str:  # noqa: A002
    """Under `/openai/v1`, or that of the deployment with its `api-version`."""
    path, version = _PATHS[format], _option(provider, "api_version")
    root = _resource(provider)
    if not _is_v1(provider):
        return (
            f"{root}/openai/deployments/{quote(model, safe='')}/{path}"
            f"?api-version={quote(version, safe='')}"
        )
    query = f"?api-version={version}" if version == "preview" else ""
    return f"{root}/openai/v1/{path}{query}"


def headers(provider: Provider) -> dict[str, str]:
    """The key; nothing where a token is to be had, which `prepare` adds."""
    if provider.api_key is None or _has_entra(provider):
        return {}
    return {"api-key": provider.api_key.reveal()}


def output_limit_field(provider: Provider) -> str:
    """`max_completion_tokens`, which reasoning models need, wherever it is known."""
    version = _option(provider, "api_version")
    is_old = not _is_v1(provider) and version < _COMPLETION_LIMIT_SINCE
    return "max_tokens" if is_old else "max_completion_tokens"


async def prepare(provider: Provider, call: Call, transport: Transport) -> Call:
    """The call with a token of Entra ID, where the provider's options speak of one."""
    if not _has_entra(provider):
        return call
    token = await tokens_of(transport).token(
        _grant(provider), transport, connect_timeout_s=provider.connect_timeout_s
    )
    return replace(call, headers={**call.headers, "Authorization": f"Bearer {token}"})


def _grant(provider: Provider) -> Grant:
    secret = provider.options.get("client_secret")
    missing = [name for name in _ENTRA if not provider.options.get(name)]
    if missing or not isinstance(secret, Secret):
        raise TransportError(
            Fault.UNREACHABLE,
            f"provider {provider.name!r} lacks the options {', '.join(missing)} for a token",
        )
    authority = (_option(provider, "authority") or AUTHORITY).rstrip("/")
    parts = urlsplit(authority)
    if parts.scheme != "https" and parts.hostname not in _LOOPBACK:
        raise TransportError(
            Fault.UNREACHABLE,
            f"the option authority of provider {provider.name!r} must begin with https://: a "
            "secret goes there",
        )
    tenant = quote(_option(provider, "tenant_id"), safe="")
    return Grant(
        url=f"{authority}/{tenant}/oauth2/v2.0/token",
        client_id=_option(provider, "client_id"),
        client_secret=secret,
        scope=_option(provider, "scope") or SCOPE,
    )


def _has_entra(provider: Provider) -> bool:
    return any(name in provider.options for name in _ENTRA)


def _is_v1(provider: Provider) -> bool:
    version = _option(provider, "api_version")
    return not version or version in _V1


def _resource(provider: Provider) -> str:
    """The resource's own address, also where one of its surfaces was written."""
    root = provider.base_url
    for surface in ("/openai/v1", "/openai"):
        root = root.removesuffix(surface)
    return root


def _option(provider: Provider, name: str) -> str:
    value = provider.options.get(name)
    return value if isinstance(value, str) else ""
