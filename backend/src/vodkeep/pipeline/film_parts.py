"""The parts of a film on the disk: where it can be cut, and parts that were proven to hold each packet once.

Everything is read from the films' indexes, in pieces, so that memory does not grow with the broadcast.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import anyio
import anyio.to_thread
import numpy as np
from numpy.typing import NDArray

from vodkeep.capture.mp4_reader import MovieDamagedError, MovieIndex, SampleReader, Samples, TrackIndex, read_movie
from vodkeep.disk import FILE_MODE, disk_errors, sync
from vodkeep.errors import PermanentError, TransientError
from vodkeep.publish.cut import Bounds, Kind, cut_film
from vodkeep.publish.split import CutPoint, Part

_AT_ONCE = 1 << 14  # samples
_NEW = ".new"
# An MP4 counts edits in milliseconds, and players round to them.
_SHIFT_TOLERANCE_S = 0.002


@dataclass(frozen=True, slots=True)
class FilmLength:
    """What decides whether a film can be published, and has to be split."""

    duration_ms: int
    size_bytes: int
    has_picture: bool


@dataclass(frozen=True, slots=True)
class _Stretch:
    """The samples of one track that belong to a part."""

    kind: Kind
    first: int  # number of the first sample, from 0
    last: int  # and of the one behind the last
    bounds: Bounds
    begins_s: float  # when the first is shown, on the film's timeline


def measure_film(video: Path) -> FilmLength:
    """Length and size of a film; blocking. Raises `PermanentError` (``film_damaged``) and `OSError`."""
    with _opened(video) as (_, movie):
        has_picture = any(not _is_sound(track) for track in movie.tracks)
        return FilmLength(movie.duration_us // 1000, movie.size, has_picture)


def read_cut_points(video: Path) -> list[CutPoint]:
    """Where a part of the film can begin: each key frame, with the bytes that come before it; blocking.

    A film without a picture can be cut every second. Raises `PermanentError` (``film_damaged``) and `OSError`.
    """
    with _opened(video) as (descriptor, movie):
        track = movie.tracks[0]
        times: list[NDArray[np.float64]] = []
        sizes: list[NDArray[np.int64]] = []
        before = 0
        for samples in _blocks(descriptor, movie, track):
            keys = _cuttable(track, samples)
            times.append(_shown_s(track, samples)[keys])
            sizes.append(before + (np.cumsum(samples.sizes) - samples.sizes)[keys])
            before += int(samples.sizes.sum())
        at_s, total = np.concatenate(times), np.concatenate(sizes)
        media = before
        for other in movie.tracks[1:]:
            before = 0
            passed = np.zeros(len(at_s), np.int64)
            for samples in _blocks(descriptor, movie, other):
                ends = np.concatenate(([0], np.cumsum(samples.sizes)))
                passed += ends[np.searchsorted(_decoded_s(other, samples), at_s, "left")]
                before += int(ends[-1])
            total += passed
            media += before
        # The index is shared out with the media.
        share = movie.size / media if media else 1.0
        return [CutPoint(round(float(at) * 1000), int(size * share)) for at, size in zip(at_s, total, strict=True)]


async def cut_part(video: Path, part: Part, target: Path, *, ffmpeg: str) -> None:
    """Write one part of the film as ``target``, which appears whole, durable and proven, or not at all.

    Proven is, from both indexes, that each track has exactly the packets of its stretch, in their order, with their
    sizes, times and key frames, and, of samples taken all over it, their bytes; the stretches of all parts share no
    packet and leave none out. One that is there already is proven and kept. The edges of the part have to be those of
    a plan over `read_cut_points`. Raises what `cut_film` raises, `PermanentError` (``film_damaged``), and
    `TransientError` (``split_failed``).
    """
    stretches = await anyio.to_thread.run_sync(_find_stretches, video, part)
    if await anyio.to_thread.run_sync(target.exists):
        with suppress(TransientError, PermanentError):
            await anyio.to_thread.run_sync(_prove, video, target, stretches)
            return
    length = await anyio.to_thread.run_sync(measure_film, video)
    new = target.with_name(f"{target.name}{_NEW}")
    try:
        await cut_film(
            ffmpeg,
            video,
            new,
            [stretch.bounds for stretch in stretches],
            begins_s=stretches[0].begins_s,
            size_bytes=length.size_bytes,
        )
        try:
            await anyio.to_thread.run_sync(_prove, video, new, stretches)
        except PermanentError as error:
            raise _unproven("its index cannot be read") from error  # The film's could be, a moment ago.
        await anyio.to_thread.run_sync(_settle, new, target)
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(lambda: new.unlink(missing_ok=True))


def _settle(new: Path, target: Path) -> None:
    with disk_errors(target):
        new.chmod(FILE_MODE)
        sync(new)
        new.replace(target)
        sync(target.parent)


# --- which packets ---------------------------------------------------------------------------------------------------


def _find_stretches(video: Path, part: Part) -> list[_Stretch]:
    """The samples of each track that belong to ``part``, the leading track first."""
    with _opened(video) as (descriptor, movie):
        leading = movie.tracks[0]
        starts = [None if part.number == 1 else part.start_ms, None if part.number == part.parts else part.end_ms]
        edges = [_Edge(0, None, 0.0), _Edge(leading.samples, None, 0.0)]
        for number, moment in enumerate(starts):
            if moment is not None:
                edges[number] = _find_cut(descriptor, movie, moment)
        stretches = [_stretch(leading, edges[0], edges[1])]
        for track in movie.tracks[1:]:
            others = [_Edge(0, None, 0.0), _Edge(track.samples, None, 0.0)]
            for number, moment in enumerate(starts):
                if moment is not None:
                    others[number] = _find_beside(descriptor, movie, track, edges[number].at_s)
            stretches.append(_stretch(track, others[0], others[1]))
        return [stretch for stretch in stretches if stretch.last > stretch.first]


@dataclass(frozen=True, slots=True)
class _Edge:
    """Where a track is cut."""

    sample: int  # the first one behind the cut
    bound_s: float | None  # between its decoding time and that of the one before it
    at_s: float  # when it is shown


def _stretch(track: TrackIndex, start: _Edge, end: _Edge) -> _Stretch:
    bounds = Bounds(track.kind, start.bound_s, end.bound_s)
    return _Stretch(track.kind, start.sample, end.sample, bounds, start.at_s)


def _find_cut(descriptor: int, movie: MovieIndex, moment_ms: int) -> _Edge:
    """The key frame of the leading track that is shown at this millisecond."""
    track = movie.tracks[0]
    number, last_s = 0, 0.0
    for samples in _blocks(descriptor, movie, track):
        shown, decoded = _shown_s(track, samples), _decoded_s(track, samples)
        found = np.flatnonzero(_cuttable(track, samples) & (np.round(shown * 1000) == moment_ms))
        if found.size:
            place = int(found[0])
            before_s = float(decoded[place - 1]) if place else last_s
            return _Edge(number + place, (before_s + float(decoded[place])) / 2, float(shown[place]))
        number += len(samples)
        last_s = float(decoded[-1])
    raise TransientError(f"There is no key frame at {moment_ms} ms to cut at.", code="split_failed")


def _find_beside(descriptor: int, movie: MovieIndex, track: TrackIndex, at_s: float) -> _Edge:
    """Where another track is cut: before the first sample that is decoded at or after ``at_s``."""
    number, last_s = 0, 0.0
    for samples in _blocks(descriptor, movie, track):
        decoded = _decoded_s(track, samples)
        place = int(np.searchsorted(decoded, at_s, "left"))
        if place < len(samples):
            if number + place == 0:
                return _Edge(0, float(decoded[0]) - 1.0, float(decoded[0]))
            before_s = float(decoded[place - 1]) if place else last_s
            return _Edge(number + place, (before_s + float(decoded[place])) / 2, float(decoded[place]))
        number += len(samples)
        last_s = float(decoded[-1])
    return _Edge(track.samples, last_s + 1.0, last_s)


def _cuttable(track: TrackIndex, samples: Samples) -> NDArray[np.bool_]:
    if track.kind == "video":
        return samples.sync
    seconds = np.floor(_decoded_s(track, samples))
    return np.asarray(np.diff(seconds, prepend=seconds[0] - 1) > 0)


def _decoded_s(track: TrackIndex, samples: Samples) -> NDArray[np.float64]:
    return (samples.dts + track.shift) / track.timescale


def _shown_s(track: TrackIndex, samples: Samples) -> NDArray[np.float64]:
    return (samples.dts + samples.cts + track.shift) / track.timescale


# --- the proof -------------------------------------------------------------------------------------------------------


def _prove(video: Path, piece: Path, stretches: list[_Stretch]) -> None:
    """Raise `TransientError` unless ``piece`` holds exactly ``stretches`` of ``video``."""
    with _opened(video) as (whole, film), _opened(piece) as (descriptor, movie):
        if [track.kind for track in movie.tracks] != [stretch.kind for stretch in stretches]:
            raise _unproven("it has other tracks")
        shifts = []
        for stretch, track in zip(stretches, movie.tracks, strict=True):
            original = next(each for each in film.tracks if each.kind == stretch.kind)
            if track.samples != stretch.last - stretch.first:
                raise _unproven(
                    f"it has {track.samples} {stretch.kind} packets instead of {stretch.last - stretch.first}"
                )
            shifts.append(_compare(whole, film, original, stretch, descriptor, movie, track))
        if max(shifts) - min(shifts) > _SHIFT_TOLERANCE_S:
            raise _unproven("picture and sound lie differently to each other")


def _compare(
    whole: int,
    film: MovieIndex,
    original: TrackIndex,
    stretch: _Stretch,
    descriptor: int,
    movie: MovieIndex,
    track: TrackIndex,
) -> float:
    """By how many seconds the packets of the part come earlier than in the film; raises when they differ."""
    theirs, ours = SampleReader(whole, film, original), SampleReader(descriptor, movie, track)
    skipped = 0
    while skipped < stretch.first:
        skipped += len(theirs.read(min(_AT_ONCE, stretch.first - skipped)))
    shift: float | None = None
    while ours.left:
        here = ours.read(_AT_ONCE)
        there = theirs.read(len(here))
        if not np.array_equal(here.sizes, there.sizes):
            raise _unproven(f"its {stretch.kind} packets are others")
        if not np.array_equal(here.sync, there.sync):
            raise _unproven("its key frames are others")
        if any(_bytes_of(whole, there, place) != _bytes_of(descriptor, here, place) for place in (0, len(here) - 1)):
            raise _unproven(f"its {stretch.kind} packets have other bytes")
        apart = _shown_s(original, there) - _shown_s(track, here)
        shift = float(apart[0]) if shift is None else shift
        if np.abs(apart - shift).max() > _SHIFT_TOLERANCE_S:
            raise _unproven(f"its {stretch.kind} packets come at other times")
    return shift or 0.0


def _bytes_of(descriptor: int, samples: Samples, place: int) -> bytes:
    return os.pread(descriptor, int(samples.sizes[place]), int(samples.offsets[place]))


def _unproven(reason: str) -> TransientError:
    return TransientError(f"A part that was cut is not what it should be: {reason}.", code="split_failed")


# --- the index -------------------------------------------------------------------------------------------------------


@contextmanager
def _opened(path: Path) -> Iterator[tuple[int, MovieIndex]]:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        movie = read_movie(descriptor)
        if not movie.tracks or not movie.tracks[0].samples:
            raise MovieDamagedError("it has neither picture nor sound")
        movie = MovieIndex(movie.size, movie.duration_us, tuple(sorted(movie.tracks, key=_is_sound)), movie.media)
        yield descriptor, movie
    except MovieDamagedError as error:
        raise PermanentError(
            f"{path} cannot be published because {error}.",
            code="film_damaged",
            remedy="Check it with vodkeep verify --deep --repair.",
        ) from error
    finally:
        os.close(descriptor)


def _is_sound(track: TrackIndex) -> bool:
    return track.kind == "audio"


def _blocks(descriptor: int, movie: MovieIndex, track: TrackIndex) -> Iterator[Samples]:
    reader = SampleReader(descriptor, movie, track)
    while reader.left:
        yield reader.read(_AT_ONCE)
