from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vodkeep.publish.chapters import Chapter
from vodkeep.publish.metadata import (
    PublishSubject,
    PublishTemplates,
    Stretch,
    render,
    spoken,
    tags_length,
)
from vodkeep.publish.publication import marker_of
from vodkeep.publish.split import Part
from vodkeep.publish.text import clean_line, clean_text, cut_bytes, cut_units, units
from vodkeep.settings.forms import DESCRIPTION_PLACEHOLDERS, VIDEO_PLACEHOLDERS

MARKER = marker_of("2301", 1, 1)
SUBJECT = PublishSubject(
    vod_id="2301",
    channel="somebody",
    name="SomeBody",
    title="Playing something",
    date=datetime(2026, 11, 23, 14, 37, tzinfo=UTC),
    duration_ms=7_200_000,
    url="https://www.twitch.tv/videos/2301",
    chapters=(Chapter(0, "Talk"), Chapter(600_000, "A game"), Chapter(3_600_000, "Another")),
)


def test_a_broadcast_says_what_it_is_and_where_it_comes_from() -> None:
    subject = replace(SUBJECT, description="By hand.", muted=(Stretch(60_000, 240_000),), missing=(Stretch(0, 10_000),))
    rendering = render(PublishTemplates(tags=("Twitch", "{name}")), subject, marker=MARKER)
    metadata = rendering.metadata
    assert metadata.title == "Playing something"
    assert metadata.description == (
        "By hand.\n\n0:00 Talk\n10:00 A game\n1:00:00 Another\n\n"
        "Broadcast on Twitch by SomeBody on 2026-11-23 at 14:37 UTC: https://www.twitch.tv/videos/2301\n"
        "Missing: 0m00s to 0m10s.\nWithout sound: 1m00s to 4m00s.\n\nVodkeep 2301/1.1"
    )
    assert (metadata.tags, metadata.privacy, metadata.category_id) == (("Twitch", "SomeBody"), "private", "20")
    assert metadata.recorded_at == SUBJECT.date
    assert rendering.notes == ()


def test_a_part_says_which_it_is_and_leads_to_the_others() -> None:
    subject = replace(SUBJECT, muted=(Stretch(3_590_000, 3_660_000),))
    rendering = render(
        PublishTemplates(), subject, marker="M", part=Part(2, 2, 3_600_000, 7_200_000), links={1: "aaa", 2: "bbb"}
    )
    assert rendering.metadata.title == "Playing something (2/2)"
    lines = rendering.metadata.description.splitlines()
    assert lines[:2] == ["Part 2 of 2 of one broadcast.", "Part 1: https://www.youtube.com/watch?v=aaa"]
    assert "Without sound: 0m00s to 1m00s." in lines
    assert rendering.metadata.recorded_at == datetime(2026, 11, 23, 15, 37, tzinfo=UTC)


def test_the_only_part_is_the_broadcast() -> None:
    assert render(PublishTemplates(), SUBJECT, marker=MARKER, part=Part(1, 1, 0, 7_200_000)) == render(
        PublishTemplates(), SUBJECT, marker=MARKER
    )


def test_a_channel_can_have_its_own() -> None:
    templates = PublishTemplates(
        playlist="PLall",
        channel_playlists={"somebody": "PLown"},
        channel_privacies={"somebody": "public"},
        channel_categories={"somebody": "22"},
    )
    own = render(templates, SUBJECT, marker=MARKER)
    other = render(templates, replace(SUBJECT, channel="other"), marker=MARKER)
    assert (own.playlist, own.metadata.privacy, own.metadata.category_id) == ("PLown", "public", "22")
    assert (other.playlist, other.metadata.privacy, other.metadata.category_id) == ("PLall", "private", "20")


TEXTS = st.text(
    st.one_of(st.characters(), st.sampled_from("<>\n\r\x00\u202e\ud83c😀🏴👩\u200d👩\u0301 ")), max_size=300
)


@given(
    title=TEXTS,
    description=st.builds(lambda text, times: text * times, TEXTS, st.integers(0, 80)),
    chapters=st.lists(st.builds(Chapter, st.integers(0, 10**7), TEXTS), max_size=40),
    tags=st.lists(TEXTS, max_size=8),
    name=TEXTS,
    parts=st.integers(1, 3),
)
def test_whatever_it_is_called_youtube_takes_it_and_the_marker_stays(
    title: str, description: str, chapters: list[Chapter], tags: list[str], name: str, parts: int
) -> None:
    subject = replace(SUBJECT, title=title, description=description, chapters=tuple(chapters), name=name)
    plain = tuple(tag.replace("{", "").replace("}", "") for tag in tags)
    part = Part(parts, parts, 0, subject.duration_ms)
    metadata = render(PublishTemplates(tags=plain), subject, marker=MARKER, part=part).metadata
    metadata.title.encode()
    assert 1 <= units(metadata.title) <= 100
    assert parts == 1 or metadata.title.endswith(f" ({parts}/{parts})")
    assert len(metadata.description.encode()) <= 5000
    assert metadata.description.splitlines()[-1] == MARKER
    assert tags_length(metadata.tags) <= 500
    assert not set("<>\x00\r") & set(metadata.title + metadata.description + "".join(metadata.tags))


