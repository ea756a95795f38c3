from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vodkeep.capture.probe import SegmentDamagedError, check_boxes, check_transport_stream, probe_segment


def box(kind: bytes, payload: bytes = b"") -> bytes:
    return (8 + len(payload)).to_bytes(4, "big") + kind + payload


def test_whole_packets_pass() -> None:
    check_transport_stream((b"\x47" + bytes(187)) * 3)


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        (b"<html>error</html>", "does not begin like"),
        (b"\x47" + bytes(186), "ends inside"),
        ((b"\x47" + bytes(187)) * 2 + b"\x00" + bytes(187), "1 of 3 transport stream packets lost"),
    ],
)
def test_broken_transport_streams_are_named(body: bytes, complaint: str) -> None:
    with pytest.raises(SegmentDamagedError, match=complaint):
        check_transport_stream(body)


def test_boxes_that_fill_the_segment_pass() -> None:
    check_boxes(box(b"styp", b"x") + box(b"moof", bytes(20)) + box(b"mdat", bytes(99)))


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        (box(b"moof") + box(b"mdat", bytes(50))[:-1], "does not fit"),
        (box(b"moof") + b"\x00\x00", "inside a box header"),
        (box(b"free"), "no media fragment"),
        ((1).to_bytes(4, "big") + b"mdat" + bytes(8), "does not fit"),
    ],
)
def test_broken_boxes_are_named(body: bytes, complaint: str) -> None:
    with pytest.raises(SegmentDamagedError, match=complaint):
        check_boxes(body)


def test_an_empty_answer_is_no_segment() -> None:
    with pytest.raises(SegmentDamagedError, match="empty"):
        probe_segment(b"")


@given(st.binary(max_size=600), st.booleans())
def test_garbage_is_damaged_never_a_crash(body: bytes, fragmented: bool) -> None:
    with pytest.raises(SegmentDamagedError):
        probe_segment(body, b"\x00\x00\x00\x10ftypiso6\x00\x00\x00\x00" if fragmented else None)


@given(st.binary(min_size=187, max_size=187))
def test_a_lone_packet_of_noise_holds_neither_picture_nor_sound(noise: bytes) -> None:
    with pytest.raises(SegmentDamagedError):
        probe_segment(b"\x47" + noise)
