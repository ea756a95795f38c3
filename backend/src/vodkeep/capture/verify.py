"""Proves a finished file: every packet that was fetched is in it, in order, for the whole length."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.error
from av.audio.codeccontext import AudioCodecContext
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet
from av.stream import Stream
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

from vodkeep.capture.model import PacketCounts
from vodkeep.disk import hash_file
from vodkeep.errors import TransientError

# One second at the highest frame rate of Twitch.
_SAMPLE_PACKETS = 60


@dataclass(frozen=True, slots=True)
class StreamFacts:
    """One stream of a file."""

    kind: str  # "video" or "audio"
    codec: str
    packets: int
    width: int | None = None
    height: int | None = None
    fps: float | None = None


@dataclass(frozen=True, slots=True)
class FileFacts:
    """What a media file really holds, found by reading every packet."""

    size_bytes: int
    sha256: str  # hexadecimal
    duration_us: int  # from the first to the end of the last packet
    packets: PacketCounts
    streams: tuple[StreamFacts, ...]
    in_order: bool  # decoding timestamps only ever grow


class VerificationError(TransientError):
    """The finished file is not what was fetched; it is thrown away and made again."""

    code = "verify_failed"


def read_facts(path: Path, *, sha256: str | None = None, on_bytes: Callable[[int], None] = lambda _: None) -> FileFacts:
    """Read the file at ``path`` from end to end; raises `VerificationError` when it cannot be read.

    With ``sha256`` known already the file is read once and not twice. ``on_bytes`` is told the size of each packet.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="hash") as pool:
        # Two passes over pages that are in memory once; neither has to wait for the other.
        digest = pool.submit(hash_file, path) if sha256 is None else None
        try:
            with av.open(str(path), mode="r") as container:
                streams = [*container.streams.video, *container.streams.audio]
                tallies = {stream.index: _Tally() for stream in streams}
                for packet in container.demux(streams):
                    if packet.size:
                        on_bytes(packet.size)
                        tallies[packet.stream_index].count(packet.dts, packet.pts, packet.duration)
                facts = tuple(_describe(stream, tallies[stream.index]) for stream in streams)
                spans = [
                    span
                    for stream in streams
                    if stream.time_base is not None and (span := tallies[stream.index].span_us(stream.time_base))
                ]
            checksum = digest.result() if digest is not None else sha256 or ""
        except (av.error.FFmpegError, OSError) as error:
            raise VerificationError(f"The finished file {path.name} cannot be read: {error}") from error
    return FileFacts(
        size_bytes=path.stat().st_size,
        sha256=checksum,
        duration_us=max((end for _, end in spans), default=0) - min((start for start, _ in spans), default=0),
        packets=PacketCounts(
            sum(fact.packets for fact in facts if fact.kind == "video"),
            sum(fact.packets for fact in facts if fact.kind == "audio"),
        ),
        streams=facts,
        in_order=all(tally.in_order for tally in tallies.values()),
    )


class _Tally:
    """What has passed of one stream; plain integers, because hundreds of packets pass for each second of film."""

    __slots__ = ("end", "first", "in_order", "last_dts", "packets")

    def __init__(self) -> None:
        self.packets = 0
        self.in_order = True
        self.last_dts: int | None = None
        self.first: int | None = None
        self.end = 0

    def count(self, dts: int | None, pts: int | None, duration: int | None) -> None:
        self.packets += 1
        if dts is not None:
            if self.last_dts is not None and dts <= self.last_dts:
                self.in_order = False
            self.last_dts = dts
        if pts is not None:
            if self.first is None or pts < self.first:
                self.first = pts
            end = pts + (duration or 0)
            if end > self.end:
                self.end = end

    def span_us(self, time_base: Fraction) -> tuple[int, int] | None:
        """Where the stream's presentation begins and ends, or None when it has no times."""
        if self.first is None:
            return None
        return int(self.first * time_base * 1_000_000), int(self.end * time_base * 1_000_000)


