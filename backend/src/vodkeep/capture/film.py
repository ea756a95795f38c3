"""A finished film, opened for FFmpeg's libraries window by window, because they hold the index of a file in memory."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import av
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.video.stream import VideoStream

from vodkeep.capture.mp4_reader import MovieIndex, read_movie
from vodkeep.capture.mp4_windows import Window, WindowFile, cut_windows

_READ_BYTES = 128 * 1024


@dataclass(frozen=True, slots=True)
class Film:
    """An open file."""

    descriptor: int
    movie: MovieIndex

    def windows(self) -> Iterator[Window]:
        """All of it, in the order of the timeline; raises `MovieDamagedError` and `OSError`."""
        return cut_windows(self.descriptor, self.movie)

    def windows_at(self, positions: Sequence[float]) -> Iterator[tuple[Window, Sequence[float]]]:
        """The windows in which ``positions`` (seconds) lie, with those in each; the last has all that lie beyond it."""
        left = sorted(positions)
        window: Window | None = None
        for window in self.windows():
            inside = [position for position in left if position < window.tracks[0].end_s]
            left = left[len(inside) :]
            if inside:
                yield window, inside
            if not left:
                return
        if window is not None:
            yield window, left

    def play(self, window: Window, options: Mapping[str, str] | None = None) -> InputContainer:
        """Let libavformat open a window, with ``options`` of its own; its streams are the window's tracks.

        Raises the errors of PyAV and of what it reads.
        """
        file = WindowFile(self.descriptor, self.movie.size, window)
        return av.open(file, mode="r", format="mp4", buffer_size=_READ_BYTES, container_options=dict(options or {}))


def seek(container: InputContainer, stream: VideoStream | AudioStream, window: Window, position_s: float) -> None:
    """Go to the last packet of ``stream`` that a decoder can begin with and that is shown by ``position_s``.

    ``container`` is ``window`` opened, ``position_s`` is on the movie's timeline.
    """
    part = window.tracks[stream.index]
    shown = int((position_s - part.start_s) * part.track.timescale)
    # libavformat seeks by the times of decoding. How far those are ahead, the first packet tells.
    container.seek(max(0, shown - (stream.start_time or 0)), stream=stream)


@contextmanager
def open_film(path: Path) -> Iterator[Film]:
    """The film at ``path`` for the time of the block; raises `MovieDamagedError` and `OSError`."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield Film(descriptor, read_movie(descriptor))
    finally:
        os.close(descriptor)
