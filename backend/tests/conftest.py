"""Fixtures shared by all tests live in ``support``; importing them starts nothing."""

from __future__ import annotations

import pytest
from hypothesis import settings

# How long an example takes says how busy the machine is, and nothing of the code.
settings.register_profile("vodkeep", deadline=None)
settings.load_profile("vodkeep")

pytest_plugins = [
    "support.clock",
    "support.postgres",
    "support.databases",  # imports support.postgres, which must have been registered before
    "support.standin",
    "support.accounts",
]


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """The service runs on asyncio, and so do its tests."""
    return "asyncio"
