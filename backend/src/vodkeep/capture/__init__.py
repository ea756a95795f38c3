"""Fetches a broadcast's picture, proves it and makes it playable."""
