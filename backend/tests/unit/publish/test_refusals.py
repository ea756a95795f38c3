from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vodkeep.publish.refusals import LONGEST_WAIT_S, Meaning, refusal_of


def body(reason: str, message: str = "Something", **more: object) -> bytes:
    return json.dumps({"error": {"errors": [{"reason": reason}], "message": message, **more}}).encode()


@pytest.mark.parametrize(
    ("status", "content", "meaning", "code"),
    [
        (401, body("authError"), Meaning.TOKEN, "credentials"),
        (401, b"", Meaning.TOKEN, "credentials"),
        (401, body("youtubeSignupRequired"), Meaning.PERMANENT, "youtube_signup_required"),
        (403, body("quotaExceeded"), Meaning.QUOTA, "quota_exhausted"),
        (429, body("rateLimitExceeded", "limit 'Video Uploads per day'"), Meaning.QUOTA, "quota_exhausted"),
        (429, body("rateLimitExceeded", "Queries per minute"), Meaning.SLOW_DOWN, "rate_limited"),
        (403, body("rateLimitExceeded"), Meaning.SLOW_DOWN, "rate_limited"),
        (429, b"<html>", Meaning.SLOW_DOWN, "rate_limited"),
        (400, body("uploadLimitExceeded"), Meaning.UPLOAD_LIMIT, "upload_limit_exceeded"),
        (403, body("forbidden", details=[{"reason": "ACCESS_TOKEN_SCOPE_INSUFFICIENT"}]), Meaning.PERMANENT,
         "youtube_scope_missing"),
        (404, body("playlistNotFound"), Meaning.PERMANENT, "playlist_not_found"),
        (400, body("aNewReason"), Meaning.PERMANENT, "upload_rejected"),
        (400, b"<html>A proxy</html>", Meaning.SERVER, "server_error"),
        (302, b"", Meaning.SERVER, "server_error"),
        (503, body("backendError"), Meaning.SERVER, "server_error"),
        (500, b"\xff\xfe", Meaning.SERVER, "server_error"),
    ],
)  # fmt: skip
def test_the_table(status: int, content: bytes, meaning: Meaning, code: str) -> None:
    refusal = refusal_of(status, {}, content)
    assert (refusal.meaning, refusal.code) == (meaning, code)
    assert f"HTTP {status}" in refusal.sentence


def test_what_youtube_says_is_cut_and_cleaned() -> None:
    refusal = refusal_of(400, {}, body("new", '<a href="/x">quota</a>\n\x1b[31m' + 500 * "x"))
    assert "<" not in refusal.sentence
    assert refusal.sentence.isprintable()
    assert len(refusal.sentence) < 350


def test_a_wait_that_is_asked_for_is_bounded() -> None:
    assert refusal_of(503, {"retry-after": "7"}, b"").delay_s == 7.0
    assert refusal_of(503, {"retry-after": "999999999"}, b"").delay_s == LONGEST_WAIT_S
    assert refusal_of(503, {"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, b"").delay_s is None


_JSON = st.recursive(st.none() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(
    st.sampled_from(["error", "errors", "reason", "message", "details", "status"]), inner))  # fmt: skip


@given(st.integers(300, 599), _JSON.map(lambda document: json.dumps(document).encode()) | st.binary())
def test_no_body_can_make_it_fail(status: int, content: bytes) -> None:
    refusal = refusal_of(status, {}, content)
    assert refusal.sentence
    assert refusal.code
