"""Decoding: whatever stands where, the answer is settings or faults; one mistake is one fault."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy.config import ConfigFaults, load
from proxy.config_decode import keys_at, shape_keys, suggest

EXAMPLE = yaml.safe_load((Path(__file__).parents[2] / "config.yaml").read_text(encoding="utf-8"))
EXAMPLE["limits"]["caps"] = [
    {"scope": "user", "window": "month", "timezone": "Europe/Paris", "usd": 5, "alert_at": [0.8]},
    {"scope": "key", "id": "demo", "window": "1h", "requests": 5, "mode": "shadow"},
]
EXAMPLE["tenants"][0]["keys"][0]["pin"] = {"feature": "x", "user": "a b"}

LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(
        ["", "x", "demo", "openai", "${NOPE}", "${A:-7}", "$${", "http://[::", "a b", "~"]
    )
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["id", "model", "type", "x", "", "tenant"]), inner, max_size=3
        )
    ),
    max_leaves=6,
)


def _places(tree: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = (
        tree.items()
        if isinstance(tree, dict)
        else enumerate(tree)
        if isinstance(tree, list)
        else ()
    )
    return [path, *(place for key, value in items for place in _places(value, (*path, key)))]


def _messages(path: Path) -> list[str]:
    try:
        return [str(fault) for fault in load(path, {}).warnings]
    except ConfigFaults as failure:
        return [str(fault) for fault in failure.faults]


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150, deadline=None
)
@given(st.data())
def test_any_value_anywhere_is_answered(tmp_path: Path, data: st.DataObject) -> None:
    """Up to three values of the example replaced by anything: settings or faults, never a crash."""
    tree = json.loads(json.dumps(EXAMPLE))
    for _ in range(data.draw(st.integers(1, 3))):
        *around, last = data.draw(st.sampled_from(_places(tree)[1:]))
        container = tree
        for step in around:
            container = container[step]
        container[last] = data.draw(VALUES)
        if not isinstance(tree, dict) or not _places(tree)[1:]:
            break
    path = tmp_path / "config.yaml"
    path.write_text(json.dumps(tree))

    assert all(_messages(path))


ALONE = {
    "a tenant without an id": "tenants: [{}]",
    "a tenant that is a number": "tenants: [5]",
    "a rule that is a word": "pricing: {rules: [free]}",
    "rules that are no list": "pricing: {rules: 5}",
    "upstreams unset": "models: {m: {upstreams: '${NOPE}'}}",
    "a provider of an unset type": "providers: {p: {type: '${NOPE}'}}",
    "a key of an unset hash": "tenants: [{id: t, keys: [{id: k, sha256: '${NOPE}'}]}]",
    "a model that is a list": "models: {m: []}",
    "a cap of no scope": "limits: {caps: [{scope: team, window: 1h, usd: 5}]}",
    "a cap of an unset scope": "limits: {caps: [{scope: '${NOPE}', window: 1h, usd: 5}]}",
    "a cap whose limit is a word": "limits: {caps: [{scope: key, window: 1h, usd: much}]}",
    "a mark that is a word": "limits: {caps: [{scope: key, window: 1h, usd: 5, alert_at: [x]}]}",
}


@pytest.mark.parametrize("text", ALONE.values(), ids=ALONE)
def test_one_mistake_is_one_fault(tmp_path: Path, text: str) -> None:
    """What follows from a mistake is not reported beside it."""
    path = tmp_path / "config.yaml"
    path.write_text(text)

    with pytest.raises(ConfigFaults) as caught:
        load(path, {})
    assert len(caught.value.faults) == 1


@pytest.mark.parametrize(
    ("name", "known", "expected"),
    [
        ("prot", ["port", "host"], "did you mean 'port'?"),
        ("zzz", ["port", "host"], "known: host, port"),
        ("zzz", [], None),
        ("zzz", [f"key{n}" for n in range(9)], None),
    ],
)
def test_suggestions(name: str, known: list[str], expected: str | None) -> None:
    """The closest name, else all of a few, else nothing."""
    assert suggest(name, known) == expected


def test_keys_of_a_place() -> None:
    """The shape knows which keys may stand where."""
    assert keys_at(("models", "m", "upstreams", 0))[:3] == ["provider", "model", "enabled"]
    assert keys_at(("tenants", 3, "projects", 1))[:2] == ["id", "name"]
    assert keys_at(("models",)) == []
    assert "tenants[].limits.features.NAME.max_context_tokens" in set(shape_keys())
