"""Title, date, channel and chapters as a text file that ffmpeg reads (ffmpeg-formats, "Metadata")."""

from __future__ import annotations

import re

from vodkeep.capture.mp4_labels import CHAPTER_TIMESCALE, Movie, settle_chapters

_SPECIAL = re.compile(r"[=;#\\\n]")


def write_ffmetadata(movie: Movie, end_ms: int) -> str:
    """The labels of ``movie`` for a film that ends at ``end_ms``; chapters reach to the next one, as in our own films.

    ffmpeg names itself as the encoder, which here it is.
    """
    lines = [";FFMETADATA1"]
    words = {"title": movie.title, "artist": movie.artist, "date": movie.date, "comment": movie.comment}
    lines += [f"{key}={_escape(word)}" for key, word in words.items() if word]
    chapters = settle_chapters(movie.chapters, end_ms)
    ends = [*(start for start, _ in chapters[1:]), end_ms]
    for (start, title), end in zip(chapters, ends, strict=False):
        lines += ["[CHAPTER]", f"TIMEBASE=1/{CHAPTER_TIMESCALE}", f"START={start}", f"END={end}"]
        lines.append(f"title={_escape(title)}")
    return "\n".join([*lines, ""])


def _escape(text: str) -> str:
    # A NUL ends a text, and a lone surrogate cannot be written.
    plain = text.replace("\0", " ").encode("utf-8", "replace").decode()
    return _SPECIAL.sub(lambda found: f"\\{found.group()}", plain)
