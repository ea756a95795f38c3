"""Films put together by the engine from segments, with what it noted of their packets; and films that are all index."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

from support.mp4_media import make_fragments
from vodkeep.capture.assemble import Assembled, assemble, begin_reel
from vodkeep.capture.model import Segment
from vodkeep.capture.mp4_index import (
    IndexChunk,
    IndexTrack,
    Movie,
    estimate_index_bytes,
    file_header,
    front_offset,
    media_offset,
    write_index,
)
from vodkeep.capture.reel import Reel
from vodkeep.capture.samples import SegmentSamples, TrackFormat

SEGMENT_US = 2_000_000


def put_together(folder: Path, segments: Sequence[SegmentSamples], order: Sequence[int] = ()) -> tuple[Path, Assembled]:
    """A film of ``segments``, each of about two seconds, that came in this ``order``."""
    folder.mkdir(parents=True, exist_ok=True)
    reel = Reel(folder, "2301")
    reel.open("chunked")
    length = len(segments) * SEGMENT_US
    begin_reel(
        reel, "chunked", segments[0], segments=len(segments), duration_us=length, segment_us=SEGMENT_US, movie=Movie()
    )
    for number in order or range(len(segments)):
        reel.append(number, f"{number}.ts", False, segments[number])
    playlist = [
        Segment(number, number, f"http://edge/{number}.ts", number * SEGMENT_US, SEGMENT_US)
        for number in range(len(segments))
    ]
    assembled = assemble(reel, playlist, Movie("A film"))
    reel.close()
    return reel.video_path, assembled


def make_index_of(path: Path, hours: float, *, frames_s: int = 60) -> Path:
    """A file whose index tells of so many hours of picture and sound, over media that are a hole in the file."""
    formats = [track.format for track in make_fragments().samples()[0].tracks]
    seconds = int(hours * 3600)
    rates = [frames_s, formats[1].sample_rate // 1024]
    reserve = estimate_index_bytes(
        video_samples=seconds * rates[0], audio_samples=seconds * rates[1], chunks=2 * seconds, formats=()
    )
    chunk_bytes = 16 * max(rates)
    start = media_offset(reserve)
    end = start + 2 * seconds * chunk_bytes
    with path.open("w+b") as file:
        file.write(file_header(reserve))
        os.ftruncate(file.fileno(), end)
        kinds: tuple[Literal["video", "audio"], ...] = ("video", "audio")
        write_index(
            file,
            [
                IndexTrack(
                    kind,
                    rate * 1000,
                    0,
                    partial(_chunks, track_format, rate, seconds, start + number * chunk_bytes, 2 * chunk_bytes),
                )
                for number, (kind, rate, track_format) in enumerate(zip(kinds, rates, formats, strict=True))
            ],
            Movie(),
            front_offset=front_offset(),
            front_size=reserve,
            end_offset=end,
            spool=tempfile.TemporaryFile,
        )
    return path


def _chunks(track_format: TrackFormat, rate: int, seconds: int, at: int, apart: int) -> Iterator[IndexChunk]:
    """A chunk a second. Sizes and times never repeat, as with real media, so that no table is small."""
    count = np.arange(rate)
    sync = np.ones(rate, np.bool_) if track_format.kind == "audio" else count == 0
    cts = 1000 * (count % 3) if track_format.kind == "video" else 0 * count
    for second in range(seconds):
        yield IndexChunk(
            at + second * apart,
            track_format,
            (5 + (count + second) % 11).astype(np.uint32),
            np.full(rate, 1000, np.uint32),
            cts.astype(np.int32),
            sync,
        )
