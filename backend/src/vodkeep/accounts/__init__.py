"""The accounts at Twitch and YouTube that the service acts for: connecting them, and keeping their tokens.

``vault.py`` seals tokens, ``store.py`` keeps them, ``oauth.py`` says what to ask the providers and what their answers
mean, ``client.py`` asks, ``keeper.py`` hands out tokens that work, ``service.py`` connects and disconnects.
"""

from __future__ import annotations
