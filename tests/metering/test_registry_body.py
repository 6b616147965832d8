"""The body that tenants travel in."""

from __future__ import annotations

from decimal import Decimal

import pytest

from metering.registry_body import (
    BrokenRegistryError,
    Snapshot,
    canonical,
    parse,
    read_snapshot,
    version_of,
)

FOUND = Snapshot(7, ({"id": "acme", "limits": {"tenant": {"daily_cap": Decimal("0.10")}}},))


def test_what_was_published_is_read() -> None:
    """Digits included: an amount comes out as it went in."""
    assert read_snapshot(FOUND.version, FOUND.body) == FOUND
    assert FOUND.version.startswith("7-")
    assert b'"daily_cap":0.10' in FOUND.body


@pytest.mark.parametrize(
    ("version", "body", "why"),
    [
        (FOUND.version, FOUND.body[:-1], "digest"),
        (FOUND.version, FOUND.body.replace(b"acme", b"evil"), "digest"),
        ("8" + FOUND.version[1:], FOUND.body.replace(b"acme", b"evil"), "digest"),
        ("seven", FOUND.body, "version"),
        (version_of(7, b"{"), b"{", "JSON"),
        (version_of(7, b"[]"), b"[]", "tenants"),
        (version_of(7, b'{"tenants":[1]}'), b'{"tenants":[1]}', "tenants"),
        (version_of(7, b'{"schema":2,"tenants":[]}'), b'{"schema":2,"tenants":[]}', "schema"),
    ],
)
def test_what_was_not_published_is_refused(version: str, body: bytes, why: str) -> None:
    """Cut, changed, or of another kind: it is said which, and nothing of it is quoted."""
    with pytest.raises(BrokenRegistryError, match=why) as caught:
        read_snapshot(version, body)
    assert "evil" not in str(caught.value)


def test_the_same_is_written_the_same() -> None:
    """Whatever order its keys came in; what JSON cannot say exactly is refused."""
    assert canonical({"b": [1, None, True], "a": "é"}) == '{"a":"é","b":[1,null,true]}'
    assert canonical(parse('{"x": 5e-6}')) == '{"x":0.000005}'
    with pytest.raises(TypeError, match="float"):
        canonical({"x": 0.1})
    with pytest.raises(ValueError, match="NaN"):
        parse("[NaN]")
