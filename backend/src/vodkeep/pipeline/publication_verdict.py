"""What YouTube's word about a video means for its publication, and when to ask again: pure rules.

YouTube says whether it has processed a video, and how long it is; both have to be right before the publication counts
as ``processed``. It is asked again on days 1, 7 and 30 after that, because a claim, a strike or a person can take a
video away long after it was fine.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from vodkeep.keep.retention import lasts_as_long
from vodkeep.publish.model import VideoStatus
from vodkeep.publish.publication import Publication, PublicationState

CHECKS = (timedelta(days=1), timedelta(days=7), timedelta(days=30))
"""How long after it was processed a video is looked at again."""

LATE = timedelta(days=3)
"""A video that YouTube has not processed by then needs a person."""

_SOONEST = timedelta(minutes=2)
_LATEST = timedelta(hours=6)
_DAILY = timedelta(days=1)
# A single answer without a video is not believed: YouTube's own indexes lag, and answers can be cut.
_LOOK_TWICE = timedelta(hours=1)

NOT_FOUND = "not_found"
_S = PublicationState

_REMEDIES = {
    NOT_FOUND: "Nothing is to be done yet; YouTube is asked again within the hour.",
    "vanished": "Look for it in YouTube Studio. `vodkeep reprocess` publishes it again; the video on the disk is kept.",
    "rejected": "YouTube Studio says more. The video on the disk is kept.",
    "not_processed": "Look at it in YouTube Studio; it is asked for further on.",
    "wrong_duration": "Compare both in YouTube Studio. The video on the disk is kept.",
    "made_private": "Look for a claim in YouTube Studio, or whether the Google project still has to be verified.",
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of a publication."""

    state: PublicationState
    next_check_at: datetime | None
    reason_code: str | None = None  # what is wrong; None: nothing is
    reason: str = ""  # the same as a sentence
    youtube_duration_ms: int | None = None

    @property
    def remedy(self) -> str:
        """What a person can do; empty when nothing is to be done."""
        return _REMEDIES.get(self.reason_code or "", "")


def judge(publication: Publication, status: VideoStatus | None, now: datetime, proven_after: timedelta) -> Verdict:
    """What ``status`` means; ``None`` is an answer in which the video is not. ``proven_after`` is one more check."""
    name = "The video" if publication.parts == 1 else f"Part {publication.part}"
    if status is None:
        if publication.reason_code == NOT_FOUND:
            return Verdict(_S.VANISHED, None, "vanished", f"{name} is not on YouTube any more.")
        return Verdict(publication.state, now + _LOOK_TWICE, NOT_FOUND, f"YouTube did not find {name.lower()}.")
    refusal = status.refusal
    if refusal is None and status.processing_status in ("failed", "terminated"):
        refusal = f"processing {status.processing_status}"
    if refusal is not None:
        if status.upload_status == "deleted":
            return Verdict(_S.VANISHED, None, "vanished", f"{name} was deleted on YouTube.")
        return Verdict(_S.REJECTED, None, "rejected", f"{name} was rejected by YouTube: {refusal}.")
    if not status.is_processed or not status.duration_ms:
        return _unprocessed(publication, name, now)
    if not lasts_as_long(publication.duration_ms, status.duration_ms):
        sentence = (
            f"{name} lasts {status.duration_ms / 1000:.0f} s on YouTube, and {publication.duration_ms / 1000:.0f} s"
            " were sent."
        )
        return Verdict(_S.UPLOADED, now + _DAILY, "wrong_duration", sentence, status.duration_ms)
    if status.privacy == "private" and publication.privacy not in ("private", ""):
        sentence = f"{name} is private on YouTube and was published as {publication.privacy}."
        return Verdict(_S.PROCESSED, now + _DAILY, "made_private", sentence, status.duration_ms)
    since = publication.processed_at or now
    ages = sorted({*CHECKS, proven_after})
    due = next((since + age for age in ages if since + age > now), None)
    return Verdict(_S.PROCESSED, due, youtube_duration_ms=status.duration_ms)


def _unprocessed(publication: Publication, name: str, now: datetime) -> Verdict:
    waited = now - (publication.uploaded_at or now)
    again = now + min(max(waited / 2, _SOONEST), _LATEST)
    if waited < LATE:
        return Verdict(_S.UPLOADED, again)
    return Verdict(
        _S.UPLOADED, again, "not_processed", f"YouTube has not processed {name.lower()} in {LATE.days} days."
    )
