"""A finished film, opened for FFmpeg's libraries window by window, because they hold the index of a file in memory."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import av
from av.container import InputContainer

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

    def excerpts(self, positions: Sequence[float], samples: int) -> Iterator[Window]:
        """What is needed to decode ``samples`` of each track at each of ``positions``, in the order of the timeline.

        ``positions`` are in seconds; what lies beyond the end is looked for at the end.
        """
        left = sorted(positions)
        window: Window | None = None
        for window in self.windows():
            while left and left[0] < window.tracks[0].end_s:
                yield window.excerpt(left.pop(0), samples)
            if not left:
                return
        if window is not None:
            for position in left:
                yield window.excerpt(position, samples)

    def play(self, window: Window, options: Mapping[str, str] | None = None) -> InputContainer:
        """Let libavformat open a window, with ``options`` of its own; its streams are the window's tracks.

        Raises the errors of PyAV and of what it reads.
        """
        file = WindowFile(self.descriptor, self.movie.size, window)
        return av.open(file, mode="r", format="mp4", buffer_size=_READ_BYTES, container_options=dict(options or {}))


@contextmanager
def open_film(path: Path) -> Iterator[Film]:
    """The film at ``path`` for the time of the block; raises `MovieDamagedError` and `OSError`."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield Film(descriptor, read_movie(descriptor))
    finally:
        os.close(descriptor)
