"""Run by Alembic for each command; ``vodkeep.db.migrate`` hands in a connection with its transaction already open."""

from __future__ import annotations

from vodkeep.db.migrate import run_revisions

run_revisions()
