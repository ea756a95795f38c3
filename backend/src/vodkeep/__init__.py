"""Vodkeep keeps a streamer's Twitch broadcasts for good."""

__version__ = "0.1.0"
