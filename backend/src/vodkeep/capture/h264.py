"""H.264 as a transport stream carries it (a byte stream, Rec. ITU-T H.264 annex B), turned into what an MP4 wants.

`read_byte_stream` finds the NAL units, sees that each access unit holds one picture, and replaces the start codes by
lengths. NAL units stay as they are, byte for byte, parameter sets and delimiters included; what is lost are zeros
between them, which belong to none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vodkeep.capture.probe import SegmentDamagedError
from vodkeep.capture.samples import TrackFormat, UnsupportedMediaError

TIMESCALE = 90_000  # Hz of PTS and DTS, ISO/IEC 13818-1 section 2.4.3.7.

# NAL unit types, Rec. ITU-T H.264 table 7-1.
_SLICE, _PARTITION_A, _IDR, _SEI, _SPS, _PPS, _DELIMITER = 1, 2, 5, 6, 7, 8, 9

# Profiles whose parameter sets describe the chroma format, Rec. ITU-T H.264 section 7.3.2.1.1.
_CHROMA_PROFILES = frozenset({100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135})
# Profiles whose configuration record has no chroma fields, ISO/IEC 14496-15 section 5.3.3.1.2.
_SHORT_RECORD_PROFILES = frozenset({66, 77, 88})
# Sample aspect ratios by aspect_ratio_idc, Rec. ITU-T H.264 table E-1.
_ASPECTS = (
    (0, 0), (1, 1), (12, 11), (10, 11), (16, 11), (40, 33), (24, 11), (20, 11), (32, 11), (80, 33), (18, 11),
    (15, 11), (64, 33), (160, 99), (4, 3), (3, 2), (2, 1),
)  # fmt: skip
_EXTENDED_ASPECT = 255


@dataclass(frozen=True, slots=True)
class Colour:
    """Code points of Rec. ITU-T H.273 and the range."""

    primaries: int
    transfer: int
    matrix: int
    full_range: bool


@dataclass(frozen=True, slots=True)
class SequenceParameters:
    """What a sequence parameter set says about the pictures."""

    profile: int
    compatibility: int  # the constraint flags, one byte
    level: int
    chroma_format: int
    luma_bits: int
    chroma_bits: int
    width: int  # pixels, cropped
    height: int
    frame_num_bits: int
    separate_planes: bool
    frames_only: bool  # False: pictures may be single fields
    aspect: tuple[int, int] | None  # of a pixel, if said
    colour: Colour | None
    ticks_per_frame: int | None  # at 90 kHz, if said


class Pictures(NamedTuple):
    """The access units of a stream as MP4 samples."""

    format: TrackFormat
    parameters: SequenceParameters
    sizes: NDArray[np.uint32]
    sync: NDArray[np.bool_]
    payload: memoryview


def read_byte_stream(stream: bytearray, starts: NDArray[np.int64]) -> Pictures:
    """Turn access units into samples; ``starts`` are the offsets at which they begin in ``stream``.

    ``stream`` is used up: its bytes may be changed. Raises `SegmentDamagedError` for bytes that are no byte stream, and
    `UnsupportedMediaError` for streams whose access units are not one frame each or which cannot be described by one
    sample entry.
    """
    octets = np.frombuffer(stream, np.uint8)
    codes = _start_codes(octets)
    if not len(codes):
        raise SegmentDamagedError("its picture has no NAL units")
    begins = codes + 3
    edges = np.append(starts, len(octets))
    unit = np.searchsorted(starts, codes, side="right") - 1
    ends = _nal_ends(octets, stream, codes, begins, edges, unit)
    _check_alignment(octets, codes, starts, unit)
    if (ends <= begins).any():
        raise SegmentDamagedError("a NAL unit is empty")
    header = octets[begins]
    if (header & 0x80).any():
        raise SegmentDamagedError("a NAL unit has a broken header")
    kind = header & np.uint8(0x1F)
    parameters, entry = _parameters(stream, kind, begins, ends)
    _check_pictures(octets, kind, begins, ends, unit, len(starts))
    if not parameters.frames_only:
        _check_frames(stream, parameters, kind, begins, ends)
    sync = np.zeros(len(starts), np.bool_)
    sync[unit[kind == _IDR]] = True
    sizes = np.bincount(unit, weights=ends - begins + 4, minlength=len(starts)).astype(np.uint32)
    track = TrackFormat("video", "avc1", TIMESCALE, parameters.width, parameters.height, 0, 0, entry)
    return Pictures(track, parameters, sizes, sync, _with_lengths(stream, begins, ends))


def _start_codes(octets: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Offsets of 00 00 01.

    The bytes are looked at in pairs first: read as little-endian numbers, one of the pairs a start code touches is
    0 (00 00) or 256 (00 01), and few others are that small.
    """
    if len(octets) < 3:
        return np.zeros(0, np.int64)
    even = len(octets) & ~1
    small = np.flatnonzero(octets[:even].view("<u2") <= 0x100).astype(np.int64) * 2
    # A pair 00 00 is the start of a code or its middle behind one more zero; a pair 00 01 its end.
    spots = np.concatenate((small, small - 1, small + 1)) if len(small) else small
    spots = spots[(spots >= 0) & (spots + 3 <= len(octets))]
    spots = spots[(octets[spots] == 0) & (octets[spots + 1] == 0) & (octets[spots + 2] == 1)]
    return np.unique(spots)


