from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from vodkeep.capture.model import Chapter
from vodkeep.capture.mp4_boxes import read_boxes
from vodkeep.capture.mp4_labels import Movie, chapter_sample, settle_chapters, user_data


def children(content: bytes) -> dict[bytes, bytes]:
    return {item.kind: content[item.body : item.end] for item in read_boxes(memoryview(content), 0, len(content))}


def test_texts_are_written_as_itunes_does() -> None:
    udta = children(user_data(Movie(title="Ä", date="2026-11-23"), []))[b"udta"]
    meta = children(udta)[b"meta"]
    assert meta[:4] == bytes(4)
    ilst = children(children(meta[4:])[b"ilst"])
    assert list(ilst) == [b"\xa9nam", b"\xa9day"]
    assert children(ilst[b"\xa9nam"])[b"data"] == b"\0\0\0\x01\0\0\0\0\xc3\x84"


def test_a_movie_without_words_has_no_user_data() -> None:
    assert user_data(Movie(), []) == b""


def test_nero_chapters_count_in_tenths_of_microseconds() -> None:
    chpl = children(children(user_data(Movie(), [(0, "a"), (1500, "é")]))[b"udta"])[b"chpl"]
    assert (
        chpl
        == b"\x01\0\0\0" + bytes(4) + b"\x02" + bytes(8) + b"\x01a" + (15_000_000).to_bytes(8, "big") + b"\x02\xc3\xa9"
    )


def test_nero_chapters_fit_into_a_byte() -> None:
    """Titles are cut between characters; what does not fit in number is in the chapter track only."""
    chpl = children(children(user_data(Movie(), [(i, "x" + "é" * 200) for i in range(300)]))[b"udta"])[b"chpl"]
    assert chpl[8] == 255
    assert chpl[9 + 8] == 255
    assert chpl[18 : 18 + 255].decode() == "x" + "é" * 127
    assert len(chpl) == 9 + 255 * (8 + 1 + 255)


def test_chapters_are_put_in_order_and_kept_within_the_movie() -> None:
    chapters = [
        Chapter(5_000_000, 9_000_000, "third"),
        Chapter(-1_000, 1_000_000, "first"),
        Chapter(1_000_999, 5_000_000, "second"),
        Chapter(10_000_000, 11_000_000, "behind"),
    ]
    assert settle_chapters(chapters, 10_000) == [(0, "first"), (1000, "second"), (5000, "third")]


def test_of_two_chapters_at_one_place_the_later_counts() -> None:
    assert settle_chapters([Chapter(0, 0, "empty"), Chapter(0, 5, "full")], 10_000) == [(0, "full")]


@given(st.text())
def test_a_chapter_sample_is_its_length_its_text_and_its_encoding(title: str) -> None:
    sample = chapter_sample(title)
    size = int.from_bytes(sample[:2], "big")
    assert sample[2 : 2 + size].decode() == title.replace("\0", " ")
    assert sample[2 + size :] == b"\0\0\0\x0cencd\0\0\x01\0"
