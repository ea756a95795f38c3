"""Helix: users, videos and streams (https://dev.twitch.tv/docs/api/reference, read 2026-11)."""

from __future__ import annotations
