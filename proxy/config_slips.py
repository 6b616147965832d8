"""What of a provider can be read and is hardly meant: an address that leads nowhere, no credential,
a rate that was forgotten.

A fault where no request could ever be served, else a warning.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit

from metering.prices import PriceBook, PriceRule, match_rule
from metering.usage import INPUT_CACHE_WRITE_1H, INPUT_CACHE_WRITE_5M
from proxy.config_decode import Findings, is_api_key, suggest
from proxy.config_shape import ProviderShape
from proxy.config_yaml import Path
from proxy.settings import Provider
from routing.upstreams import Model, Upstream

_ROOTS = {
    "api.anthropic.com": "https://api.anthropic.com/v1",
    "api.openai.com": "https://api.openai.com/v1",
    "generativelanguage.googleapis.com": "https://generativelanguage.googleapis.com/v1beta",
}
"""Addresses of vendors that mean nothing without a path."""

_ENDPOINTS = {
    "openai": ("/chat/completions", "/completions", "/embeddings", "/responses"),
    "azure_openai": ("/chat/completions", "/completions", "/embeddings", "/responses"),
    "anthropic": ("/messages",),
    "gemini": (":generateContent", ":streamGenerateContent", "/models", "/openai"),
    "bedrock": ("/converse", "/converse-stream", "/invoke"),
}
"""What a call's path ends with, by type; we write it ourselves."""

_PATHLESS = frozenset({"api.deepseek.com", "api.perplexity.ai"})
"""Servers of OpenAI's API that document an address without a path."""

_NEEDS_KEY = (".openai.com", ".azure.com", ".anthropic.com", ".googleapis.com")
_API_VERSION = re.compile(r"v1|preview|\d{4}-\d{2}-\d{2}(-preview)?")
_REGION = re.compile(r"[a-z]{2,4}(-[a-z]+){1,3}-\d{1,2}")

_OTHER_NAMES = {
    "gemini": "google google_ai google-ai vertex vertex_ai vertex-ai vertexai palm",
    "bedrock": "aws amazon aws_bedrock aws-bedrock amazon_bedrock",
    "anthropic": "claude",
    "azure_openai": "azure azure-openai azureopenai azure_ai",
    "openai": (
        "vllm sglang tgi ollama lmstudio lm_studio llamacpp llama_cpp llama.cpp litellm mistral "
        "mistralai groq together together_ai fireworks deepseek openrouter xai grok perplexity "
        "cerebras nvidia nim huggingface cohere openai_compatible openai-compatible"
    ),
}


def type_hint(written: str, known: tuple[str, ...]) -> str:
    """Which type was meant by a name that is none; servers of OpenAI's API go by `openai`."""
    for name, others in _OTHER_NAMES.items():
        if written.casefold() in others.split():
            is_alike = name == "openai"
            return f"write `{name}`" + (" and the server's base_url" if is_alike else "")
    return suggest(written, known) or f"one of {', '.join(known)}"


def check_slips(provider: Provider, written: ProviderShape, findings: Findings) -> None:
    """Report what is hardly meant in one provider."""
    path: Path = ("providers", provider.name)
    if written.base_url is not None:
        _check_address((*path, "base_url"), provider, findings)
    _warn_of_no_credential(path, provider, written, findings)
    version, region = provider.options.get("api_version"), provider.options.get("region")
    if isinstance(version, str) and version and not _API_VERSION.fullmatch(version):
        findings.warn(
            (*path, "options", "api_version"),
            f"{version!r} is no version that Azure documents",
            "leave it out for v1, or write `preview`, or a date like `2024-10-21`",
        )
    if isinstance(region, str) and not _REGION.fullmatch(region):
        findings.warn(
            (*path, "options", "region"),
            f"{region!r} does not look like a region of AWS",
            "write it like `us-east-1`",
        )
    first_s = provider.first_event_timeout_s
    if first_s is not None and first_s > provider.timeout_s:
        findings.warn(
            (*path, "first_event_timeout_s"),
            f"longer than timeout_s ({provider.timeout_s:g}), after which an upstream that sends "
            "nothing is given up anyway",
            "lower it, or raise timeout_s",
        )


def _check_address(path: Path, provider: Provider, findings: Findings) -> None:
    host, where = _address(provider)
    ending = next((each for each in _ENDPOINTS.get(provider.type, ()) if where.endswith(each)), "")
    if ending == "/openai":
        findings.fault(
            path,
            "this is Gemini's OpenAI-compatible API, which a provider of type gemini does not "
            "speak",
            "leave /openai out, or write `type: openai`",
        )
    elif ending:
        findings.fault(
            path,
            f"ends in {ending}, which is added to it by every call",
            f"leave {ending} out",
        )
    elif where or not host:
        return
    elif host in _ROOTS:
        findings.fault(path, "lacks the version of the API", f"write {_ROOTS[host]}")
    elif provider.type in ("openai", "anthropic") and host not in _PATHLESS:
        findings.warn(
            path,
            "has no path, and nearly every server of this API wants one",
            f"write {provider.base_url}/v1, unless the server's documentation says otherwise",
        )


