"""Proves a finished file: every packet that was fetched is in it, in order, for the whole length.

The file is judged by FFmpeg's libraries, not by the code that wrote it. Because they hold the whole index of a file in
memory, they are given one window of it after the other (`mp4_windows`), so that a film of two days takes no more than
one of ten minutes. The bytes are read once from the disk: the checksum of the file is taken window by window, too,
while they are still in the memory of the system.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import av
import av.error
import numpy as np
from av.audio.codeccontext import AudioCodecContext
from av.container import InputContainer
from av.packet import Packet
from av.stream import Stream
from av.video.codeccontext import VideoCodecContext
from numpy.typing import NDArray

from vodkeep.capture.film import Film, open_film
from vodkeep.capture.model import PacketCounts
from vodkeep.capture.mp4_reader import MovieDamagedError, MovieIndex, Samples, TrackIndex
from vodkeep.capture.mp4_windows import Window
from vodkeep.capture.packet_check import PacketCheck, time_rows
from vodkeep.disk import ALGORITHM, RunningChecksum
from vodkeep.errors import TransientError

# One second at the highest frame rate of Twitch.
_SAMPLE_PACKETS = 60
_TELL_BYTES = 1 << 20
_MOST_HIDDEN_S = 1.0
# Packets as they are in the file: nothing is guessed, mended or looked into.
_AS_THEY_ARE = {"fflags": "-genpts+noparse+nofillin"}

Kind = Literal["video", "audio"]
_Numbers = NDArray[np.int64]


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
    checksum: str  # named, as `vodkeep.disk.checksum_of` has it
    duration_us: int  # from the first to the end of the last packet that is shown
    ends_us: int  # where on the movie's timeline that is
    promised_us: int  # and where it is by the word of the index
    packets: PacketCounts
    streams: tuple[StreamFacts, ...]
    in_order: bool  # decoding timestamps only ever grow


class VerificationError(TransientError):
    """The finished file is not what was fetched; it is thrown away and made again."""

    code = "verify_failed"


@contextmanager
def _judging(path: Path) -> Iterator[None]:
    """Whatever is wrong with the file at ``path`` is a `VerificationError`."""
    try:
        yield
    except (av.error.FFmpegError, OSError) as error:
        raise VerificationError(f"The finished file {path.name} cannot be read: {error}") from error
    except MovieDamagedError as error:
        raise VerificationError(f"The finished file {path.name} is no whole film, because {error}.") from error


# --- every packet --------------------------------------------------------------------------------------------------


def read_facts(
    path: Path,
    *,
    fetched: Mapping[Kind, Iterable[PacketCheck]] | None = None,
    algorithm: str = ALGORITHM,
    on_bytes: Callable[[int], None] = lambda _: None,
) -> FileFacts:
    """Read the file at ``path`` from end to end; raises `VerificationError` when it cannot be read.

    With ``fetched``, what was fetched of each kind in the order of the timeline, a packet that differs is a
    `VerificationError`, too. The checksum is one of ``algorithm``. ``on_bytes`` is told how many bytes of packets were
    read; what it raises ends the reading.
    """
    with _judging(path), open_film(path) as film, ThreadPoolExecutor(1, thread_name_prefix="checksum") as pool:
        checksum = RunningChecksum(film.descriptor, algorithm)
        streams = [_Stream(track, (fetched or {}).get(track.kind)) for track in film.movie.tracks]
        for window in film.windows():
            # Neither runs away from the other by more than a window.
            summing = pool.submit(checksum.advance, window.media_end)
            try:
                _read_window(film, window, streams, on_bytes)
            finally:
                summing.result()
        checksum.advance(film.movie.size)
        for stream in streams:
            stream.finish()
        return _gather(film.movie, streams, checksum.named())


def _read_window(film: Film, window: Window, streams: Sequence[_Stream], on_bytes: Callable[[int], None]) -> None:
    """Read all packets of a window."""
    present = [streams[part.number] for part in window.tracks]
    with film.play(window, _AS_THEY_ARE) as container:
        if len(container.streams) != len(present):
            raise MovieDamagedError(f"FFmpeg finds {len(container.streams)} tracks in it and not {len(present)}")
        for stream, found in zip(present, container.streams, strict=True):
            stream.begin(found)
        take = [stream.take for stream in present]
        untold = 0
        for packet in container.demux():
            size = packet.size
            if not size:
                continue  # Says that a stream has ended.
            take[packet.stream_index](packet, size)
            untold += size
            if untold >= _TELL_BYTES:
                on_bytes(untold)
                untold = 0
        on_bytes(untold)
    for stream, part in zip(present, window.tracks, strict=True):
        stream.settle(part.samples)


class _Stream:
    """One track as its windows pass by."""

    def __init__(self, track: TrackIndex, fetched: Iterable[PacketCheck] | None) -> None:
        self.track = track
        self.codec = ""
        self.width: int | None = None
        self.height: int | None = None
        self.packets = 0
        self.in_order = True
        self.ticks = 0  # from the first decoding time to the end of the last packet
        self.first_shown: int | None = None  # ticks on the movie's timeline
        self.last_shown = 0
        self._last_dts = -1
        # Of the packets in the window:
        self._dts: list[int] = []
        self._pts: list[int] = []
        self._sizes: list[int] = []
        self._keys: list[bool] = []
        # What they should be:
        self._fetched = iter(fetched) if fetched is not None else None
        self._check = next(self._fetched, None) if self._fetched is not None else None
        self._missing = self._check.packets if self._check is not None else 0
        self._payload = self._times = 0
        self._passed: list[tuple[int, PacketCheck]] = []  # where in the window what was fetched together has ended

    def begin(self, stream: Stream) -> None:
        """Get ready for a window."""
        for column in (self._dts, self._pts, self._sizes, self._keys, self._passed):
            column.clear()
        if stream.type != self.track.kind:
            raise MovieDamagedError(f"FFmpeg finds {stream.type} where its index has {self.track.kind}")
        if not self.packets:
            # The format's name, not that of the decoder in this build ("libdav1d").
            self.codec = stream.codec_context.codec.canonical_name if stream.codec_context else ""
            self.width = getattr(stream, "width", None) or None
            self.height = getattr(stream, "height", None) or None

    def take(self, packet: Packet[Any], size: int) -> None:
        """Look at a packet; nothing that can wait until `settle`, because hundreds pass for each second of film."""
        self._dts.append(packet.dts)  # type: ignore[arg-type]
        self._pts.append(packet.pts)  # type: ignore[arg-type]
        self._sizes.append(size)
        self._keys.append(packet.is_keyframe)
        if self._missing:
            self._payload = zlib.crc32(packet, self._payload)
            self._missing -= 1
            if not self._missing:
                self._compare_payload()

    def _compare_payload(self) -> None:
        assert self._check is not None
        assert self._fetched is not None
        if self._payload != self._check.payload:
            raise self._differs(self._check, "bytes")
        self._passed.append((len(self._dts), self._check))
        self._payload = 0
        self._check = next(self._fetched, None)
        self._missing = self._check.packets if self._check is not None else 0

    def settle(self, samples: Samples) -> None:
        """Judge the packets of a window; ``samples`` are those that the index has for it."""
        if len(self._dts) != len(samples):
            raise self._lies(f"{len(self._dts)} of {len(samples)} {self.track.kind} packets")
        if None in self._dts or None in self._pts:
            raise self._lies(f"{self.track.kind} packets without times")
        # The first packet of a window is decoded at 0, or earlier where packets are shown before they are decoded.
        dts = np.array(self._dts, np.int64) - self._dts[0] + samples.start
        pts = np.array(self._pts, np.int64) + samples.start
        keys = np.array(self._keys, np.bool_)
        if not (
            np.array_equal(dts, samples.dts)
            and np.array_equal(pts, samples.dts + samples.cts)
            and np.array_equal(keys, samples.sync)
            and np.array_equal(self._sizes, samples.sizes)
        ):
            raise self._lies(f"other {self.track.kind} packets")
        self._compare_times(dts, pts, keys)
        self.packets += len(dts)
        self.in_order &= bool((np.diff(dts, prepend=self._last_dts) > 0).all())
        self._last_dts = int(dts[-1])
        self.ticks = samples.end
        shown = int(pts.min()) + self.track.shift
        self.first_shown = shown if self.first_shown is None else min(self.first_shown, shown)
        self.last_shown = max(self.last_shown, int((pts + samples.durations).max()) + self.track.shift)

    def _compare_times(self, dts: _Numbers, pts: _Numbers, keys: NDArray[np.bool_]) -> None:
        """Compare when packets are decoded and shown with what was planned for them."""
        if self._fetched is None:
            return
        rows = memoryview(time_rows(dts, pts + self.track.shift, keys))
        width = len(rows) // len(dts)
        begun = 0
        for end, check in self._passed:
            if zlib.crc32(rows[begun * width : end * width], self._times) != check.times:
                raise self._differs(check, "times")
            self._times = 0
            begun = end
        self._times = zlib.crc32(rows[begun * width :], self._times)

    def finish(self) -> None:
        """Judge the end of the track."""
        hidden_s = (self.last_shown - self.track.shown_to) / self.track.timescale
        if hidden_s > _MOST_HIDDEN_S:
            raise MovieDamagedError(f"its index hides the last {hidden_s:.0f} s of the {self.track.kind}")
        if self._check is not None:
            raise self._differs(self._check, "number of packets")

    def _differs(self, check: PacketCheck, what: str) -> MovieDamagedError:
        return MovieDamagedError(
            f"the {self.track.kind} of segment {check.media_sequence} has other {what} than what was fetched"
        )

    def _lies(self, found: str) -> MovieDamagedError:
        return MovieDamagedError(f"FFmpeg finds {found} from second {self.ticks // self.track.timescale} on")

    def span_us(self) -> tuple[int, int] | None:
        """Where on the movie's timeline the track is shown, or None when nothing is."""
        first = max(self.first_shown or 0, self.track.shown_from)
        last = min(self.last_shown, self.track.shown_to)
        if self.first_shown is None or last <= first:
            return None
        return first * 1_000_000 // self.track.timescale, last * 1_000_000 // self.track.timescale

    def describe(self) -> StreamFacts:
        """What is known of the track after all windows."""
        rate = self.packets * self.track.timescale / self.ticks if self.ticks and self.track.kind == "video" else None
        return StreamFacts(self.track.kind, self.codec, self.packets, self.width, self.height, rate)


