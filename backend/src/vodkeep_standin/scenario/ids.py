"""Ids of the videos in the ``test`` scenario, named for what is special about them."""

from __future__ import annotations

CHANNEL = "lumen_plays"
CHANNEL_ID = "71092938"
OTHER_CHANNEL = "quiet_arcade"
OTHER_CHANNEL_ID = "143646010"

PLAIN = "2600000001"
MUTED = "2600000002"
UNMUTED_NAMES = "2600000003"
DISCONTINUITY = "2600000004"
FMP4 = "2600000005"
RECORDING = "2600000006"
SUB_ONLY = "2600000007"
DELETED = "2600000008"
MISSING_SEGMENT = "2600000009"
HOSTILE = ("2600000010", "2600000011", "2600000012", "2600000013", "2600000014", "2600000015")
"""In the order of ``titles.HOSTILE``: emoji, markup, path traversal, 300 characters, right to left, blank."""
OTHER_PLAIN = "2600000020"
HIGHLIGHT = "2600000021"
