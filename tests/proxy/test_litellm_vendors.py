"""Deployments of LiteLLM as accounts: prefixes, addresses, credentials."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.litellm_vendors import NotHere, account_of

ACCOUNTS: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "no prefix": (
        {"model": "gpt-4o"},
        {"type": "openai", "api_key": "${OPENAI_API_KEY}"},
        "gpt-4o",
    ),
    "given apart": (
        {"model": "x/y", "custom_llm_provider": "groq"},
        {
            "type": "openai",
            "base_url": "https://api.groq.com/openai/v1",
            "api_key": "${GROQ_API_KEY}",
        },
        "x/y",
    ),
    "a server of one's own": (
        {"model": "hosted_vllm/q/w", "api_base": "os.environ/VLLM"},
        {"type": "openai", "base_url": "${VLLM}"},
        "q/w",
    ),
    "bedrock": (
        {"model": "bedrock/converse/m:0", "aws_secret_access_key": "s", "aws_region_name": "r"},
        {
            "type": "bedrock",
            "options": {"region": "r", "secret_access_key": "${AWS_SECRET_ACCESS_KEY}"},
        },
        "m:0",
    ),
    "vertex": (
        {"model": "vertex_ai/gemini-2.5-pro"},
        {"type": "vertex", "options": {"project": "${VERTEXAI_PROJECT}"}},
        "gemini-2.5-pro",
    ),
}


@pytest.mark.parametrize(("params", "body", "model"), ACCOUNTS.values(), ids=ACCOUNTS)
def test_accounts(params: dict[str, Any], body: dict[str, Any], model: str) -> None:
    """The provider as config.yaml writes it; nothing of the deployment is left over."""
    found = account_of(params)

    assert (found.body, found.model, params) == (body, model, {})


@pytest.mark.parametrize(
    ("params", "why"),
    [
        ({}, "is missing"),
        ({"model": "what"}, "names no provider"),
        ({"model": "sagemaker/x"}, "no provider type"),
        ({"model": "azure/x"}, "needs an api_base"),
        ({"model": "openai/*"}, "one by one"),
        ({"model": "vertex_ai/claude-3"}, "only Gemini"),
    ],
)
def test_what_has_no_counterpart(params: dict[str, Any], why: str) -> None:
    """It is told, not guessed."""
    with pytest.raises(NotHere, match=why):
        account_of(params)
