"""Parameter sets in front of key frames, for films whose pictures are encoded in another way half way.

Each part of such a film has a sample entry of its own, with its parameter sets in it, and an MP4 may have several. But
Chromium reads only the first of them and then takes what is in the samples: it can decode neither the second part nor,
after that, the first one. So the sets of each part are put in front of all its key frames too. The sample entries stay
``avc1`` and ``hvc1``: sets that stand in both places are known from films made of transport streams, and entries that
promise them only in the samples (``avc3``, ``hev1``) do not play in Safari.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vodkeep.capture.mp4_boxes import Box, Fields, read_boxes
from vodkeep.capture.samples import SegmentDamagedError

# Of a visual sample entry, header included, before its boxes (ISO/IEC 14496-12 section 12.1.3).
_ENTRY_BYTES = 8 + 78
# NAL unit types, Rec. ITU-T H.264 table 7-1 and H.265 table 7-1.
_AVC_SLICES, _AVC_SETS, _AVC_DELIMITER = range(1, 6), frozenset({7, 8}), 9
_HEVC_SLICES, _HEVC_SETS, _HEVC_DELIMITER = range(32), frozenset({32, 33, 34}), 35


def stored_sets(sample_entry: bytes, unit_length_bytes: int) -> bytes:
    """The parameter sets in a sample entry, each behind its length, as samples have them; empty without any.

    Raises `SegmentDamagedError` for a broken entry.
    """
    view = memoryview(sample_entry)
    units: list[bytes] = []
    for child in read_boxes(view, _ENTRY_BYTES, len(view)):
        if child.kind == b"avcC":
            units += _avc_sets(view, child)
        elif child.kind == b"hvcC":
            units += _hevc_sets(view, child)
    try:
        return b"".join(len(unit).to_bytes(unit_length_bytes, "big") + unit for unit in units)
    except OverflowError as error:
        raise SegmentDamagedError("a parameter set of its picture is too long") from error


def with_sets(
    payload: memoryview,
    sizes: NDArray[np.uint32],
    sync: NDArray[np.bool_],
    sets: bytes,
    unit_length_bytes: int,
    codec: str,
) -> tuple[memoryview, NDArray[np.uint32]]:
    """The samples and their sizes, ``sets`` in front of each sync sample that has none of its own.

    An access unit delimiter stays the first of its sample (Rec. ITU-T H.264 section 7.4.1.2.3).
    """
    is_hevc = codec in ("hvc1", "hev1", "dvh1", "dvhe")
    ends = np.cumsum(sizes, dtype=np.int64)
    pieces: list[bytes | memoryview] = []
    grown = sizes.copy()
    written = 0
    for index in np.flatnonzero(sync).tolist():
        end = int(ends[index])
        place = _place_for_sets(payload, end - int(sizes[index]), end, unit_length_bytes, is_hevc=is_hevc)
        if place is not None:
            pieces += [payload[written:place], sets]
            written = place
            grown[index] += len(sets)
    if not pieces:
        return payload, sizes
    return memoryview(b"".join([*pieces, payload[written:]])), grown


def _place_for_sets(payload: memoryview, start: int, end: int, unit_length_bytes: int, *, is_hevc: bool) -> int | None:
    """Where in a sample its parameter sets belong; None when it has some. The sample consists of whole units."""
    slices, sets = (_HEVC_SLICES, _HEVC_SETS) if is_hevc else (_AVC_SLICES, _AVC_SETS)
    place = start
    while start < end:
        length = int.from_bytes(payload[start : start + unit_length_bytes], "big")
        body = start + unit_length_bytes
        start = body + length
        if not length:
            continue
        kind = payload[body] >> 1 & 0x3F if is_hevc else payload[body] & 0x1F
        if kind in sets:
            return None
        if kind in slices:
            break
        if kind == (_HEVC_DELIMITER if is_hevc else _AVC_DELIMITER):
            place = start
    return place


def _avc_sets(view: memoryview, avcc: Box) -> list[bytes]:
    """ISO/IEC 14496-15 section 5.3.3.1."""
    fields = Fields(view, avcc)
    fields.take(5)
    units = [bytes(fields.take(fields.unsigned(2))) for _ in range(fields.unsigned(1) & 0x1F)]
    return units + [bytes(fields.take(fields.unsigned(2))) for _ in range(fields.unsigned(1))]


def _hevc_sets(view: memoryview, hvcc: Box) -> list[bytes]:
    """ISO/IEC 14496-15 section 8.3.3.1; whatever else lies there (SEI) is left where it is."""
    fields = Fields(view, hvcc)
    fields.take(22)
    units: list[bytes] = []
    for _ in range(fields.unsigned(1)):
        kind = fields.unsigned(1) & 0x3F
        found = [bytes(fields.take(fields.unsigned(2))) for _ in range(fields.unsigned(2))]
        units += found if kind in _HEVC_SETS else []
    return units
