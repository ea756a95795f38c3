"""Real pictures and sound, made once with ffmpeg and kept in a cache."""

from __future__ import annotations
