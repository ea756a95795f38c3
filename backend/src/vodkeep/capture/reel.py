"""The file under construction, and the journal that proves what is in it.

Each segment's samples are appended to ``video.mp4`` as one *extent*, in the order in which segments arrive; where on
the timeline they belong is said by the index alone, which is written at the end. So every media byte is written once,
and nothing has to wait in memory for its neighbour.

``journal.ndjson`` holds one line per extent: where it lies, and the tables and the checksum of each track. A segment
counts once its line is written. Lines and media are made durable in groups: the media first, then a mark in the journal
that says how many lines are safe. After a crash the lines before the last mark are believed, and those behind it as far
as their extents pass their checksums. Whatever is not proven is fetched again.
"""

from __future__ import annotations

import base64
import json
import os
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from vodkeep.capture.model import FetchedSegment, PacketCounts
from vodkeep.capture.samples import Chunk, SegmentSamples, TrackFormat, TrackSamples, interleave
from vodkeep.disk import FILE_MODE, disk_errors, sync
from vodkeep.errors import VodkeepError

_JOURNAL_VERSION = 3
_SYNC_INTERVAL_S = 1.0
_CHECK_CHUNK_BYTES = 1024 * 1024
# More buffers than this in one call are refused by Linux (UIO_MAXIOV).
_MAX_BUFFERS = 512


@dataclass(frozen=True, slots=True)
class Extent:
    """A segment in the reel."""

    segment: FetchedSegment
    offset: int  # bytes from the start of the file
    line: int  # bytes from the start of the journal to its line
    formats: tuple[int, ...]  # of its tracks, indices into `Reel.formats`
    payloads: tuple[int, ...]  # of its tracks: CRC-32 of all samples back to back


@dataclass(frozen=True, slots=True)
class ReelHead:
    """What a reel was begun with."""

    format_id: str
    reserve: int  # bytes kept free at the front for the index
    media_start: int  # bytes from the start of the file to the first extent


