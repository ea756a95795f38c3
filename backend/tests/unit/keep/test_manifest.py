from __future__ import annotations

from datetime import UTC, datetime

import pytest

from vodkeep.keep.manifest import (
    ChapterEntry,
    FileEntry,
    LedgerEntry,
    Manifest,
    ManifestError,
    PublicationEntry,
    StreamEntry,
    read_manifest,
    write_manifest,
)

MANIFEST = Manifest(
    video_id="2301",
    stream_id=None,
    channel="nightotter",
    channel_name="NightOtter",
    title="any% 🎮 “quoted”",
    date=datetime(2026, 11, 1, 10, tzinfo=UTC),
    duration_ms=120_000,
    completeness=0.9,
    rendition="1080p60",
    tools=("vodkeep 0.1.0", "yt-dlp 2026.10.26"),
    captured_at=datetime(2026, 11, 2, tzinfo=UTC),
    files=(FileEntry("video.mp4", 1, "blake3:" + "ab" * 32),),
    streams=(StreamEntry("video", "h264", 3600, 640, 360, 30.0), StreamEntry("audio", "aac", 5625, None, None, None)),
    ledger=(LedgerEntry(0, 108_000, "vod", ""), LedgerEntry(108_000, 120_000, "missing", "gone")),
    chapters=(ChapterEntry(0, 60_000, "Celeste"),),
    pauses=((60_000, 67_000),),
    description="A run.",
    found_at=datetime(2026, 11, 1, 11, tzinfo=UTC),
    publications=(
        PublicationEntry(1, 1, 2, "processed", 0, 60_000, "dQw4w9WgXcQ", datetime(2026, 11, 3, tzinfo=UTC)),
        PublicationEntry(1, 2, 2, "uploading", 60_000, 120_000),
    ),
)


def test_what_was_written_is_read_back() -> None:
    assert read_manifest(write_manifest(MANIFEST)) == MANIFEST


def test_a_manifest_with_sha_256_can_still_be_read() -> None:
    text = write_manifest(MANIFEST).replace("vodkeep-manifest/2", "vodkeep-manifest/1")
    text = text.replace('"checksum": "blake3:', '"sha256": "')
    manifest = read_manifest(text)
    assert manifest.files == (FileEntry("video.mp4", 1, "sha256:" + "ab" * 32),)
    assert manifest.files[0].algorithm == "sha256"
    assert read_manifest(write_manifest(manifest)) == manifest


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        write_manifest(MANIFEST).replace("vodkeep-manifest/2", "vodkeep-manifest/9"),
        write_manifest(MANIFEST).replace("vodkeep-manifest/2", "vodkeep-manifest/1"),
        write_manifest(MANIFEST).replace('"files"', '"fails"'),
        write_manifest(MANIFEST).replace("blake3:", "md5:"),
        write_manifest(MANIFEST).replace("blake3:ab", "blake3:xy"),
        write_manifest(MANIFEST).replace("blake3:", ""),
        write_manifest(MANIFEST).replace("2026-11-02", "yesterday"),
        write_manifest(MANIFEST).replace("108000", '"soon"'),
        write_manifest(MANIFEST).replace('"gone"', "7"),
        write_manifest(MANIFEST).replace('"1080p60"', "null"),
        write_manifest(MANIFEST).replace("0.9,", "true,"),
        write_manifest(MANIFEST).replace('"round": 1', '"round": "one"'),
        write_manifest(MANIFEST).replace('"processed",', '"processed", "rounds": 1,'),
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ManifestError):
        read_manifest(text)
