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

from vodkeep.capture.gapped import GappedStream
from vodkeep.capture.mp4_boxes import box
from vodkeep.capture.samples import SegmentDamagedError, TrackFormat, UnsupportedMediaError

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
_LONGEST_SET = 0xFFFF  # bytes; the configuration record has no room for more
# How many pairs of bytes are searched at once: what is remembered about them then fits the processor's cache and the
# memory that malloc keeps at hand, since fresh pages cost more than the search.
_STRETCH = 1 << 20


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


def read_byte_stream(stream: GappedStream, starts: NDArray[np.int64]) -> Pictures:
    """Turn access units into samples; ``starts`` are the offsets at which they begin in ``stream``.

    ``stream`` is used up: the samples come to lie in its buffer. Raises `SegmentDamagedError` for bytes that are no
    byte stream, and `UnsupportedMediaError` for streams whose access units are not one frame each or which cannot be
    described by one sample entry.
    """
    codes = _start_codes(stream)
    if not len(codes):
        raise SegmentDamagedError("its picture has no NAL units")
    if (np.diff(codes) <= 3).any():
        raise SegmentDamagedError("a NAL unit is empty")
    begins = codes + 3
    unit = np.searchsorted(starts, codes, side="right") - 1
    ends = np.minimum(np.append(codes[1:], len(stream)), np.append(starts[1:], len(stream))[unit])
    ends = _without_zeros(stream, begins, ends)
    _check_alignment(stream, codes, starts)
    if (ends <= begins).any():
        raise SegmentDamagedError("a NAL unit is empty")
    header = stream.octets[stream.places(begins)]
    if (header & 0x80).any():
        raise SegmentDamagedError("a NAL unit has a broken header")
    kind = header & np.uint8(0x1F)
    parameters, entry = _parameters(stream, kind, begins, ends)
    _check_pictures(stream, kind, begins, ends, unit, len(starts))
    if not parameters.frames_only:
        _check_frames(stream, parameters, kind, begins, ends)
    sync = np.zeros(len(starts), np.bool_)
    sync[unit[kind == _IDR]] = True
    sizes = np.bincount(unit, weights=ends - begins + 4, minlength=len(starts)).astype(np.uint32)
    track = TrackFormat("video", "avc1", TIMESCALE, parameters.width, parameters.height, 0, 0, entry)
    return Pictures(track, parameters, sizes, sync, _with_lengths(stream, begins, ends))


def _start_codes(stream: GappedStream) -> NDArray[np.int64]:
    """Offsets of 00 00 01."""
    octets = stream.octets
    last = len(octets) - 1
    if last < 2:
        return np.zeros(0, np.int64)
    # Two bytes are looked at as one little-endian number. A start code at an even place has the pair 00 00 before a 01,
    # one at an odd place the pair 00 01 behind a 00.
    pairs = octets[: len(octets) & ~1].view("<u2")
    spots = 2 * np.concatenate([_spots(pairs[at : at + _STRETCH]) + at for at in range(0, len(pairs), _STRETCH)])
    zeros = octets[spots + 1] == 0
    even, odd = spots[zeros], spots[~zeros]
    found = np.concatenate((even[octets[np.minimum(even + 2, last)] == 1], odd[(odd > 0) & (octets[odd - 1] == 0)] - 1))
    found.sort()
    if not len(stream.at):
        return found
    # What looks like a start code inside a gap or across one is none, and one with a gap inside was not seen.
    gap = np.searchsorted(stream.at, found + 2, side="right") - 1
    found = found[(gap < 0) | (stream.at[gap] + stream.size[gap] <= found)]
    found, across = stream.offsets(found), _across_gaps(stream)
    return np.union1d(found, across) if len(across) else found


def _across_gaps(stream: GappedStream) -> NDArray[np.int64]:
    """Offsets of the start codes that have a gap inside."""
    gaps = stream.gap_offsets
    gaps = gaps[(gaps > 0) & (gaps < len(stream))]
    around = gaps[:, None] + np.arange(-2, 2)
    octets = stream.octets[stream.places(np.clip(around, 0, len(stream) - 1))]
    early = (gaps > 1) & (octets[:, :3] == (0, 0, 1)).all(axis=1)
    late = (gaps < len(stream) - 1) & (octets[:, 1:] == (0, 0, 1)).all(axis=1)
    return np.concatenate((gaps[early] - 2, gaps[late] - 1))


