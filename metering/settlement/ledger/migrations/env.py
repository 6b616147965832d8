"""Alembic's entry: runs the migrations on the connection that `Ledger.migrate` hands over.

There is no offline mode and no `alembic.ini`: the ledger migrates itself, inside one transaction.
"""

from __future__ import annotations

from alembic import context

from metering.settlement.ledger.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transactional_ddl=True,  # SQLite can; Alembic's default for it says otherwise
)
with context.begin_transaction():
    context.run_migrations()
