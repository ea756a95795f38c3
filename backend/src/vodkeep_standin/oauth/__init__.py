"""id.twitch.tv: app access tokens (https://dev.twitch.tv/docs/authentication, read 2026-11)."""

from __future__ import annotations