def _nal_ends(
    octets: NDArray[np.uint8],
    stream: bytearray,
    codes: NDArray[np.int64],
    begins: NDArray[np.int64],
    edges: NDArray[np.int64],
    unit: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Where each NAL unit ends: before the next start code, and before the zeros in front of that (annex B.1.1)."""
    ends: NDArray[np.int64] = np.minimum(np.append(codes[1:], len(octets)), edges[unit + 1])
    for _ in range(4):
        zero = (ends > begins) & (octets[ends - 1] == 0)
        if not zero.any():
            return ends
        ends = ends - zero
    # Somebody pads with many zeros.
    for index in np.flatnonzero((ends > begins) & (octets[ends - 1] == 0)).tolist():
        begin, end = int(begins[index]), int(ends[index])
        ends[index] = begin + len(stream[begin:end].rstrip(b"\0"))
    return ends


def _check_alignment(
    octets: NDArray[np.uint8], codes: NDArray[np.int64], starts: NDArray[np.int64], unit: NDArray[np.int64]
) -> None:
    """Each access unit begins with a start code; zeros may stand before it."""
    first = np.searchsorted(codes, starts)
    if (first >= len(codes)).any() or (unit[np.minimum(first, len(codes) - 1)] != np.arange(len(starts))).any():
        raise UnsupportedMediaError("H.264 with PES packets in which no NAL unit begins")
    lead = codes[first] - starts
    for index in np.flatnonzero(lead).tolist():
        if octets[starts[index] : codes[first[index]]].any():
            raise UnsupportedMediaError("H.264 whose NAL units reach over PES packets")


def _check_pictures(
    octets: NDArray[np.uint8],
    kind: NDArray[np.uint8],
    begins: NDArray[np.int64],
    ends: NDArray[np.int64],
    unit: NDArray[np.int64],
    units: int,
) -> None:
    """Each PES packet with a time holds one picture, and nothing of the next (Rec. ITU-T H.264 section 7.4.1.2.3)."""
    coded = np.flatnonzero((kind == _SLICE) | (kind == _IDR) | (kind == _PARTITION_A))
    if (begins[coded] + 1 >= ends[coded]).any():
        raise SegmentDamagedError("a slice of its picture is empty")
    # first_mb_in_slice is 0 exactly if the first bit behind the NAL unit's header is 1 (section 9.1).
    opening = octets[begins[coded] + 1] >= 0x80
    owner = unit[coded]
    slices = np.bincount(owner, minlength=units)
    pictures = np.bincount(owner[opening], minlength=units)
    if (slices == 0).any():
        raise UnsupportedMediaError("H.264 with PES packets that hold no picture")
    if (pictures > 1).any():
        raise UnsupportedMediaError("H.264 with several pictures in a PES packet")
    first = np.searchsorted(owner, np.arange(units))
    if (pictures == 0).any() or not opening[first].all():
        raise UnsupportedMediaError("H.264 whose pictures do not begin with their first slice")
    # What opens the next access unit must not stand behind the slices of this one.
    last = coded[np.searchsorted(owner, np.arange(units), side="right") - 1]
    aside = np.flatnonzero((kind >= _SEI) & (kind <= _DELIMITER))
    if (aside > coded[first][unit[aside]]).any() or (last < 0).any():
        raise UnsupportedMediaError("H.264 whose access units do not begin with PES packets")


def _check_frames(
    stream: bytearray,
    parameters: SequenceParameters,
    kind: NDArray[np.uint8],
    begins: NDArray[np.int64],
    ends: NDArray[np.int64],
) -> None:
    """No picture is a single field: two of those make one MP4 sample, and which two is not said here."""
    coded = (kind == _SLICE) | (kind == _IDR)
    for begin, end in zip(begins[coded].tolist(), ends[coded].tolist(), strict=True):
        bits = _Bits(bytes(stream[begin + 1 : min(end, begin + 32)]))
        bits.golomb()  # first_mb_in_slice
        bits.golomb()  # slice_type
        bits.golomb()  # pic_parameter_set_id
        bits.take(2 * parameters.separate_planes + parameters.frame_num_bits)
        if bits.take(1):
            raise UnsupportedMediaError("H.264 in single fields")


def _parameters(
    stream: bytearray, kind: NDArray[np.uint8], begins: NDArray[np.int64], ends: NDArray[np.int64]
) -> tuple[SequenceParameters, bytes]:
    """What the parameter sets say, and the sample entry made of them."""
    sets: dict[int, dict[bytes, None]] = {_SPS: {}, _PPS: {}}
    for wanted, found in sets.items():
        where = kind == wanted
        for begin, end in zip(begins[where].tolist(), ends[where].tolist(), strict=True):
            found[bytes(stream[begin:end])] = None
    sequence, picture = list(sets[_SPS]), list(sets[_PPS])
    if not sequence or not picture:
        raise UnsupportedMediaError("H.264 without parameter sets in the segment")
    parameters = parse_sequence_parameters(sequence[0])
    for other in sequence[1:]:
        changed = parse_sequence_parameters(other)
        if (changed.width, changed.height, changed.profile, changed.frame_num_bits) != (
            parameters.width,
            parameters.height,
            parameters.profile,
            parameters.frame_num_bits,
        ):
            raise UnsupportedMediaError("H.264 that changes its size or profile within a segment")
    return parameters, sample_entry(parameters, sequence[:1], _first_of_each(picture))


def _first_of_each(picture: list[bytes]) -> list[bytes]:
    """The first picture parameter set of each id. Later ones with the same id are in the stream."""
    first: dict[int, bytes] = {}
    for unit in picture:
        first.setdefault(_Bits(unit[1:6]).golomb(), unit)
    return list(first.values())


def _with_lengths(stream: bytearray, begins: NDArray[np.int64], ends: NDArray[np.int64]) -> memoryview:
    """The NAL units, each behind its length in four bytes."""
    lengths = (ends - begins).astype(">u4").tobytes()
    view = memoryview(stream)
    pieces: list[bytes | memoryview] = [b""] * (2 * len(begins))
    pieces[0::2] = [lengths[at : at + 4] for at in range(0, len(lengths), 4)]
    pieces[1::2] = [view[begin:end] for begin, end in zip(begins.tolist(), ends.tolist(), strict=True)]
    return memoryview(b"".join(pieces))


class _Bits:
    """Bits of a NAL unit's payload, most significant first. Raises `SegmentDamagedError` at the end."""

    def __init__(self, payload: bytes) -> None:
        # Section 7.4.1.1: a 3 behind two zeros only keeps start codes from appearing.
        raw = payload.replace(b"\0\0\3", b"\0\0")
        self._value = int.from_bytes(raw, "big")
        self._left = 8 * len(raw)

    def take(self, count: int) -> int:
        """The next ``count`` bits as a number."""
        if count > self._left:
            raise SegmentDamagedError("a parameter set or slice header of its picture is cut short")
        self._left -= count
        return self._value >> self._left & (1 << count) - 1

    def golomb(self) -> int:
        """ue(v), section 9.1."""
        zeros = 0
        while not self.take(1):
            zeros += 1
            if zeros > 32:
                raise SegmentDamagedError("a parameter set or slice header of its picture is broken")
        return (1 << zeros) - 1 + self.take(zeros)

    def signed_golomb(self) -> int:
        """se(v), section 9.1.1."""
        code = self.golomb()
        return (code + 1) // 2 if code & 1 else -(code // 2)


def parse_sequence_parameters(unit: bytes) -> SequenceParameters:
    """Read a sequence parameter set, NAL unit header included (section 7.3.2.1.1). Raises `SegmentDamagedError`."""
    bits = _Bits(unit[1:])
    profile, compatibility, level = bits.take(8), bits.take(8), bits.take(8)
    bits.golomb()  # seq_parameter_set_id
    chroma, luma_bits, chroma_bits, separate = 1, 8, 8, False
    if profile in _CHROMA_PROFILES:
        chroma = bits.golomb()
        if chroma > 3:
            raise SegmentDamagedError("its picture has no known chroma format")
        if chroma == 3:
            separate = bool(bits.take(1))
        luma_bits, chroma_bits = 8 + bits.golomb(), 8 + bits.golomb()
        if luma_bits > 14 or chroma_bits > 14:
            raise SegmentDamagedError("its picture has no known bit depth")
        bits.take(1)  # qpprime_y_zero_transform_bypass_flag
        if bits.take(1):
            for index in range(12 if chroma == 3 else 8):
                if bits.take(1):
                    _skip_scaling_list(bits, 16 if index < 6 else 64)
    frame_num_bits = bits.golomb() + 4
    if frame_num_bits > 16:
        raise SegmentDamagedError("a parameter set of its picture is broken")
    order = bits.golomb()  # pic_order_cnt_type
    if order == 0:
        bits.golomb()
    elif order == 1:
        bits.take(1)
        bits.signed_golomb()
        bits.signed_golomb()
        for _ in range(min(bits.golomb(), 255)):
            bits.signed_golomb()
    bits.golomb()  # max_num_ref_frames
    bits.take(1)  # gaps_in_frame_num_value_allowed_flag
    columns, rows = bits.golomb() + 1, bits.golomb() + 1
    frames_only = bool(bits.take(1))
    if not frames_only:
        bits.take(1)  # mb_adaptive_frame_field_flag
    bits.take(1)  # direct_8x8_inference_flag
    width, height = 16 * columns, 16 * rows * (1 if frames_only else 2)
    if bits.take(1):
        # Cropping counts in chroma samples, and in pairs of lines where there may be fields (equations 7-19 to 7-22).
        across = 2 if chroma in (1, 2) and not separate else 1
        down = (2 if chroma == 1 and not separate else 1) * (1 if frames_only else 2)
        width -= across * (bits.golomb() + bits.golomb())
        height -= down * (bits.golomb() + bits.golomb())
    if not 0 < width < 1 << 16 or not 0 < height < 1 << 16:
        raise SegmentDamagedError("its picture has an impossible size")
    aspect, colour, ticks = _usability(bits) if bits.take(1) else (None, None, None)
    return SequenceParameters(
        profile=profile,
        compatibility=compatibility,
        level=level,
        chroma_format=chroma,
        luma_bits=luma_bits,
        chroma_bits=chroma_bits,
        width=width,
        height=height,
        frame_num_bits=frame_num_bits,
        separate_planes=separate,
        frames_only=frames_only,
        aspect=aspect,
        colour=colour,
        ticks_per_frame=ticks,
    )


def _skip_scaling_list(bits: _Bits, size: int) -> None:
    """Section 7.3.2.1.1.1."""
    last = following = 8
    for _ in range(size):
        if following:
            following = (last + bits.signed_golomb()) % 256
        last = following or last


def _usability(bits: _Bits) -> tuple[tuple[int, int] | None, Colour | None, int | None]:
    """Pixel aspect, colour and frame duration of the video usability information (annex E.1.1)."""
    aspect: tuple[int, int] | None = None
    if bits.take(1):
        index = bits.take(8)
        if index == _EXTENDED_ASPECT:
            aspect = bits.take(16), bits.take(16)
        elif index < len(_ASPECTS):
            aspect = _ASPECTS[index]
        if aspect and not all(aspect):
            aspect = None
    if bits.take(1):
        bits.take(1)  # overscan_appropriate_flag
    colour: Colour | None = None
    if bits.take(1):
        bits.take(3)  # video_format
        full_range = bool(bits.take(1))
        if bits.take(1):
            colour = Colour(bits.take(8), bits.take(8), bits.take(8), full_range)
        elif full_range:
            colour = Colour(2, 2, 2, full_range)  # "unspecified"
    if bits.take(1):
        bits.golomb()  # chroma sample positions
        bits.golomb()
    ticks: int | None = None
    if bits.take(1):
        units, scale = bits.take(32), bits.take(32)
        if units and scale:
            # time_scale counts fields (section E.2.1).
            ticks = round(TIMESCALE * 2 * units / scale)
    return aspect, colour, ticks or None


def sample_entry(parameters: SequenceParameters, sequence: list[bytes], picture: list[bytes]) -> bytes:
    """The ``avc1`` box (ISO/IEC 14496-12 section 12.1.3, ISO/IEC 14496-15 section 5.4.2.1)."""
    record = bytes((1, parameters.profile, parameters.compatibility, parameters.level, 0xFF, 0xE0 | len(sequence)))
    record += b"".join(len(unit).to_bytes(2, "big") + unit for unit in sequence)
    record += bytes((len(picture),)) + b"".join(len(unit).to_bytes(2, "big") + unit for unit in picture)
    if parameters.profile not in _SHORT_RECORD_PROFILES:
        depths = 0xF8 | parameters.luma_bits - 8, 0xF8 | parameters.chroma_bits - 8
        record += bytes((0xFC | parameters.chroma_format, *depths, 0))
    boxes = _box(b"avcC", record)
    if (colour := parameters.colour) is not None:
        points = colour.primaries, colour.transfer, colour.matrix
        boxes += _box(
            b"colr",
            b"nclx" + b"".join(point.to_bytes(2, "big") for point in points) + bytes((colour.full_range << 7,)),
        )
    if parameters.aspect is not None and parameters.aspect[0] != parameters.aspect[1]:
        boxes += _box(b"pasp", b"".join(side.to_bytes(4, "big") for side in parameters.aspect))
    size = parameters.width.to_bytes(2, "big") + parameters.height.to_bytes(2, "big")
    resolution = b"\x00\x48\x00\x00" * 2  # 72 dpi, as the standard wants
    entry = bytes(6) + b"\x00\x01" + bytes(16) + size + resolution + bytes(4) + b"\x00\x01" + bytes(32)
    return _box(b"avc1", entry + b"\x00\x18\xff\xff" + boxes)


def _box(kind: bytes, body: bytes) -> bytes:
    return (8 + len(body)).to_bytes(4, "big") + kind + body
