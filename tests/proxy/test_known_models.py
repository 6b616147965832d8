"""The list of known models: what it says, where it says it from, and that it refuses nobody new."""

from __future__ import annotations

import re
from dataclasses import fields
from datetime import date
from pathlib import Path
from typing import Any

import orjson
import pytest

from proxy.known_models import known_abilities, list_date
from routing.abilities import ANY, Abilities

LIST: dict[str, Any] = orjson.loads(
    (Path(__file__).parents[2] / "proxy/data/models.json").read_bytes()
)
NAMES = {each.name for each in fields(Abilities)}


@pytest.mark.parametrize("entry", LIST["models"], ids=lambda entry: entry["names"][0])
def test_every_entry_has_a_source(entry: dict[str, Any]) -> None:
    """A page, or a dated package; and nothing that our abilities have no name for."""
    assert entry["sources"]
    assert all(re.match(r"https://|genai-prices \d", each) for each in entry["sources"])
    assert set(entry) - {"names", "sources"} <= NAMES
    assert len(set(entry) - {"names", "sources"}) > 0
    for name, value in entry.items():
        if name.startswith("max_"):
            assert isinstance(value, int)
            assert 1_000 <= value <= 10_000_000


def test_no_name_stands_twice() -> None:
    """Of two entries for one pattern, one would be silently ignored."""
    names = [name for entry in LIST["models"] for name in entry["names"]]

    assert len(names) == len(set(names))
    assert all(name == name.lower() for name in names)


def test_the_list_has_a_date() -> None:
    """So that a reader knows how old it is."""
    assert date.fromisoformat(list_date()).year >= 2026


@pytest.mark.parametrize(
    ("model", "context", "audio"),
    [
        ("gpt-5.4-mini-2026-03-17", 400_000, None),
        ("gpt-5.4", 1_050_000, None),
        ("us.anthropic.claude-haiku-4-5-20251001-v1:0", 200_000, False),
        ("Claude-Opus-5-5", 1_000_000, False),
        ("gemini-3.5-flash", 1_114_112, True),
    ],
)
def test_known_models(model: str, context: int, *, audio: bool | None) -> None:
    """By the name at the provider, dated or not, in any letters."""
    found = known_abilities(model)

    assert (found.max_context_tokens, found.audio) == (context, audio)


@pytest.mark.parametrize("model", ["my-model", "", "gpt-oss-120b", "llama-4-70b", "gpt-5.4-ultra"])
def test_what_is_not_in_the_list_is_unknown(model: str) -> None:
    """Not guessed from its family: the next model may take more."""
    assert known_abilities(model) == ANY
