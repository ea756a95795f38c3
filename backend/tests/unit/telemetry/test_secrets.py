from __future__ import annotations

import base64
import json
import math
import time
import timeit
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from enum import StrEnum
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from vodkeep.telemetry.secrets import MASK, SecretMask, is_secret_name, rfc3339, tail_of


@pytest.mark.parametrize(
    "name",
    [
        "token", "access_token", "refreshToken", "TWITCH_OAUTH_TOKEN", "X-Admin-Token", "client_secret",
        "YT_CLIENT_SECRET", "password", "ADMIN_PASSWORD", "adminPassword", "Authorization", "proxy-authorization",
        "cookie", "Set-Cookie", "api_key", "apiKey", "ENCRYPTION_KEY",
    ],
)  # fmt: skip
def test_names_of_credentials_are_known(name: str) -> None:
    assert is_secret_name(name)


@pytest.mark.parametrize(
    "name", ["token_tail", "token_type", "title", "author", "key", "monkey", "secretary", "", "expires_in", "tokenizer"]
)
def test_ordinary_names_stay_readable(name: str) -> None:
    assert not is_secret_name(name)


def test_masking_reaches_into_nested_values() -> None:
    mask = SecretMask()
    value = {"headers": [{"Authorization": "Bearer x", "accept": "*/*"}], "retries": 2, "token": None}
    assert mask.field("request", value) == {
        "headers": [{"Authorization": MASK, "accept": "*/*"}],
        "retries": 2,
        "token": None,
    }


def test_secret_str_never_shows() -> None:
    mask = SecretMask()
    assert mask.field("anything", SecretStr("abcdefgh")) == MASK
    assert mask.field("list", [SecretStr("abcdefgh")]) == [MASK]


@pytest.mark.parametrize("secret", ["p@ss w/rd?&é", 'quo"te\\back', "plain-value-123", "line\nbreak", "日本語の秘密"])
def test_a_known_value_is_masked_however_it_is_written(secret: str) -> None:
    mask = SecretMask()
    mask.add([SecretStr(secret), None, ""])
    encoded = base64.b64encode(secret.encode()).decode()
    for text in (secret, quote(secret, safe=""), json.dumps(secret), repr(secret), f"x{secret}y", encoded):
        masked = mask.text(f"before {text} after")
        assert secret not in masked
        assert quote(secret, safe="") not in masked
        assert json.dumps(secret)[1:-1] not in masked
        assert encoded not in masked
        assert masked.startswith("before ")
        assert masked.endswith(" after")


def test_a_value_that_contains_another_is_masked_whole() -> None:
    mask = SecretMask()
    mask.add(["abcd", "abcdefgh"])
    assert mask.text("abcdefgh abcd") == f"{MASK} {MASK}"


def test_values_too_short_to_be_secrets_do_not_blot_out_text() -> None:
    mask = SecretMask()
    mask.add(["a", "abc"])
    assert mask.text("abc a") == "abc a"


def test_cleared_values_are_forgotten() -> None:
    mask = SecretMask()
    mask.add(["abcdefgh"])
    mask.clear()
    assert mask.text("abcdefgh") == "abcdefgh"


@pytest.mark.parametrize(
    ("text", "kept", "gone"),
    [
        ("https://usher/vod/1.m3u8?sig=0a1b2c&token=%7B%22x%22%7D&p=1", ["usher/vod/1.m3u8", "p=1"], ["0a1b2c", "%7B"]),
        ("grant_type=client_credentials&client_secret=s3cr3t", ["grant_type="], ["s3cr3t"]),
        ('{"access_token":"abc\\"def","expires_in":5}', ["expires_in"], ["abc", "def"]),
        ("Authorization: Bearer 0123456789abcdef", ["Authorization"], ["0123456789"]),
        ("Authorization: Basic dXNlcjpwYXNz", [], ["dXNlcjpwYXNz"]),
        ("PASS oauth:abcdefgh1234", ["PASS"], ["abcdefgh"]),
        ("postgresql://vod:hunter22@db:5432/vod", ["vod:", "@db:5432/vod"], ["hunter22"]),
        ("X-Admin-Token=letmein", [], ["letmein"]),
    ],
)  # fmt: skip
def test_credential_shapes_are_masked_even_when_unknown(text: str, kept: list[str], gone: list[str]) -> None:
    masked = SecretMask().text(text)
    for part in kept:
        assert part in masked
    for part in gone:
        assert part not in masked


@pytest.mark.parametrize(
    "text",
    [
        "OAuth application credentials refused",
        "design=4 signature mismatch",
        "twitch app token acquired",
        "http://127.0.0.1:8080/",
        "bearer of bad news arrived",
    ],
)
def test_prose_is_left_alone(text: str) -> None:
    assert SecretMask().text(text) == text


@pytest.mark.parametrize("filler", ["x", "a-b_", "http://", "token", "Bearer " + "a" * 50, "'token': '", "a:b@"])
def test_masking_takes_time_in_proportion_to_the_text(filler: str) -> None:
    """A peer chooses the text of many errors; a pattern that backtracks would let it stall the service."""
    mask = SecretMask()
    mask.text(filler)

    def cost(size: int) -> float:
        text = (filler * size)[:size]
        # Of the processor: others may keep it busy.
        return min(timeit.repeat(lambda: mask.text(text), timer=time.thread_time, number=1, repeat=5))

    # Quadratic work would be 64 times as much; the slack is for a busy machine.
    assert cost(64_000) < 30 * max(cost(8_000), 0.0005)


def test_long_text_keeps_both_ends() -> None:
    masked = SecretMask().text("head" + "x" * 100_000 + "tail")
    assert masked.startswith("head")
    assert masked.endswith("tail")
    assert len(masked) < 20_000


class Colour(StrEnum):
    RED = "red"


@dataclass(frozen=True)
class Pair:
    login: str
    password: str


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (datetime(2026, 11, 23, 15, 0, tzinfo=timezone(timedelta(hours=1))), "2026-11-23T14:00:00.000Z"),
        (timedelta(minutes=1.5), 90.0),
        (Path("a/b"), "a/b"),
        (Colour.RED, "red"),
        (b"\xffab", "\\xffab"),
        (math.nan, "nan"),
        (math.inf, "inf"),
        (Pair("otter", "x"), {"login": "otter", "password": MASK}),
        ({1: {2}}, {"1": [2]}),
        (ValueError("token=abc123"), f"token={MASK}"),
    ],
)
def test_values_become_what_json_can_carry(value: object, expected: object) -> None:
    plain = SecretMask().field("value", value)
    assert plain == expected
    json.dumps(plain, allow_nan=False)


def test_a_value_that_contains_itself_ends() -> None:
    loop: list[object] = []
    loop.append(loop)
    json.dumps(SecretMask().plain(loop))


def test_tail_shows_four_characters_of_a_long_secret_only() -> None:
    assert tail_of("0123456789abcdefc3f1") == "***c3f1"
    assert tail_of(SecretStr("0123456789abcdefc3f1")) == "***c3f1"
    assert tail_of("short") == MASK


def test_times_are_utc_with_milliseconds() -> None:
    assert rfc3339(datetime(2026, 1, 2, 3, 4, 5, 6789, tzinfo=UTC)) == "2026-01-02T03:04:05.006Z"


@given(secret=st.text(min_size=6, max_size=40), before=st.text(max_size=20), after=st.text(max_size=20))
def test_no_known_value_survives_in_any_text(secret: str, before: str, after: str) -> None:
    mask = SecretMask()
    mask.add([secret])
    masked = mask.text(before + secret + after)
    assert secret not in masked or secret in MASK * 4
