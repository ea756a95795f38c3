"""Parameter sets put in front of key frames, unit by unit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vodkeep.capture.mp4_boxes import box
from vodkeep.capture.parameter_sets import stored_sets, with_sets
from vodkeep.capture.samples import SegmentDamagedError

SPS, PPS, SPS_TWO = b"\x67sps", b"\x68p", b"\x67other"
AVCC = box(
    b"avcC",
    bytes((1, 77, 0, 31, 0xFF, 0xE2)),
    b"\x00\x04",
    SPS,
    b"\x00\x06",
    SPS_TWO,
    b"\x01\x00\x02",
    PPS,
    b"\xfd\xf8",
)
VPS, HEVC_SPS, HEVC_PPS, HEVC_SEI = b"\x40\x01v", b"\x42\x01s", b"\x44\x01p", b"\x4e\x01sei"


def entry(kind: bytes, *boxes: bytes) -> bytes:
    return box(kind, bytes(78), *boxes)


def array(kind: int, unit: bytes) -> bytes:
    return bytes((0x80 | kind, 0, 1)) + len(unit).to_bytes(2, "big") + unit


HVCC = box(
    b"hvcC",
    bytes(22),
    bytes((4,)),
    *(array(kind, unit) for kind, unit in ((32, VPS), (33, HEVC_SPS), (34, HEVC_PPS), (39, HEVC_SEI))),
)


def units(*contents: bytes, width: int = 4) -> bytes:
    return b"".join(len(content).to_bytes(width, "big") + content for content in contents)


def put(samples: list[bytes], sync: list[bool], sets: bytes, *, width: int = 4, codec: str = "avc1") -> list[bytes]:
    sizes = np.array([len(sample) for sample in samples], np.uint32)
    payload, grown = with_sets(memoryview(b"".join(samples)), sizes, np.array(sync), sets, width, codec)
    assert grown.sum() == len(payload)
    ends = np.cumsum(grown, dtype=np.int64).tolist()
    return [bytes(payload[begin:end]) for begin, end in zip([0, *ends], ends, strict=False)]


def test_the_sets_of_an_entry_are_read_as_samples_have_them() -> None:
    assert stored_sets(entry(b"avc1", box(b"colr", b"nclx"), AVCC), 4) == units(SPS, SPS_TWO, PPS)
    assert stored_sets(entry(b"avc1", AVCC), 2) == units(SPS, SPS_TWO, PPS, width=2)
    assert stored_sets(entry(b"hvc1", HVCC), 4) == units(VPS, HEVC_SPS, HEVC_PPS)
    assert stored_sets(entry(b"av01", box(b"av1C", b"\x81\x00\x0c\x00")), 4) == b""


@pytest.mark.parametrize("broken", [AVCC[:8] + bytes(5), AVCC[:-6], HVCC[:-4], HVCC[:40]])
def test_a_broken_entry_is_said_so(broken: bytes) -> None:
    with pytest.raises(SegmentDamagedError):
        stored_sets(entry(b"avc1", len(broken).to_bytes(4, "big") + broken[4:]), 4)


def test_sets_that_do_not_fit_their_length_are_refused() -> None:
    with pytest.raises(SegmentDamagedError):
        stored_sets(
            entry(b"avc1", box(b"avcC", bytes((1, 77, 0, 31, 0xFC, 0xE1)), b"\x01\x00", bytes(256), b"\x00")), 1
        )


def test_only_key_frames_get_them() -> None:
    sets = units(SPS, PPS)
    key, other = units(b"\x06sei", b"\x65idr"), units(b"\x41slice")
    assert put([other, key, other, key], [False, True, False, True], sets) == [other, sets + key, other, sets + key]
    assert put([other, other], [False, False], sets) == [other, other]


def test_a_delimiter_stays_the_first() -> None:
    sets = units(SPS, PPS)
    assert put([units(b"\x09\xf0", b"\x65idr")], [True], sets) == [units(b"\x09\xf0") + sets + units(b"\x65idr")]
    hevc = units(VPS, HEVC_SPS, HEVC_PPS)
    key = units(b"\x46\x01\x50", b"\x26\x01idr")
    assert put([key], [True], hevc, codec="hvc1") == [units(b"\x46\x01\x50") + hevc + units(b"\x26\x01idr")]


def test_a_frame_that_has_its_own_is_left_alone() -> None:
    own = units(b"\x09\xf0", SPS_TWO, PPS, b"\x65idr")
    assert put([own], [True], units(SPS, PPS)) == [own]
    hevc = units(VPS, b"\x26\x01idr")
    assert put([hevc], [True], units(HEVC_SPS), codec="hev1") == [hevc]


@given(
    st.lists(st.tuples(st.booleans(), st.lists(st.binary(max_size=6), min_size=1, max_size=4)), min_size=1, max_size=6),
    st.sampled_from(["avc1", "hvc1"]),
    st.sampled_from([1, 2, 4]),
)
def test_whatever_the_units_are_nothing_of_them_is_lost(
    drawn: list[tuple[bool, list[bytes]]], codec: str, width: int
) -> None:
    sets = units(SPS, PPS, width=width)
    samples = [units(*contents, width=width) for _, contents in drawn]
    made = put(samples, [sync for sync, _ in drawn], sets, width=width, codec=codec)
    for (sync, _), before, after in zip(drawn, samples, made, strict=True):
        assert after == before or (sync and after.replace(sets, b"", 1) == before)
