"""Every key explains itself."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from proxy import config_keys
from proxy.config_decode import shape_keys
from proxy.config_keys import UnknownKey, effect_of, find_key
from proxy.config_schema import config_schema

ROOT = Path(__file__).parents[2]


def test_every_key_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the name that the documentation has for it, with a meaning, a type and a page."""
    schema = config_schema()
    monkeypatch.setattr(config_keys, "config_schema", lambda: schema)
    page = (ROOT / "docs/configuration.md").read_text(encoding="utf-8")
    anchors = {
        re.sub(r"[^\w\- ]", "", each.lower()).strip().replace(" ", "-")
        for each in re.findall(r"^## (.+)$", page, flags=re.MULTILINE)
    }

    for pattern in shape_keys():
        key = find_key(pattern, None)
        assert key.pattern == pattern
        assert key.description
        assert key.type
        assert key.page.partition("#")[2] in anchors, pattern


@pytest.mark.parametrize(
    ("asked", "pattern", "path"),
    [
        ("tenants[2].keys[].id", "tenants[].keys[].id", None),
        ("tenants.keys.id", "tenants[].keys[].id", None),
        ("tenants[2].id", "tenants[].id", ("tenants", 2, "id")),
        ("models.gpt-5.4.cache", "models.NAME.cache", ("models", "gpt-5.4", "cache")),
        ('models."o.1".cache', "models.NAME.cache", ("models", "o.1", "cache")),
        ("providers.x.options.region", "providers.NAME.options.NAME", ("providers", "x", "options",
         "region")),
    ],
)  # fmt: skip
def test_how_keys_are_asked_for(asked: str, pattern: str, path: tuple[object, ...] | None) -> None:
    """As in the documentation, as in a fault, by names that the file has."""
    key = find_key(asked, {"models": {"gpt-5.4": {}}})

    assert (key.pattern, key.path) == (pattern, path)


@pytest.mark.parametrize("asked", ["servr", "server.prot", "server.port.x", "server[0]", "a..b"])
def test_unknown_keys(asked: str) -> None:
    """They are told with what there is."""
    with pytest.raises(UnknownKey, match="no key"):
        find_key(asked, None)


@pytest.mark.parametrize(
    ("pattern", "effect"),
    [
        ("server.port", "after a restart"),
        ("server.max_body_mb", "at once"),
        ("server", "in part"),
        ("cache.url", "after a restart"),
        ("cache.enabled", "at once"),
        ("limits.tenant.daily_cap", "at once"),
        ("ledger.url", "after a restart"),
        ("providers.NAME.api_key", "at once"),
    ],
)
def test_when_changes_hold(pattern: str, effect: str) -> None:
    """As `proxy.settings_changes` treats them."""
    assert effect_of(pattern)[0] == effect


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ("server.port", "integer, 0 to 65535"),
        ("server.on_disconnect", "abort or drain"),
        ("server.explain", "true or false"),
        ("tenants", "list of mappings"),
        ("providers.NAME.timeout_s", "number, above 0, at most 86400"),
        ("limits", "mapping"),
    ],
)
def test_types_in_words(asked: str, words: str) -> None:
    """With choices and bounds."""
    assert find_key(asked, None).type == words
