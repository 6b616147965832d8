"""Replies that are kept to be given again: to the same question, or to a request that is repeated.

Rules:
- A **shelf** has a hard bound in bytes for everybody on it and one for each owner; what is nearest
  to its end makes room. Whatever does not fit is not kept, and nobody is told: a reply that is kept
  is a favour.
- A request that carries a key of its client's is **claimed** before anything is sent. Its claim
  lives as long as somebody holds it, and for `CLAIM_MS` after the last word of a process that died;
  what was answered is kept on the shelf, and answers for the claim from then on.
- Names are digests; neither a question nor a client's key is ever part of one.
- What is found is older than nothing: `age_ms` counts by the store's clock, not by ours.

Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal, Protocol

import orjson

CLAIM_MS = 60_000
"""How long a claim outlives the last word of its process; held requests say one every third."""

ENTRY_BYTES = 640
"""What an entry takes beside its reply: three names of it, and Redis' own books."""


Kind = Literal["replies", "repeats"]
"""Answers for whoever asks the same, and answers for a client's key."""


@dataclass(frozen=True, slots=True)
class Shelf:
    """Where replies of a kind stand for one owner: a tenant, or a pool that tenants share."""

    kind: Kind
    owner: str
    is_pool: bool = False

    @property
    def head(self) -> str:
        """What the names of its entries begin with."""
        return f"{'p' if self.is_pool else 't'}.{self.owner}"


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a shelf may take, in bytes: per shard, per owner of it, per entry."""

    shard: int
    owner: int
    entry: int


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer as its client got it, to the byte.

    `facts` are those of the event that was recorded for it: which upstream, what it used.
    """

    status: int
    body: bytes
    is_stream: bool
    headers: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Found:
    """A reply that was kept, and how long ago."""

    reply: Reply
    age_ms: int


@dataclass(frozen=True, slots=True)
class RequestClaim:
    """A request by the key of its client: `name` stands for the key, `digest` for what was asked,
    `token` for who asks."""

    tenant: str
    name: str
    digest: str
    token: str

    @property
    def shelf(self) -> Shelf:
        """Where the answer to it will stand."""
        return Shelf("repeats", self.tenant)


class ClaimState(StrEnum):
    """What is known of a request's key."""

    FREE = "free"
    """Nobody has come with it: it is ours now."""
    BUSY = "busy"
    """Somebody is being answered."""
    OTHER = "other"
    """It came with another question."""
    DONE = "done"
    """It was answered."""


@dataclass(frozen=True, slots=True)
class Claimed:
    """What came of a claim. `found` is None where the answer was too large to be kept."""

    state: ClaimState
    found: Found | None = None


class Replies(Protocol):
    """Where replies are; CapsUnavailableError when it cannot be asked."""

    async def find(self, shelf: Shelf, name: str) -> Found | None:
        """The reply of that name, if it is still good."""
        ...

    async def held(self, kind: Kind, shard: int) -> int:
        """The bytes that replies of a kind are counted with in a shard, what has ended and was not
        put away yet included."""
        ...

    async def keep(
        self, shelf: Shelf, name: str, reply: Reply, *, ttl_ms: int, bounds: Bounds
    ) -> int | None:
        """Keep a reply; how many made room for it, None where it does not fit."""
        ...

    async def claim(self, claim: RequestClaim) -> Claimed:
        """Claim a request; see `ClaimState`."""
        ...

    async def hold(self, claim: RequestClaim, *, ttl_ms: int = CLAIM_MS) -> bool:
        """Say that the claim is still ours, or with 0 that it is not any more; False where it had
        lapsed and is somebody else's by now."""
        ...

    async def end(
        self, claim: RequestClaim, reply: Reply | None, *, ttl_ms: int, bounds: Bounds
    ) -> bool:
        """The request was answered: keep what its client got (None, or too much: only that it was)
        and let the claim go. False where not even that found room."""
        ...


def encode_reply(reply: Reply | None, digest: str = "") -> bytes:
    """A reply as it is stored: a line of JSON, then its body. A claim's answer has its digest."""
    if reply is None:
        return orjson.dumps({"digest": digest}) + b"\n"
    head = {
        "digest": digest,
        "status": reply.status,
        "is_stream": reply.is_stream,
        "headers": dict(reply.headers),
        "facts": dict(reply.facts),
    }
    return orjson.dumps(head) + b"\n" + reply.body


def decode_reply(stored: bytes) -> tuple[str, Reply | None]:
    """Digest and reply; ValueError for what is none (another version's, say)."""
    line, _, body = stored.partition(b"\n")
    head = orjson.loads(line)
    if not isinstance(head, dict):
        raise ValueError("a stored reply begins with a JSON object")
    digest = str(head.get("digest", ""))
    if "status" not in head:
        return digest, None
    headers, facts = head.get("headers"), head.get("facts")
    if type(head["status"]) is not int or not isinstance(headers, dict):
        raise ValueError("a stored reply has a status and headers")
    is_stream = head.get("is_stream") is True
    return digest, Reply(head["status"], body, is_stream, headers, facts or {})
