"""GQL: the unofficial API of Twitch's own player, as far as yt-dlp and Vodkeep use it."""

from __future__ import annotations
