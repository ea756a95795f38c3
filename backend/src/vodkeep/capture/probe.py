"""Looks into a segment: is it whole, and how many packets does it hold?

The tools trust a 200 answer; a truncated, empty or garbled body passes them unseen. A segment counts for us only when
its container structure is intact and every packet in it can be read.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import av
import av.error

from vodkeep.capture.model import PacketCounts
from vodkeep.capture.samples import SegmentDamagedError as SegmentDamagedError

_TS_PACKET_BYTES = 188  # ISO/IEC 13818-1 section 2.4.3.2
_TS_SYNC_BYTE = 0x47


@dataclass(frozen=True, slots=True)
class SegmentProbe:
    """What a segment holds."""

    packets: PacketCounts
    video_codec: str | None  # libavcodec's name, "h264"
    audio_codec: str | None


def probe_segment(body: bytes, init: bytes | None = None) -> SegmentProbe:
    """Check the bytes of one segment and count its packets.

    ``init`` is the media initialization section of fMP4 segments; without it the segment must be an MPEG transport
    stream. Raises `SegmentDamagedError`.
    """
    if not body:
        raise SegmentDamagedError("it is empty")
    if init is None:
        check_transport_stream(body)
        return _count(io.BytesIO(body), "mpegts")
    check_boxes(body)
    return _count(io.BytesIO(init + body), "mp4")


def check_transport_stream(body: bytes) -> None:
    """Whole packets, each with its sync byte (ISO/IEC 13818-1 section 2.4.3.2)."""
    packets, rest = divmod(len(body), _TS_PACKET_BYTES)
    if body[0] != _TS_SYNC_BYTE:
        raise SegmentDamagedError("it does not begin like a transport stream")
    if rest:
        raise SegmentDamagedError(f"it ends inside a transport stream packet ({len(body)} bytes)")
    synced = body[::_TS_PACKET_BYTES].count(_TS_SYNC_BYTE)
    if synced != packets:
        raise SegmentDamagedError(f"{packets - synced} of {packets} transport stream packets lost their sync byte")


def check_boxes(body: bytes) -> None:
    """Boxes that fill the segment exactly, with at least one moof and mdat (ISO/IEC 14496-12 section 4.2)."""
    offset = 0
    kinds: set[bytes] = set()
    while offset < len(body):
        header = body[offset : offset + 16]
        if len(header) < 8:
            raise SegmentDamagedError("it ends inside a box header")
        size = int.from_bytes(header[:4], "big")
        least = 8
        if size == 1:
            size, least = int.from_bytes(header[8:16], "big"), 16
        elif size == 0:  # The last box reaches to the end.
            size = len(body) - offset
        if size < least or offset + size > len(body):
            raise SegmentDamagedError(f"its box at byte {offset} does not fit")
        kinds.add(bytes(header[4:8]))
        offset += size
    if not {b"moof", b"mdat"} <= kinds:
        raise SegmentDamagedError("it has no media fragment")


def _count(source: io.BytesIO, container_format: str) -> SegmentProbe:
    video = audio = corrupt = 0
    codecs: dict[str, str] = {}
    try:
        with av.open(source, mode="r", format=container_format) as container:
            for stream in container.streams:
                if stream.type in ("video", "audio"):
                    codecs.setdefault(stream.type, stream.codec_context.name if stream.codec_context else "")
            for packet in container.demux():
                if not packet.size:  # The demuxer's flush packet.
                    continue
                # The transport stream demuxer marks packets behind a jump of the continuity counter.
                corrupt += packet.is_corrupt
                video += packet.stream.type == "video"
                audio += packet.stream.type == "audio"
    except (av.error.FFmpegError, ValueError, IndexError) as error:
        raise SegmentDamagedError(f"it cannot be read ({str(error)[:120]})") from error
    if corrupt:
        raise SegmentDamagedError(f"{corrupt} of its packets are damaged")
    if not video and not audio:
        raise SegmentDamagedError("it holds neither picture nor sound")
    return SegmentProbe(PacketCounts(video, audio), codecs.get("video"), codecs.get("audio"))
