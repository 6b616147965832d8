"""The tables of credit are those of the ledger, and what is source there is append-only."""

from __future__ import annotations

from metering.settlement.ledger import credit_tables, tables


def test_source_is_append_only_and_derived_is_not() -> None:
    named = {name for name in tables.metadata.tables if name.startswith(("credit_", "grant_"))}

    assert set(credit_tables.APPEND_ONLY) < named
    assert named - set(credit_tables.APPEND_ONLY) == {
        "credit_level",
        "credit_tenant",
        "credit_watermark",
        "grant_standing",
    }
