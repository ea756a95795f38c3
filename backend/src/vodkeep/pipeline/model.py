"""The words of the pipeline: the states of an item and the moves between them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class DownloadState(StrEnum):
    """Where an item stands; stored in ``vods.download_state``."""

    PENDING = "pending"  # known, nothing done yet
    WAITING = "waiting"  # still live on Twitch; looked at again after ``not_before``
    DOWNLOADING = "downloading"  # segments are being fetched
    VERIFYING = "verifying"  # everything is fetched; muxed, counted and checked
    DOWNLOADED = "downloaded"  # in its folder, proven
    UPLOADING = "uploading"  # being published
    DONE = "done"  # nothing left to do
    FAILED = "failed"  # an attempt failed; tried again after ``not_before``
    PARKED = "parked"  # needs a person; ``error_code`` says why
    CANCELED = "canceled"  # stopped by a person


RUNNING = frozenset({DownloadState.DOWNLOADING, DownloadState.VERIFYING, DownloadState.UPLOADING})


@dataclass(frozen=True, slots=True)
class QueueItem:
    """One row of ``vods`` as the planner sees it."""

    twitch_vod_id: str
    channel: str  # login
    title: str
    date: datetime | None  # start of the broadcast, UTC
    duration_seconds: int | None
    processed: bool
    processing_error: str | None  # the last failure as a sentence; NULL with a settled state is an operator's reset
    error_code: str | None
    download_state: DownloadState
    download_retries: int  # attempts that failed since the last success or reset
    not_before: datetime | None  # not due before this instant, UTC
    priority: int  # higher first
    generation: int  # fence: raised by every claim
