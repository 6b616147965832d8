"""Values of unknown types, read."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from proxy.errors import InvalidRequest
from proxy.wire.anthropic_messages.client_values import (
    mapping,
    mapping_or_none,
    mappings,
    text,
    text_or_none,
)


def test_what_is_right_is_given() -> None:
    """Values of the right type come back as they are; null is as good as missing."""
    assert text({"a": "x"}, "a") == "x"
    assert text_or_none({"a": None}, "a") is text_or_none({}, "a") is None
    assert mapping({}, "a") == {}
    assert mapping_or_none({"a": {}}, "a") == {}
    assert mapping_or_none({"a": None}, "a") is None
    assert mappings([{}], "a") == [{}]


WRONG: dict[str, tuple[Callable[[], object], str]] = {
    "text": (lambda: text({}, "a", "b.0"), "b.0.a"),
    "text_top": (lambda: text({"a": 1}, "a"), "a"),
    "text_or_none": (lambda: text_or_none({"a": []}, "a", "b"), "b.a"),
    "mapping": (lambda: mapping(None, "b"), "b"),
    "mapping_or_none": (lambda: mapping_or_none({"a": 1}, "a"), "a"),
    "mappings": (lambda: mappings({}, "b"), "b"),
    "mappings_item": (lambda: mappings([{}, 1], "b"), "b.1"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_named_by_its_path(name: str) -> None:
    """The path is that of Anthropic's own errors, and stands in the message, too."""
    read, path = WRONG[name]

    with pytest.raises(InvalidRequest, match=f"`{path}` must be") as caught:
        read()

    assert caught.value.param == path