def test_in_a_long_description_the_persons_text_gives_way_first() -> None:
    subject = replace(SUBJECT, description="äöü " * 2000)
    rendering = render(PublishTemplates(), subject, marker=MARKER)
    description = rendering.metadata.description
    assert 4990 <= len(description.encode()) <= 5000
    assert "1:00:00 Another" in description
    assert "Broadcast on Twitch" in description
    assert rendering.notes == ("The description has 14152 bytes and was cut to 5000.",)


def test_of_too_many_chapters_the_last_go() -> None:
    chapters = tuple(Chapter(number * 20_000, f"Chapter number {number}") for number in range(360))
    description = render(PublishTemplates(), replace(SUBJECT, chapters=chapters), marker=MARKER).metadata.description
    assert description.startswith("0:00 Chapter number 0\n0:20 Chapter number 1\n")
    assert "Broadcast on Twitch" in description
    assert 4500 < len(description.encode()) <= 5000


def test_in_a_long_title_what_the_template_adds_stays() -> None:
    rendering = render(
        PublishTemplates(title="{date}: {title} by {name}"), replace(SUBJECT, title="x" * 200), marker="M"
    )
    assert rendering.metadata.title == f"2026-11-23: {'x' * 75}… by SomeBody"
    assert rendering.notes == ("The title has 224 characters and was cut to 100.",)


@pytest.mark.parametrize("title", ["", " \n", "\x00", "\u202e"], ids=["empty", "space", "control", "mark"])
def test_a_broadcast_without_a_title_has_one(title: str) -> None:
    assert render(PublishTemplates(), replace(SUBJECT, title=title), marker="M").metadata.title == "SomeBody 2026-11-23"


def test_empty_placeholders_leave_no_empty_lines() -> None:
    subject = replace(SUBJECT, chapters=(), date=None, url="")
    description = render(PublishTemplates(), subject, marker="M").metadata.description
    assert description == "Broadcast on Twitch by SomeBody.\n\nM"


def test_tags_are_counted_as_youtube_counts_them() -> None:
    assert tags_length(["Foo-Baz"]) == 7
    assert tags_length(["Foo Baz"]) == 9
    assert tags_length(["a", "b c"]) == 1 + 1 + 5


def test_a_tag_that_does_not_fit_is_left_out_whole_and_told() -> None:
    templates = PublishTemplates(tags=("a" * 250, "b" * 248, "c c", "d", "A" * 250))
    rendering = render(templates, SUBJECT, marker="M")
    assert rendering.metadata.tags == ("a" * 250, "b" * 248)
    assert len(rendering.notes) == 2


def test_many_stretches_are_summed_up() -> None:
    muted = tuple(Stretch(number * 60_000, number * 60_000 + 30_000) for number in range(20))
    description = render(PublishTemplates(), replace(SUBJECT, muted=muted), marker="M").metadata.description
    assert "7m00s to 7m30s, and 12 more, 6m00s together." in description


def test_no_provenance_looks_like_a_chapter() -> None:
    assert spoken(3_723_000) == "1h02m03s"
    subject = replace(SUBJECT, muted=(Stretch(0, 7_200_000),), chapters=())
    description = render(PublishTemplates(), subject, marker="M").metadata.description
    assert "0:00" not in description


@pytest.mark.parametrize(
    ("text", "limit", "cut"),
    [
        ("abcdef", 6, "abcdef"),
        ("abcdef", 5, "abcd…"),
        ("ab😀😀", 5, "ab😀…"),
        ("ab😀😀", 4, "ab…"),
        ("ae\u0301e\u0301x", 5, "ae\u0301…"),
        ("a👩\u200d👩", 5, "a…"),
        ("a👍🏽b", 4, "a…"),
    ],
    ids=["fits", "cut", "astral", "half", "accent", "joined", "skin tone"],
)
def test_a_cut_breaks_no_character(text: str, limit: int, cut: str) -> None:
    assert cut_units(text, limit) == cut


def test_a_cut_in_bytes_fits() -> None:
    assert cut_bytes("äöü", 6) == "äöü"
    assert cut_bytes("äöü!", 6) == "ä…"
    assert cut_bytes("äöü!", 2) == ""


def test_what_youtube_refuses_is_replaced() -> None:
    assert clean_text("<b>\r\nx\t\x07y\u2028z\ud800") == "‹b›\nx y\nz"
    assert clean_line(" a \n b ") == "a b"


def test_every_placeholder_that_the_settings_know_is_filled() -> None:
    everywhere = "".join(f"{{{name}}}" for name in VIDEO_PLACEHOLDERS)
    described = " ".join(f"{{{name}}}" for name in DESCRIPTION_PLACEHOLDERS)
    templates = PublishTemplates(everywhere, described, (everywhere,))
    metadata = render(templates, SUBJECT, marker="M", part=Part(1, 2, 0, 60_000)).metadata
    assert metadata.title == "Playing somethingsomebodySomeBody2026-11-2314:372301 (1/2)"
    assert "1m00s Part 1 of 2 of one broadcast." in metadata.description
    assert not set("{}") & set(metadata.title + metadata.description + metadata.tags[0])
