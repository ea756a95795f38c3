from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import PurePosixPath
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vodkeep.keep.layout import item_folder
from vodkeep.keep.manifest import ChapterEntry, Manifest, StreamEntry
from vodkeep.keep.media_names import check_item
from vodkeep.keep.media_server import write_nfo

MANIFEST = Manifest(
    video_id="2301",
    stream_id=None,
    channel="otter",
    channel_name="Otter & <Friends>",
    title='Playing "it" & more ]]> <b>',
    date=datetime(2026, 11, 23, 14, 37, tzinfo=UTC),
    duration_ms=7_234_000,
    completeness=0.5,
    rendition="1080p60",
    tools=(),
    captured_at=datetime(2026, 11, 23, 18, 0, 5, tzinfo=UTC),
    files=(),
    streams=(StreamEntry("video", "h264", 10, 1920, 1080, 60.0), StreamEntry("audio", "aac", 10, None, None, None)),
    ledger=(),
    chapters=(ChapterEntry(0, 1, "Talk"), ChapterEntry(1, 2, "A game"), ChapterEntry(2, 3, "Talk")),
    description="As Twitch has it.",
)
FILES = {"video.mp4", "video.nfo", "poster.jpg", "landscape.jpg", "manifest.json", "thumbnail.jpg", "chat.ndjson.zst"}
TITLES = st.text(st.one_of(st.characters(), st.sampled_from("<>&\"']\x00\x0b\r\n\ud800\ufffe\U0001f600")), max_size=60)


def read(nfo: bytes) -> ET.Element:
    return ET.fromstring(nfo)


def test_a_description_has_the_tags_that_jellyfin_and_kodi_know() -> None:
    movie = read(write_nfo(MANIFEST))
    assert movie.tag == "movie"
    told = {element.tag: element.text for element in movie}
    assert told["title"] == 'Playing "it" & more ]]> <b>'
    assert (told["premiered"], told["year"], told["runtime"]) == ("2026-11-23", "2026", "121")
    assert (told["dateadded"], told["studio"], told["lockdata"]) == ("2026-11-23 18:00:05", "Twitch", "true")
    assert [element.text for element in movie.findall("tag")] == ["Talk", "A game"]
    assert movie.findtext("actor/name") == "Otter & <Friends>"
    unique = movie.find("uniqueid")
    assert unique is not None
    assert (unique.text, unique.attrib) == ("2301", {"type": "twitch", "default": "true"})
    assert movie.findtext("fileinfo/streamdetails/video/width") == "1920"
    assert movie.findtext("fileinfo/streamdetails/video/durationinseconds") == "7234"
    assert movie.findtext("fileinfo/streamdetails/audio/codec") == "aac"
    plot = movie.findtext("plot") or ""
    assert plot.startswith(
        "As Twitch has it.\n\nBroadcast on Twitch by Otter & <Friends>. https://www.twitch.tv/videos/2301"
    )
    assert plot.endswith("Parts of it are missing.")


@given(TITLES, TITLES, TITLES, TITLES)
def test_whatever_it_is_called_a_parser_reads_it(title: str, description: str, name: str, chapter: str) -> None:
    manifest = replace(
        MANIFEST, title=title, description=description, channel_name=name, chapters=(ChapterEntry(0, 1, chapter),)
    )
    movie = read(write_nfo(manifest))
    assert (movie.findtext("title") or "").strip()
    assert movie.findtext("actor/name")


def test_what_is_not_known_is_left_out() -> None:
    movie = read(write_nfo(replace(MANIFEST, date=None, description="", title="", streams=(), video_id="import-7")))
    assert movie.find("premiered") is None
    assert movie.findtext("title") == "import-7"
    assert "twitch.tv" not in (movie.findtext("plot") or "")


@given(TITLES)
@pytest.mark.parametrize("template", ["{channel}/{date} {title} [{id}]", "{channel}/{title} ({year}) [{id}]"])
def test_the_names_we_give_are_accepted_whatever_the_title(template: str, title: str) -> None:
    folder = item_folder(template, channel="otter", date=MANIFEST.date, title=title, video_id="2301")
    assert check_item(folder, FILES) == []


@pytest.mark.parametrize(
    ("folder", "files", "sentence"),
    [
        ("otter/a: b", FILES, "characters that Jellyfin reserves: :"),
        ("clips/2301", FILES, 'A folder named "clips" holds extras'),
        ("otter/Behind the Scenes", FILES, "holds extras"),
        ("otter/.hidden", FILES, "Hidden folders"),
        ("otter/Matrix [tmdbid-603]", FILES, "names a film of a catalogue"),
        ("otter/In 3D hsbs", FILES, "film in 3D"),
        ("otter/x.", FILES, "ends with a dot"),
        ("otter/" + "ä" * 130, FILES, "more than 255 bytes"),
        ("otter/2301", FILES | {".ignore"}, "is not shown"),
        ("otter/2301", {"my-trailer.mp4", "my-trailer.nfo", "poster.jpg"}, "extra of another film"),
        ("otter/2301", {"sample.mkv", "movie.nfo", "poster.jpg"}, "extra of another film"),
        ("otter/2301", {"vod-part1.mp4", "movie.nfo", "poster.jpg"}, "one part of a film"),
        ("otter/2301", FILES | {"other.mkv"}, "several videos"),
        ("otter/2301", FILES - {"video.mp4"}, "no video"),
    ],
)
def test_what_would_be_taken_for_something_else_is_told(folder: str, files: set[str], sentence: str) -> None:
    problems = check_item(PurePosixPath(folder), files)
    assert any(sentence in problem.sentence and not problem.is_hint for problem in problems)
    assert all(problem.sentence.endswith((".", ":")) or "reserves" in problem.sentence for problem in problems)


def test_what_is_only_less_well_shown_is_a_hint() -> None:
    problems = check_item(PurePosixPath("otter/2301"), {"video.mp4", "thumbnail.jpg"})
    assert [problem.is_hint for problem in problems] == [True, True]
    assert "MEDIA_SERVER_FILES=1" in problems[0].remedy


def test_versions_of_one_film_are_fine() -> None:
    files = {"Film (2026) - 1080p.mp4", "Film (2026) - 720p.mp4", "movie.nfo", "folder.png"}
    assert check_item(PurePosixPath("otter/Film (2026)"), files) == []