def _gather(movie: MovieIndex, streams: Sequence[_Stream], checksum: str) -> FileFacts:
    spans = [span for stream in streams if (span := stream.span_us())]
    ends_us = max((end for _, end in spans), default=0)
    return FileFacts(
        size_bytes=movie.size,
        checksum=checksum,
        duration_us=ends_us - min((start for start, _ in spans), default=0),
        ends_us=ends_us,
        promised_us=movie.duration_us,
        packets=PacketCounts(
            sum(stream.packets for stream in streams if stream.track.kind == "video"),
            sum(stream.packets for stream in streams if stream.track.kind == "audio"),
        ),
        streams=tuple(stream.describe() for stream in streams if stream.packets),
        in_order=all(stream.in_order for stream in streams),
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
    if abs(facts.promised_us - facts.ends_us) > tolerance_us:
        raise VerificationError(
            f"The index of the finished file promises {facts.promised_us / 1e6:.1f} s, "
            f"but its packets end after {facts.ends_us / 1e6:.1f} s."
        )
    if abs(facts.duration_us - planned_us) > tolerance_us:
        raise VerificationError(
            f"The finished file lasts {facts.duration_us / 1e6:.1f} s, "
            f"but the playlist promises {planned_us / 1e6:.1f} s."
        )


# --- some pictures and sounds --------------------------------------------------------------------------------------


def sample_decode(path: Path, positions: Sequence[float]) -> int:
    """Decode a second or so of picture and sound at each of ``positions``; return the number of frames that failed.

    ``positions`` are seconds from the start of the file; each is decoded from the key frame before it, at most to the
    next one. A frame fails when the decoder refuses its packet or hands out a picture that it had to make up. The
    decoder is left at its usual strictness: with ``err_detect=explode`` it also refuses whole files, those with open
    GOPs or intra refresh, after a seek. So this finds damage and never invents it, but an H.265 picture with a single
    wrong bit passes; that is what checksums are for. Raises `VerificationError` when the file cannot be opened or read.
    """
    failed = 0
    with _judging(path), open_film(path) as film:
        for excerpt in film.excerpts(positions, _SAMPLE_PACKETS):
            with film.play(excerpt) as container:
                failed += _decode_excerpt(container)
    return failed


def spread_positions(duration_us: int, count: int) -> tuple[float, ...]:
    """``count`` positions in seconds, evenly over a file of ``duration_us``: the first at its start."""
    return tuple(duration_us * number / count / 1e6 for number in range(count))


def _decode_excerpt(container: InputContainer) -> int:
    """Decode picture and sound of an excerpt; the number of frames that failed."""
    # A codec that this build cannot decode is no fault of the file.
    decoders = {
        stream.index: stream.codec_context
        for some in (container.streams.video, container.streams.audio)
        for stream in some[:1]
        if stream.codec_context is not None
    }
    for decoder in decoders.values():
        decoder.thread_count = 1  # One for each processor would each hold pictures of its own.
    failed = 0
    begins: dict[int, int] = {}  # when the first packet of each stream is shown
    ended: set[int] = set()
    for packet in container.demux():
        number = packet.stream_index
        if not packet.size or packet.pts is None or number in ended or number not in decoders:
            continue
        if packet.is_keyframe == (number in begins) and packet.stream.type == "video":
            # The next group of pictures, or a beginning that no decoder can begin with.
            ended.add(number)
            continue
        # Pictures shown before the key frame lean on what stands before it, which was not decoded.
        if packet.pts >= begins.setdefault(number, packet.pts):
            failed += _count_failures(decoders[number], packet)
    return failed + sum(_count_failures(decoder, None) for decoder in decoders.values())


def _count_failures(decoder: VideoCodecContext | AudioCodecContext, packet: Packet[Any] | None) -> int:
    try:
        return sum(frame.is_corrupt for frame in decoder.decode(packet))
    except av.error.FFmpegError:
        return 1