def _spots(pairs: NDArray[np.uint16]) -> NDArray[np.int64]:
    """Indices of 0x0000 and 0x0100, which are few."""
    mask = pairs == 0x0000
    mask |= pairs == 0x0100
    whole = len(mask) & ~7
    # Eight at a time.
    eights = np.flatnonzero(mask[:whole].view(np.uint64) != 0)
    candidates = (eights[:, None] * 8 + np.arange(8)).reshape(-1)
    return np.concatenate((candidates[mask[candidates]], np.flatnonzero(mask[whole:]) + whole))


def _without_zeros(stream: GappedStream, begins: NDArray[np.int64], ends: NDArray[np.int64]) -> NDArray[np.int64]:
    """The ends of the NAL units before the zeros that may follow each (annex B.1.1)."""
    for _ in range(4):
        zero = (ends > begins) & (stream.octets[stream.places(ends - 1)] == 0)
        if not zero.any():
            return ends
        ends = ends - zero
    # Somebody pads with many zeros.
    for index in np.flatnonzero(zero).tolist():
        begin = int(begins[index])
        ends[index] = begin + len(stream.read(begin, int(ends[index])).rstrip(b"\0"))
    return ends


def _check_alignment(stream: GappedStream, codes: NDArray[np.int64], starts: NDArray[np.int64]) -> None:
    """Each access unit begins with a start code; zeros may stand before it."""
    first = np.searchsorted(codes, starts)
    if first[-1] >= len(codes) or (codes[first[:-1]] >= starts[1:]).any():
        raise UnsupportedMediaError("H.264 with PES packets in which no NAL unit begins")
    lead = codes[first] - starts
    broken = (lead == 1) & (stream.octets[stream.places(starts)] != 0)
    for index in np.flatnonzero(lead > 1).tolist():
        broken[index] = any(stream.read(int(starts[index]), int(codes[first[index]])))
    if broken.any():
        raise UnsupportedMediaError("H.264 whose NAL units reach over PES packets")