def _address(provider: Provider) -> tuple[str, str]:
    """Host and path; empty for what is no address, which is a fault of its own."""
    try:
        parts = urlsplit(provider.base_url)
        return (parts.hostname or "").lower(), parts.path.rstrip("/")
    except ValueError:
        return "", ""


def _warn_of_no_credential(
    path: Path, provider: Provider, written: ProviderShape, findings: Findings
) -> None:
    wants_one = provider.type == "azure_openai" or (
        provider.type in ("anthropic", "gemini", "openai")
        and f".{_address(provider)[0]}".endswith(_NEEDS_KEY)
    )
    if wants_one and written.api_key is None and "tenant_id" not in written.options:
        findings.warn(
            path,
            "has no api_key, and every request will be refused there",
            "write `api_key: ${NAME}`",
        )


def warn_of_unset(providers: Mapping[str, Provider], findings: Findings) -> None:
    """Each variable of a provider that is not set, at its key: requests go on without it."""
    for provider in providers.values():
        consequence = f"routes over {provider.name!r} answer 503"
        unset = [
            (path, variable)
            for path, variable in findings.document.unset.items()
            if path[:2] == ("providers", provider.name) and is_api_key(path)
        ]
        for path, variable in unset:
            findings.warn(path, f"environment variable {variable} is not set: {consequence}")
        if provider.unavailable and not unset:
            path = ("providers", provider.name, "api_key")
            findings.warn(path, f"{provider.unavailable}: {consequence}")


def warn_of_cache_rates(
    models: Mapping[str, Model],
    prices: PriceBook,
    providers: Mapping[str, Provider],
    findings: Findings,
) -> None:
    """Claude's cache is dearer to write than its input is to read: a rule that does not say so
    loses money with every prompt that is cached. Once for each rule."""
    told: list[PriceRule] = []
    for path, upstream in _claudes(models, providers):
        rule = match_rule(
            prices.rules,
            provider=upstream.provider,
            model=upstream.model,
            public_name=upstream.public_name,
        )
        if rule is None or rule in told or not rule.has_token_rates or not rule.input_rate_pico:
            continue
        lacks = [
            f"{unit.removeprefix('input_')}_per_mtok ({times} times the input rate at Anthropic)"
            for unit, times in ((INPUT_CACHE_WRITE_5M, "1.25"), (INPUT_CACHE_WRITE_1H, "2"))
            if unit not in rule.class_rates_pico
        ]
        if lacks:
            told.append(rule)
            findings.warn(
                path,
                f"its price ({rule.model}) has no rate for writing to Claude's cache, which is "
                "billed as plain input and costs more",
                f"add {' and '.join(lacks)}",
            )


_LONG_PROMPTS: tuple[tuple[str, int], ...] = (
    ("gpt-5.4", 272_000),
    ("gpt-5.4-pro", 272_000),
    ("gpt-5.4-20*", 272_000),
    ("gpt-5.5", 272_000),
    ("gemini-2.5-pro*", 200_000),
    ("gemini-3*-pro*", 200_000),
    ("claude-sonnet-4-20*", 200_000),
    ("claude-sonnet-4-5*", 200_000),
)
"""Models whose list price is another for prompts above so many tokens, by the vendors' price pages
of November 2026."""


def warn_of_long_prompts(
    models: Mapping[str, Model], prices: PriceBook, findings: Findings
) -> None:
    """A model that costs more for long prompts needs to say so in its rule: at the list price each
    of them loses money. Once for each rule."""
    told: list[PriceRule] = []
    for name, model in models.items():
        for index, upstream in enumerate(model.upstreams):
            above = _dearer_above(upstream.model)
            if above is None or above >= (model.abilities.max_context_tokens or above + 1):
                continue
            rule = match_rule(
                prices.rules,
                provider=upstream.provider,
                model=upstream.model,
                public_name=upstream.public_name,
            )
            if rule is None or rule in told or not rule.input_rate_pico:
                continue
            if rule.variants is None or not rule.variants.context:
                told.append(rule)
                findings.warn(
                    ("models", name, "upstreams", index, "model"),
                    f"its price ({rule.model}) is the same for prompts of any length, and the "
                    f"vendor's is not above {above} tokens",
                    f"add context_tiers: [{{above_tokens: {above}, ...}}] to the rule, or "
                    f"max_context_tokens: {above} to the model",
                )


def _dearer_above(model: str) -> int | None:
    for pattern, above in _LONG_PROMPTS:
        if fnmatch.fnmatchcase(model, pattern):
            return above
    return None


def _claudes(
    models: Mapping[str, Model], providers: Mapping[str, Provider]
) -> Iterator[tuple[Path, Upstream]]:
    for name, model in models.items():
        for index, upstream in enumerate(model.upstreams):
            provider = providers.get(upstream.provider)
            kind = provider.type if provider is not None else ""
            if kind == "anthropic" or (kind == "bedrock" and "anthropic." in upstream.model):
                yield ("models", name, "upstreams", index, "model"), upstream
