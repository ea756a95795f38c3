"""The words of the pipeline: the states of an item, the moves between them, and what the planner sees.

The state machine of ``vods.download_state`` is written here and nowhere else::

    pending ─┐
    waiting ─┼─claim──> downloading ──> verifying ──> downloaded ──claim──> uploading ──> done
    failed  ─┘              │               │            │  ^                │  │  ^        ^
                            │               │            │  └───released─────┘  │  │        │
                            │               │            └──nothing to publish──│──│────────┘
                            v               v                                   v  └─claim── failed (publish)
          failed | parked | canceled | waiting (still live)        failed | parked | canceled
          pending (released)

An item whose chat is being seen to is ``downloaded`` all the time, with the stage ``chat``: its picture is whole.
``vods.stage`` says what a failed, parked or canceled row failed at, and what a downloaded one is due for. An operator's
reset (``docs/operations.md``) leads from any settled state back to ``downloading``: it begins anew, and what is in its
folder already is recognised there. A run that was killed leaves its row in a running state; the next claim takes it
from there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from vodkeep.placeholder import is_placeholder

_LAST = datetime.max.replace(tzinfo=UTC)

HIGHEST_PRIORITY = 1_000_000
"""Far more than anybody needs, and every database and queue can hold it; the lowest is its negative."""


class DownloadState(StrEnum):
    """Where an item stands; stored in ``vods.download_state``."""

    PENDING = "pending"  # known, nothing done yet, or handed back at a shutdown
    WAITING = "waiting"  # still live on Twitch; looked at again after ``not_before``
    DOWNLOADING = "downloading"  # segments are being fetched
    VERIFYING = "verifying"  # everything is fetched; muxed, counted and checked
    DOWNLOADED = "downloaded"  # in its folder, proven
    UPLOADING = "uploading"  # being published
    DONE = "done"  # nothing left to do
    FAILED = "failed"  # an attempt failed; tried again after ``not_before``
    PARKED = "parked"  # needs a person; ``error_code`` says why
    CANCELED = "canceled"  # stopped by a person


# A run holds the row; nobody else may write it.
RUNNING = frozenset({DownloadState.DOWNLOADING, DownloadState.VERIFYING, DownloadState.UPLOADING})

# The service has said its word about the item: every row it leaves here is processed or carries a sentence in
# processing_error. One with neither was reset by an operator.
SETTLED = frozenset({DownloadState.DONE, DownloadState.FAILED, DownloadState.PARKED, DownloadState.CANCELED})

_S = DownloadState

# Every move there is. ``downloading -> downloading`` is a new run taking over from one that was killed.
MOVES: Mapping[DownloadState, frozenset[DownloadState]] = {
    _S.PENDING: frozenset({_S.DOWNLOADING, _S.CANCELED}),
    _S.WAITING: frozenset({_S.DOWNLOADING, _S.PENDING, _S.CANCELED}),
    _S.DOWNLOADING: frozenset(
        {_S.DOWNLOADING, _S.VERIFYING, _S.PENDING, _S.WAITING, _S.FAILED, _S.PARKED, _S.CANCELED}
    ),
    _S.VERIFYING: frozenset({_S.DOWNLOADED, _S.DOWNLOADING, _S.PENDING, _S.WAITING, _S.FAILED, _S.PARKED, _S.CANCELED}),
    # To itself: its chat is seen to, while the picture lies in its folder.
    _S.DOWNLOADED: frozenset({_S.DOWNLOADED, _S.UPLOADING, _S.DONE, _S.PENDING, _S.CANCELED}),
    _S.UPLOADING: frozenset({_S.UPLOADING, _S.DOWNLOADED, _S.DONE, _S.FAILED, _S.PARKED, _S.CANCELED}),
    _S.DONE: frozenset({_S.DOWNLOADING, _S.PENDING}),
    _S.FAILED: frozenset({_S.DOWNLOADING, _S.UPLOADING, _S.DOWNLOADED, _S.PENDING, _S.CANCELED}),
    _S.PARKED: frozenset({_S.DOWNLOADING, _S.PENDING, _S.CANCELED}),
    _S.CANCELED: frozenset({_S.DOWNLOADING, _S.PENDING}),
}


class IllegalMove(Exception):
    """A move the state machine does not have; always a bug of the caller."""


class Stage(StrEnum):
    """A unit of work with slots of its own; an engine runs one stage of one item at a time. In the order of the work.

    A stage that nothing runs has no slots, and no item waits for it.
    """

    CAPTURE = "capture"  # fetch, mux, verify, put into its folder
    CHAT = "chat"  # fetch the chat that was not recorded while it was live
    PUBLISH = "publish"  # upload
    TIDY = "tidy"  # remove what the work on an item left behind, once it is done


# Moves that only an item makes whose capture had succeeded.
_AFTER_CAPTURE = frozenset({(_S.FAILED, _S.UPLOADING), (_S.FAILED, _S.DOWNLOADED)})


def check_move(source: DownloadState, target: DownloadState, *, stage: Stage = Stage.CAPTURE) -> None:
    """Raise :class:`IllegalMove` unless an item that is at ``stage`` may go from ``source`` to ``target``."""
    illegal = (
        target not in MOVES[source]
        or (stage is Stage.CAPTURE and (source, target) in _AFTER_CAPTURE)
        or (stage is not Stage.CHAT and source is target is _S.DOWNLOADED)
    )
    if illegal:
        raise IllegalMove(f"an item never goes from {source} to {target}")


@dataclass(frozen=True, slots=True)
class QueueItem:
    """One row of ``vods`` as the planner sees it."""

    twitch_vod_id: str
    channel: str  # login
    title: str
    date: datetime | None  # start of the broadcast, UTC
    duration_seconds: int | None
    processed: bool
    processing_error: str | None  # the last failure as a sentence
    error_code: str | None
    download_state: DownloadState
    download_retries: int  # attempts that failed since the last success or reset
    not_before: datetime | None  # not due before this instant, UTC
    priority: int  # higher first
    generation: int  # fence: raised by every claim
    skip_upload: bool = False
    downloaded_path: str | None = None  # of the video file, relative to DATA_DIR
    fresh: bool = False  # to be fetched from Twitch even if it lies whole in the library
    stage: Stage = Stage.CAPTURE  # what is at work, has failed or comes next
    upload_retries: int = 0  # the same as download_retries for the publish stage
    back_catalogue: bool = False  # it was old already when the catalog first saw it
    created_at: datetime | None = None  # when it was found, UTC
    download_bytes: int = 0  # fetched so far, or the size of the video
    download_total: int | None = None  # bytes; an estimate while it is fetched
    protected: bool = False  # retention never lets its video go
    let_go: bool = False  # retention did, so its video is not in its folder

    @property
    def is_placeholder(self) -> bool:
        """Whether only its live stream is known, so that there is nothing to capture."""
        return is_placeholder(self.twitch_vod_id)

    @property
    def sort_date(self) -> datetime:
        """The start of the broadcast, or when it was found; by this the queue and the lists are sorted."""
        return self.date or self.created_at or _LAST

    def retries(self, stage: Stage) -> int:
        """Attempts at ``stage`` that failed since its last success or a reset."""
        return self.upload_retries if stage is Stage.PUBLISH else self.download_retries

    @property
    def is_reset(self) -> bool:
        """Whether an operator asked for it again with the statement of the operations page.

        ``UPDATE vods SET processed=0, processing_error=NULL, youtube_url=NULL WHERE twitch_vod_id='...'`` leaves
        this mark in every settled state, and nothing the service writes does.
        """
        return not self.processed and self.processing_error is None and self.download_state in SETTLED


class Asker(StrEnum):
    """Where a person asked for something; stored in ``events.asked_by``."""

    CLI = "cli"
    API = "api"
    ADMIN = "admin"  # the forms below ``/admin/vod``
    SQL = "sql"  # a statement by hand, seen by its effect


@dataclass(frozen=True, slots=True)
class Asked:
    """A person's request: where it came in, and the correlation id by which it can be followed."""

    by: Asker | None  # None: nobody did, it is done on schedule
    corr: str | None


@dataclass(frozen=True, slots=True)
class Job:
    """One stage of one item at work in an engine."""

    stage: Stage
    twitch_vod_id: str
    channel: str  # login
    probe: bool = False  # the one attempt that tells whether an open breaker may close
