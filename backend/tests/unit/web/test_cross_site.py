"""Who may change something: our own page and programs, and no page of another site."""

from __future__ import annotations

import pytest
from starlette.datastructures import Headers

from vodkeep.web.cross_site import is_cross_site, is_json

HOST = {"host": "vods.example:8080"}


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"sec-fetch-site": "same-origin"},
        {"sec-fetch-site": "none"},
        # The proxy gave us another name, but the browser knows better.
        {"sec-fetch-site": "same-origin", "origin": "https://public.example"},
        {"origin": "http://vods.example:8080"},
        {"origin": "https://vods.example:8080"},
        {"origin": "http://VODS.example:8080"},
        {"origin": "https://vods.example", "host": "vods.example"},
        {"origin": "https://vods.example", "host": "vods.example:443"},
        {"origin": "http://[::1]:8080", "host": "[::1]:8080"},
    ],
)
def test_our_own_page_and_programs_may(headers: dict[str, str]) -> None:
    assert not is_cross_site(Headers(HOST | headers))


@pytest.mark.parametrize(
    "headers",
    [
        {"sec-fetch-site": "cross-site"},
        # Another port, or another name below the same domain.
        {"sec-fetch-site": "same-site"},
        {"sec-fetch-site": ""},
        {"sec-fetch-site": "Same-Origin, none"},
        {"sec-fetch-site": "cross-site", "origin": "http://vods.example:8080"},
        {"origin": "https://evil.example"},
        {"origin": "http://vods.example:8081"},
        {"origin": "http://vods.example"},
        {"origin": "http://vods.example.evil:8080"},
        {"origin": "http://evil@vods.example.evil:8080"},
        # From a sandboxed frame, a file, or after a redirect.
        {"origin": "null"},
        {"origin": ""},
        {"origin": "null", "host": ""},
        {"origin": "null", "host": "null"},
        {"origin": "http://vods.example:99999", "host": "vods.example:99999"},
        {"origin": "file://", "host": ""},
    ],
)
def test_pages_of_other_sites_may_not(headers: dict[str, str]) -> None:
    assert is_cross_site(Headers(HOST | headers))


@pytest.mark.parametrize(
    ("content_type", "json"),
    [
        ("application/json", True),
        ("Application/JSON; charset=utf-8", True),
        ("application/merge-patch+json", True),
        ("", False),
        ("text/plain", False),
        ("application/x-www-form-urlencoded", False),
        ("multipart/form-data; boundary=application/json", False),
        ("text/plain; application/json", False),
        ("text/x+json", False),
    ],
)
def test_what_a_form_of_another_site_can_send_is_not_json(content_type: str, json: bool) -> None:
    assert is_json(content_type) is json
