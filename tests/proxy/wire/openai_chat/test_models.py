"""OpenAI's models by their names."""

from __future__ import annotations

import pytest

from proxy.wire.openai_chat.models import is_openai, is_unreasoning

OLDER = ["gpt-3.5-turbo", "gpt-35-turbo", "gpt-4", "gpt-4-turbo", "gpt-4o-mini", "gpt-4.1-nano"]
OLDER += ["chatgpt-4o-latest", "openai/gpt-4o", "ft:gpt-4o-mini-2024-07-18:org::id", "GPT-4o"]
REASONING = ["gpt-5", "gpt-5.2-mini", "o1", "o3-mini", "openai/o4-mini", "codex-mini-latest"]
OTHERS = ["gpt-oss-120b", "openai/gpt-oss-20b", "deepseek-reasoner", "qwen3", "olmo3", "my-gpt-4o"]


@pytest.mark.parametrize("model", OLDER)
def test_older_families_do_not_reason(model: str) -> None:
    """They are OpenAI's, and refuse an effort."""
    assert is_openai(model)
    assert is_unreasoning(model)


@pytest.mark.parametrize("model", REASONING)
def test_newer_families_do(model: str) -> None:
    """They are OpenAI's, and take one."""
    assert is_openai(model)
    assert not is_unreasoning(model)


@pytest.mark.parametrize("model", OTHERS)
def test_nothing_is_known_of_others(model: str) -> None:
    """Open models, other makers', and names that somebody gave."""
    assert not is_openai(model)
    assert not is_unreasoning(model)
