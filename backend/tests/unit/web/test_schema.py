from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vodkeep.capture.model import Phase
from vodkeep.capture.model import Progress as CaptureProgress
from vodkeep.chat.model import Source
from vodkeep.chat.sessions import Session, base_of
from vodkeep.pipeline.breaker import Breaker, BreakerPhase
from vodkeep.pipeline.model import DownloadState
from vodkeep.pipeline.publish_runner import UploadNow, UploadProgress
from vodkeep.pipeline.recorder_note import LoginTrouble, RecorderNote
from vodkeep.pipeline.store import QueueCounts
from vodkeep.web.reading import BadCursor, ChannelFigures, Cursor, Figures, StoredVod, Upload
from vodkeep.web.schema import RetryConfig, chat_of, progress_of, status_of, vod_of

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)

VOD = StoredVod(
    row_id=7,
    twitch_vod_id="111",
    channel="otter",
    title="A title",
    description="",
    custom_description=None,
    date=NOW,
    duration_seconds=3600,
    state=DownloadState.DOWNLOADING,
    processed=False,
    processing_error=None,
    error_code=None,
    retries=0,
    not_before=None,
    download_bytes=250,
    download_total=1000,
    progress_updated_at=NOW,
    downloaded_path=None,
    youtube_url=None,
    completeness=None,
    priority=0,
    skip_upload=False,
    protected=False,
    let_go_at=None,
    created_at=NOW,
    updated_at=NOW,
)
RETRY = RetryConfig(
    download_max_attempts=5,
    download_backoff_base_s=2,
    retry_cooldown_s=600,
    process_interval_s=60,
    max_concurrent_downloads=1,
    circuit_failure_threshold=5,
    circuit_open_cooldown_s=300,
)


def figures(*breakers: BreakerPhase) -> Figures:
    counts = QueueCounts(2, 1, 0, 3, {DownloadState.PENDING: 2}, incomplete=4, placeholders=5, unmatched=1)
    channels = [ChannelFigures(f"c{i}", None, counts, Breaker(phase, 5, NOW), {}) for i, phase in enumerate(breakers)]
    return Figures(counts, channels, {"avg_download_ms": 12.0}, NOW, [VOD], {})


def test_progress_of_a_run_in_this_process_counts_segments_and_has_rate_and_eta() -> None:
    live = CaptureProgress(Phase.FETCHING, 300, 1100, 3, 8, 99.6, 7.25)
    progress = progress_of(VOD, live)
    assert progress.phase == "fetching"
    assert (progress.bytes, progress.total_bytes, progress.percent) == (300, 1100, 37.5)
    assert (progress.rate_bytes_s, progress.eta_s) == (100, 7.2)
    assert (progress.segments_done, progress.segments_total) == (3, 8)


def test_progress_of_another_process_comes_from_its_row() -> None:
    progress = progress_of(VOD, None)
    assert (progress.bytes, progress.total_bytes, progress.percent) == (250, 1000, 25.0)
    assert progress.rate_bytes_s is None
    assert progress.eta_s is None


def test_progress_of_an_upload_counts_bytes() -> None:
    vod = replace(VOD, state=DownloadState.UPLOADING, upload=Upload(40, 160, NOW))
    progress = progress_of(vod, None)
    assert (progress.phase, progress.bytes, progress.total_bytes, progress.percent) == ("uploading", 40, 160, 25.0)
    assert vod_of(replace(vod, downloaded_path="a/b/video.mp4", download_bytes=160), None).size_bytes == 160
    assert progress.updated_at == NOW
    now = UploadNow(0.0)
    now.note(UploadProgress(40, 160), 10.0)
    now.note(UploadProgress(80, 160), 14.0)
    progress = progress_of(vod, now)
    assert (progress.phase, progress.bytes, progress.percent) == ("uploading", 80, 50.0)
    assert (progress.rate_bytes_s, progress.eta_s, progress.segments_total) == (10, 8.0, None)


@pytest.mark.parametrize(
    ("done", "total", "percent"), [(0, None, None), (5, 0, None), (5, 4, 100.0), (0, 9, 0.0), (1, 3, 33.3)]
)
def test_percent_is_never_a_guess_and_never_above_a_hundred(
    done: int, total: int | None, percent: float | None
) -> None:
    assert progress_of(replace(VOD, download_bytes=done, download_total=total), None).percent == percent


def test_progress_before_the_playlist_is_known_has_no_percent() -> None:
    assert progress_of(VOD, CaptureProgress(Phase.RESOLVING)).percent is None


