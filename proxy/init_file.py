"""The first configuration of somebody new: a commented file from a few answers. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal


@dataclass(frozen=True, slots=True)
class Start:
    """A vendor as one begins with it: the variable of its key, and two models."""

    type: str
    variable: str
    models: tuple[str, ...]
    base_url: str | None = None


STARTS: Mapping[str, Start] = {
    "openai": Start("openai", "OPENAI_API_KEY", ("gpt-5.4", "gpt-5.4-mini")),
    "anthropic": Start("anthropic", "ANTHROPIC_API_KEY", ("claude-sonnet-4-5", "claude-haiku-4-5")),
    "gemini": Start("gemini", "GEMINI_API_KEY", ("gemini-2.5-pro", "gemini-2.5-flash")),
    "simulator": Start("simulator", "", ("demo", "demo-mini")),
}
"""What can be begun with; everything else is a line more in the file."""


@dataclass(frozen=True, slots=True)
class Answers:
    """What was asked. `variables` has the name of each provider's key."""

    providers: Sequence[str]
    variables: Mapping[str, str]
    tenants: Sequence[str]
    daily_cap: Decimal
    port: int


def first_file(answers: Answers) -> str:
    """The text of config.yaml; it passes `weir config check` as it stands."""
    return "\n".join(
        [
            "# Tokenweir's configuration, made by `weir init`.",
            "# `weir config check` says what is wrong with a change, `weir config explain KEY`",
            "# what a key means.",
            "",
            "server:",
            "  host: 127.0.0.1 # 0.0.0.0 for every interface; the first keys work here only",
            f"  port: {answers.port}",
            "",
            "# Accounts at vendors. A provider whose variable is not set answers 503.",
            "providers:",
            *(_provider(name, answers) for name in answers.providers),
            "",
            "# What clients may ask for, and where it is served.",
            "models:",
            *(line for name in answers.providers for line in _models(name)),
            "",
            "# What models cost: list prices of the package; rules of your own go before them.",
            "pricing:",
            "  list_prices: true",
            *_rules(answers),
            "",
            "# The cap of every tenant that sets none: USD within any 24 hours.",
            "limits:",
            f"  tenant: {{daily_cap: {answers.daily_cap:f}}}",
            "",
            "# Who may use the proxy.",
            "tenants:",
            *(line for name in answers.tenants for line in _tenant(name)),
            "",
        ]
    )


def _provider(name: str, answers: Answers) -> str:
    start = STARTS[name]
    if not start.variable:
        return f"  {name}: {{type: {start.type}}} # bundled; needs no key and costs nothing real"
    return f'  {name}: {{type: {start.type}, api_key: "${{{answers.variables[name]}}}"}}'


def _models(name: str) -> list[str]:
    """The first falls back to the second."""
    large, small = STARTS[name].models
    return [
        f"  {large}: {{upstreams: [{{provider: {name}, model: {large}}}], fallbacks: [{small}]}}",
        f"  {small}: {{upstreams: [{{provider: {name}, model: {small}}}]}}",
    ]


def _rules(answers: Answers) -> list[str]:
    if "simulator" not in answers.providers:
        return []
    return [
        "  rules:",
        "    - {model: demo, input_per_mtok: 2.50, output_per_mtok: 10.00}",
        "    - {model: demo-mini, input_per_mtok: 0.15, output_per_mtok: 0.60}",
    ]


def _tenant(name: str) -> list[str]:
    return [
        f"  - id: {json.dumps(name)}",
        "    keys:",
        "      # Made at the first start and shown once. For real keys: weir keys new --tenant ID",
        "      - {id: first, mint: true}",
    ]
