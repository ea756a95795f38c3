"""What other programs left on disk, read from the files they leave."""

from __future__ import annotations

import gzip
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vodkeep.keep.manifest import MANIFEST_NAME, ChapterEntry
from vodkeep.keep.origins import Origin
from vodkeep.keep.recordings import Found, find_recordings

STARTED = datetime(2026, 11, 2, 18, 30, tzinfo=UTC)


def put(path: Path, content: object = b"") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text(json.dumps(content))
    return path


def look(origin: Origin, path: Path, tags: dict[str, str] | None = None) -> Found:
    return find_recordings(origin, path, read_tags=lambda _: tags or {})


def ganymede(root: Path, **changes: object) -> Path:
    folder = root / "otter" / "2026-11-02-2500000001-archive-1c54374c-0836-11ed-b7c5-0242ac140002"
    info = {
        "id": "2500000001", "stream_id": "41375541868", "user_id": "1", "user_login": "otter", "user_name": "Otter",
        "title": "Rafting", "description": "down the river", "created_at": "2026-11-02T18:30:00Z", "type": "archive",
        "duration": "1h2m3s", "chapters": [{"title": "Just Chatting", "start": 0, "end": 60}],
        "muted_segments": [{"offset": 120, "duration": 60}], **changes,
    }  # fmt: skip
    for name in ("video.mp4", "chat.json", "chat.mp4", "thumbnail.jpg", "web_thumbnail.jpg"):
        put(folder / f"2500000001-{name}")
    put(folder / "2500000001-info.json", info)
    return folder


def test_what_ganymede_keeps(tmp_path: Path) -> None:
    folder = ganymede(tmp_path)
    (found,) = look(Origin.GANYMEDE, tmp_path).recordings
    assert found.video == folder / "2500000001-video.mp4"
    assert (found.video_id, found.stream_id) == ("2500000001", "41375541868")
    assert (found.channel, found.channel_name) == ("otter", "Otter")
    assert (found.title, found.description, found.date) == ("Rafting", "down the river", STARTED)
    assert found.duration_ms == 3_723_000
    assert found.chapters == (ChapterEntry(0, 60_000, "Just Chatting"),)
    assert found.muted == ((120_000, 180_000),)
    assert found.thumbnail == folder / "2500000001-thumbnail.jpg"
    assert found.chat == folder / "2500000001-chat.json"


def test_a_stream_that_ganymede_took_live_has_no_vod(tmp_path: Path) -> None:
    ganymede(tmp_path, id="41375541868", started_at="2026-11-02T18:30:00Z")
    (found,) = look(Origin.GANYMEDE, tmp_path).recordings
    assert (found.video_id, found.stream_id, found.date) == (None, "41375541868", STARTED)


def test_what_yt_dlp_writes(tmp_path: Path) -> None:
    stem = "Rafting [v2500000001]"
    video = put(tmp_path / f"{stem}.mp4")
    chat = put(tmp_path / f"{stem}.rechat.json")
    put(
        tmp_path / f"{stem}.info.json",
        {"id": "v2500000001", "extractor_key": "TwitchVod", "title": "Rafting", "uploader": "Otter",
         "uploader_id": "otter", "timestamp": int(STARTED.timestamp()), "duration": 3723.4, "description": None,
         "chapters": [{"start_time": 0.0, "end_time": 60.0, "title": "Just Chatting"}]},
    )  # fmt: skip
    (found,) = look(Origin.YT_DLP, tmp_path).recordings
    assert (found.video, found.chat, found.thumbnail) == (video, chat, None)
    assert (found.video_id, found.channel, found.date) == ("2500000001", "otter", STARTED)
    assert (found.duration_ms, found.description) == (3_723_400, "")
    assert found.chapters == (ChapterEntry(0, 60_000, "Just Chatting"),)


def test_what_is_not_of_twitch_is_left_out_and_said(tmp_path: Path) -> None:
    put(tmp_path / "song.mp4")
    info = put(tmp_path / "song.info.json", {"id": "abc", "extractor_key": "Youtube"})
    found = look(Origin.YT_DLP, tmp_path)
    assert found.recordings == []
    assert found.passed_over == [(info, "is not of Twitch")]


HEAD: dict[str, Any] = {
    "FileInfo": {"Version": {"Major": 1, "Minor": 4, "Patch": 0}},
    "streamer": {"name": "Otter", "login": "otter", "id": 1},
    "video": {
        "title": "Rafting", "id": "2500000001", "created_at": "2026-11-02T18:30:00Z", "start": 0, "end": 3723,
        "length": 3723, "chapters": [{"startMilliseconds": 0, "lengthMilliseconds": 60000, "description": "Chatting",
                                      "gameDisplayName": "Just Chatting"}],
    },
}  # fmt: skip


