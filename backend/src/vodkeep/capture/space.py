"""How much room there is, and how much a capture needs."""

from __future__ import annotations

import shutil
from datetime import timedelta
from pathlib import Path

RESERVE_BYTES = 128 * 1024 * 1024
"""What captures leave free if nothing else is said, for the database, the log and what an estimate got wrong."""

_ASSUMED_BITRATE_BPS = 6_000_000


def bytes_of(duration: timedelta, bitrate_bps: int | None = None) -> int:
    """About how much space a broadcast takes; without a bit rate, what Twitch recommends at the most."""
    return (bitrate_bps or _ASSUMED_BITRATE_BPS) // 8 * (duration // timedelta(microseconds=1)) // 1_000_000


def free_bytes(folder: Path) -> int:
    """What is free on the disk of ``folder`` for who is not root; raises `OSError`."""
    return shutil.disk_usage(folder).free
