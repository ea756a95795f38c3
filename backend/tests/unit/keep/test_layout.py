from __future__ import annotations

import unicodedata
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vodkeep.keep.layout import MAX_NAME_BYTES, item_folder, safe_name

TEMPLATE = "{channel}/{date} {title} [{id}]"
DAY = datetime(2026, 11, 1, 23, 30, tzinfo=UTC)


def folder(title: str, template: str = TEMPLATE) -> str:
    return str(item_folder(template, channel="nightotter", date=DAY, title=title, video_id="2301"))


def test_a_plain_title() -> None:
    assert folder("any% WR attempts") == "nightotter/2026-11-01 any% WR attempts [2301]"


@pytest.mark.parametrize(
    ("title", "kept"),
    [
        pytest.param("../../etc/passwd", "etc passwd", id="parents"),
        pytest.param("<b>bold</b>", "b bold b", id="markup"),
        pytest.param("a\u202eb\u200ec", "a b c", id="direction marks"),
        pytest.param("line\nbreak\ttab\0nul", "line break tab nul", id="controls"),
        pytest.param("  dots and spaces. . .", "dots and spaces", id="trailing dots"),
        pytest.param("🎮👨‍👩‍👧 family", "🎮👨‍👩‍👧 family", id="emoji sequence kept"),
        pytest.param('C:\\x|y?*"', "C x y", id="windows"),
        pytest.param("", "untitled", id="empty"),
        pytest.param("///", "untitled", id="only separators"),
    ],
)
def test_hostile_titles(title: str, kept: str) -> None:
    assert folder(title) == f"nightotter/2026-11-01 {kept} [2301]"


def test_a_long_title_gives_way_and_the_id_stays() -> None:
    name = folder("日本語" * 100).split("/")[1]
    assert len(name.encode()) <= MAX_NAME_BYTES
    assert name.startswith("2026-11-01 日本語日本語")
    assert name.endswith(" [2301]")


def test_a_cut_never_takes_a_mark_from_its_letter() -> None:
    name = folder("e\u0301\u0323" * 200, "{title} [{id}]")
    title = name.removesuffix(" [2301]")
    assert len(name.encode()) <= MAX_NAME_BYTES
    assert unicodedata.normalize("NFC", "e\u0301\u0323") == title[-len(unicodedata.normalize("NFC", "e\u0301\u0323")) :]


@pytest.mark.parametrize("name", ["con", "NUL", "com1", "lpt9.txt"])
def test_device_names_are_defused(name: str) -> None:
    assert item_folder("{channel}/{id}", channel=name, date=None, title="", video_id="1").parts[0] == f"_{name}"


@given(st.text(max_size=400), st.text(max_size=60), st.integers(min_value=1, max_value=10**12))
def test_any_title_gives_a_safe_name_below_the_library(title: str, channel: str, number: int) -> None:
    path = item_folder(TEMPLATE, channel=channel, date=DAY, title=title, video_id=str(number))

    assert len(path.parts) == 2
    assert not path.is_absolute()
    for part in path.parts:
        assert part not in ("", ".", "..")
        assert 0 < len(part.encode()) <= MAX_NAME_BYTES
        assert not set(part) & set('<>:"/\\|?*\0\n\r')
        assert part == part.strip(". ")
        assert safe_name(part) == part
    assert f"[{number}]" in path.parts[1]
