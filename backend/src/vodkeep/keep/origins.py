"""The words of an import: where recordings come from, and what becomes of them there."""

from __future__ import annotations

from enum import StrEnum


class Origin(StrEnum):
    """Which program made the recordings."""

    GANYMEDE = "ganymede"
    TWITCH_DOWNLOADER = "twitch-downloader"
    YT_DLP = "yt-dlp"
    FILES = "files"
    """None that left a word: a video, and what its name says."""


class How(StrEnum):
    """What becomes of the source's video."""

    COPY = "copy"
    """It stays. Where the file system can, both share their blocks, and the copy takes no room."""
    LINK = "link"
    """Both are the same file, under two names; on one file system only."""
    MOVE = "move"
    """It goes, once the item is in its place and proven to be the same."""
