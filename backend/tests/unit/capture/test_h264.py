from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.transport_packets import DELIMITER, PPS, SPS, key_picture, picture
from vodkeep.capture.gapped import GappedStream
from vodkeep.capture.h264 import Colour, Pictures, parse_sequence_parameters, read_byte_stream, sample_entry
from vodkeep.capture.samples import SegmentDamagedError, UnsupportedMediaError

LONG = b"\0\0\0\1"
SHORT = b"\0\0\1"


def read(*units: bytes) -> Pictures:
    starts = np.cumsum([0] + [len(unit) for unit in units])[:-1]
    return read_byte_stream(GappedStream.of(b"".join(units)), starts)


def with_lengths(*nal_units: bytes) -> bytes:
    return b"".join(len(unit).to_bytes(4, "big") + unit for unit in nal_units)


class Writer:
    """Bits of a parameter set."""

    def __init__(self) -> None:
        self.bits = ""

    def u(self, count: int, value: int) -> Writer:
        self.bits += f"{value:0{count}b}"
        return self

    def ue(self, *values: int) -> Writer:
        for value in values:
            text = f"{value + 1:b}"
            self.bits += "0" * (len(text) - 1) + text
        return self

    def unit(self, header: int = 0x67) -> bytes:
        bits = self.bits + "1"
        raw = int(bits.ljust(-(-len(bits) // 8) * 8, "0"), 2).to_bytes(-(-len(bits) // 8), "big")
        escaped = bytearray()
        for byte in raw:
            if byte <= 3 and escaped[-2:] == b"\0\0":
                escaped.append(3)
            escaped.append(byte)
        return bytes((header,)) + bytes(escaped)


def parameters(
    *,
    profile: int = 77,
    chroma: int = 1,
    columns: int = 20,
    rows: int = 12,
    frames_only: bool = True,
    crop: tuple[int, int, int, int] | None = None,
    number: int = 0,
    usability: Writer | None = None,
    order: Writer | None = None,
) -> bytes:
    writer = Writer().u(8, profile).u(8, 0).u(8, 30).ue(number)
    if profile >= 100:
        writer.ue(chroma)
        if chroma == 3:
            writer.u(1, 0)
        writer.ue(0, 0).u(2, 0)
    writer.ue(0)
    writer.bits += (order or Writer().ue(2)).bits
    writer.ue(4).u(1, 0).ue(columns - 1, rows - 1).u(1, frames_only)
    if not frames_only:
        writer.u(1, 0)
    writer.u(1, 1).u(1, crop is not None)
    writer.ue(*(crop or ()))
    writer.u(1, usability is not None)
    writer.bits += usability.bits if usability else ""
    return writer.unit()


def usability(
    *, aspect: Writer | None = None, colour: Writer | None = None, timing: tuple[int, int] | None = None
) -> Writer:
    writer = Writer().u(1, aspect is not None)
    writer.bits += aspect.bits if aspect else ""
    writer.u(1, 0).u(1, colour is not None)
    writer.bits += colour.bits if colour else ""
    writer.u(1, 0).u(1, timing is not None)
    if timing is not None:
        writer.u(32, timing[0]).u(32, timing[1]).u(1, 1)
    return writer.u(4, 0)


def test_start_codes_become_lengths() -> None:
    body = LONG + DELIMITER + LONG + SPS + SHORT + PPS + SHORT + b"\x06\x05\x01\x80" + SHORT + b"\x65\x88abc"
    pictures = read(body, LONG + DELIMITER + SHORT + b"\x41\x9adef")
    first = with_lengths(DELIMITER, SPS, PPS, b"\x06\x05\x01\x80", b"\x65\x88abc")
    second = with_lengths(DELIMITER, b"\x41\x9adef")
    assert bytes(pictures.payload) == first + second
    assert pictures.sizes.tolist() == [len(first), len(second)]
    assert pictures.sync.tolist() == [True, False]


def test_only_instantaneous_refreshes_are_sync_samples() -> None:
    """A recovery point leaves pictures behind it that cannot be decoded from there (ISO/IEC 14496-15 section 5.4.2)."""
    recovery = LONG + b"\x06\x06\x01\xc4\x80" + LONG + SPS + LONG + PPS + LONG + b"\x41\x88abc"
    assert read(key_picture(b"a"), recovery).sync.tolist() == [True, False]


def test_zeros_between_nal_units_belong_to_none() -> None:
    body = bytes(2) + LONG + SPS + bytes(3) + LONG + PPS + bytes(50) + SHORT + b"\x65\x88abc" + bytes(9)
    pictures = read(body, LONG + b"\x41\x9adef\0")
    assert bytes(pictures.payload) == with_lengths(SPS, PPS, b"\x65\x88abc", b"\x41\x9adef")


def test_several_slices_are_one_picture() -> None:
    pictures = read(key_picture(b"a" * 9, b"b" * 9, b"c" * 9), picture(b"d", b"e", code=SHORT))
    assert len(pictures.sizes) == 2


nal_bodies = st.binary(min_size=1, max_size=12).map(lambda body: body.replace(b"\0", b"\x01") + b"\x80")


@given(
    st.lists(st.tuples(nal_bodies, st.sampled_from([SHORT, LONG, b"\0" + LONG])), min_size=1, max_size=12),
    st.data(),
)
def test_gaps_anywhere_change_nothing(slices: list[tuple[bytes, bytes]], data: st.DataObject) -> None:
    """Gaps may lie inside start codes, and hold what looks like one."""
    units, expected = [], []
    for index, (body, code) in enumerate(slices):
        head = [SPS, PPS] if index == 0 else [DELIMITER]
        parts = [*head, (b"\x65\x88" if index == 0 else b"\x41\x9a") + body]
        units.append(b"".join(code + part for part in parts))
        expected.append(with_lengths(*parts))
    plain = b"".join(units)
    places = data.draw(st.lists(st.integers(0, len(plain)), max_size=10).map(sorted))
    octets, at, size, before = bytearray(), [], [], 0
    for place in places:
        octets += plain[before:place]
        gap = data.draw(st.sampled_from([b"\0", b"\1", b"\0\0\1", b"\0\0\1\x41\x9a", bytes(30), b"\xff" * 40]))
        at.append(len(octets))
        size.append(len(gap))
        octets += gap
        before = place
    octets += plain[before:]
    stream = GappedStream(np.frombuffer(octets, np.uint8), np.array(at, np.int64), np.array(size, np.int64))
    pictures = read_byte_stream(stream, np.cumsum([0] + [len(unit) for unit in units])[:-1])
    assert bytes(pictures.payload) == b"".join(expected)
    assert pictures.sizes.tolist() == [len(sample) for sample in expected]


@pytest.mark.parametrize("lead", range(4))
def test_start_codes_are_found_wherever_they_lie(lead: int) -> None:
    """Around the borders of the stretches that are searched at once, too."""
    for size in (8, 9, *range((1 << 21) - 70, (1 << 21) - 50)):
        pictures = read(key_picture(b"\x55" * (size + lead)), picture(b"d" * 5, code=SHORT))
        assert pictures.sizes.tolist()[1] == 4 + len(DELIMITER) + 4 + 7


def test_the_sample_entry_holds_the_first_parameter_sets() -> None:
    other = b"\x68" + Writer().ue(1, 0).u(8, 0x55).unit()[1:]
    again = b"\x68" + Writer().ue(1, 0).u(8, 0x77).unit()[1:]
    body = LONG + SPS + LONG + PPS + LONG + other + LONG + again + LONG + b"\x65\x88abc"
    form = read(body, picture(b"d"), body).format
    assert (form.kind, form.codec, form.timescale) == ("video", "avc1", 90_000)
    assert (form.width, form.height) == (320, 180)
    entry = form.sample_entry
    assert int.from_bytes(entry[:4], "big") == len(entry)
    assert entry[32:36] == (320).to_bytes(2, "big") + (180).to_bytes(2, "big")
    record = bytes.fromhex("0164000dffe1") + len(SPS).to_bytes(2, "big") + SPS + b"\x02"
    record += len(PPS).to_bytes(2, "big") + PPS + len(other).to_bytes(2, "big") + other + bytes.fromhex("fdf8f800")
    assert entry[86:] == (8 + len(record)).to_bytes(4, "big") + b"avcC" + record


def test_sequence_parameters_of_every_id_are_in_the_sample_entry() -> None:
    one, two = parameters(number=0), parameters(number=3)
    entry = read(LONG + one + LONG + two + LONG + PPS + LONG + b"\x65\x88abc").format.sample_entry
    record = b"\xff\xe2" + b"".join(len(unit).to_bytes(2, "big") + unit for unit in (one, two)) + b"\x01"
    assert record in entry


def test_profiles_without_chroma_fields_have_none_in_the_record() -> None:
    unit = parameters(profile=77)
    entry = sample_entry(parse_sequence_parameters(unit), [unit], [PPS])
    assert entry.endswith(b"\x01\x00\x06" + PPS)


@pytest.mark.parametrize(
    ("unit", "size"),
    [
        (parameters(), (320, 192)),
        (parameters(crop=(0, 1, 0, 6)), (318, 180)),
        (parameters(crop=(1, 1, 2, 4)), (316, 180)),
        (parameters(profile=100, chroma=0, crop=(0, 3, 0, 5)), (317, 187)),
        (parameters(profile=122, chroma=2, crop=(0, 1, 0, 12)), (318, 180)),
        (parameters(profile=244, chroma=3, crop=(0, 1, 0, 3)), (319, 189)),
        (parameters(frames_only=False, rows=6, crop=(0, 0, 0, 3)), (320, 180)),
        (parameters(columns=120, rows=68, crop=(0, 0, 0, 4)), (1920, 1080)),
        (parameters(order=Writer().ue(0, 4)), (320, 192)),
        (parameters(order=Writer().ue(1).u(1, 0).ue(1, 2, 3, 4, 5, 6)), (320, 192)),
    ],
)
def test_size_of_the_picture(unit: bytes, size: tuple[int, int]) -> None:
    found = parse_sequence_parameters(unit)
    assert (found.width, found.height) == size


def test_scaling_lists_are_passed_over() -> None:
    writer = Writer().u(8, 100).u(8, 0).u(8, 30).ue(0, 1, 0, 0).u(1, 0).u(1, 1)
    writer.u(1, 1).ue(*[1] * 16)  # a full list: +1 each time
    writer.u(1, 1).ue(16)  # -8: the rest is the default
    writer.u(5, 0).u(1, 1).ue(*[0] * 64)
    writer.ue(0, 2, 4).u(1, 0).ue(19, 11).u(3, 0b110).u(1, 0)
    found = parse_sequence_parameters(writer.unit())
    assert (found.width, found.height) == (320, 192)


@pytest.mark.parametrize(
    ("aspect", "expected"),
    [
        (None, None),
        (Writer().u(8, 1), (1, 1)),
        (Writer().u(8, 14), (4, 3)),
        (Writer().u(8, 0), None),
        (Writer().u(8, 200), None),
        (Writer().u(8, 255).u(16, 13).u(16, 7), (13, 7)),
        (Writer().u(8, 255).u(16, 0).u(16, 7), None),
    ],
)
def test_pixel_aspect(aspect: Writer | None, expected: tuple[int, int] | None) -> None:
    unit = parameters(usability=usability(aspect=aspect))
    found = parse_sequence_parameters(unit)
    assert found.aspect == expected
    ending = PPS
    if expected is not None and expected != (1, 1):
        ending = b"\x00\x00\x00\x10pasp" + b"".join(side.to_bytes(4, "big") for side in expected)
    assert sample_entry(found, [unit], [PPS]).endswith(ending)


@pytest.mark.parametrize(
    ("colour", "expected", "box"),
    [
        (None, None, ""),
        (Writer().u(3, 5).u(1, 0).u(1, 0), None, ""),
        (Writer().u(3, 5).u(1, 0).u(1, 1).u(8, 1).u(8, 13).u(8, 6), Colour(1, 13, 6, False), "0001000d000600"),
        (Writer().u(3, 5).u(1, 1).u(1, 1).u(8, 9).u(8, 16).u(8, 9), Colour(9, 16, 9, True), "00090010000980"),
        (Writer().u(3, 5).u(1, 1).u(1, 1).u(8, 2).u(8, 2).u(8, 2), None, ""),
        (Writer().u(3, 5).u(1, 1).u(1, 1).u(8, 2).u(8, 2).u(8, 6), Colour(2, 2, 6, True), "00020002000680"),
    ],
)
def test_colour(colour: Writer | None, expected: Colour | None, box: str) -> None:
    unit = parameters(usability=usability(colour=colour))
    found = parse_sequence_parameters(unit)
    assert found.colour == expected
    ending = b"\x00\x00\x00\x13colrnclx" + bytes.fromhex(box) if box else PPS
    assert sample_entry(found, [unit], [PPS]).endswith(ending)


@pytest.mark.parametrize(
    ("timing", "ticks"), [(None, None), ((1, 120), 1500), ((1001, 60_000), 3003), ((0, 50), None), ((1, 1 << 31), None)]
)
def test_duration_of_a_frame(timing: tuple[int, int] | None, ticks: int | None) -> None:
    assert parse_sequence_parameters(parameters(usability=usability(timing=timing))).ticks_per_frame == ticks


@pytest.mark.parametrize("cut", range(1, len(SPS) - 8))
def test_a_parameter_set_cut_short_is_damage(cut: int) -> None:
    with pytest.raises(SegmentDamagedError, match=r"cut short|broken"):
        parse_sequence_parameters(SPS[:cut])


@given(st.binary(max_size=60))
def test_no_parameter_set_makes_us_stumble(payload: bytes) -> None:
    try:
        found = parse_sequence_parameters(b"\x67" + payload)
    except SegmentDamagedError:
        return
    assert 0 < found.width < 65536
    sample_entry(found, [b"\x67" + payload], [PPS])


SLICE = b"\x65\x88abc"
INTERLACED = parameters(frames_only=False)


def field_slice(*, field: bool) -> bytes:
    return Writer().ue(0, 7, 0).u(4, 0).u(1, field).u(20, 0x55555).unit(0x65)


@pytest.mark.parametrize(
    ("units", "complaint"),
    [
        ([LONG + PPS + LONG + SLICE], "without parameter sets"),
        ([LONG + SPS + LONG + SLICE], "without parameter sets"),
        ([key_picture(b"a"), b"abc" + picture(b"b")], "reach over PES packets"),
        ([key_picture(b"a"), b"\1" + picture(b"b")], "reach over PES packets"),
        ([key_picture(b"a"), b"\x55" * 100], "no NAL unit begins"),
        ([key_picture(b"a"), b"\x55" * 100, picture(b"b")], "no NAL unit begins"),
        ([key_picture(b"a"), b"", picture(b"b")], "no NAL unit begins"),
        ([key_picture(b"a"), picture(b"b"), b""], "no NAL unit begins"),
        ([key_picture(b"a"), LONG + DELIMITER], "hold no picture"),
        ([key_picture(b"a") + picture(b"b")], "several pictures"),
        ([key_picture(b"a"), LONG + b"\x41\x48abc"], "begin with their first slice"),
        ([key_picture(b"a"), LONG + b"\x41\x48abc" + LONG + b"\x41\x9a"], "begin with their first slice"),
        ([key_picture(b"a") + LONG + DELIMITER, LONG + b"\x41\x9aabc"], "access units do not begin"),
        ([key_picture(b"a"), LONG + parameters(columns=10) + LONG + PPS + LONG + SLICE], "changes its size"),
        ([LONG + INTERLACED + LONG + PPS + LONG + field_slice(field=True)], "single fields"),
    ],
)
def test_streams_that_we_cannot_cut_are_named(units: list[bytes], complaint: str) -> None:
    with pytest.raises(UnsupportedMediaError, match=complaint):
        read(*units)


@pytest.mark.parametrize(
    ("units", "complaint"),
    [
        ([b"\x55" * 100], "no NAL units"),
        ([b""], "no NAL units"),
        ([key_picture(b"a"), LONG + SHORT + SLICE], "is empty"),
        ([key_picture(b"a"), LONG + SLICE + LONG], "is empty"),
        ([key_picture(b"a"), LONG + b"\xc1\x88abc"], "broken header"),
        ([key_picture(b"a"), LONG + b"\x41"], "slice of its picture is empty"),
        ([LONG + SPS[:8] + LONG + PPS + LONG + SLICE], "cut short"),
        ([LONG + parameters(number=31) + LONG + PPS + LONG + SLICE], "parameter set of its picture is broken"),
        ([LONG + SPS + LONG + b"\x68\x00\x80\xc0" + LONG + SLICE], "parameter set of its picture is broken"),
        ([LONG + SPS + LONG + PPS + b"\x55" * 65_536 + LONG + SLICE], "too long"),
        ([LONG + SPS + b"\x55" * 65_536 + LONG + PPS + LONG + SLICE], "too long"),
    ],
)
def test_broken_streams_are_named(units: list[bytes], complaint: str) -> None:
    with pytest.raises(SegmentDamagedError, match=complaint):
        read(*units)


def test_frames_of_an_interlaced_stream_are_fine() -> None:
    assert len(read(LONG + INTERLACED + LONG + PPS + LONG + field_slice(field=False)).sizes) == 1


def test_other_parameter_sets_of_the_same_size_stay_in_the_stream() -> None:
    other = parameters(profile=77, usability=usability(timing=(1, 60)))
    body = LONG + parameters(profile=77) + LONG + PPS + LONG + SLICE
    pictures = read(body, LONG + other + LONG + PPS + LONG + SLICE)
    assert other in bytes(pictures.payload)
    assert other not in pictures.format.sample_entry
