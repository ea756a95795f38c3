from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vodkeep.capture.mp4_boxes import Box, Fields, box, full_box, header, large_header, read_boxes
from vodkeep.capture.samples import SegmentDamagedError


def found(content: bytes) -> list[Box]:
    return list(read_boxes(memoryview(content), 0, len(content)))


def test_boxes_are_written_as_the_standard_says() -> None:
    assert box(b"free", b"ab", b"c") == b"\0\0\0\x0bfreeabc"
    assert full_box(b"vmhd", 1, 0x20304, b"x") == b"\0\0\0\x0dvmhd\x01\x02\x03\x04x"
    assert header(b"mdat", 9) == b"\0\0\0\x09mdat"
    assert large_header(b"mdat", 1 << 33) == b"\0\0\0\x01mdat\0\0\0\x02\0\0\0\0"


@given(st.lists(st.tuples(st.binary(min_size=4, max_size=4), st.binary(max_size=40), st.booleans()), max_size=6))
def test_boxes_are_found_where_they_were_put(contents: list[tuple[bytes, bytes, bool]]) -> None:
    parts = [large_header(kind, 16 + len(body)) + body if large else box(kind, body) for kind, body, large in contents]
    whole = b"".join(parts)
    boxes = found(whole)
    assert [(item.kind, whole[item.body : item.end]) for item in boxes] == [(kind, body) for kind, body, _ in contents]
    assert [whole[item.start : item.end] for item in boxes] == parts


def test_the_last_box_may_reach_to_the_end() -> None:
    assert found(box(b"free") + b"\0\0\0\0mdatabc") == [Box(b"free", 0, 8, 8), Box(b"mdat", 8, 16, 19)]


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"\0\0\0\x08fre", id="header cut"),
        pytest.param(b"\0\0\0\x09free", id="too long"),
        pytest.param(b"\0\0\0\x07free", id="shorter than its header"),
        pytest.param(b"\0\0\0\x01free\0\0\0\0\0\0\0\x0f", id="shorter than its large header"),
        pytest.param(b"\0\0\0\x01free\0\0\0", id="large header cut"),
        pytest.param(b"\0\0\0\x01free\xff\xff\xff\xff\xff\xff\xff\xff", id="far too long"),
    ],
)
def test_a_box_that_does_not_fit_is_damage(content: bytes) -> None:
    with pytest.raises(SegmentDamagedError):
        found(content)


def test_millions_of_empty_boxes_are_not_listed() -> None:
    with pytest.raises(SegmentDamagedError, match="too many"):
        found(box(b"free") * 100_000)


def test_fields_are_read_in_a_row_and_never_beyond_the_box() -> None:
    content = b"....\x01\x00\xff\xff\xff\xfe rest"
    fields = Fields(memoryview(content), Box(b"abcd", 0, 4, 10))
    assert (fields.unsigned(2), fields.left, fields.signed(4), fields.left) == (256, 4, -2, 0)
    with pytest.raises(SegmentDamagedError, match="abcd box is too short"):
        fields.take(1)
