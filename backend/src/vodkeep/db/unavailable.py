"""Why a database cannot be used, whatever its kind."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Reason:
    """Why the database cannot be used, for a person."""

    sentence: str  # without the address, lower case, no full stop
    code: str = "database"
    remedy: str = ""
