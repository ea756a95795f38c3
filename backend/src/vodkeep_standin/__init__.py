"""Twitch on loopback: the one fake that Vodkeep is developed, tested and demonstrated against.

It speaks the real wire protocols over real sockets, so the service and unmodified yt-dlp use it without
knowing. ``server.py`` puts the parts together; one folder per resource (``helix``, ``oauth``, ``gql``,
``usher``, ``edge``) holds what the resource answers, ``scenario`` what exists, ``media`` the pictures and
sound, ``faults`` one file per thing that can go wrong, ``serving`` the sockets.
"""

from __future__ import annotations
