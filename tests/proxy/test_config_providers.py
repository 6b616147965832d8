"""Accounts at vendors: what each vendor wants to know, checked before anything is called."""

from __future__ import annotations

from pathlib import Path

import pytest
from config_samples import faults, loaded

from proxy.settings import Probe

HEAD = "providers:\n  p: "

FAULTS = {
    "needs_an_address": (
        "{type: azure_openai}",
        "2:3 providers.p.base_url: a provider of type azure_openai needs one",
    ),
    "unknown_option": (
        "{type: gemini, options: {aut: bearer}}",
        "2:36 providers.p.options.aut: unknown option 'aut' (did you mean 'auth'?)",
    ),
    "wrong_value": (
        "{type: gemini, options: {auth: baerer}}",
        (
            "2:37 providers.p.options.auth: 'baerer' is none of api_key, bearer "
            "(did you mean 'bearer'?)"
        ),
    ),
    "wrong_in_a_list": (
        "{type: openai, options: {formats: 'openai_chat, openai_chats'}}",
        (
            "2:40 providers.p.options.formats: 'openai_chats' is none of openai_chat, "
            "openai_completions, openai_embeddings, openai_responses (did you mean 'openai_chat'?)"
        ),
    ),
    "half_a_key": (
        "{type: bedrock, options: {region: eu-west-1, session_token: '${A:-x}'}}",
        (
            "2:66 providers.p.options.session_token: means nothing without 'access_key_id' "
            "(give both, or neither)"
        ),
    ),
    "probe_without_a_path": (
        "{type: bedrock, options: {region: eu-west-1}, probe: {}}",
        "2:52 providers.p.probe: a provider of type bedrock needs its path (as /models)",
    ),
    "probe_of_another_host": (
        "{type: openai, probe: {path: 'https://x.example/'}}",
        "2:35 providers.p.probe.path: 'https://x.example/' is no path (as /models)",
    ),
    "lacks_its_region": (
        "{type: bedrock}",
        (
            "2:3 providers.p.options: lacks 'region': The AWS region, such as `us-east-1`: it "
            "stands in the host and in every signature."
        ),
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_what_a_vendor_cannot_use_is_a_fault(tmp_path: Path, name: str) -> None:
    """Where, what, and what to write instead."""
    written, expected = FAULTS[name]

    assert faults(tmp_path, f"{HEAD}{written}\n") == [expected]


def test_an_option_whose_variable_is_not_set_makes_it_unavailable(tmp_path: Path) -> None:
    """As with a key: everything else goes on. What is secret prints as such."""
    keys = "access_key_id: '${NOT_SET}', secret_access_key: '${GIVEN}'"
    text = f"{HEAD}{{type: bedrock, options: {{region: eu-west-1, {keys}}}}}\n"

    provider = loaded(tmp_path, text, GIVEN="wJalrXUtnFEMI").settings.providers["p"]

    assert provider.unavailable == "environment variable NOT_SET is not set"
    assert "wJalrXUtnFEMI" not in repr(provider)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("{type: openai}", None),
        ("{type: anthropic, probe: {}}", Probe("/models", 30.0, 5.0)),
        (
            "{type: openai, probe: {path: /health, every_s: 10, timeout_s: 0.5}}",
            Probe("/health", 10.0, 0.5),
        ),
    ],
    ids=["off", "of-its-vendor", "as-written"],
)
def test_a_probe_is_off_unless_it_is_written(
    tmp_path: Path, written: str, expected: Probe | None
) -> None:
    """And asks for the vendor's list of models unless it says what else."""
    assert loaded(tmp_path, HEAD + written).settings.providers["p"].probe == expected
