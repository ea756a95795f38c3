"""Reads fragmented MP4, as HLS carries it: an initialization section and media segments (RFC 8216 section 3.3).

Section numbers without a name are those of ISO/IEC 14496-12. Nothing in the bytes is trusted: whatever they are, the
readers return samples or raise `SegmentDamagedError` or `UnsupportedMediaError`.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from vodkeep.capture.mp4_boxes import Box, Fields, box, read_boxes
from vodkeep.capture.parameter_sets import stored_sets, with_sets
from vodkeep.capture.samples import (
    SegmentDamagedError,
    SegmentSamples,
    TrackFormat,
    TrackSamples,
    UnsupportedMediaError,
)

Key = TypeVar("Key")

_VIDEO_ENTRIES = {b"avc1", b"avc3", b"hvc1", b"hev1", b"dvh1", b"dvhe", b"av01", b"vp09", b"vp08"}
_AUDIO_ENTRIES = {b"mp4a", b"Opus", b"fLaC", b"ac-3", b"ec-3", b"alac"}
_UNIT_ENTRIES = {b"avc1", b"avc3", b"hvc1", b"hev1", b"dvh1", b"dvhe"}  # Their samples consist of NAL units.
_UNIT_LENGTH_OFFSETS = {b"avcC": 4, b"hvcC": 21}  # Where the size of a unit's length stands.
_KINDS: dict[bytes, Literal["video", "audio"]] = {b"vide": "video", b"soun": "audio"}

# Bytes of a sample entry before its boxes (sections 12.1.3 and 12.2.3), counted from behind the box header.
_VISUAL_ENTRY_BYTES = 78
_AUDIO_ENTRY_BYTES = 28

# Sample flags (section 8.8.3.1). Like libavformat we take a sample that says it depends on others for no sync sample,
# even when its non-sync bit is clear.
_NON_SYNC = 0x0001_0000
_DEPENDS_ON_OTHERS = 0x0100_0000

# Track fragment header flags (section 8.8.7.1).
_TFHD_BASE_DATA_OFFSET = 0x1
_TFHD_DESCRIPTION_INDEX = 0x2
_TFHD_DURATION = 0x8
_TFHD_SIZE = 0x10
_TFHD_FLAGS = 0x20
_TFHD_BASE_IS_MOOF = 0x2_0000

# Track run flags (section 8.8.8.1), and which of them stand for a field of each sample, in this order.
_TRUN_DATA_OFFSET = 0x1
_TRUN_FIRST_FLAGS = 0x4
_TRUN_DURATION = 0x100
_TRUN_SIZE = 0x200
_TRUN_FLAGS = 0x400
_TRUN_COMPOSITION = 0x800

# A segment of 10 s has about 1,000; what claims more than this is no segment but an attack on our memory.
_MOST_SAMPLES = 1 << 20
_LATEST_TICK = 1 << 60
# A picture consists of a few dozen units; zeros where a picture should be read as thousands of empty ones.
_MOST_UNITS = 1 << 10


@dataclass(frozen=True, slots=True)
class InitTrack:
    """What the initialization section says about a track (moov/trak and moov/mvex/trex)."""

    track_id: int
    formats: tuple[TrackFormat, ...]  # by sample description index, which counts from 1
    shift: int  # ticks to add to decoding times so that the edit list is obeyed (section 8.6.6)
    description_index: int
    duration: int  # ticks; defaults of the samples (section 8.8.3)
    size: int
    flags: int
    unit_length_bytes: tuple[int, ...]  # by format: size of the length before each NAL unit; 0 for other codecs
    sets: tuple[bytes, ...] = ()  # by format: parameter sets to put in front of key frames; empty for none


@dataclass(frozen=True, slots=True)
class InitTracks:
    """The tracks that an initialization section announces."""

    tracks: tuple[InitTrack, ...]  # video before audio, at most one of each
    passed_over: frozenset[int]  # ids of tracks that are neither picture nor sound


def read_init(init: bytes) -> InitTracks:
    """Read the media initialization section (EXT-X-MAP).

    ``hev1`` and ``avc3`` become ``hvc1`` and ``avc1`` when the parameter sets are in the sample entry, because Safari
    plays only those; all other bytes of the entries stay as they are. Raises `SegmentDamagedError` when it is broken
    and `UnsupportedMediaError` for encrypted media, unknown codecs and several tracks of a kind.
    """
    view = memoryview(init)
    moov = _find(view, read_boxes(view, 0, len(view)), b"moov")
    movie_timescale = 0
    defaults: dict[int, tuple[int, int, int, int]] = {}
    traks: list[Box] = []
    for child in read_boxes(view, moov.body, moov.end):
        if child.kind == b"mvhd":
            movie_timescale = _read_timescale(view, child)
        elif child.kind == b"trak":
            traks.append(child)
        elif child.kind == b"mvex":
            for trex in read_boxes(view, child.body, child.end):
                if trex.kind == b"trex":
                    track_id, *rest = _read_trex(view, trex)
                    defaults[track_id] = (rest[0], rest[1], rest[2], rest[3])
    tracks: list[InitTrack] = []
    passed_over: set[int] = set()
    for trak in traks:
        track = _read_trak(view, trak, movie_timescale, defaults)
        if isinstance(track, int):
            passed_over.add(track)
        else:
            tracks.append(track)
    kinds = [track.formats[0].kind for track in tracks]
    if not tracks:
        raise SegmentDamagedError("its initialization section has neither picture nor sound")
    if len(set(kinds)) < len(kinds):
        raise UnsupportedMediaError(f"several {max(set(kinds), key=kinds.count)} tracks")
    if len({track.track_id for track in tracks} | passed_over) < len(traks):
        raise SegmentDamagedError("its initialization section gives two tracks the same number")
    tracks.sort(key=lambda track: track.formats[0].kind == "audio")
    return InitTracks(tuple(tracks), frozenset(passed_over))


def with_sets_in_band(inits: Mapping[Key, InitTracks]) -> dict[Key, InitTracks]:
    """The initialization sections of one film, by whatever key.

    If their pictures differ, each key frame of the film gets the parameter sets of its sample entry (see
    `vodkeep.capture.parameter_sets`). Raises `SegmentDamagedError` for broken entries.
    """
    formats = [item for init in inits.values() for track in init.tracks for item in track.formats]
    if len({item.sample_entry for item in formats if item.kind == "video"}) < 2:
        return dict(inits)
    return {
        key: replace(init, tracks=tuple(_with_sets_in_band(track) for track in init.tracks))
        for key, init in inits.items()
    }


def _with_sets_in_band(track: InitTrack) -> InitTrack:
    return replace(
        track,
        sets=tuple(
            stored_sets(item.sample_entry, width) if width else b""
            for item, width in zip(track.formats, track.unit_length_bytes, strict=True)
        ),
    )


def _find(view: memoryview, boxes: Iterator[Box], *path: bytes) -> Box:
    """The first box at the end of this path; each box on the way is searched. Raises `SegmentDamagedError`."""
    for candidate in boxes:
        if candidate.kind == path[0]:
            if len(path) == 1:
                return candidate
            return _find(view, read_boxes(view, candidate.body, candidate.end), *path[1:])
    raise SegmentDamagedError(f"its {path[0].decode('latin-1')} box is missing")


def _children(view: memoryview, parent: Box) -> Iterator[Box]:
    return read_boxes(view, parent.body, parent.end)


def _read_timescale(view: memoryview, header: Box) -> int:
    """Ticks per second of an mvhd or mdhd box (sections 8.2.2 and 8.4.2)."""
    fields = Fields(view, header)
    version = fields.unsigned(4) >> 24
    fields.take(16 if version == 1 else 8)
    timescale = fields.unsigned(4)
    if not timescale:
        raise SegmentDamagedError("its timescale is zero")
    return timescale


def _read_trex(view: memoryview, trex: Box) -> list[int]:
    """Track id, description index, duration, size and flags (section 8.8.3)."""
    fields = Fields(view, trex)
    fields.take(4)
    return [fields.unsigned(4) for _ in range(5)]


def _read_trak(
    view: memoryview, trak: Box, movie_timescale: int, defaults: dict[int, tuple[int, int, int, int]]
) -> InitTrack | int:
    """The track, or its number when it is neither picture nor sound."""
    fields = Fields(view, _find(view, _children(view, trak), b"tkhd"))
    fields.take(16 if fields.unsigned(4) >> 24 == 1 else 8)  # Creation and modification time (section 8.3.2).
    track_id = fields.unsigned(4)
    mdia = _find(view, _children(view, trak), b"mdia")
    handler = Fields(view, _find(view, _children(view, mdia), b"hdlr"))
    handler.take(8)
    kind = _KINDS.get(bytes(handler.take(4)))
    if kind is None:
        return track_id
    timescale = _read_timescale(view, _find(view, _children(view, mdia), b"mdhd"))
    stsd = _find(view, _children(view, mdia), b"minf", b"stbl", b"stsd")
    if Fields(view, stsd).left < 8:
        raise SegmentDamagedError("its stsd box is too short")
    entries = list(read_boxes(view, stsd.body + 8, stsd.end))
    formats = tuple(_read_entry(view, entry, kind, timescale) for entry in entries)
    if not formats:
        raise SegmentDamagedError("its stsd box is empty")
    # A file without trex has no fragments; one whose fragments say everything themselves does not miss it.
    description_index, duration, size, flags = defaults.get(track_id, (1, 0, 0, 0))
    shift = _read_edits(view, trak, timescale, movie_timescale)
    unit_lengths = tuple(_read_unit_length(view, entry) for entry in entries)
    return InitTrack(track_id, formats, shift, description_index, duration, size, flags, unit_lengths)


def _read_edits(view: memoryview, trak: Box, timescale: int, movie_timescale: int) -> int:
    """What the edit list adds to the times of the media, in ticks (section 8.6.6)."""
    edts = next((child for child in _children(view, trak) if child.kind == b"edts"), None)
    elst = next((child for child in _children(view, edts) if child.kind == b"elst"), None) if edts else None
    if elst is None:
        return 0
    fields = Fields(view, elst)
    width = 8 if fields.unsigned(4) >> 24 == 1 else 4
    count = fields.unsigned(4)
    if count * (2 * width + 4) > fields.left:
        raise SegmentDamagedError("its elst box is too short")
    delay = 0
    media_time: int | None = None
    for _ in range(count):
        duration, start, rate = fields.unsigned(width), fields.signed(width), fields.unsigned(4)
        if start == -1 and media_time is None:
            if not movie_timescale:
                raise SegmentDamagedError("its mvhd box is missing")
            delay += (2 * duration * timescale + movie_timescale) // (2 * movie_timescale)  # To the nearest tick.
        elif start >= 0 and media_time is None and rate == 0x1_0000:
            media_time = start
        else:
            raise UnsupportedMediaError("an edit list that cuts the media")
    shift = delay - (media_time or 0)
    if abs(shift) > _LATEST_TICK:
        raise SegmentDamagedError("its edit list lies outside of time")
    return shift


def _read_entry(view: memoryview, entry: Box, kind: Literal["video", "audio"], timescale: int) -> TrackFormat:
    """A sample entry (section 8.5.2)."""
    name = entry.kind.decode("latin-1")
    if entry.kind in {b"encv", b"enca"}:
        raise UnsupportedMediaError("encrypted media")
    if entry.kind not in (_VIDEO_ENTRIES if kind == "video" else _AUDIO_ENTRIES):
        raise UnsupportedMediaError(f"{kind} as {name!r}")
    if entry.end - entry.body < (_VISUAL_ENTRY_BYTES if kind == "video" else _AUDIO_ENTRY_BYTES):
        raise SegmentDamagedError(f"its {name} sample entry is too short")
    fields = Fields(view, entry)
    width = height = rate = channels = 0
    if kind == "video":
        fields.take(24)
        width, height = fields.unsigned(2), fields.unsigned(2)
    else:
        fields.take(16)
        channels = fields.unsigned(2)
        fields.take(6)
        rate = fields.unsigned(4) >> 16
    codec, whole = _settle_codec(view, entry)
    return TrackFormat(kind, codec, timescale, width, height, rate, channels, whole)


def _settle_codec(view: memoryview, entry: Box) -> tuple[str, bytes]:
    """The entry under the name that most players take, and its four characters."""
    kind = entry.kind
    if kind in {b"hev1", b"avc3"}:
        boxes = {child.kind: child for child in read_boxes(view, entry.body + _VISUAL_ENTRY_BYTES, entry.end)}
        if kind == b"hev1" and b"hvcC" in boxes and _has_hevc_sets(view, boxes[b"hvcC"]):
            kind = b"hvc1"
        elif kind == b"avc3" and b"avcC" in boxes and _has_avc_sets(view, boxes[b"avcC"]):
            kind = b"avc1"
    # Written anew with a plain header: the size may have been given as "up to the end".
    return kind.decode("latin-1"), box(kind, bytes(view[entry.body : entry.end]))


def _read_unit_length(view: memoryview, entry: Box) -> int:
    """Bytes of the length before each NAL unit (ISO/IEC 14496-15 sections 5.3.3.1 and 8.3.3.1); 0 for other codecs."""
    if entry.kind not in _UNIT_ENTRIES:
        return 0
    for child in read_boxes(view, entry.body + _VISUAL_ENTRY_BYTES, entry.end):
        if child.kind in _UNIT_LENGTH_OFFSETS:
            fields = Fields(view, child)
            fields.take(_UNIT_LENGTH_OFFSETS[child.kind])
            return (fields.unsigned(1) & 3) + 1
    raise SegmentDamagedError(f"its {entry.kind.decode('latin-1')} sample entry has no configuration")


def _has_hevc_sets(view: memoryview, hvcc: Box) -> bool:
    """Video, sequence and picture parameter sets are all in the entry (ISO/IEC 14496-15 section 8.3.3.1)."""
    fields = Fields(view, hvcc)
    fields.take(22)
    found: set[int] = set()
    for _ in range(fields.unsigned(1)):
        unit_type = fields.unsigned(1) & 0x3F
        for _ in range(fields.unsigned(2)):
            fields.take(fields.unsigned(2))
            found.add(unit_type)
    return {32, 33, 34} <= found


def _has_avc_sets(view: memoryview, avcc: Box) -> bool:
    """Sequence and picture parameter sets are both in the entry (ISO/IEC 14496-15 section 5.3.3.1)."""
    fields = Fields(view, avcc)
    fields.take(5)
    sequence_sets = fields.unsigned(1) & 0x1F
    for _ in range(sequence_sets):
        fields.take(fields.unsigned(2))
    return bool(sequence_sets and fields.unsigned(1))


class _Media:
    """Where the mdat boxes of a segment have their content."""

    def __init__(self, boxes: Iterable[Box]) -> None:
        content = [(found.body, found.end) for found in boxes if found.kind == b"mdat"]
        self._starts, self._ends = [start for start, _ in content], [end for _, end in content]
        self.size = sum(self._ends) - sum(self._starts)
        self.boxes = len(content)

    def hold(self, start: int, end: int) -> bool:
        """Whether one of them has all these bytes."""
        number = bisect_right(self._starts, start) - 1
        return number >= 0 and end <= self._ends[number]


@dataclass(slots=True)
class _Gathered:
    """The runs of one track, as they come."""

    track: InitTrack
    description_index: int | None = None
    next_dts: int | None = None  # behind the last run
    samples: int = 0  # claimed, empty ones included
    size: int = 0
    spans: list[tuple[int, int]] = field(default_factory=list)  # where the bytes lie, neighbours joined
    sizes: list[NDArray[np.uint32]] = field(default_factory=list)
    dts: list[NDArray[np.int64]] = field(default_factory=list)
    cts: list[NDArray[np.int32]] = field(default_factory=list)
    sync: list[NDArray[np.bool_]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Defaults:
    """What a track fragment says about samples that say nothing themselves (section 8.8.7)."""

    duration: int
    size: int
    flags: int


def read_fragment(body: bytes | memoryview, tracks: InitTracks) -> SegmentSamples:
    """Read one media segment: any number of movie fragments (moof) with their mdat boxes.

    Sample times are in ticks of the track's timescale, edit list of the initialization section obeyed, so that times
    of picture and sound compare. ``payload`` points into ``body`` where a track's samples lie in a row. Samples of
    zero bytes are left out; the one before them lasts longer. Raises `SegmentDamagedError` and, for encrypted or
    format-changing segments, `UnsupportedMediaError`.
    """
    view = memoryview(body)
    boxes = list(read_boxes(view, 0, len(view)))
    media = _Media(boxes)
    gathered = {track.track_id: _Gathered(track) for track in tracks.tracks}
    # Their data stand between those of the others, so their runs have to be followed.
    gathered |= {number: _Gathered(InitTrack(number, (), 0, 1, 0, 0, 0, ())) for number in tracks.passed_over}
    fragments = [item for item in boxes if item.kind == b"moof"]
    if not media.boxes or not fragments:
        raise SegmentDamagedError("it has no media fragment")
    for moof in fragments:
        _read_moof(view, moof, media, gathered)
    found = tuple(_finish(view, entry) for entry in gathered.values() if entry.sizes and entry.track.formats)
    if not found:
        raise SegmentDamagedError("it holds neither picture nor sound")
    return SegmentSamples(found)


def _read_moof(
    view: memoryview,
    moof: Box,
    media: _Media,
    gathered: dict[int, _Gathered],
) -> None:
    data_end = moof.start  # Where the data of the track fragment before this one ended (section 8.8.7.1).
    for traf in _children(view, moof):
        if traf.kind != b"traf":
            continue
        children = list(_children(view, traf))
        if any(child.kind == b"senc" for child in children):
            raise UnsupportedMediaError("encrypted media")
        fields = Fields(view, _find(view, iter(children), b"tfhd"))
        flags = fields.unsigned(4) & 0xFF_FFFF
        track_id = fields.unsigned(4)
        entry = gathered.get(track_id)
        if entry is None:
            raise SegmentDamagedError(f"its track {track_id} is not in the initialization section")
        base = moof.start if flags & _TFHD_BASE_IS_MOOF else data_end
        if flags & _TFHD_BASE_DATA_OFFSET:
            base = fields.unsigned(8)
            if base != moof.start:
                # RFC 8216 section 3.3 forbids it: a segment does not know where in a file it once stood.
                raise UnsupportedMediaError("fragments that count bytes from the start of another file")
        init = entry.track
        description_index = fields.unsigned(4) if flags & _TFHD_DESCRIPTION_INDEX else init.description_index
        defaults = _Defaults(
            fields.unsigned(4) if flags & _TFHD_DURATION else init.duration,
            fields.unsigned(4) if flags & _TFHD_SIZE else init.size,
            fields.unsigned(4) if flags & _TFHD_FLAGS else init.flags,
        )
        runs = [child for child in children if child.kind == b"trun"]
        if runs and init.formats:
            _enter(entry, view, children, description_index)
        data_end = base
        for run in runs:
            data_end = _read_run(view, run, base, data_end, defaults, media, entry)


def _enter(entry: _Gathered, view: memoryview, children: list[Box], description_index: int) -> None:
    """Begin a track fragment: its sample entry and its decoding time."""
    if not 1 <= description_index <= len(entry.track.formats):
        raise SegmentDamagedError("its sample description is not in the initialization section")
    if entry.description_index not in {None, description_index}:
        raise UnsupportedMediaError("a format that changes inside a segment")
    entry.description_index = description_index
    tfdt = next((child for child in children if child.kind == b"tfdt"), None)
    if tfdt is not None:  # Section 8.8.12.
        fields = Fields(view, tfdt)
        time = fields.unsigned(8 if fields.unsigned(4) >> 24 == 1 else 4)
        if time > _LATEST_TICK:
            raise SegmentDamagedError("its decoding time lies outside of time")
        entry.next_dts = time
    elif entry.next_dts is None:
        # RFC 8216 section 3.3 demands it; without it the samples have no place.
        raise SegmentDamagedError("its first fragment has no decoding time")


def _read_run(
    view: memoryview,
    run: Box,
    base: int,
    follows: int,
    defaults: _Defaults,
    media: _Media,
    entry: _Gathered,
) -> int:
    """Take in a track run (section 8.8.8); returns where its data end."""
    fields = Fields(view, run)
    flags = fields.unsigned(4) & 0xFF_FFFF
    count = fields.unsigned(4)
    start = base + fields.signed(4) if flags & _TRUN_DATA_OFFSET else follows
    first_flags = fields.unsigned(4) if flags & _TRUN_FIRST_FLAGS else None
    columns = [flag for flag in (_TRUN_DURATION, _TRUN_SIZE, _TRUN_FLAGS, _TRUN_COMPOSITION) if flags & flag]
    if count * len(columns) * 4 > fields.left:
        raise SegmentDamagedError("its trun box is too short")
    if entry.samples + count > _MOST_SAMPLES:
        raise SegmentDamagedError("it claims to hold more than a million samples")
    if not count:
        return start
    rows = fields.take(count * len(columns) * 4)
    table = np.frombuffer(rows, ">u4").reshape(count, len(columns)) if columns else None

    def column(flag: int, default: int) -> NDArray[np.int64]:
        if table is None or flag not in columns:
            return np.full(count, default, np.int64)
        return table[:, columns.index(flag)].astype(np.int64)

    sizes = column(_TRUN_SIZE, defaults.size)
    end = start + int(sizes.sum())
    if start < end and not media.hold(start, end):
        raise SegmentDamagedError("its samples lie outside of its mdat box")
    durations = column(_TRUN_DURATION, defaults.duration)
    sample_flags = column(_TRUN_FLAGS, defaults.flags)
    if first_flags is not None:
        sample_flags[0] = first_flags
    ends = np.cumsum(durations) + (entry.next_dts or 0)
    entry.next_dts = int(ends[-1])
    # Version 0 says "unsigned", but those who write negative offsets do it there, too; libavformat reads both signed.
    cts = column(_TRUN_COMPOSITION, 0).astype(np.uint32).view(np.int32)
    kept = np.flatnonzero(sizes)
    entry.samples += count
    if not len(kept):
        return end
    entry.size += end - start
    if entry.size > media.size:
        raise SegmentDamagedError("its samples overlap")
    entry.sizes.append(sizes[kept].astype(np.uint32))
    entry.dts.append((ends - durations)[kept])
    entry.cts.append(cts[kept])
    entry.sync.append((sample_flags[kept] & (_NON_SYNC | _DEPENDS_ON_OTHERS)) == 0)
    if entry.spans and entry.spans[-1][1] == start:
        entry.spans[-1] = (entry.spans[-1][0], end)
    else:
        entry.spans.append((start, end))
    return end


def _finish(view: memoryview, entry: _Gathered) -> TrackSamples:
    assert entry.description_index is not None
    assert entry.next_dts is not None
    track = entry.track
    track_format = track.formats[entry.description_index - 1]
    sizes, dts, cts = np.concatenate(entry.sizes), np.concatenate(entry.dts), np.concatenate(entry.cts)
    # Sound begins anywhere; packagers often forget to say so, and libavformat does not ask either.
    sync = np.ones(len(sizes), np.bool_) if track_format.kind == "audio" else np.concatenate(entry.sync)
    if np.any(dts[1:] < dts[:-1]):
        raise SegmentDamagedError("its decoding times run backwards")
    if len(dts) > 1 and entry.next_dts <= dts[0]:
        raise SegmentDamagedError("its samples take no time")
    if len(entry.spans) == 1:
        payload = view[entry.spans[0][0] : entry.spans[0][1]]
    else:
        payload = memoryview(b"".join(view[start:end] for start, end in entry.spans))
    width = track.unit_length_bytes[entry.description_index - 1]
    _check_samples(payload, sizes, track_format, width)
    sets = track.sets[entry.description_index - 1] if track.sets else b""
    if sets:
        payload, sizes = with_sets(payload, sizes, sync, sets, width, track_format.codec)
    return TrackSamples(
        format=track_format,
        sizes=sizes,
        dts=dts + track.shift,
        cts=cts,
        sync=sync,
        tail=entry.next_dts - int(dts[-1]),
        payload=payload,
    )


def _check_samples(
    payload: memoryview, sizes: NDArray[np.uint32], track_format: TrackFormat, unit_length_bytes: int
) -> None:
    """The samples look like those of their codec, as far as a glance at their structure tells.

    A size says where a sample is, not that it has arrived: storage that lost a part delivers zeros in its place.
    """
    content = np.frombuffer(payload, np.uint8)
    ends = np.cumsum(sizes, dtype=np.int64)
    position = ends - sizes
    if track_format.codec == "av01":
        # A sample begins with the header of an OBU: two of its bits are zero, type 0 is reserved (AV1 section 5.3.2).
        first = content[position]
        if np.any(first & 0x81) or not np.all(first & 0x78):
            raise SegmentDamagedError("its picture is not what its codec says")
    if not unit_length_bytes:
        return
    # All samples are walked through side by side, unit by unit.
    for number in range(_MOST_UNITS):
        if np.any(position + unit_length_bytes > ends):
            break
        length = np.zeros(len(position), np.int64)
        for index in range(unit_length_bytes):
            length = length << 8 | content[position + index]
        position = position + unit_length_bytes + length
        if np.any(position > ends) or (number == 0 and not np.all(length)):
            break
        going_on = position < ends
        position, ends = position[going_on], ends[going_on]
        if not len(position):
            return
    raise SegmentDamagedError("its picture does not consist of whole units")
