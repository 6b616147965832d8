"""The tables of tenants, keys and administrators that were made while everything runs, and of who
changed what. They refer to no other table, and nothing refers to them."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Index,
    Integer,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
)

from metering.settlement.ledger.tables import metadata

APPEND_ONLY = ("admin_audit",)

_ROW_ID = BigInteger().with_variant(Integer, "sqlite")

registry_state = Table(  # one row; whoever changes the registry locks it first
    "registry_state",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("number", BigInteger, nullable=False),  # grows with each change
    Column("changed_at", BigInteger, nullable=False),
    CheckConstraint("id = 1", name="ck_registry_state_id"),
)

registry_tenant = Table(
    "registry_tenant",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("document", Text, nullable=False),  # JSON as in the file's `tenants`, without keys
    Column("version", BigInteger, nullable=False),  # the registry's number at its last change
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
)

registry_key = Table(
    "registry_key",
    metadata,
    Column("tenant", Text, nullable=False),
    Column("key_id", Text, nullable=False),
    Column("sha256", Text, nullable=False),  # the key itself is nowhere
    Column("document", Text, nullable=False),  # JSON as in `tenants[].keys`: project, pin, act_for
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger),
    Column("revoked_at", BigInteger),
    Column("rotated_from", Text),  # the key it takes the place of
    PrimaryKeyConstraint("tenant", "key_id"),
    UniqueConstraint("sha256", name="uq_registry_key_sha256"),
)

admin_key = Table(
    "admin_key",
    metadata,
    Column("id", Text, primary_key=True),
    Column("sha256", Text, nullable=False),
    Column("role", Text, nullable=False),  # viewer | billing | admin
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger),
    Column("revoked_at", BigInteger),
    UniqueConstraint("sha256", name="uq_admin_key_sha256"),
    CheckConstraint("role IN ('viewer', 'billing', 'admin')", name="ck_admin_key_role"),
)

admin_audit = Table(  # each names the one before it by its hash
    "admin_audit",
    metadata,
    Column("id", _ROW_ID, primary_key=True),
    Column("at", BigInteger, nullable=False),
    Column("who", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("action", Text, nullable=False),  # tenant.put, key.revoke
    Column("target", Text, nullable=False),
    Column("before", Text),  # JSON without secrets
    Column("after", Text),
    Column("request_id", Text, nullable=False),
    Column("prev_hash", Text, nullable=False),
    Column("hash", Text, nullable=False),
    UniqueConstraint("prev_hash", name="uq_admin_audit_prev_hash"),
    Index("ix_admin_audit_target", "target", "id"),
)
