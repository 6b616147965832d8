"""Scopes as people read and write them."""

from __future__ import annotations

import pytest

from metering.caps import Scope, ScopeKind
from metering.ids import scope_id
from metering.scope_names import parse_scope, scope_text, shown

RUN, TENANT = Scope(ScopeKind.RUN, "r-1"), Scope(ScopeKind.TENANT)


def test_there_is_one_form() -> None:
    """Whoever tells it: an answer, a command, or the note of a script."""
    assert (scope_text(RUN, "acme"), scope_text(TENANT, "acme")) == ("run:r-1", "tenant:acme")
    assert (shown("run/r-1", "acme"), shown("tenant", "acme")) == ("run:r-1", "tenant:acme")


@pytest.mark.parametrize("name", ["", "run", "planet/mars", "run:r-1"])
def test_what_is_no_name_of_a_scope_stays(name: str) -> None:
    assert shown(name, "acme") == name


@pytest.mark.parametrize(
    ("text", "scope"),
    [
        ("run:r-1", RUN),
        ("run/r-1", RUN),
        ("tenant", TENANT),
        ("tenant:acme", TENANT),
        ("tenant/acme", TENANT),
        ("user:mailto:a/b", Scope(ScopeKind.USER, scope_id("mailto:a/b"))),
        ("user/a:b", Scope(ScopeKind.USER, scope_id("a:b"))),
    ],
)
def test_both_forms_are_read(text: str, scope: Scope) -> None:
    """The first mark ends the kind; of a user's name any text is left."""
    assert parse_scope(text, "acme") == scope


@pytest.mark.parametrize("text", ["", "run", "run:", ":r", "planet:mars", "tenant:globex"])
def test_what_names_nothing_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"is no scope|names no|is not tenant"):
        parse_scope(text, "acme")


@pytest.mark.parametrize("scope", [RUN, TENANT, Scope(ScopeKind.USER, scope_id("Ann Lee"))])
def test_what_is_told_can_be_written(scope: Scope) -> None:
    assert parse_scope(scope_text(scope, "acme"), "acme") == scope
