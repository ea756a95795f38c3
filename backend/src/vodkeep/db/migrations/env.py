"""Run by Alembic for each command; ``vodkeep.db.migrate`` hands in a connection with its transaction already open."""

from __future__ import annotations

from alembic import context

from vodkeep.db.migrate import include_name
from vodkeep.db.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    include_name=include_name,
    # All revisions in the one transaction of the caller: everything or nothing, on SQLite too.
    transaction_per_migration=False,
    transactional_ddl=True,
)
context.run_migrations()
