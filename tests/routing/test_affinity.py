"""Homes: the same everywhere and after every start, shared by weight, moved only when needed."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.affinity import Affinity, home_key, scores, share

LABELS = ["a/m", "b/m", "c/m", "d/m"]
KEYS = [f"key-{number}".encode() for number in range(4_000)]


def _home(key: bytes, weights: dict[str, int]) -> str:
    return _ranked(key, weights)[0]


def _ranked(key: bytes, weights: dict[str, int]) -> list[str]:
    found = scores(key, weights.items())
    return [label for _, label in sorted(zip(found, weights, strict=True), reverse=True)]


def test_a_home_is_the_same_in_every_process() -> None:
    """The hash is no process' own: a start must not empty every prompt cache."""
    assert share(b"session-1", "openai/gpt-5-mini") == pytest.approx(0.69157, abs=1e-5)


@given(
    st.dictionaries(st.text(min_size=1, max_size=8), st.integers(1, 100), min_size=2, max_size=8),
    st.binary(min_size=1, max_size=64),
)
def test_only_the_keys_of_what_left_move(weights: dict[str, int], key: bytes) -> None:
    """Without any other upstream a key keeps its home; without its own it goes to the second."""
    ranked = _ranked(key, weights)

    for gone in weights:
        left = {label: weight for label, weight in weights.items() if label != gone}
        assert _home(key, left) == (ranked[1] if gone == ranked[0] else ranked[0])


def test_what_left_spreads_over_the_others() -> None:
    """The keys of a failing upstream do not all fall on one neighbour."""
    weights = dict.fromkeys(LABELS, 1)
    moved = [key for key in KEYS if _home(key, weights) == "a/m"]
    left = dict.fromkeys(LABELS[1:], 1)

    homes = [_home(key, left) for key in moved]
    for label in left:
        assert homes.count(label) / len(moved) == pytest.approx(1 / 3, abs=0.06)


def test_homes_follow_the_weights() -> None:
    """An upstream of weight 3 is home to three times as many as one of weight 1."""
    weights = {"a/m": 1, "b/m": 3, "c/m": 0}

    homes = [_home(key, weights) for key in KEYS]

    assert homes.count("b/m") / len(KEYS) == pytest.approx(0.75, abs=0.03)
    assert homes.count("c/m") == 0


@given(st.binary(max_size=80), st.text(max_size=20))
def test_a_share_lies_between(key: bytes, label: str) -> None:
    """Neither end is reached: both would make the logarithm useless."""
    assert 0 < share(key, label) < 1


def _key(affinity: Affinity, **said: str | None) -> bytes | None:
    names = {"session": None, "user": None, "cache_key": None, **said}
    return home_key(affinity, "acme", prompt=lambda: b"hello", **names)  # type: ignore[arg-type]


def test_auto_takes_what_is_narrowest() -> None:
    """The session goes before the client's cache key, that before the user, and the prompt last."""
    everything = {"session": "s", "cache_key": "c", "user": "u"}
    seen = [_key(Affinity.AUTO, **everything)]
    for name in ("session", "cache_key", "user"):
        everything.pop(name)
        seen.append(_key(Affinity.AUTO, **everything))

    assert None not in seen
    assert len(set(seen)) == 4


def test_an_affinity_without_its_label_is_none() -> None:
    """A request without a session has no home by session."""
    assert _key(Affinity.SESSION, user="u") is None
    assert _key(Affinity.USER, session="s") is None
    assert _key(Affinity.NONE, session="s", user="u") is None
    assert home_key(
        Affinity.PROMPT, "acme", session=None, user=None, cache_key=None, prompt=lambda: b""
    ) is None  # fmt: skip


def test_tenants_have_homes_of_their_own() -> None:
    """The same session id of two tenants is two sessions."""
    keys = {
        home_key(Affinity.SESSION, who, session="s", user=None, cache_key=None, prompt=lambda: b"")
        for who in ("acme", "other")
    }

    assert len(keys) == 2


def test_scores_and_shares_agree() -> None:
    """The loop that is written out for speed draws what `share` draws."""
    assert scores(b"key", [("a/m", 2)]) == [-2 / math.log(share(b"key", "a/m"))]
