"""AAC as a transport stream carries it (ADTS, ISO/IEC 14496-3 annex 1.A), turned into what an MP4 wants."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vodkeep.capture.mp4_boxes import box, full_box
from vodkeep.capture.samples import SegmentDamagedError, TrackFormat, TrackSamples, UnsupportedMediaError

# How far times may go back within a segment, as they do when an encoder finds its connection again.
OVERLAP_S = 0.5
SAMPLES_PER_FRAME = 1024  # Of the core coder; ADTS knows no other length.
_SYSTEM_CLOCK = 90_000  # Hz of PTS and DTS, ISO/IEC 13818-1 section 2.4.3.7.
_RATES = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350)
_CHANNELS = (0, 1, 2, 3, 4, 5, 6, 8)  # by channel configuration, table 1.19
_HEADER_BYTES = 7  # 9 with a checksum


@dataclass(frozen=True, slots=True)
class _Configuration:
    object_type: int
    rate_index: int
    channel_configuration: int


def read_adts(stream: memoryview, starts: NDArray[np.int64], pts: NDArray[np.int64]) -> TrackSamples:
    """Split a stream of ADTS frames into samples.

    ``starts`` are the offsets at which PES packets begin in ``stream``, ``pts`` their times at 90 kHz, unwrapped, and
    -1 where a packet has none. The samples' times count in samples of sound. A PES packet's time belongs to the first
    frame that begins in it (ISO/IEC 13818-1 section 2.4.3.7); the frames after it follow at their own length. A time
    that is less than half a frame away from where the frames before it lead is taken for jitter and ignored. So is one
    that lies up to `OVERLAP_S` before: both sounds cannot be heard at once. A time that lies behind leaves a pause.

    Raises `SegmentDamagedError`, and `UnsupportedMediaError` for sound which begins or ends outside the segment.
    """
    offsets, lengths = _frames(stream)
    octets = np.frombuffer(stream, np.uint8)
    heads = octets[offsets[:, None] + np.arange(_HEADER_BYTES)]
    configuration = _configuration(heads)
    header = np.where(heads[:, 1] & 1, _HEADER_BYTES, _HEADER_BYTES + 2)
    sizes = lengths - header
    if (sizes <= 0).any():
        raise SegmentDamagedError("a sound frame is empty")
    rate = _RATES[configuration.rate_index]
    begins = (offsets + header).tolist()
    ends = (offsets + lengths).tolist()
    payload = b"".join([stream[begin:end] for begin, end in zip(begins, ends, strict=True)])
    return TrackSamples(
        format=_format(configuration),
        sizes=sizes.astype(np.uint32),
        dts=_times(offsets, starts, pts, rate),
        cts=np.zeros(len(sizes), np.int32),
        sync=np.ones(len(sizes), np.bool_),
        tail=SAMPLES_PER_FRAME,
        payload=memoryview(payload),
    )


def _frames(stream: memoryview) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Offsets and lengths of the frames, headers included."""
    size = len(stream)
    offsets: list[int] = []
    lengths: list[int] = []
    at = 0
    while at + _HEADER_BYTES <= size:
        if stream[at] != 0xFF or stream[at + 1] & 0xF6 != 0xF0:
            raise _lost(stream, at)
        length = (stream[at + 3] & 3) << 11 | stream[at + 4] << 3 | stream[at + 5] >> 5
        if length < _HEADER_BYTES:
            raise SegmentDamagedError("a sound frame is shorter than its header")
        offsets.append(at)
        lengths.append(length)
        at += length
    if at != size:
        # Its PES packet is whole, so the rest of the frame is in the next segment. Encoders that prepare HLS end each
        # segment with a frame; whoever cuts elsewhere needs a reader that sees the segments in a row.
        raise UnsupportedMediaError("its last sound frame ends in the next segment")
    return np.array(offsets, np.int64), np.array(lengths, np.int64)


def _lost(stream: memoryview, at: int) -> Exception:
    """What to say about bytes which should be a frame header and are not."""
    if at == 0 and _is_chain(stream, bytes(stream[: 1 << 14]).find(b"\xff", 1)):
        return UnsupportedMediaError("its first sound frame begins in the segment before")
    return SegmentDamagedError("its sound has bytes between the frames")


def _is_chain(stream: memoryview, at: int) -> bool:
    """Whether there are three frames in a row at some place from ``at`` on, within the first 16 KiB."""
    while 0 < at < min(len(stream), 1 << 14):
        spot, found = at, 0
        while found < 3 and spot + _HEADER_BYTES <= len(stream):
            if stream[spot] != 0xFF or stream[spot + 1] & 0xF6 != 0xF0:
                break
            spot += max(_HEADER_BYTES, (stream[spot + 3] & 3) << 11 | stream[spot + 4] << 3 | stream[spot + 5] >> 5)
            found += 1
        if found == 3:
            return True
        at += 1
    return False


