"""What Redis' scripts leave for people."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from metering.settlement.notes import read_note

NOTE: dict[str, Any] = {
    "v": 1,
    "kind": "cap_mark",
    "tenant": "acme",
    "scope": "run/abc",
    "window": "24h",
    "mark_ppm": 800_000,
    "limit_nano": "9007199254740991",
    "spent_nano": "7205759403792793",
    "at_ms": 1_793_491_200_000,
}


def test_a_note_is_an_alert_named_by_its_place() -> None:
    found = read_note(orjson.dumps(NOTE), shard=3, stream_id="7-1")

    assert found is not None
    assert found.key == "cap_mark:acme:3:7-1"
    assert found.body == {
        "tenant": "acme",
        "scope": "run:abc",
        "window": "24h",
        "mark_ppm": 800_000,
        "at_ms": 1_793_491_200_000,
        "limit_nano": 9007199254740991,
        "spent_nano": 7205759403792793,
    }


def test_a_refusal_has_no_mark() -> None:
    note = {name: value for name, value in NOTE.items() if name != "mark_ppm"}

    found = read_note(orjson.dumps({**note, "kind": "cap_refuses"}), shard=0, stream_id="7-1")

    assert found is not None
    assert "mark_ppm" not in found.body


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(None, id="trimmed"),
        pytest.param(b"", id="empty"),
        pytest.param(b"no json", id="no json"),
        pytest.param(b"[1]", id="a list"),
        pytest.param(orjson.dumps({**NOTE, "kind": "newer"}), id="of another version"),
        pytest.param(orjson.dumps({"kind": "cap_mark"}), id="without a tenant"),
        pytest.param(orjson.dumps({**NOTE, "spent_nano": "x"}), id="no amount"),
    ],
)
def test_what_is_no_note_of_ours_is_nothing(raw: bytes | None) -> None:
    assert read_note(raw, shard=0, stream_id="1-0") is None
