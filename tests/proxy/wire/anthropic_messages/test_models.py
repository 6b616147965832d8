"""What Claude models differ in."""

from __future__ import annotations

import pytest

from proxy.wire.anthropic_messages.models import (
    always_thinks,
    refuses_sampling,
    takes_beginning,
    thinks_adaptively,
)


@pytest.mark.parametrize(
    ("model", "is_adaptive", "is_strict"),
    [
        ("claude-3-7-sonnet-20250219", False, False),
        ("claude-sonnet-4-20250514", False, False),
        ("claude-haiku-4-5-20251001", False, False),
        ("claude-opus-4-6", True, False),
        ("anthropic/claude-opus-4.7", True, True),
        ("claude-sonnet-5", True, True),
        ("claude-mythos-preview", True, True),
        ("kimi-k2-turbo", False, False),
        ("glm-5", False, False),
    ],
)
def test_by_version(model: str, is_adaptive: bool, is_strict: bool) -> None:
    """4.6 thinks by effort, 4.7 takes no temperature; what is no Claude is as old ones are."""
    assert thinks_adaptively(model) is is_adaptive
    assert refuses_sampling(model) is is_strict


@pytest.mark.parametrize(
    ("model", "always"),
    [
        ("claude-mythos-preview", True),
        ("anthropic.claude-fable-5-1", True),
        ("claude-opus-5", False),
        ("fable-7b", False),
        ("mythos-max", False),
    ],
)
def test_who_cannot_be_told_not_to_think(model: str, always: bool) -> None:
    """Two families of Claude's; other makers may have models of those names."""
    assert always_thinks(model) is always


@pytest.mark.parametrize(
    ("model", "takes"),
    [
        ("claude-3-5-sonnet-latest", True),
        ("us.anthropic.claude-haiku-4-5-20251001-v1:0", True),
        ("claude-opus-4-6", False),
        ("claude-sonnet-5", False),
        ("claude-mythos-preview", False),
        ("kimi-k2-turbo", False),
    ],
)
def test_who_takes_the_beginning_of_an_answer(model: str, takes: bool) -> None:
    """Claude before 4.6; nobody else is known to go on in mid-sentence."""
    assert takes_beginning(model) is takes
