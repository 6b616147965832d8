"""Conditions on requests: all that is written has to hold, and one of several values is enough."""

from __future__ import annotations

import pytest

from routing.conditions import NO_TRAITS, Traits, When

ASKED = Traits(
    labels={"feature": "chat-de", "user": None, "tenant": "acme"},
    tags=frozenset({"eu", "fast"}),
    stream=True,
    metadata={"tier": "gold", "trial": False, "seats": 3, "deep": {"a": 1}, "long": "x" * 300},
)

TABLE: dict[str, tuple[When, str | None]] = {
    "nothing written": (When(), None),
    "a label": (When(labels=(("feature", ("chat-*",)),)), None),
    "one of several": (When(labels=(("feature", ("mail", "chat-??")),)), None),
    "another label": (When(labels=(("feature", ("mail",)),)), "feature"),
    "a label in other letters": (When(labels=(("feature", ("CHAT-*",)),)), "feature"),
    "a label not said": (When(labels=(("user", ("*",)),)), "user"),
    "two labels": (When(labels=(("feature", ("*",)), ("tenant", ("else",)))), "tenant"),
    "a tag": (When(tags=("eu", "us")), None),
    "no such tag": (When(tags=("us",)), "tags"),
    "a stream": (When(stream=True), None),
    "no stream": (When(stream=False), "stream"),
    "long enough": (When(min_prompt_tokens=100), None),
    "too short": (When(min_prompt_tokens=101), "min_prompt_tokens"),
    "short enough": (When(max_prompt_tokens=100), None),
    "too long": (When(max_prompt_tokens=99), "max_prompt_tokens"),
    "metadata": (When(metadata=(("tier", ("gold", "silver")),)), None),
    "a flag in metadata": (When(metadata=(("trial", ("false",)),)), None),
    "a number in metadata": (When(metadata=(("seats", ("3",)),)), None),
    "other metadata": (When(metadata=(("tier", ("silver",)),)), "metadata.tier"),
    "metadata not there": (When(metadata=(("plan", ("*",)),)), "metadata.plan"),
    "metadata of another kind": (When(metadata=(("deep", ("*",)),)), "metadata.deep"),
    "metadata too long": (When(metadata=(("long", ("*",)),)), "metadata.long"),
}


@pytest.mark.parametrize("name", TABLE)
def test_what_is_unmet(name: str) -> None:
    """The first condition that fails is named."""
    when, unmet = TABLE[name]

    assert when.unmet(ASKED, prompt_tokens=100) == unmet


def test_a_request_that_says_nothing_meets_no_condition_on_labels() -> None:
    """What is not said is not anything, not even by `*`."""
    assert When(labels=(("tenant", ("*",)),)).unmet(NO_TRAITS, prompt_tokens=1) == "tenant"
