"""YouTube: resumable uploads, videos and playlists (https://developers.google.com/youtube/v3, read 2026-11)."""

from __future__ import annotations
