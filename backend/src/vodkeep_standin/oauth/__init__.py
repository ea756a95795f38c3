"""id.twitch.tv and Google's accounts: app access tokens, what people grant, and the pages where they do.

Sources: https://dev.twitch.tv/docs/authentication and https://developers.google.com/identity/protocols/oauth2 (read
2026-11), RFC 6749, 7636 and 8628.
"""

from __future__ import annotations
