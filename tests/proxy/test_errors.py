"""The tree of refusals: every leaf has a status, a type, and a code that says what to do."""

from __future__ import annotations

import orjson
import pytest

from proxy.errors import ApiError, InvalidRequest, SpendExhausted


def leaves(kind: type[ApiError] = ApiError) -> list[type[ApiError]]:
    return [kind, *(leaf for child in kind.__subclasses__() for leaf in leaves(child))]


@pytest.mark.parametrize("kind", leaves(), ids=lambda kind: kind.__name__)
def test_every_refusal_has_openai_shape(kind: type[ApiError]) -> None:
    """Message, type, param and code are always there; code is a string or null."""
    error = orjson.loads(kind("what happened").body())["error"]

    assert set(error) == {"message", "type", "param", "code"}
    assert error["code"] is None or isinstance(error["code"], str)
    assert 400 <= kind.status < 600


def test_no_two_refusals_share_code_and_status() -> None:
    """A code names one thing: whoever alerts on it knows which."""
    named = [(kind.status, kind.code) for kind in leaves() if "code" in vars(kind) and kind.code]

    assert len(named) == len(set(named))


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    """The picture at the head of the module shows every class."""
    import proxy.errors

    picture = proxy.errors.__doc__ or ""
    own = [kind.__name__ for kind in leaves() if kind.__module__ == proxy.errors.__name__]
    assert [name for name in own if name not in picture] == []


def test_a_refusal_can_be_said_again() -> None:
    """A refusal that is kept for later is copied for each request."""
    first = InvalidRequest("m", param="p", code="c", headers={"a": "b"})

    second = first.again()

    assert second is not first
    assert (second.body(), second.headers()) == (first.body(), first.headers())


def test_an_exhausted_cap_says_not_to_retry() -> None:
    """T-50: the stock SDKs retry any 429 twice unless told otherwise."""
    assert SpendExhausted("m").headers() == {"x-should-retry": "false"}
