"""The load of `weir demo`: of every kind, the same for a seed, fit for its configuration."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

from proxy.config import load
from proxy.demo_load import KEYS, MODELS, asks

DEMO = Path(__file__).parents[2] / "proxy/data/demo.yaml"


def test_the_same_seed_asks_the_same() -> None:
    """A demonstration can be shown twice."""
    assert list(islice(asks(7), 50)) == list(islice(asks(7), 50))
    assert list(islice(asks(7), 50)) != list(islice(asks(8), 50))


def test_everything_happens() -> None:
    """Within some hundred requests every key, model, path and kind of client is seen."""
    some = list(islice(asks(1), 600))

    assert {ask.key for ask in some} == set(KEYS)
    assert {ask.body["model"] for ask in some} == set(MODELS)
    assert {ask.path for ask in some} == {"/v1/chat/completions", "/v1/messages", "/v1/embeddings"}
    assert any("tools" in ask.body for ask in some)
    assert any(ask.leave_after for ask in some)
    assert any("x-weir-run" in ask.headers for ask in some)
    assert any("x-weir-user" not in ask.headers for ask in some)


def test_only_the_keys_that_are_there_are_asked_with() -> None:
    """Somebody's own installation has other keys."""
    assert {ask.key for ask in islice(asks(1, {"mine.k": 1.0}), 20)} == {"mine.k"}


def test_the_demonstration_has_what_is_asked_for() -> None:
    """Its configuration is sound, reaches the simulator only, and has these models and keys."""
    settings = load(DEMO, {}).settings

    assert {provider.type for provider in settings.providers.values()} == {"simulator"}
    assert set(settings.models) >= set(MODELS)
    assert {f"{each.tenant}.{each.key_id}" for each in settings.minted_keys} == set(KEYS)
