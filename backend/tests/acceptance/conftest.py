"""The fixtures of the acceptance tests: homes in which the real service runs."""

from __future__ import annotations

from support.home import dsn, home_of
from support.mounts import mount

__all__ = ["dsn", "home_of", "mount"]
