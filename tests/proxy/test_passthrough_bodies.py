"""What a body says, found wherever it stands."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import InvalidRequest
from proxy.passthrough_bodies import REFERENCES, read_sent, references

JSON = "application/json"


def sent(body: Any, kind: str = JSON) -> Any:
    return read_sent(orjson.dumps(body), kind)


def test_what_is_read() -> None:
    """Model, user, stream and background; the bytes are kept."""
    found = sent({"model": "m", "user": "u", "stream": True, "background": True})

    assert (found.model, found.user, found.is_stream, found.is_background) == (
        "m",
        "u",
        True,
        True,
    )
    assert found.with_model("m") is found.raw
    assert orjson.loads(found.with_model("n"))["model"] == "n"


PLACES: dict[str, tuple[Any, set[str]]] = {
    "top": ({"input_file_id": "file-1"}, {"file-1"}),
    "list": ({"file_ids": ["file-1", "file-2"]}, {"file-1", "file-2"}),
    "deep": (
        {"input": [{"content": [{"type": "input_file", "file_id": "file-1"}]}]},
        {"file-1"},
    ),
    "tool": ({"tools": [{"type": "x", "container": {"file_ids": ["file-1"]}}]}, {"file-1"}),
    "container": ({"tools": [{"container": "cntr_1"}]}, {"cntr_1"}),
    "conversation": ({"conversation": {"id": "conv_1"}}, {"conv_1"}),
    "item": ({"input": [{"type": "item_reference", "id": "msg_1"}]}, {"msg_1"}),
    "source": ({"data_source": {"source": {"type": "file_id", "id": "file-1"}}}, {"file-1"}),
    "metadata": ({"metadata": {"file_id": "file-1"}}, set()),
    "schema": ({"parameters": {"properties": {"file_id": {"type": "string"}}}}, set()),
    "text": ({"input": "my file_id is file-1"}, set()),
    "no_text": ({"file_id": 7, "file_ids": [{"file_id": "file-1"}]}, {"file-1"}),
}


@pytest.mark.parametrize(("body", "found"), PLACES.values(), ids=PLACES)
def test_ids_are_found(body: Any, found: set[str]) -> None:
    """Wherever a provider would look for one, and not in what it only keeps."""
    assert set(sent(body).references) == found


@given(
    st.recursive(
        st.none() | st.booleans() | st.text(max_size=4) | st.integers(),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from([*sorted(REFERENCES)[:4], "type", "id", "metadata", "x"]),
                inner,
                max_size=3,
            )
        ),
        max_leaves=12,
    )
)
def test_any_value_is_survived(body: Any) -> None:
    """References are texts, whatever stands where."""
    assert all(isinstance(each, str) for each in references(body))


@pytest.mark.parametrize(
    ("said", "count"),
    [(None, 4), (1, 1), (10, 10), ("8", 8), (0, 1)],
)
def test_counts(said: object, count: int) -> None:
    """A number, or the digits of one, is how many are held for; nothing is less than one."""
    assert sent({"n": said}).count("n", 4) == count


@pytest.mark.parametrize("said", [-1, 1000, "many", 1.5, True, [1], "", "\u0661"])
def test_counts_that_are_none(said: object) -> None:
    """Who asks for so many cannot be held for."""
    with pytest.raises(InvalidRequest):
        sent({"n": said}).count("n", 1)


BROKEN: dict[str, bytes] = {
    "twice": b'{"a": 1, "a": 1}',
    "escaped_twice": b'{"model": "a", "m\\u006fdel": "b"}',
    "deep": b'{"a":' + b"[" * 300 + b"]" * 300 + b"}",
    "wide": b'{"n": 99999999999999999999999}',
    "nan": b'{"n": NaN}',
    "behind": b'{"a": 1} {}',
    "model_list": b'{"model": ["a"]}',
    "model_long": b'{"model": "' + b"a" * 300 + b'"}',
    "model_line": b'{"model": "a\\nb"}',
    "many": orjson.dumps({"file_ids": [f"file-{n}" for n in range(3000)]}),
}


@pytest.mark.parametrize("raw", BROKEN.values(), ids=BROKEN)
def test_what_is_refused(raw: bytes) -> None:
    """Before anything is held or sent."""
    with pytest.raises(InvalidRequest):
        read_sent(raw, JSON)


def test_no_body_says_nothing() -> None:
    """Cancelling needs none."""
    assert read_sent(b"", "").references == ()
