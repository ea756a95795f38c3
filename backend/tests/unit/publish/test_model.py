from __future__ import annotations

from datetime import UTC, datetime

import pytest

from vodkeep.errors import LimitReached, TransientError
from vodkeep.publish.model import SessionGone, VideoStatus


def status(upload_status: str, **more: str) -> VideoStatus:
    return VideoStatus("abc", upload_status, "Title", "", "private", **more)  # type: ignore[arg-type]


def test_a_video_is_processed_only_when_youtube_says_so() -> None:
    assert status("processed").is_processed
    assert not status("uploaded", processing_status="succeeded").is_processed


@pytest.mark.parametrize(
    ("video", "refusal"),
    [
        (status("uploaded"), None),
        (status("processed"), None),
        (status("somethingNew"), None),
        (status("failed", failure_reason="codec"), "codec"),
        (status("rejected", rejection_reason="duplicate"), "duplicate"),
        (status("rejected"), "rejected"),
        (status("deleted"), "deleted"),
    ],
    ids=["uploaded", "processed", "unknown", "failed", "rejected", "rejected without a reason", "deleted"],
)
def test_the_reason_of_a_refusal_is_youtubes_own_word(video: VideoStatus, refusal: str | None) -> None:
    assert video.refusal == refusal


def test_a_session_that_is_gone_can_be_tried_again_with_another() -> None:
    assert isinstance(SessionGone(), TransientError)
    assert SessionGone().code == "upload_session_gone"


def test_a_limit_says_until_when_it_holds() -> None:
    until = datetime(2026, 11, 25, 8, 0, tzinfo=UTC)
    error = LimitReached("The quota is used up.", until=until, code="quota_exhausted")
    assert (error.until, error.code, error.systemic) == (until, "quota_exhausted", False)
    assert isinstance(error, TransientError)
