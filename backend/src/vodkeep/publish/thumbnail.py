"""Whether a picture may be the thumbnail of a video."""

from __future__ import annotations

from pathlib import Path

THUMBNAIL_NAME = "thumbnail.jpg"
# developers.google.com/youtube/v3/docs/thumbnails/set, read in November 2026: 2 MB on the older of its versions, 50 MB
# on the newer; JPEG or PNG.
MOST_BYTES = 2_000_000
_MAGICS = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")


def refusal_of(picture: Path) -> str | None:
    """Why YouTube would not take ``picture``, as a sentence; None when it would. Blocking."""
    try:
        with picture.open("rb") as file:
            magic = file.read(8)
        size = picture.stat().st_size
    except OSError:
        return "There is no thumbnail."
    if not magic.startswith(_MAGICS):
        return "The thumbnail is neither JPEG nor PNG."
    if size > MOST_BYTES:
        return f"The thumbnail has {size} bytes, and YouTube takes {MOST_BYTES}."
    return None
