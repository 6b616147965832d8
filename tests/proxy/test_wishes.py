"""Headers by which a request declines what the gateway would do to it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from fixtures_door import tenant

from proxy.errors import InvalidRequest
from proxy.wishes import USUAL, Wishes, wishes_of


def test_without_headers_everything_is_allowed() -> None:
    """0 and nothing are the same."""
    assert wishes_of({}, tenant()) is USUAL
    assert wishes_of({"x-weir-no-degrade": "0", "x-weir-no-clamp": "false"}, tenant()) is USUAL


def test_each_wish_stands_for_itself() -> None:
    """1 and true decline."""
    assert wishes_of({"x-weir-no-degrade": "1"}, tenant()) == Wishes(degrade=False)
    assert wishes_of({"x-weir-no-clamp": " TRUE "}, tenant()) == Wishes(clamp=False)


def test_what_cannot_be_read_is_refused() -> None:
    """A typing error must not switch protection off, nor on."""
    with pytest.raises(InvalidRequest) as caught:
        wishes_of({"x-weir-no-clamp": "yes please"}, tenant())

    assert caught.value.param == "x-weir-no-clamp"


def test_a_wish_that_is_not_granted_is_refused() -> None:
    """Where steps may not be declined, the header is an error that names the key."""
    with pytest.raises(InvalidRequest) as caught:
        wishes_of({"x-weir-no-degrade": "1"}, replace(tenant(), may_decline_steps=False))

    assert "limits.allow_no_degrade" in caught.value.message


def test_tags_are_a_list() -> None:
    """With commas, spaces aside, each once."""
    found = wishes_of({"x-weir-tags": "eu, fast,eu"}, tenant())

    assert found == Wishes(tags=frozenset({"eu", "fast"}))


@pytest.mark.parametrize(
    "said", ["", ",", "eu,", "e u", "\u00e9", "x" * 65, ",".join(str(n) for n in range(17))]
)
def test_tags_that_are_none(said: str) -> None:
    """An empty one, one that no upstream can have, and more than anybody means."""
    with pytest.raises(InvalidRequest) as caught:
        wishes_of({"x-weir-tags": said}, tenant())
    assert caught.value.param == "x-weir-tags"


def test_an_explanation_is_wished_for() -> None:
    """Whether it is granted, the server's settings say."""
    assert wishes_of({"x-weir-explain": "1"}, tenant()) == Wishes(explain=True)
    assert wishes_of({"x-weir-explain": "0"}, tenant()) is USUAL
