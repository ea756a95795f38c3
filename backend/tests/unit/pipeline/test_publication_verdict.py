"""What YouTube's word about a video means, and when it is asked again."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from support.queue_items import NOW
from vodkeep.pipeline.publication_verdict import judge
from vodkeep.publish.model import VideoStatus
from vodkeep.publish.publication import Publication, PublicationState

DAY = timedelta(days=1)

UPLOADED = Publication(
    id=1, twitch_vod_id="1", round=1, part=1, parts=1, state=PublicationState.UPLOADED, start_ms=0, end_ms=60_000,
    source_name="video.mp4", size_bytes=1, checksum="", session_uri=None, session_at=None, committed_bytes=1,
    youtube_id="a", title="", privacy="public", marker="", thumbnail_done=True, playlist_done=True,
    uploaded_at=NOW - timedelta(hours=1), processed_at=None, checked_at=None, next_check_at=NOW, checks=0,
    youtube_duration_ms=None, reason="", reason_code=None,
)  # fmt: skip
PROCESSED = replace(UPLOADED, state=PublicationState.PROCESSED, processed_at=NOW - 2 * DAY)
FINE = VideoStatus("a", "processed", "", "", "public", processing_status="succeeded", duration_ms=61_000)


def status(**changes: Any) -> VideoStatus:
    return replace(FINE, **changes)


@pytest.mark.parametrize(
    ("before", "answer", "state", "code"),
    [
        pytest.param(UPLOADED, FINE, "processed", None, id="fine"),
        pytest.param(PROCESSED, FINE, "processed", None, id="fine again"),
        pytest.param(UPLOADED, status(upload_status="uploaded"), "uploaded", None, id="not processed yet"),
        pytest.param(UPLOADED, status(duration_ms=0), "uploaded", None, id="no length yet"),
        pytest.param(UPLOADED, status(duration_ms=62_001), "uploaded", "wrong_duration", id="longer"),
        pytest.param(PROCESSED, status(duration_ms=40_000), "uploaded", "wrong_duration", id="cut in the editor"),
        pytest.param(PROCESSED, status(privacy="private"), "processed", "made_private", id="made private"),
        pytest.param(
            replace(PROCESSED, privacy="private"), status(privacy="private"), "processed", None, id="private as wanted"
        ),
        pytest.param(
            PROCESSED, status(upload_status="rejected", rejection_reason="claim"), "rejected", "rejected", id="claimed"
        ),
        pytest.param(UPLOADED, status(upload_status="failed"), "rejected", "rejected", id="failed"),
        pytest.param(
            UPLOADED,
            status(upload_status="uploaded", processing_status="terminated"),
            "rejected",
            "rejected",
            id="terminated",
        ),
        pytest.param(PROCESSED, status(upload_status="deleted"), "vanished", "vanished", id="deleted"),
        pytest.param(PROCESSED, None, "processed", "not_found", id="one answer without it is not believed"),
        pytest.param(replace(PROCESSED, reason_code="not_found"), None, "vanished", "vanished", id="two are"),
        pytest.param(replace(PROCESSED, reason_code="not_found"), FINE, "processed", None, id="found after all"),
        pytest.param(
            replace(UPLOADED, uploaded_at=NOW - 4 * DAY),
            status(upload_status="uploaded"),
            "uploaded",
            "not_processed",
            id="late",
        ),
    ],
)
def test_what_an_answer_means(before: Publication, answer: VideoStatus | None, state: str, code: str | None) -> None:
    verdict = judge(before, answer, NOW, DAY)
    assert (verdict.state, verdict.reason_code) == (state, code)
    assert (verdict.reason != "") is (code is not None)
    assert (verdict.remedy != "") is (code is not None)
    assert (verdict.next_check_at is None) is (state in ("rejected", "vanished"))


@pytest.mark.parametrize(
    ("processed_at", "proven_after", "expected"),
    [
        pytest.param(None, DAY, NOW + DAY, id="first a day later"),
        pytest.param(NOW - DAY, DAY, NOW + 6 * DAY, id="then on day 7"),
        pytest.param(NOW - 7 * DAY, DAY, NOW + 23 * DAY, id="then on day 30"),
        pytest.param(NOW - 30 * DAY, DAY, None, id="then no more"),
        pytest.param(NOW - DAY, 2 * DAY, NOW + DAY, id="and when it counts as proven"),
    ],
)
def test_a_video_that_is_fine_is_looked_at_again(
    processed_at: datetime | None, proven_after: timedelta, expected: datetime | None
) -> None:
    before = replace(PROCESSED, processed_at=processed_at)
    assert judge(before, FINE, NOW, proven_after).next_check_at == expected


def test_a_video_that_is_not_processed_is_asked_for_ever_more_rarely() -> None:
    waiting = status(upload_status="uploaded")

    def wait_after(waited: timedelta) -> timedelta:
        verdict = judge(replace(UPLOADED, uploaded_at=NOW - waited), waiting, NOW, DAY)
        assert verdict.next_check_at is not None
        return verdict.next_check_at - NOW

    assert wait_after(timedelta()) == timedelta(minutes=2)
    assert wait_after(timedelta(hours=2)) == timedelta(hours=1)
    assert wait_after(timedelta(days=2)) == timedelta(hours=6)
