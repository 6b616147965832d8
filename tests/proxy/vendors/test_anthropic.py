"""Anthropic's API as a vendor: which of a client's headers go on."""

from __future__ import annotations

from dataclasses import replace

import pytest
from fixtures_door import settings

from proxy.settings import Provider
from proxy.vendors import anthropic
from proxy.vendors import of_client as of_client_of


def provider(**options: str) -> Provider:
    made = settings({"one": "http://localhost"}).providers["one"]
    return replace(made, type="anthropic", options=options)


@pytest.mark.parametrize(
    ("allowed", "asked", "passed"),
    [
        (None, "fast-mode-1, b", "fast-mode-1,b"),
        (None, ",,,", None),
        ("*", "a,,b,", "a,b"),
        ("files-*, b", "files-1,fast-mode-1,b,bb", "files-1,b"),
        ("none", "fast-mode-1", None),
    ],
    ids=str,
)
def test_a_client_asks_for_the_betas_it_may(
    allowed: str | None, asked: str, passed: str | None
) -> None:
    """All where nothing is said, else those that match; a list of nothing is no header."""
    options = {} if allowed is None else {"client_betas": allowed}
    found = anthropic.of_client(provider(**options), {"anthropic-beta": asked, "x": "y"})

    assert found == ({"x": "y"} if passed is None else {"x": "y", "anthropic-beta": passed})
    assert (
        of_client_of(anthropic, provider(**options), {"anthropic-beta": asked, "x": "y"}) == found
    )
