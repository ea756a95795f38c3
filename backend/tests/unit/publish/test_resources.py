from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from vodkeep.errors import ServerError
from vodkeep.publish.model import VideoMetadata
from vodkeep.publish.resources import (
    PlaylistItem,
    Video,
    VideoList,
    decoded,
    duration_ms,
    insert_document,
    status_of,
    update_document,
)


def test_everything_we_know_is_told() -> None:
    start = datetime(2026, 11, 1, 20, 0, tzinfo=timezone(timedelta(hours=2)))
    metadata = VideoMetadata("T", "D", ("a", "b"), "22", "unlisted", True, start, "de")
    document = insert_document(metadata)
    assert document["snippet"]["tags"] == ["a", "b"]
    assert document["snippet"]["defaultLanguage"] == document["snippet"]["defaultAudioLanguage"] == "de"
    assert document["status"] == {"privacyStatus": "unlisted", "selfDeclaredMadeForKids": True}
    assert document["recordingDetails"] == {"recordingDate": "2026-11-01T18:00:00Z"}
    assert update_document("abc", metadata) == {"id": "abc", "snippet": document["snippet"]}
    assert "recordingDetails" not in insert_document(VideoMetadata("T", "D"))


def test_what_is_missing_of_a_video_is_unknown() -> None:
    (bare, null) = decoded(b'{"items": [{"id": "a"}, {"id": "b", "status": null, "snippet": null}]}', VideoList).items
    assert (status_of(bare).upload_status, status_of(bare).duration_ms) == ("uploaded", None)
    assert status_of(null).video_id == "b"


@pytest.mark.parametrize("content", [b"", b"<html>", b"[]", b'{"items": null}', b"{}", b"\xff", b"[" * 100_000])
def test_what_is_no_list_is_never_an_empty_one(content: bytes) -> None:
    with pytest.raises(ServerError):
        decoded(content, VideoList)
    with pytest.raises(ServerError):
        decoded(content, Video)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("PT1H2M3S", 3_723_000), ("P1DT2S", 86_402_000), ("P0D", 0), ("PT12H", 43_200_000), ("PT", None), ("", None),
     ("P1Y", None), ("1:02", None)],
)  # fmt: skip
def test_durations(text: str, expected: int | None) -> None:
    assert duration_ms(text) == expected


def test_a_marker_is_a_line_of_its_own() -> None:
    content = b'{"snippet": {"publishedAt": "2026-11-24T01:02:03Z", "description": "Words\\r\\nVodkeep 1/1.10 \\r\\n"}}'
    item = decoded(content, PlaylistItem)
    assert item.carries("Vodkeep 1/1.10")
    assert not item.carries("Vodkeep 1/1.1")
    assert item.added_at == datetime(2026, 11, 24, 1, 2, 3, tzinfo=UTC)
    assert decoded(b"{}", PlaylistItem).added_at is None