@pytest.mark.parametrize("packed", [False, True])
def test_what_twitch_downloader_writes(tmp_path: Path, packed: bool) -> None:
    video = put(tmp_path / "[11-2-26] Otter - Rafting.mp4")
    body = json.dumps({**HEAD, "comments": [{"body": '"video": {"id": "1"}'}] * 50}).encode()
    name = "[11-2-26] Otter - Rafting.json"
    chat = put(tmp_path / f"{name}.gz", gzip.compress(body)) if packed else put(tmp_path / name, body)
    (found,) = look(Origin.TWITCH_DOWNLOADER, tmp_path).recordings
    assert (found.video, found.chat) == (video, chat)
    assert (found.video_id, found.channel, found.date) == ("2500000001", "otter", STARTED)
    assert found.duration_ms == 3_723_000
    assert found.chapters == (ChapterEntry(0, 60_000, "Just Chatting"),)


def test_what_was_cut_out_says_nothing_of_the_whole(tmp_path: Path) -> None:
    put(tmp_path / "a.mp4")
    put(tmp_path / "a.json", {**HEAD, "video": {**HEAD["video"], "start": 600}, "comments": []})
    (found,) = look(Origin.TWITCH_DOWNLOADER, tmp_path).recordings
    assert found.duration_ms is None


@pytest.mark.parametrize(("artist", "channel"), [("Otter", "otter"), ("カワウソ (otter)", "otter"), ("カワウソ", None)])
def test_a_video_without_a_chat_tells_in_its_tags(tmp_path: Path, artist: str, channel: str | None) -> None:
    put(tmp_path / "a.mp4")
    comment = "hello\n------------------------\nCreated at: 2026-11-02 18:30:00Z\nVideo id: 2500000001\nViews: 7"
    tags = {"title": "Rafting (2) (2500000001)", "artist": artist, "comment": comment}
    (found,) = look(Origin.TWITCH_DOWNLOADER, tmp_path, tags).recordings
    assert (found.video_id, found.title) == ("2500000001", "Rafting (2)")
    assert (found.channel, found.date) == (channel, STARTED)


@pytest.mark.parametrize(
    ("name", "video_id", "title"),
    [
        ("2026-11-02 Rafting [2500000001].mkv", "2500000001", "Rafting"),
        ("Rafting [v2500000001].mp4", "2500000001", "Rafting"),
        ("v2500000001 - Rafting.ts", "2500000001", "Rafting"),
        ("Rafting 2500000001.mp4", None, "Rafting 2500000001"),
        ("[v2500000001] and [v2500000002].mp4", None, "and"),
        ("[v2500000001].mp4", "2500000001", "[v2500000001]"),
    ],
)
def test_what_a_name_says(tmp_path: Path, name: str, video_id: str | None, title: str) -> None:
    put(tmp_path / name)
    (found,) = look(Origin.FILES, tmp_path).recordings
    assert (found.video_id, found.title) == (video_id, title)
    assert found.date == (datetime(2026, 11, 2, tzinfo=UTC) if name.startswith("2026") else None)


def test_one_file_is_looked_for_alone(tmp_path: Path) -> None:
    one = put(tmp_path / "Rafting [v2500000001].mp4")
    put(tmp_path / "Other [v2500000002].mp4")
    assert [found.video for found in look(Origin.FILES, one).recordings] == [one]


def test_items_of_an_archive_hidden_folders_and_links_are_left_alone(tmp_path: Path) -> None:
    put(tmp_path / "item" / "video.mp4")
    put(tmp_path / "item" / MANIFEST_NAME)
    put(tmp_path / ".work" / "1" / "v2500000003.mp4")
    outside = put(tmp_path.parent / "outside" / "Rafting [v2500000001].mp4")
    (tmp_path / "linked").symlink_to(outside.parent)
    found = look(Origin.FILES, tmp_path)
    assert found.recordings == []
    assert found.passed_over == [(tmp_path / "item", "is an item of an archive already")]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 100_000])
def test_what_describes_nothing_is_left_out_with_a_word(tmp_path: Path, content: bytes) -> None:
    for name in ("a.info.json", "b-info.json"):
        put(tmp_path / name, content)
    for origin in (Origin.YT_DLP, Origin.GANYMEDE):
        found = look(origin, tmp_path)
        assert found.recordings == []
        assert len(found.passed_over) == 1


_json = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)
_FIELDS = (
    "id", "title", "uploader", "uploader_id", "timestamp", "duration", "chapters", "description", "user_login",
    "created_at", "started_at", "muted_segments", "stream_id", "streamer", "video",
)  # fmt: skip


@given(st.dictionaries(st.sampled_from(_FIELDS), _json))
def test_nonsense_never_raises(tmp_path_factory: pytest.TempPathFactory, info: dict[str, object]) -> None:
    root = tmp_path_factory.mktemp("nonsense")
    for name in ("a.mp4", "b-video.mp4"):
        put(root / name)
    told = {**info, "extractor_key": "TwitchVod"}
    for name in ("a.info.json", "a.json", "b-info.json"):
        put(root / name, told)
    for origin in Origin:
        for found in look(origin, root).recordings:
            assert found.video_id is None or found.video_id.isdigit()
            assert found.channel is None or found.channel == found.channel.lower()
            assert found.duration_ms is None or found.duration_ms > 0
            assert all(chapter.end_ms > chapter.start_ms for chapter in found.chapters)
