"""usher hands out the multivariant playlist to whoever brings a good playback access token."""

from __future__ import annotations
