"""The shape of section `cache`, and of what models and tenants write about it.

The rules are those of `proxy.config_shape`.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from proxy.config_values import FORBID, Count, Flag, Number, SecondsOrNone, Share, Text
from proxy.config_values import text as _text
from proxy.config_values import whole as _whole

Ttl = Annotated[int, Field(ge=0, le=2_678_400), BeforeValidator(_whole)]
"""Seconds, at most 31 days; 0 for never."""
EntryBytes = Annotated[int, Field(ge=1024, le=16_777_216), BeforeValidator(_whole)]


@dataclass(frozen=True, kw_only=True)
class ModelCacheShape:
    """Whether answers of this model are kept."""

    __pydantic_config__ = FORBID

    enabled: Flag | None = None
    """Whether they may be kept: `false` forbids it for everybody."""
    ttl_seconds: Ttl | None = None
    """How long an answer may be given again, in seconds."""
    temperature_max: Number | None = None
    """Keep only answers to requests that set a `temperature` of at most this."""


@dataclass(frozen=True, kw_only=True)
class TenantCacheShape:
    """Whether this tenant's answers are kept, and who shares them."""

    __pydantic_config__ = FORBID

    enabled: Flag | None = None
    """Whether they may be kept: `false` forbids it for every model."""
    ttl_seconds: Ttl | None = None
    """How long an answer may be given again, in seconds."""
    share: Annotated[Literal["tenant", "project", "key"], BeforeValidator(_text)] = "tenant"
    """Who is given its answers: the whole tenant, or only the project or key that asked."""
    pool: Text | None = None
    """Tenants that write the same name here are given each other's answers."""
    discount: Share | None = None
    """Overrides `cache.discount`."""


@dataclass(frozen=True, kw_only=True)
class CacheShape:
    """Answers that are kept, to be given again to the same question."""

    __pydantic_config__ = FORBID

    enabled: Flag = False
    """Whether answers of all models for all tenants are kept, unless these forbid it."""
    ttl_seconds: Ttl = 3600
    """How long an answer may be given again, in seconds."""
    temperature_max: Number | None = None
    """Keep only answers to requests that set a `temperature` of at most this; all if left out."""
    exclude_cache_from_billing: Flag = True
    """Whether answers that are given again cost nothing."""
    discount: Share = Decimal(0)
    """Where they cost something: what share of their units is not billed again."""
    budget_mb: Count = 256
    """Most that kept answers take in Redis, in MiB, over all shards."""
    tenant_budget_mb: Count | None = None
    """Most that those of one tenant or pool take; that of a shard if left out."""
    max_entry_bytes: EntryBytes = 262_144
    """Longest answer that is kept."""
    coalesce_wait_s: SecondsOrNone = Decimal(60)
    """How long a request waits for an identical one that is under way, in seconds; 0 for never."""
    url: Text | None = None
    """A Redis of its own for kept answers and idempotency keys; that of the caps if left out."""
    salt: Text | None = None
    """What the names of kept answers are made with; write `${NAME}`, at least 16 characters."""
    idempotency_budget_mb: Count = 64
    """Most that answers kept for an `Idempotency-Key` take, in MiB, over all shards."""
    idempotency_entry_bytes: EntryBytes = 1_048_576
    """Longest answer that is kept for an `Idempotency-Key`."""


NO_CACHE = CacheShape()
NO_MODEL_CACHE = ModelCacheShape()
NO_TENANT_CACHE = TenantCacheShape()
