"""The forms a chat is written in."""

from __future__ import annotations

from enum import StrEnum


class Form(StrEnum):
    """What a chat can be written as."""

    NDJSON = "ndjson"
    NDJSON_ZST = "ndjson.zst"
    TWITCH_DOWNLOADER = "json"
    TEXT = "txt"
    WEBVTT = "vtt"
    ASS = "ass"
