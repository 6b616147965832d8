"""What a resource of the admin API is made of: routes, what they are called with, what they answer.

Rules:
- A route says who may call it; there is no default. What changes something says what it is called
  in the audit trail.
- A handler gets what was checked (path, query, body, who) and returns a value. It raises an
  `ApiError` for a refusal, and never writes to the connection itself.
- An answer's `before` and `after` are kept for years: no secret stands in them.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from aiohttp import web

if TYPE_CHECKING:
    from proxy.admin.opened import Console

BASE = "/admin/v1"

SAFE = frozenset({"GET", "HEAD"})
"""Methods that change nothing."""


class Role(StrEnum):
    """Who may: a viewer reads, billing also changes what concerns money, an admin everything.

    ANYBODY is for what holds no data of an installation: the pages themselves, the way in.
    """

    ANYBODY = "anybody"
    VIEWER = "viewer"
    BILLING = "billing"
    ADMIN = "admin"

    def covers(self, least: Role) -> bool:
        """Whether who has this role may do what asks for `least`."""
        return _RANK[self] >= _RANK[least]


_RANK = {role: rank for rank, role in enumerate(Role)}


@dataclass(frozen=True, slots=True)
class AdminPrincipal:
    """Who calls: the id of an admin key, and what that may."""

    id: str
    role: Role
    by_session: bool = False
    """Whether a browser sent its cookie, instead of a program its key."""


NOBODY = AdminPrincipal("", Role.ANYBODY)
"""Who calls what anybody may."""


@dataclass(frozen=True, slots=True)
class Param:
    """One parameter of the query; its `schema` is of text, or of what text can be read as."""

    name: str
    about: str
    schema: Mapping[str, Any] = field(default_factory=lambda: {"type": "string"})
    required: bool = False


@dataclass(frozen=True, slots=True)
class Route:
    """One method of one path, and all that is to be known of it."""

    method: str
    path: str
    role: Role
    handler: Callable[[Call], Awaitable[Answer]]
    summary: str
    tag: str
    query: tuple[Param, ...] = ()
    body: Mapping[str, Any] | None = None
    """JSON Schema; None where none is taken."""
    answer: Mapping[str, Any] | None = None
    """JSON Schema of the body of a 200 or 201."""
    audit: str | None = None
    """What it is called in the audit trail: `tenant.create`."""

    def __post_init__(self) -> None:
        if self.method not in SAFE and self.audit is None:
            raise ValueError(f"{self.method} {self.path} changes something and names no audit")

    @property
    def names(self) -> tuple[str, ...]:
        """The names in its path."""
        return tuple(re.findall(r"\{(\w+)\}", self.path))


@dataclass(frozen=True, slots=True)
class Call:
    """One request, checked."""

    who: AdminPrincipal
    path: Mapping[str, str]
    query: Mapping[str, str]
    body: Any
    console: Console
    request: web.Request


@dataclass(frozen=True, slots=True)
class Answer:
    """What a handler answers: `body` as JSON, or `raw` bytes, or a `stream` of them.

    `target`, `before` and `after` are for the audit trail: what was changed, from what, to what.
    """

    body: Any = None
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str = "application/json"
    raw: bytes | None = None
    stream: AsyncIterator[bytes] | None = None
    target: str = ""
    before: Any = None
    after: Any = None
    who: AdminPrincipal | None = None
    """Who it turned out to be, where the route was for anybody: the record names them."""