def _configuration(heads: NDArray[np.uint8]) -> _Configuration:
    """The coding that all frames share."""
    if (heads[:, 6] & 3).any():
        raise UnsupportedMediaError("AAC with several raw data blocks in a frame")
    # Profile, rate and channels; the private bit and the copyright bits between them mean nothing to a decoder.
    fixed = np.unique((heads[:, 2].astype(np.uint16) & 0xFD) << 8 | (heads[:, 3] & 0xC0))
    if len(fixed) > 1:
        raise UnsupportedMediaError("AAC that changes its coding within a segment")
    bits = int(fixed[0])
    rate_index = bits >> 10 & 15
    channels = (bits >> 8 & 1) << 2 | bits >> 6 & 3
    if rate_index >= len(_RATES):
        raise SegmentDamagedError("its sound has no sample rate")
    if channels == 0:
        raise UnsupportedMediaError("AAC that describes its channels in the stream")
    return _Configuration((bits >> 14) + 1, rate_index, channels)


def _times(
    offsets: NDArray[np.int64], starts: NDArray[np.int64], pts: NDArray[np.int64], rate: int
) -> NDArray[np.int64]:
    """Decoding time of each frame in samples."""
    # The first frame at or behind the start of each PES packet; none begins in a packet whose successor gets the same.
    first = np.searchsorted(offsets, starts)
    begun = (first < len(offsets)) & (np.append(first[1:], len(offsets)) > first)
    timed = begun & (pts >= 0)
    if not timed.any() or not timed[np.argmax(begun)]:
        raise SegmentDamagedError("its sound has no time")
    index = first[timed]
    given = (pts[timed] * rate + _SYSTEM_CLOCK // 2) // _SYSTEM_CLOCK
    # How far each given time lies from where an unbroken run of frames would have it, counted from the first.
    drift = given - index * SAMPLES_PER_FRAME
    if int(np.abs(drift - drift[0]).max()) < SAMPLES_PER_FRAME // 2:
        regular: NDArray[np.int64] = np.arange(len(offsets), dtype=np.int64) * SAMPLES_PER_FRAME + drift[0]
        return regular
    kept: list[int] = []
    current = int(drift[0])
    for value in drift.tolist():
        if value - current >= SAMPLES_PER_FRAME // 2:
            current = value
        elif current - value > OVERLAP_S * rate:
            raise SegmentDamagedError("its sound goes back in time")
        kept.append(current)
    frames = np.arange(len(offsets), dtype=np.int64)
    shifted: NDArray[np.int64] = frames * SAMPLES_PER_FRAME
    shifted += np.array(kept, np.int64)[np.searchsorted(index, frames, side="right") - 1]
    return shifted


def _format(configuration: _Configuration) -> TrackFormat:
    rate = _RATES[configuration.rate_index]
    channels = _CHANNELS[configuration.channel_configuration]
    # AudioSpecificConfig with an empty GASpecificConfig, ISO/IEC 14496-3 sections 1.6.2.1 and 4.4.1. Spectral band
    # replication stays as ADTS leaves it: found by the decoder.
    specific = (
        configuration.object_type << 11 | configuration.rate_index << 7 | configuration.channel_configuration << 3
    ).to_bytes(2, "big")
    # Sample rate as 16.16; 88,200 and more do not fit, and the AudioSpecificConfig says it anyway.
    entry = box(
        b"mp4a",
        bytes(6)
        + b"\x00\x01"
        + bytes(8)
        + channels.to_bytes(2, "big")
        + b"\x00\x10"
        + bytes(4)
        + ((rate << 16) if rate < 1 << 16 else 0).to_bytes(4, "big")
        + _esds(specific),
    )
    return TrackFormat(
        kind="audio",
        codec="mp4a",
        timescale=rate,
        width=0,
        height=0,
        sample_rate=rate,
        channels=channels,
        sample_entry=entry,
    )


def _esds(specific: bytes) -> bytes:
    """The elementary stream descriptor, ISO/IEC 14496-14 section 3.1.

    Buffer size and bit rates are 0, unknown: they differ from segment to segment, the coding does not.
    """
    decoder = b"\x40\x15" + bytes(11) + _descriptor(5, specific)  # MPEG-4 audio; an audio stream
    stream = bytes(3) + _descriptor(4, decoder) + _descriptor(6, b"\x02")
    return full_box(b"esds", 0, 0, _descriptor(3, stream))


def _descriptor(tag: int, body: bytes) -> bytes:
    """Tag, length and body; all of ours are shorter than 128 bytes (ISO/IEC 14496-1 section 8.3.3)."""
    return bytes((tag, len(body))) + body