class Reel:
    """The media file and its journal; appending is safe from several threads."""

    def __init__(self, folder: Path, video_id: str) -> None:
        self.video_path = folder / "video.mp4"
        self._journal_path = folder / "journal.ndjson"
        self._video_id = video_id
        self._lock = threading.Lock()
        self._video = -1
        self._journal = -1
        self._journal_end = 0
        self._lines = 0
        self._synced_lines = 0
        self._stop_syncing = threading.Event()
        self._syncer: threading.Thread | None = None
        self._sync_failure: VodkeepError | None = None
        self.head: ReelHead | None = None
        self.media_end = 0
        self.extents: dict[int, Extent] = {}  # by media sequence
        self.found: list[Extent] = []  # what an earlier run left, in the order in which it came
        self.formats: list[TrackFormat] = []

    # --- opening -------------------------------------------------------------------------------------------------

    def open(self, format_id: str) -> None:
        """Go on from what an earlier run left, as far as it is proven; a reel of another rendition begins anew."""
        with disk_errors(self._journal_path):
            if not self._resume(format_id):
                self._discard()

    def begin(self, head: ReelHead, front: Sequence[tuple[int, bytes]]) -> None:
        """Start a fresh reel; ``front`` is written before the media: bytes and where in the file they go."""
        with disk_errors(self.video_path):
            self._video = _open(self.video_path, truncate=True)
            self._journal = _open(self._journal_path, truncate=True)
            for offset, content in front:
                _write_all(self._video, [memoryview(content)], offset)
            self.head = head
            self.media_end = head.media_start
            self._write_line(
                {
                    "journal": _JOURNAL_VERSION,
                    "video_id": self._video_id,
                    "format_id": head.format_id,
                    "reserve": head.reserve,
                    "media_start": head.media_start,
                }
            )
            self._start_syncing()

    @property
    def is_begun(self) -> bool:
        """Whether there is a file to append to."""
        return self.head is not None

    def _resume(self, format_id: str) -> bool:
        try:
            self._journal = os.open(self._journal_path, os.O_RDWR | os.O_CLOEXEC)
            self._video = os.open(self.video_path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        lines = _read_lines(self._journal)
        _, self._journal_end, first = next(lines, (0, 0, {}))
        head = _read_head(first, self._video_id, format_id)
        if head is None:
            return False
        self.head = head
        self.media_end = head.media_start
        entries: list[Extent] = []
        safe = 0
        for start, end, line in lines:
            self._journal_end = end
            if "synced" in line:
                safe = min(int(line["synced"]), len(entries))
            elif "format" in line:
                self.formats.append(_read_format(line["format"]))
            else:
                entry = _read_extent(line, start, len(self.formats))
                if entry is not None:
                    entries.append(entry)
        video_size = os.fstat(self._video).st_size
        for number, extent in enumerate(entries):
            end = extent.offset + extent.segment.size_bytes
            if end > video_size or (number >= safe and not self._is_intact(extent)):
                continue
            self.found.append(extent)
            self.extents[extent.segment.media_sequence] = extent
            self.media_end = max(self.media_end, end)
        # A torn last line would swallow the next one.
        os.ftruncate(self._journal, self._journal_end)
        # An index that an earlier run had written behind the media, or bytes that no line speaks of.
        os.ftruncate(self._video, self.media_end)
        self._lines = self._synced_lines = len(entries)
        self._start_syncing()
        return True

    def _discard(self) -> None:
        self.close()
        self.head = None
        self.extents.clear()
        self.found.clear()
        self.formats.clear()
        self._journal_end = self._lines = self._synced_lines = 0
        for path in (self._journal_path, self.video_path):
            path.unlink(missing_ok=True)

    def _is_intact(self, extent: Extent) -> bool:
        """Whether the bytes of ``extent`` are those that its line speaks of."""
        payloads = [0] * len(extent.payloads)
        loaded = self._load(extent)
        for chunk in loaded.chunks:
            position, left = loaded.offset + chunk.offset, chunk.size
            while left:
                block = os.pread(self._video, min(left, _CHECK_CHUNK_BYTES), position)
                if not block:
                    return False
                payloads[chunk.track] = zlib.crc32(block, payloads[chunk.track])
                position += len(block)
                left -= len(block)
        return tuple(payloads) == extent.payloads

    # --- appending -----------------------------------------------------------------------------------------------

    def append(self, media_sequence: int, name: str, muted: bool, samples: SegmentSamples) -> FetchedSegment:
        """Make a segment count: its media, then its line. Raises the errors of a full or failing disk."""
        chunks, bodies = interleave(samples.tracks)
        size = sum(len(body) for body in bodies)
        counts = {track.format.kind: track.count for track in samples.tracks}
        segment = FetchedSegment(
            media_sequence, name, size, PacketCounts(counts.get("video", 0), counts.get("audio", 0)), muted
        )
        tables = [_pack(track) for track in samples.tracks]
        payloads = tuple(zlib.crc32(track.payload) for track in samples.tracks)
        with disk_errors(self.video_path):
            with self._lock:
                if self._sync_failure is not None:
                    raise self._sync_failure
                offset, self.media_end = self.media_end, self.media_end + size
            _write_all(self._video, bodies, offset)
            with self._lock:
                formats = tuple(self._format_number(track.format) for track in samples.tracks)
                line = self._write_line(
                    {
                        "sn": media_sequence,
                        "name": name,
                        "muted": muted,
                        "at": offset,
                        "size": size,
                        "video": segment.packets.video,
                        "audio": segment.packets.audio,
                        "tracks": [
                            {"format": number, "crc": payload, **table}
                            for number, payload, table in zip(formats, payloads, tables, strict=True)
                        ],
                        "chunks": [[chunk.track, chunk.first, chunk.count, chunk.size] for chunk in chunks],
                    }
                )
                self._lines += 1
                self.extents[media_sequence] = Extent(segment, offset, line, formats, payloads)
        return segment

    def adopt(self, match: Callable[[Iterable[FetchedSegment]], Mapping[int, FetchedSegment]]) -> None:
        """Let count what ``match`` picks of everything found, under its numbers; the rest lies unused."""
        by_segment = {extent.segment: extent for extent in self.found}
        self.extents = {
            number: replace(by_segment[segment], segment=replace(segment, media_sequence=number))
            for number, segment in match([extent.segment for extent in self.found]).items()
        }

    def _format_number(self, track_format: TrackFormat) -> int:
        if track_format not in self.formats:
            self._write_line({"format": _write_format(track_format)})
            self.formats.append(track_format)
        return self.formats.index(track_format)

    def _write_line(self, line: dict[str, Any]) -> int:
        start = self._journal_end
        text = json.dumps(line, separators=(",", ":")).encode() + b"\n"
        _write_all(self._journal, [memoryview(text)], start)
        self._journal_end = start + len(text)
        return start

    # --- durability ----------------------------------------------------------------------------------------------

    def sync(self) -> None:
        """Make everything appended so far durable, and mark it in the journal."""
        with self._lock:
            lines = self._lines
            if lines == self._synced_lines:
                return
        with disk_errors(self.video_path):
            os.fdatasync(self._video)
            with self._lock:
                self._write_line({"synced": lines})
            os.fdatasync(self._journal)
        self._synced_lines = lines

    def _start_syncing(self) -> None:
        self._stop_syncing.clear()
        self._syncer = threading.Thread(target=self._sync_again_and_again, name="reel-sync", daemon=True)
        self._syncer.start()

    def _sync_again_and_again(self) -> None:
        while not self._stop_syncing.wait(_SYNC_INTERVAL_S):
            try:
                self.sync()
            except (VodkeepError, OSError) as error:
                # After a failed fsync nobody knows what is on the disk; the next append says so.
                self._sync_failure = error if isinstance(error, VodkeepError) else VodkeepError(str(error))
                return

    def close(self) -> None:
        """Make everything durable if that is still possible, and close the files."""
        if self._syncer is not None:
            self._stop_syncing.set()
            self._syncer.join()
            self._syncer = None
            with suppress(VodkeepError, OSError):
                self.sync()
        for descriptor in (self._video, self._journal):
            if descriptor >= 0:
                os.close(descriptor)
        self._video = self._journal = -1

    # --- reading back --------------------------------------------------------------------------------------------

    def load(self, media_sequence: int) -> LoadedExtent:
        """The tables of a segment, read from the journal."""
        return self._load(self.extents[media_sequence])

    def _load(self, extent: Extent) -> LoadedExtent:
        line = json.loads(_read_line(self._journal, extent.line))
        tracks = [_unpack(table, self.formats[table["format"]]) for table in line["tracks"]]
        chunks, offset = [], 0
        for track, first, count, size in line["chunks"]:
            chunks.append(Chunk(track, first, count, offset, size))
            offset += size
        return LoadedExtent(extent.offset, tuple(tracks), tuple(chunks))

    def video_file(self) -> int:
        """The descriptor of the media file, for writing its index."""
        return self._video


def survey_reel(folder: Path, most: int | None = None) -> tuple[str, list[FetchedSegment]] | None:
    """The rendition of the reel in ``folder`` and the segments that its journal names; nothing of it is proven.

    With ``most`` reading ends after so many. None when there is no journal that can be read.
    """
    try:
        descriptor = os.open(folder / "journal.ndjson", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        lines = _read_lines(descriptor)
        _, _, head = next(lines, (0, 0, {}))
        format_id = head.get("format_id")
        formats = 0
        segments: list[FetchedSegment] = []
        for start, _, line in lines:
            formats += "format" in line
            entry = _read_extent(line, start, formats)
            if entry is not None:
                segments.append(entry.segment)
            if most is not None and len(segments) >= most:
                break
    finally:
        os.close(descriptor)
    return (format_id, segments) if isinstance(format_id, str) else None


@dataclass(frozen=True, slots=True)
class LoadedExtent:
    """A segment's tables; the tracks carry no payload."""

    offset: int
    tracks: tuple[TrackSamples, ...]
    chunks: tuple[Chunk, ...]


def _open(path: Path, *, truncate: bool) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | (os.O_TRUNC if truncate else 0)
    descriptor = os.open(path, flags, FILE_MODE)
    sync(path.parent)
    return descriptor


def _write_all(descriptor: int, buffers: list[memoryview], offset: int) -> None:
    """Write ``buffers`` one behind the other at ``offset``, however often the kernel stops half way."""
    pending = list(buffers)
    while pending:
        written = os.pwritev(descriptor, pending[:_MAX_BUFFERS], offset)
        offset += written
        while pending and written >= len(pending[0]):
            written -= len(pending.pop(0))
        if written:
            pending[0] = pending[0][written:]


def _pack(track: TrackSamples) -> dict[str, Any]:
    """A track's tables, small: times as differences, everything compressed together."""
    deltas = np.diff(track.dts).astype("<i4")
    tables = b"".join(
        (track.sizes.astype("<u4").tobytes(), deltas.tobytes(), track.cts.astype("<i4").tobytes(),
         np.packbits(track.sync).tobytes())
    )  # fmt: skip
    return {
        "n": track.count,
        "dts": int(track.dts[0]) if track.count else 0,
        "tail": track.tail,
        "tables": base64.b64encode(zlib.compress(tables, 1)).decode(),
    }


def _unpack(packed: dict[str, Any], track_format: TrackFormat) -> TrackSamples:
    count = int(packed["n"])
    tables = zlib.decompress(base64.b64decode(packed["tables"]))
    sizes = np.frombuffer(tables, "<u4", count)
    deltas = np.frombuffer(tables, "<i4", max(0, count - 1), offset=4 * count)
    cts = np.frombuffer(tables, "<i4", count, offset=4 * count + 4 * len(deltas))
    flags = np.frombuffer(tables, np.uint8, offset=8 * count + 4 * len(deltas))
    dts = np.empty(count, np.int64)
    if count:
        dts[0] = packed["dts"]
        np.cumsum(deltas, dtype=np.int64, out=dts[1:])
        dts[1:] += dts[0]
    return TrackSamples(
        format=track_format,
        sizes=sizes,
        dts=dts,
        cts=cts,
        sync=np.unpackbits(flags, count=count).astype(np.bool_),
        tail=int(packed["tail"]),
        payload=memoryview(b""),
    )


def _write_format(track_format: TrackFormat) -> dict[str, Any]:
    return {
        "kind": track_format.kind,
        "codec": track_format.codec,
        "timescale": track_format.timescale,
        "width": track_format.width,
        "height": track_format.height,
        "sample_rate": track_format.sample_rate,
        "channels": track_format.channels,
        "sample_entry": base64.b64encode(track_format.sample_entry).decode(),
    }


def _read_format(line: dict[str, Any]) -> TrackFormat:
    return TrackFormat(**{**line, "sample_entry": base64.b64decode(line["sample_entry"])})


def _read_head(line: dict[str, Any], video_id: str, format_id: str) -> ReelHead | None:
    expected = {"journal": _JOURNAL_VERSION, "video_id": video_id, "format_id": format_id}
    if {key: line.get(key) for key in expected} != expected:
        return None
    try:
        return ReelHead(format_id, int(line["reserve"]), int(line["media_start"]))
    except (KeyError, TypeError, ValueError):
        return None


def _read_extent(line: dict[str, Any], start: int, formats: int) -> Extent | None:
    try:
        segment = FetchedSegment(
            media_sequence=int(line["sn"]),
            name=str(line["name"]),
            size_bytes=int(line["size"]),
            packets=PacketCounts(int(line["video"]), int(line["audio"])),
            muted=bool(line["muted"]),
        )
        numbers = tuple(int(track["format"]) for track in line["tracks"])
        if any(number >= formats for number in numbers):
            return None
        payloads = tuple(int(track["crc"]) for track in line["tracks"])
        return Extent(segment, int(line["at"]), start, numbers, payloads)
    except (KeyError, TypeError, ValueError):
        return None


def _read_lines(descriptor: int) -> Iterator[tuple[int, int, dict[str, Any]]]:
    """The whole lines of a journal with where each begins and ends; stops at the first that is torn or damaged."""
    position = 0
    with os.fdopen(os.dup(descriptor), "rb") as file:
        file.seek(0)
        for raw in file:
            if not raw.endswith(b"\n"):
                return
            try:
                line = json.loads(raw)
            except ValueError:
                return
            if not isinstance(line, dict):
                return
            yield position, position + len(raw), line
            position += len(raw)


def _read_line(descriptor: int, start: int) -> bytes:
    pieces: list[bytes] = []
    while True:
        block = os.pread(descriptor, 64 * 1024, start)
        end = block.find(b"\n")
        if end >= 0 or not block:
            return b"".join([*pieces, block[: max(end, 0)]])
        pieces.append(block)
        start += len(block)
