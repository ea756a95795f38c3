"""Who exists on the pretended Twitch, and the scenarios that come with it."""

from __future__ import annotations
