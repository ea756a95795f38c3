"""Judging a finding: what a file holds, and whether its row is still the one that was looked at."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import PurePosixPath

import pytest

from support.queue_items import make_item
from vodkeep.capture.model import PacketCounts
from vodkeep.capture.verify import FileFacts
from vodkeep.keep.manifest import LedgerEntry, Manifest, StreamEntry
from vodkeep.pipeline.model import DownloadState
from vodkeep.pipeline.recheck import Finding, Subject, Verdict, compare, folder_of, reconsider

MANIFEST = Manifest(
    video_id="100",
    stream_id=None,
    channel="chan",
    channel_name="Chan",
    title="A broadcast",
    date=None,
    duration_ms=60_000,
    completeness=1.0,
    rendition="chunked",
    tools=(),
    captured_at=datetime(2026, 11, 1, tzinfo=UTC),
    files=(),
    streams=(
        StreamEntry("video", "h264", 1800, 640, 360, 30.0),
        StreamEntry("audio", "aac", 2800, None, None, None),
    ),
    ledger=(LedgerEntry(0, 60_000, "vod", ""),),
    chapters=(),
)
FACTS = FileFacts(1000, "", 60_000_000, 60_000_000, 60_000_000, PacketCounts(1800, 2800), (), in_order=True)
ROW = make_item(downloaded_path="chan/2026 A broadcast [100]/video.mp4", download_state=DownloadState.DONE)
BAD = Finding(Subject("100", ROW, folder_of(ROW)), Verdict.DAMAGED, ("video.mp4 is missing",))


def test_a_file_as_the_manifest_says_has_no_problems() -> None:
    assert compare(FACTS, MANIFEST) == []


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        pytest.param(replace(FACTS, packets=PacketCounts(1799, 2800)), "1799 video packets", id="picture"),
        pytest.param(replace(FACTS, packets=PacketCounts(1800, 2801)), "2801 audio packets", id="sound"),
        pytest.param(replace(FACTS, promised_us=90_000_000), "promises 90.0 s", id="promise"),
        pytest.param(replace(FACTS, in_order=False), "run backwards", id="order"),
        pytest.param(replace(FACTS, duration_us=40_000_000), "lasts 40.0 s", id="short"),
        pytest.param(replace(FACTS, duration_us=80_000_000), "lasts 80.0 s", id="long"),
    ],
)
def test_what_differs_is_told(facts: FileFacts, words: str) -> None:
    (problem,) = compare(facts, MANIFEST)
    assert words in problem


def test_holes_at_the_ends_shorten_the_file_and_holes_within_do_not() -> None:
    ledger = (
        LedgerEntry(0, 20_000, "missing", "gone"),
        LedgerEntry(20_000, 30_000, "vod", ""),
        LedgerEntry(30_000, 45_000, "missing", "gone"),
        LedgerEntry(45_000, 50_000, "vod", ""),
        LedgerEntry(50_000, 70_000, "missing", "gone"),
    )
    manifest = replace(MANIFEST, duration_ms=70_000, ledger=ledger)
    assert compare(replace(FACTS, duration_us=30_000_000), manifest) == []
    assert compare(replace(FACTS, duration_us=70_000_000), manifest) != []


@pytest.mark.parametrize("path", ["/etc/x/video.mp4", "../x/video.mp4", "video.mp4", None])
def test_no_row_leads_out_of_the_library(path: str | None) -> None:
    assert folder_of(make_item(downloaded_path=path)) is None


def test_the_folder_is_where_the_video_is() -> None:
    assert folder_of(ROW) == PurePosixPath("chan/2026 A broadcast [100]")


@pytest.mark.parametrize(
    "row",
    [
        pytest.param(replace(ROW, generation=1), id="captured meanwhile"),
        pytest.param(replace(ROW, download_state=DownloadState.VERIFYING), id="being captured"),
    ],
)
def test_what_changed_meanwhile_is_not_judged(row: object) -> None:
    assert reconsider(BAD, row).verdict is Verdict.BUSY  # type: ignore[arg-type]


def test_what_did_not_change_stays_bad() -> None:
    assert reconsider(BAD, ROW) is BAD
    assert reconsider(BAD, None) is BAD
