"""A LiteLLM file taken over: what is carried, that nothing goes in silence, that no secret does."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from config_samples import loaded

from proxy.litellm_import import NotLiteLLM, read_litellm, without_models, written

FILE = """\
model_list:
  - model_name: big
    litellm_params: {model: openai/gpt-4o, api_key: os.environ/OPENAI_API_KEY, rpm: 480,
      stream_timeout: 60, organization: org-1}
  - model_name: big
    litellm_params: {model: azure/gpt-4o-eu, api_base: "https://mine.openai.azure.com/",
      api_key: sk-hidden-1, api_version: "2024-10-21", rpm: 6, temperature: 0.2}
    model_info: {base_model: azure/gpt-4o, input_cost_per_token: 0.0000025,
      output_cost_per_token: 1e-5, id: one}
  - model_name: claude
    litellm_params: {model: claude-sonnet-4-5}
  - model_name: local
    litellm_params: {model: ollama/llama3, api_base: "http://gpu:11434",
      input_cost_per_token: 0, output_cost_per_token: 0}
  - {model_name: "openai/*", litellm_params: {model: "openai/*"}}
  - {model_name: odd, litellm_params: {model: sagemaker/x}}
litellm_settings:
  drop_params: true
  request_timeout: 120
  fallbacks: [{big: [claude]}, {claude: [big]}]
  max_budget: 100
  budget_duration: 30d
  callbacks: [otel]
  default_internal_user_params: {max_budget: 5.5, budget_duration: 1mo, rpm_limit: 60, x: 1}
router_settings:
  routing_strategy: latency-based-routing
  num_retries: 9
  context_window_fallbacks: [{claude: [big]}]
  model_group_alias: {gpt-4: big}
  redis_password: hidden-2
general_settings: {master_key: sk-hidden-3, global_max_parallel_requests: 7}
environment_variables: {A: hidden-4}
other: 1
"""


def _tree() -> dict[str, Any]:
    return read_litellm(FILE).tree


def test_it_loads(tmp_path: Path) -> None:
    """What comes of it is a sound configuration, and the schema takes it, too."""
    text = written(_tree(), ["a head"])

    settings = loaded(tmp_path, text).settings

    assert text.startswith("# a head\n")
    assert list(settings.models) == ["big", "claude", "local", "gpt-4"]


def test_deployments_become_upstreams() -> None:
    """Deployments of one name are upstreams of one model, by weight where they had rates."""
    big = _tree()["models"]["big"]

    assert big["upstreams"] == [
        {"provider": "openai", "model": "gpt-4o", "weight": 480},
        {"provider": "azure", "model": "gpt-4o-eu", "weight": 6},
    ]
    assert (big["strategy"], big["retries"]) == ("least_latency", {"max": 5})


def test_accounts_become_providers() -> None:
    """Type, address and options; a credential is a variable in any case."""
    providers = _tree()["providers"]

    assert providers["azure"]["base_url"] == "https://mine.openai.azure.com"
    assert providers["azure"]["api_key"] == "${AZURE_API_KEY}"
    assert providers["azure"]["options"] == {"api_version": "2024-10-21"}
    assert providers["anthropic"]["api_key"] == "${ANTHROPIC_API_KEY}"
    assert providers["ollama"]["base_url"] == "http://gpu:11434/v1"
    assert providers["openai"]["first_event_timeout_s"] == 60
    assert all(each["timeout_s"] == 120 for each in providers.values())
    assert all(each["drop_unsupported"] for each in providers.values())


def test_prices_are_exact() -> None:
    """Costs per token keep their digits; two zeros are free; others have the list price."""
    pricing = _tree()["pricing"]

    assert pricing["list_prices"] is True
    assert pricing["rules"][0]["input_rate"] == Decimal("0.0000025")
    assert "output_rate: 0.00001\n" in written(_tree(), ())
    assert pricing["rules"][1]["free"] is True


def test_budgets_become_caps() -> None:
    """Where they have a duration that a window can have."""
    assert _tree()["limits"]["caps"] == [
        {"scope": "tenant", "window": "30d", "usd": 100},
        {"scope": "user", "window": "month", "usd": Decimal("5.5")},
        {"scope": "user", "window": "1m", "requests": 60},
        {"scope": "tenant", "concurrent": 7},
    ]


def test_circles_are_broken_and_told() -> None:
    """LiteLLM allows a circle of fallbacks; here the last link is left out."""
    found = read_litellm(FILE)

    assert found.tree["models"]["big"]["fallbacks"] == ["claude"]
    assert "fallbacks" not in found.tree["models"]["claude"]
    assert found.tree["models"]["gpt-4"]["fallbacks"] == ["claude"]
    dropped = dict(found.report.dropped)
    assert dropped["litellm_settings.fallbacks claude -> big"] == "it would close a circle"


def test_nothing_goes_in_silence() -> None:
    """Every key that is not in the result is in the report, with a reason."""
    report = read_litellm(FILE).report
    said = " ".join([*report.carried, *(f"{key} {why}" for key, why in report.changed)])
    dropped = dict(report.dropped)

    for key in (
        "model_list[0].litellm_params.organization",
        "model_list[1].litellm_params.temperature",
        "model_list[1].model_info.base_model",
        "model_list[1].model_info.id",
        "model_list[4] (openai/*)",
        "model_list[5] (odd)",
        "litellm_settings.callbacks",
        "litellm_settings.default_internal_user_params.x",
        "router_settings.redis_password",
        "general_settings.master_key",
        "environment_variables",
        "other",
    ):
        assert dropped[key]
    for key in ("drop_params", "request_timeout", "max_budget", "num_retries", "gpt-4", "rpm"):
        assert key in said


def test_no_secret_is_copied() -> None:
    """Neither into the file nor into the report."""
    found = read_litellm(FILE)

    assert "hidden" not in written(found.tree, ()) + repr(found.report)


def test_models_are_left_out_with_every_way_to_them() -> None:
    """A model without a price under a cap is dropped, and so are fallbacks to it."""
    found = read_litellm(FILE)

    without_models(found, {"claude"})

    assert "claude" not in found.tree["models"]
    assert "fallbacks" not in found.tree["models"]["big"]
    assert dict(found.report.dropped)["model claude"].startswith("it has no price")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a: [", "not YAML on line"),
        ("a: 1", "no model_list"),
        ("model_list: []\nrouter_settings: 3", "router_settings is no mapping"),
    ],
)
def test_what_is_no_file_of_litellm(text: str, why: str) -> None:
    """It says why, and where."""
    with pytest.raises(NotLiteLLM, match=why):
        read_litellm(text)
