"""A scope as people read and write it: `run:r-1`, `tenant:acme`. Pure.

In Redis, in flags and in the notes of scripts a scope within a tenant is `run/r-1`, and the
tenant's own is `tenant`; what is shown has one form everywhere, and both are read.
"""

from __future__ import annotations

from metering.caps import Scope, ScopeKind
from metering.ids import scope_id


def scope_text(scope: Scope, tenant: str) -> str:
    """The scope as everybody is told it."""
    return f"{scope.kind}:{tenant if scope.kind is ScopeKind.TENANT else scope.id}"


def shown(name: str, tenant: str) -> str:
    """The same from what a script calls it; what is no scope stays as it is."""
    if name == ScopeKind.TENANT:
        return f"{name}:{tenant}"
    kind, _, inner = name.partition("/")
    return f"{kind}:{inner}" if inner and kind in {*ScopeKind} else name


def parse_scope(text: str, tenant: str) -> Scope:
    """The scope behind `run:r-1` or `run/r-1`; ValueError when there is none.

    A user may be any text, as in requests; the tenant's own scope is `tenant`, with its id or not.
    """
    ends = [place for place in (text.find(":"), text.find("/")) if place > 0]
    kind, name = (text[: min(ends)], text[min(ends) + 1 :]) if ends else (text, "")
    if kind not in {*ScopeKind}:
        kinds = ", ".join(ScopeKind)
        raise ValueError(f"{text!r} is no scope: write one as `run:r-1`; kinds are {kinds}")
    if kind == ScopeKind.TENANT:
        if name not in ("", tenant):
            raise ValueError(f"{text!r} is not tenant {tenant!r}")
        return Scope(ScopeKind.TENANT)
    if not name:
        raise ValueError(f"{text!r} names no {kind}: write `{kind}:ID`")
    return Scope(ScopeKind(kind), scope_id(name) if kind == ScopeKind.USER else name)
