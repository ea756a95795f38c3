"""The person who connects an account: a browser at the service's page and at the pretended provider's."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from http.cookiejar import CookieJar
from typing import Literal
from urllib.parse import urlsplit

_TIMEOUT_S = 60.0


class _StayHere(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:
        """Follow nothing."""


def connect_account(service_url: str, provider: Literal["twitch", "youtube"]) -> None:
    """Connect an account, as a person does on the page; what they consent to is up to the provider's ``answer``.

    Whatever the redirect address of the settings says, the way back leads to ``service_url``. Raises ``OSError`` when
    the service or the provider does not answer or refuses.
    """
    here, away = CookieJar(), urllib.request.build_opener(_StayHere)
    browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(here))
    asked = urllib.request.Request(f"{service_url}/api/v1/accounts/{provider}/start", method="POST")  # noqa: S310
    with browser.open(asked, timeout=_TIMEOUT_S) as answer:
        address = json.load(answer)["address"]
    try:
        with away.open(address, timeout=_TIMEOUT_S):
            raise ConnectionError("the provider's page sent nobody back")
    except urllib.error.HTTPError as redirect:
        with redirect:
            back = redirect.headers.get("Location")
        if back is None:
            raise
    parts = urlsplit(back)
    with browser.open(f"{service_url}{parts.path}?{parts.query}", timeout=_TIMEOUT_S):
        return
