"""Which account here a deployment in a LiteLLM file stands for: type, address, credential. Pure.

A credential that is written out in the file is never copied: a variable takes its place, and the
report names it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

Params = dict[str, Any]

_ALIKE: Mapping[str, tuple[str | None, str]] = {
    "openai": (None, "OPENAI_API_KEY"),
    "text-completion-openai": (None, "OPENAI_API_KEY"),
    "groq": ("https://api.groq.com/openai/v1", "GROQ_API_KEY"),
    "mistral": ("https://api.mistral.ai/v1", "MISTRAL_API_KEY"),
    "deepseek": ("https://api.deepseek.com/v1", "DEEPSEEK_API_KEY"),
    "together_ai": ("https://api.together.xyz/v1", "TOGETHERAI_API_KEY"),
    "fireworks_ai": ("https://api.fireworks.ai/inference/v1", "FIREWORKS_AI_API_KEY"),
    "openrouter": ("https://openrouter.ai/api/v1", "OPENROUTER_API_KEY"),
    "xai": ("https://api.x.ai/v1", "XAI_API_KEY"),
    "cerebras": ("https://api.cerebras.ai/v1", "CEREBRAS_API_KEY"),
    "nvidia_nim": ("https://integrate.api.nvidia.com/v1", "NVIDIA_NIM_API_KEY"),
    "ollama": ("http://localhost:11434/v1", ""),
    "ollama_chat": ("http://localhost:11434/v1", ""),
    "hosted_vllm": ("", ""),
    "vllm": ("", ""),
    "lm_studio": ("", ""),
    "openai_like": ("", ""),
    "custom_openai": ("", ""),
    "litellm_proxy": ("", ""),
}
"""Prefix -> address of an OpenAI-compatible server (None: OpenAI's own; empty: the file has to say)
and the variable that LiteLLM takes the key from."""

_OWN: Mapping[str, tuple[str, str]] = {
    "azure": ("azure_openai", "AZURE_API_KEY"),
    "anthropic": ("anthropic", "ANTHROPIC_API_KEY"),
    "gemini": ("gemini", "GEMINI_API_KEY"),
    "vertex_ai": ("vertex", ""),
    "bedrock": ("bedrock", ""),
}
"""Prefix -> our type, and the variable of the key."""

_BARE = ((r"gpt-|o\d|chatgpt-|text-embedding-", "openai"), (r"claude", "anthropic"))
"""Names that LiteLLM knows without a prefix."""

_OPTIONS: Mapping[str, Mapping[str, str]] = {
    "azure_openai": {
        "api_version": "api_version",
        "tenant_id": "tenant_id",
        "client_id": "client_id",
        "client_secret": "client_secret",
    },
    "bedrock": {
        "aws_region_name": "region",
        "aws_access_key_id": "access_key_id",
        "aws_secret_access_key": "secret_access_key",
        "aws_session_token": "session_token",
    },
    "vertex": {"vertex_project": "project", "vertex_location": "location"},
}

_NEEDED: Mapping[str, Mapping[str, str]] = {
    "bedrock": {"region": "${AWS_REGION_NAME}"},
    "vertex": {"project": "${VERTEXAI_PROJECT}"},
}
"""What LiteLLM takes from these variables where the file is silent."""

_SECRETS = frozenset(
    {"client_secret", "aws_access_key_id", "aws_secret_access_key", "aws_session_token"}
)


class NotHere(Exception):
    """A deployment that has no counterpart; the message says why."""


@dataclass(frozen=True, slots=True)
class Account:
    """A provider as config.yaml writes it, the model there, and variables in place of secrets."""

    label: str
    body: dict[str, Any]
    model: str
    variables: tuple[str, ...] = field(default=())


def account_of(params: Params) -> Account:
    """Takes what it uses out of `params`; what is left there was not understood."""
    prefix, model = _prefixed(params)
    kind = _OWN[prefix][0] if prefix in _OWN else "openai"
    body: dict[str, Any] = {"type": kind}
    made: list[str] = []
    base = _address(prefix, kind, params)
    if base is not None:
        body["base_url"] = base
    default = _OWN[prefix][1] if prefix in _OWN else _ALIKE[prefix][1]
    key = _credential(params.pop("api_key", None), default or f"{_upper(prefix)}_API_KEY", made)
    if key is not None or default:
        body["api_key"] = key or f"${{{default}}}"
    options = _options(kind, params, made)
    if options:
        body["options"] = options
    if kind == "azure_openai" and "tenant_id" in options:
        body.pop("api_key", None)
    if kind == "bedrock":
        model = model.removeprefix("converse/").removeprefix("invoke/")
    if kind == "vertex" and not model.startswith("gemini"):
        raise NotHere("on Vertex AI only Gemini models are served")
    return Account(prefix, body, model, tuple(made))


def variable(value: Any) -> Any:
    """`os.environ/NAME` as `${NAME}`; anything else as it is."""
    if isinstance(value, str) and value.startswith("os.environ/"):
        return f"${{{value.removeprefix('os.environ/')}}}"
    return value


def _prefixed(params: Params) -> tuple[str, str]:
    named = params.pop("model", None)
    if not isinstance(named, str) or not named:
        raise NotHere("litellm_params.model is missing")
    given = params.pop("custom_llm_provider", None)
    prefix, slash, model = named.partition("/")
    if given and prefix != given:
        prefix, model = str(given), named
    elif not slash:
        model = named
        prefix = next((name for form, name in _BARE if re.match(form, named)), "")
    if not prefix:
        raise NotHere(f"{named!r} names no provider: write PROVIDER/MODEL")
    if prefix not in _OWN and prefix not in _ALIKE:
        raise NotHere(f"there is no provider type for {prefix!r}")
    if "*" in model:
        raise NotHere("models are named one by one here; a wildcard is none")
    return prefix, model


def _address(prefix: str, kind: str, params: Params) -> str | None:
    given = variable(params.pop("api_base", None) or params.pop("base_url", None))
    known = _ALIKE[prefix][0] if prefix in _ALIKE else None
    if given is None:
        if known == "" or kind == "azure_openai":
            raise NotHere("it needs an api_base")
        return known
    base = str(given).rstrip("/")
    if prefix.startswith("ollama") and not base.endswith("/v1"):
        base += "/v1"  # LiteLLM speaks Ollama's own API, we its OpenAI-compatible one
    return base


def _options(kind: str, params: Params, made: list[str]) -> dict[str, str]:
    options: dict[str, str] = {}
    for theirs, ours in _OPTIONS.get(kind, {}).items():
        value = params.pop(theirs, None)
        if value is None:
            continue
        name = theirs.upper() if theirs.startswith("aws") else f"AZURE_{theirs.upper()}"
        taken = _credential(value, name, made) if theirs in _SECRETS else str(variable(value))
        options[ours] = taken or ""
    for name, default in _NEEDED.get(kind, {}).items():
        options.setdefault(name, default)
    return options


def _credential(value: Any, name: str, made: list[str]) -> str | None:
    """A variable in any case; `made` gets those that the file did not name."""
    if value is None:
        return None
    found = variable(value)
    if isinstance(found, str) and re.fullmatch(r"\$\{\w+\}", found):
        return found
    made.append(name)
    return f"${{{name}}}"


def _upper(name: str) -> str:
    return re.sub(r"\W", "_", name).upper()


PRICES: Mapping[str, str] = {
    "input_cost_per_token": "input_rate",
    "output_cost_per_token": "output_rate",
    "cache_read_input_token_cost": "cache_read_rate",
    "cache_creation_input_token_cost": "cache_write_5m_rate",
}


def prices_of(params: Params, info: Params) -> dict[str, Decimal] | None:
    """Rates per token, where both sides have one; taken out of both."""
    found = {}
    for theirs, ours in PRICES.items():
        value = params.pop(theirs, None)
        other = info.pop(theirs, None)
        value = other if value is None else value
        if value is not None:
            found[ours] = Decimal(str(value))
    return found if {"input_rate", "output_rate"} <= found.keys() else None