def test_media_links_exist_only_for_what_is_there() -> None:
    assert vod_of(VOD, None).media.video is None
    kept = vod_of(replace(VOD, state=DownloadState.DONE, processed=True, downloaded_path="otter/x"), None)
    assert kept.media.video == "/media/111/video.mp4"
    assert kept.media.thumbnail == "/media/111/thumbnail.jpg"
    assert kept.media.manifest == "/media/111/manifest.json"
    assert kept.progress is None


def test_error_shows_code_and_sentence() -> None:
    cause = vod_of(replace(VOD, processing_error="Only for subscribers.", error_code="sub_only"), None).error
    assert cause is not None
    assert (cause.code, cause.sentence) == ("sub_only", "Only for subscribers.")
    assert vod_of(VOD, None).error is None


def test_chat_is_told_over_all_processes_that_record() -> None:
    trouble = LoginTrouble("keeper", "Login authentication failed", NOW, NOW)
    session = Session(
        1,
        "otter",
        "7",
        "s",
        Source.LIVE,
        base_of(5_000),
        "live-5",
        0,
        "recording",
        None,
        9_000,
        messages=3,
        fts_upto_id=0,
    )
    chat = chat_of(
        replace(
            figures(),
            recorders=[
                RecorderNote(True, connections=1, channels=90, joined=89, refused={"rook": "banned"}, spool_bytes=5),
                RecorderNote(True, connections=2, channels=10, joined=10, spool_bytes=6, login_failure=trouble),
                RecorderNote(False, "why not", "what to do"),
            ],
            live=[session],
        )
    )
    assert (chat.enabled, chat.reason, chat.remedy) == (True, "", "")
    assert (chat.connections, chat.channels, chat.joined, chat.spool_bytes) == (3, 100, 99, 11)
    assert chat.refused == {"rook": "banned"}
    assert chat.login_failure is not None
    assert chat.login_failure.account == "keeper"
    (live,) = chat.live
    assert (live.channel, live.id, live.stream_id, live.messages) == ("otter", "live-5", "s", 3)
    assert (live.started_at.timestamp(), live.last_message_at) == (5, datetime.fromtimestamp(9, UTC))


def test_chat_that_is_not_recorded_says_why() -> None:
    off = chat_of(replace(figures(), recorders=[RecorderNote(False, "why not", "what to do")]))
    assert (off.enabled, off.reason, off.remedy) == (False, "why not", "what to do")
    nobody = chat_of(figures())
    assert (nobody.enabled, nobody.live) == (False, [])
    assert "watch" in nobody.reason


@pytest.mark.parametrize(
    ("breakers", "worst"),
    [
        ((), "closed"),
        ((BreakerPhase.CLOSED, BreakerPhase.CLOSED), "closed"),
        ((BreakerPhase.CLOSED, BreakerPhase.HALF_OPEN), "half_open"),
        ((BreakerPhase.OPEN, BreakerPhase.HALF_OPEN), "open"),
    ],
)
def test_circuit_state_is_the_worst_of_all_channels(breakers: tuple[BreakerPhase, ...], worst: str) -> None:
    assert status_of(figures(*breakers), {}, RETRY, "1").circuit_state == worst


def test_status_carries_counts_averages_and_what_is_at_work() -> None:
    status = status_of(figures(BreakerPhase.CLOSED), {}, RETRY, "1.2.3")
    assert (status.pending, status.errored, status.processed, status.queue_depth) == (2, 1, 3, 3)
    assert (status.incomplete, status.placeholders, status.unmatched) == (4, 5, 1)
    assert (status.avg_download_ms, status.avg_upload_ms) == (12.0, None)
    assert status.last_process_run == NOW
    assert [active.id for active in status.active] == ["111"]
    assert status.active[0].attempt == 1
    assert status.channels[0].breaker.failures == 5


@given(moment=st.datetimes(timezones=st.just(UTC)), row_id=st.integers(0, 10**17))
def test_cursor_reads_back(moment: datetime, row_id: int) -> None:
    text = Cursor(moment, row_id).encode()
    assert Cursor.decode(text) == Cursor(moment, row_id)
    assert text.replace("-", "").replace("_", "").isalnum()


@given(st.text(max_size=60))
def test_any_other_text_is_refused_as_a_cursor(text: str) -> None:
    try:
        cursor = Cursor.decode(text)
    except BadCursor:
        return
    assert cursor.moment.tzinfo is not None


@pytest.mark.parametrize("text", ["", "x", "AAAA", "MjAyNi0xMS0yMy8x", "ÿ", "Lzc", "a" * 200])
def test_bad_cursors(text: str) -> None:
    with pytest.raises(BadCursor):
        Cursor.decode(text)
