"""The HLS edge: media playlists, segments and pictures."""

from __future__ import annotations