def _check_pictures(
    stream: GappedStream,
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
    opening = stream.octets[stream.places(begins[coded] + 1)] >= 0x80
    owner = unit[coded]
    slices = np.bincount(owner, minlength=units)
    pictures = np.bincount(owner[opening], minlength=units)
    if (slices == 0).any():
        raise UnsupportedMediaError("H.264 with PES packets that hold no picture")
    if (pictures > 1).any():
        raise UnsupportedMediaError("H.264 with several pictures in a PES packet")
    first = np.searchsorted(owner, np.arange(units))
    if not opening[first].all():
        raise UnsupportedMediaError("H.264 whose pictures do not begin with their first slice")
    # What opens the next access unit must not stand behind the slices of this one.
    aside = np.flatnonzero((kind >= _SEI) & (kind <= _DELIMITER))
    if (aside > coded[first][unit[aside]]).any():
        raise UnsupportedMediaError("H.264 whose access units do not begin with PES packets")


def _check_frames(
    stream: GappedStream,
    parameters: SequenceParameters,
    kind: NDArray[np.uint8],
    begins: NDArray[np.int64],
    ends: NDArray[np.int64],
) -> None:
    """No picture is a single field: two of those make one MP4 sample, and which two is not said here."""
    coded = (kind == _SLICE) | (kind == _IDR)
    for begin, end in zip(begins[coded].tolist(), ends[coded].tolist(), strict=True):
        bits = _Bits(stream.read(begin + 1, min(end, begin + 32)))
        bits.golomb()  # first_mb_in_slice
        bits.golomb()  # slice_type
        bits.golomb()  # pic_parameter_set_id
        bits.take(2 * parameters.separate_planes + parameters.frame_num_bits)
        if bits.take(1):
            raise UnsupportedMediaError("H.264 in single fields")


def _parameters(
    stream: GappedStream, kind: NDArray[np.uint8], begins: NDArray[np.int64], ends: NDArray[np.int64]
) -> tuple[SequenceParameters, bytes]:
    """What the parameter sets say, and the sample entry made of them."""
    sets: dict[int, dict[bytes, None]] = {_SPS: {}, _PPS: {}}
    for wanted, found in sets.items():
        where = kind == wanted
        for begin, end in zip(begins[where].tolist(), ends[where].tolist(), strict=True):
            if end - begin > _LONGEST_SET:
                raise SegmentDamagedError("a parameter set of its picture is too long")
            found[stream.read(begin, end)] = None
    sequence, picture = list(sets[_SPS]), list(sets[_PPS])
    if not sequence or not picture:
        raise UnsupportedMediaError("H.264 without parameter sets in the segment")
    parameters = parse_sequence_parameters(sequence[0])
    for other in sequence[1:]:
        if _shape(parse_sequence_parameters(other)) != _shape(parameters):
            raise UnsupportedMediaError("H.264 that changes its size or profile within a segment")
    # Their ids stand behind three bytes of profile and level, and right at the beginning.
    entry = sample_entry(parameters, _first_of_each(sequence, 4, 31), _first_of_each(picture, 1, 255))
    return parameters, entry


def _shape(parameters: SequenceParameters) -> tuple[int, ...]:
    """What must not change between pictures with the same sample entry."""
    return (
        parameters.width,
        parameters.height,
        parameters.profile,
        parameters.chroma_format,
        parameters.luma_bits,
        parameters.chroma_bits,
        parameters.frame_num_bits,
        parameters.frames_only,
    )


def _first_of_each(sets: list[bytes], at: int, most: int) -> list[bytes]:
    """The first parameter set of each id. Later ones with the same id are in the stream.

    The id is at byte ``at`` of each, and less than ``most``, for which the configuration record has room.
    """
    first: dict[int, bytes] = {}
    for unit in sets:
        number = _Bits(unit[at : at + 5]).golomb()
        if number >= most:
            raise SegmentDamagedError("a parameter set of its picture is broken")
        first.setdefault(number, unit)
    return list(first.values())


def _with_lengths(stream: GappedStream, begins: NDArray[np.int64], ends: NDArray[np.int64]) -> memoryview:
    """The NAL units, each behind its length in four bytes: moved together in the buffer in which they lie."""
    lengths = ends - begins
    targets = np.cumsum(lengths + 4) - lengths
    # Pieces to move: the NAL units, cut where a gap lies inside.
    gaps = stream.gap_offsets
    owner = np.searchsorted(begins, gaps, side="left") - 1  # the unit that begins before the gap
    inside = (owner >= 0) & (gaps < ends[owner])
    offsets = np.concatenate((begins, gaps[inside]))
    owners = np.concatenate((np.arange(len(begins)), owner[inside]))
    order = np.argsort(offsets, kind="stable")
    offsets, owners = offsets[order], owners[order]
    sources = stream.places(offsets)
    distance = sources - (targets[owners] + offsets - begins[owners])
    # Neighbours that move equally far are one piece: between them lies a start code of the size of a length.
    first = np.flatnonzero(np.append(True, np.diff(distance) != 0))
    last = np.append(first[1:], len(offsets)) - 1
    stops = np.append(offsets[1:], len(stream))[last]
    stops = sources[last] + np.minimum(stops, ends[owners[last]]) - offsets[last]
    total = int(targets[-1] + lengths[-1])
    # Pieces move towards the front, into gaps; were start codes shorter than lengths more often than there are gaps,
    # they would overwrite what is still to be moved.
    target = stream.octets if (distance >= 0).all() else np.empty(total, np.uint8)
    read, write = stream.octets.data, target.data
    for begin, stop, far in zip(sources[first].tolist(), stops.tolist(), distance[first].tolist(), strict=True):
        write[begin - far : stop - far] = read[begin:stop]
    target[(targets - 4)[:, None] + np.arange(4)] = lengths.astype(">u4").view(np.uint8).reshape(-1, 4)
    return write[:total]


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
            points = bits.take(8), bits.take(8), bits.take(8)
            # Of "unspecified" three times there is nothing to tell; the range stays in the stream.
            colour = None if points == (2, 2, 2) else Colour(*points, full_range)
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
    boxes = box(b"avcC", record)
    if (colour := parameters.colour) is not None:
        points = colour.primaries, colour.transfer, colour.matrix
        boxes += box(
            b"colr",
            b"nclx" + b"".join(point.to_bytes(2, "big") for point in points) + bytes((colour.full_range << 7,)),
        )
    if parameters.aspect is not None and parameters.aspect[0] != parameters.aspect[1]:
        boxes += box(b"pasp", b"".join(side.to_bytes(4, "big") for side in parameters.aspect))
    size = parameters.width.to_bytes(2, "big") + parameters.height.to_bytes(2, "big")
    resolution = b"\x00\x48\x00\x00" * 2  # 72 dpi, as the standard wants
    entry = bytes(6) + b"\x00\x01" + bytes(16) + size + resolution + bytes(4) + b"\x00\x01" + bytes(32)
    return box(b"avc1", entry + b"\x00\x18\xff\xff" + boxes)
