"""Queue items for tests: only what a test cares about is written out."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from vodkeep.pipeline.model import DownloadState, QueueItem

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)

_PLAIN = QueueItem(
    twitch_vod_id="100",
    channel="chan",
    title="A broadcast",
    date=NOW - timedelta(days=1),
    duration_seconds=3600,
    processed=False,
    processing_error=None,
    error_code=None,
    download_state=DownloadState.PENDING,
    download_retries=0,
    not_before=None,
    priority=0,
    generation=0,
)


def make_item(twitch_vod_id: str = "100", **changes: Any) -> QueueItem:
    """A pending item, changed as told."""
    return replace(_PLAIN, twitch_vod_id=twitch_vod_id, **changes)
