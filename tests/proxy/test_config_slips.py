"""What can be read and is hardly meant: told when the file is checked, not at the first request."""

from __future__ import annotations

from pathlib import Path

import pytest
from config_samples import faults, loaded

HEAD = "providers:\n  p: "

FAULTS = {
    "anthropic_root": (
        "{type: anthropic, api_key: '${K}', base_url: 'https://api.anthropic.com'}",
        "lacks the version of the API (write https://api.anthropic.com/v1)",
    ),
    "gemini_root": (
        "{type: gemini, api_key: '${K}', base_url: 'https://generativelanguage.googleapis.com/'}",
        "(write https://generativelanguage.googleapis.com/v1beta)",
    ),
    "messages": (
        "{type: anthropic, base_url: 'http://h/v1/messages'}",
        "ends in /messages, which is added to it by every call (leave /messages out)",
    ),
    "chat": ("{type: openai, base_url: 'http://h/v1/chat/completions/'}", "/chat/completions out"),
    "generate": (
        "{type: gemini, base_url: 'http://h/v1beta/models/m:generateContent'}",
        "leave :generateContent out",
    ),
    "compatible": ("{type: gemini, base_url: 'http://h/v1beta/openai'}", "write `type: openai`"),
    "google": ("{type: google}", "unknown vendor 'google' (write `gemini`)"),
    "vllm": ("{type: vllm}", "(write `openai` and the server's base_url)"),
    "mistral": ("{type: Mistral}", "(write `openai` and the server's base_url)"),
    "misspelt": ("{type: antropic}", "(did you mean 'anthropic'?)"),
}

WARNED = {
    "no_path": ("{type: openai, base_url: 'http://h:8000'}", "base_url: has no path"),
    "no_path_of_messages": ("{type: anthropic, base_url: 'http://h'}", "write http://h/v1"),
    "no_key": ("{type: anthropic}", "has no api_key"),
    "no_key_of_gemini": ("{type: gemini}", "has no api_key"),
    "no_key_of_openai": ("{type: openai}", "has no api_key"),
    "no_key_of_azure": ("{type: azure_openai, base_url: 'https://a.test'}", "has no api_key"),
    "api_version": (
        (
            "{type: azure_openai, base_url: 'https://a.test', api_key: '${K}', "
            "options: {api_version: latest}}"
        ),
        "options.api_version: 'latest' is no version",
    ),
    "region": ("{type: bedrock, options: {region: us-east}}", "'us-east' does not look like"),
    "first_event": (
        "{type: simulator, timeout_s: 10, first_event_timeout_s: 20}",
        "first_event_timeout_s: longer than timeout_s (10)",
    ),
}

SOUND = [
    "{type: openai, base_url: 'https://api.deepseek.com', api_key: '${K}'}",
    "{type: openai, base_url: 'http://localhost:8000/v1'}",
    "{type: anthropic, api_key: '${K}'}",
    "{type: gemini, api_key: '${K}'}",
    "{type: openai, api_key: '${K}'}",
    (
        "{type: azure_openai, base_url: 'https://a.test', api_key: '${K}', "
        "options: {api_version: 2025-01-01-preview}}"
    ),
    (
        "{type: azure_openai, base_url: 'https://a.test', options: {tenant_id: t, client_id: c, "
        "client_secret: '${K}'}}"
    ),
    "{type: bedrock, options: {region: us-gov-west-1}}",
]

MODEL = """\
providers:
  p: PROVIDER
models:
  m: {upstreams: [{provider: p, model: NAME}]}
  n: {upstreams: [{provider: p, model: NAME}]}
pricing: {rules: [{model: NAME, input_per_mtok: 3, output_per_mtok: 15RATES}]}
"""
ANTHROPIC = "{type: anthropic, api_key: '${K}'}"
BEDROCK = "{type: bedrock, options: {region: eu-west-1}}"


def _warnings(directory: Path, text: str, **env: str) -> list[str]:
    found = loaded(directory, text, K="sk-0123456789", **env)
    return [str(each) for each in found.warnings if "no models" not in str(each)]


