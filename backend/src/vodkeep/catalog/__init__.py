"""Channels and VODs: what exists on Twitch and what we know of it."""