def _describe(stream: Stream, tally: _Tally) -> StreamFacts:
    rate = getattr(stream, "average_rate", None)
    return StreamFacts(
        kind=stream.type,
        # The format's name, not that of the decoder in this build ("libdav1d").
        codec=stream.codec_context.codec.canonical_name if stream.codec_context else "",
        packets=tally.packets,
        width=getattr(stream, "width", None) or None,
        height=getattr(stream, "height", None) or None,
        fps=float(rate) if rate else None,
    )


def check_facts(facts: FileFacts, expected: PacketCounts, planned_us: int, tolerance_us: int) -> None:
    """Compare a file with what was fetched.

    ``planned_us`` is how long the playlist says it lasts; a file may differ by ``tolerance_us``, one segment, because
    the playlist's own durations are rounded. Raises `VerificationError`.
    """
    if facts.packets.video != expected.video:
        raise VerificationError(
            f"The finished file holds {facts.packets.video} video packets, but {expected.video} were fetched."
        )
    if facts.packets.audio != expected.audio:
        raise VerificationError(
            f"The finished file holds {facts.packets.audio} audio packets, but {expected.audio} were fetched."
        )
    if not facts.in_order:
        raise VerificationError("The timestamps of the finished file run backwards.")
    if abs(facts.duration_us - planned_us) > tolerance_us:
        raise VerificationError(
            f"The finished file lasts {facts.duration_us / 1e6:.1f} s, "
            f"but the playlist promises {planned_us / 1e6:.1f} s."
        )


def sample_decode(path: Path, positions: Sequence[float]) -> int:
    """Decode a second or so of picture and sound at each of ``positions``; return the number of frames that failed.

    ``positions`` are seconds from the start of the file; each is decoded from the key frame before it, at most to the
    next one. A frame fails when the decoder refuses its packet or hands out a picture that it had to make up. The
    decoder is left at its usual strictness: with ``err_detect=explode`` it also refuses whole files, those with open
    GOPs or intra refresh, after a seek. So this finds damage and never invents it, but an H.265 picture with a single
    wrong bit passes; that is what checksums are for. Raises `VerificationError` when the file cannot be opened or read.
    """
    failed = 0
    try:
        with av.open(str(path), mode="r") as container:
            for streams in (container.streams.video, container.streams.audio):
                # A codec that this build cannot decode is no fault of the file.
                for stream in (stream for stream in streams[:1] if stream.codec_context is not None):
                    for position_s in positions:
                        failed += _decode_stretch(container, stream, position_s)
    except (av.error.FFmpegError, OSError) as error:
        raise VerificationError(f"The finished file {path.name} cannot be read: {error}") from error
    return failed


def spread_positions(duration_us: int, count: int) -> tuple[float, ...]:
    """``count`` positions in seconds, evenly over a file of ``duration_us``: the first at its start."""
    return tuple(duration_us * number / count / 1e6 for number in range(count))


def _decode_stretch(container: InputContainer, stream: VideoStream | AudioStream, position_s: float) -> int:
    """Decode one stretch of one stream; the number of frames that failed."""
    assert stream.time_base is not None
    container.seek(int(position_s / stream.time_base) + (stream.start_time or 0), stream=stream)
    decoder = stream.codec_context
    decoder.flush_buffers()
    failed = read = 0
    first_pts: int | None = None
    for packet in container.demux(stream):
        read += 1
        if not packet.size or packet.pts is None or read > _SAMPLE_PACKETS:
            break
        if first_pts is None:
            if not packet.is_keyframe:
                continue
            first_pts = packet.pts
        elif packet.is_keyframe and stream.type == "video":
            break
        # Pictures shown before the key frame lean on what stands before it, which was not decoded.
        if packet.pts >= first_pts:
            failed += _count_failures(decoder, packet)
    return failed + _count_failures(decoder, None)


def _count_failures(decoder: VideoCodecContext | AudioCodecContext, packet: Packet[Any] | None) -> int:
    try:
        return sum(frame.is_corrupt for frame in decoder.decode(packet))
    except av.error.FFmpegError:
        return 1
