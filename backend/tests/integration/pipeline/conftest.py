from __future__ import annotations

import pytest

from support.queue_rows import Rows
from vodkeep.db.engine import Database


@pytest.fixture
def rows(database: Database) -> Rows:
    """The tables as an operator sees them."""
    return Rows(database)