@pytest.mark.parametrize("name", FAULTS)
def test_what_can_never_work_is_a_fault(tmp_path: Path, name: str) -> None:
    """One fault, which says what to write."""
    written, expected = FAULTS[name]

    [found] = faults(tmp_path, f"{HEAD}{written}\n", K="sk-0123456789")

    assert expected in found


@pytest.mark.parametrize("name", WARNED)
def test_what_is_hardly_meant_is_warned_of(tmp_path: Path, name: str) -> None:
    """It loads, with one warning beside that of the empty sections."""
    written, expected = WARNED[name]

    found = [each for each in _warnings(tmp_path, f"{HEAD}{written}\n") if "providers." in each]

    assert len(found) == 1
    assert expected in found[0]


@pytest.mark.parametrize("written", SOUND)
def test_what_is_sound_is_passed(tmp_path: Path, written: str) -> None:
    """No word of it."""
    assert not [e for e in _warnings(tmp_path, f"{HEAD}{written}\n") if "providers." in e]


def test_every_variable_that_is_not_set_is_named_at_its_key(tmp_path: Path) -> None:
    """An option is not the api_key."""
    options = "options: {region: eu-west-1, access_key_id: '${A}', secret_access_key: '${B}'}"
    text = f"{HEAD}{{type: bedrock, {options}}}\n"

    found = [each for each in _warnings(tmp_path, text) if "is not set" in each]

    assert [each.split(" ")[1] for each in found] == [
        "providers.p.options.access_key_id:",
        "providers.p.options.secret_access_key:",
    ]
    provider = loaded(tmp_path, text).settings.providers["p"]
    assert provider.unavailable == "environment variables A, B are not set"


@pytest.mark.parametrize(
    ("provider", "model", "rates", "lacks"),
    [
        (ANTHROPIC, "claude-x", "", "5m 1h"),
        (ANTHROPIC, "claude-x", ", cache_write_5m_per_mtok: 3.75", "1h"),
        (ANTHROPIC, "claude-x", ", cache_write_5m_per_mtok: 4, cache_write_1h_per_mtok: 6", ""),
        (BEDROCK, "us.anthropic.claude-x-v1:0", "", "5m 1h"),
        (BEDROCK, "amazon.nova-lite-v1:0", "", ""),
        ("{type: openai, base_url: 'http://h/v1'}", "claude-x", "", ""),
    ],
)
def test_a_price_for_claude_has_rates_for_its_cache(
    tmp_path: Path, provider: str, model: str, rates: str, lacks: str
) -> None:
    """They are 1.25 and 2 times the input rate; one warning for a rule, however many use it."""
    text = MODEL.replace("PROVIDER", provider).replace("NAME", f"'{model}'").replace("RATES", rates)

    found = [each for each in _warnings(tmp_path, text) if "cache" in each]

    assert len(found) == bool(lacks)
    for span in ("5m", "1h"):
        named = any(f"cache_write_{span}_per_mtok" in each for each in found)
        assert named == (span in lacks)


_LONG = """
providers: {p: {type: openai, api_key: x}}
models:
  a: {upstreams: [{provider: p, model: NAME}]ABILITY}
  b: {upstreams: [{provider: p, model: NAME}]ABILITY}
pricing: {rules: [{model: NAME, input_per_mtok: 1, output_per_mtok: 2TIERS}]}
"""


@pytest.mark.parametrize(
    ("name", "ability", "tiers", "is_warned"),
    [
        ("gpt-5.4", "", "", True),
        ("gpt-5.4-mini", "", "", False),
        ("gemini-2.5-pro", "", ", service_tier: {flex: {factor: 0.5}}", True),
        ("gpt-5.4", "", ", context_tiers: [{above_tokens: 272000, factor: 2}]", False),
        ("gpt-5.4", ", max_context_tokens: 272000", "", False),
        ("gpt-5.4", ", max_context_tokens: 1050000", "", True),
    ],
)
def test_a_model_that_is_dearer_for_long_prompts_says_so_in_its_price(
    tmp_path: Path, name: str, ability: str, tiers: str, is_warned: bool
) -> None:
    """Once for a rule, however many use it; not where no prompt can be as long."""
    text = _LONG.replace("NAME", name).replace("ABILITY", ability).replace("TIERS", tiers)

    found = [each for each in _warnings(tmp_path, text) if "prompts of any length" in each]

    assert len(found) == is_warned
