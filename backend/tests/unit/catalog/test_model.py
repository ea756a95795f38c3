from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vodkeep.catalog.model import is_login, parse_twitch_duration, video_id_from


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("3h8m33s", 3 * 3600 + 8 * 60 + 33),
        ("50s", 50),
        ("47h59m59s", 48 * 3600 - 1),
        ("1h", 3600),
        ("3m21s", 201),
        ("1h0m0s", 3600),
        ("1h5s", 3605),
        ("10m", 600),
        ("0s", 0),
        ("100h0m1s", 360_001),
    ],
)
def test_a_duration_is_read_as_twitch_writes_it(text: str, seconds: int) -> None:
    assert parse_twitch_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "33",
        "h",
        "hms",
        "-5s",
        "+5s",
        "1.5h",
        "1h 2m",
        " 50s",
        "50s\n",
        "50S",
        "5m3h",
        "3s3s",
        "1h60m",
        "1h60s",
        "90s",
        "03h",
        "3h08m33s",
        "10000h",
        "1d",
        "1h2m3s4",
        "٣s",
        "3ｈ",
        "PT3H",
        "0x1s",
        "1e3s",
        "1_0s",
        "null",
    ],
)
def test_anything_else_is_not_a_duration(text: str) -> None:
    with pytest.raises(ValueError, match="not a Twitch duration"):
        parse_twitch_duration(text)


@given(seconds=st.integers(0, 9999 * 3600 + 3599), omit_zeros=st.booleans())
def test_every_duration_survives_being_written(seconds: int, omit_zeros: bool) -> None:
    parts = [(seconds // 3600, "h"), (seconds // 60 % 60, "m"), (seconds % 60, "s")]
    text = "".join(f"{n}{unit}" for n, unit in parts if n or not omit_zeros) or "0s"
    assert parse_twitch_duration(text) == timedelta(seconds=seconds)


@given(st.text(alphabet=st.sampled_from("0123456789hms -+.\n٣"), max_size=12))
def test_mangled_durations_are_refused_or_mean_what_they_say(text: str) -> None:
    try:
        value = parse_twitch_duration(text)
    except ValueError:
        return
    total, digits = 0, ""
    for character in text:
        if character.isdigit():
            digits += character
        else:
            total += int(digits) * {"h": 3600, "m": 60, "s": 1}[character]
            digits = ""
    assert not digits
    assert value == timedelta(seconds=total)


@given(st.text(max_size=30))
def test_any_text_is_read_or_refused_with_a_value_error(text: str) -> None:
    for read in (parse_twitch_duration, video_id_from):
        refusal = ""
        try:
            read(text)
        except ValueError as error:
            refusal = str(error)
        assert len(refusal) < 400


@pytest.mark.parametrize(
    "text",
    [
        "2100000001",
        " 2100000001\n",
        "v2100000001",
        "https://www.twitch.tv/videos/2100000001",
        "http://twitch.tv/videos/2100000001/",
        "www.twitch.tv/videos/2100000001",
        "twitch.tv/videos/v2100000001",
        "https://m.twitch.tv/videos/2100000001",
        "https://www.twitch.tv/videos/2100000001?t=1h2m3s",
        "https://www.twitch.tv/videos/2100000001?filter=archives&sort=time#chat",
        "https://www.twitch.tv/gardenia/v/2100000001",
        "https://www.twitch.tv/gardenia/v/2100000001?sr=a&t=0s",
        "https://www.twitch.tv/gardenia/video/2100000001",
        "HTTPS://WWW.TWITCH.TV/videos/2100000001",
        "https://www.twitch.tv:443/videos/2100000001",
    ],
)
def test_a_video_id_is_found_in_what_people_paste(text: str) -> None:
    assert video_id_from(text) == "2100000001"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "   ",
        "gardenia",
        "-1",
        "0",
        "0012",
        "12a",
        "vv12",
        "12 34",
        "١٢٣",
        "123456789012345678901",
        "https://www.twitch.tv/gardenia",
        "https://www.twitch.tv/gardenia/clip/FunnyName",
        "https://clips.twitch.tv/FunnyName",
        "https://www.twitch.tv/videos/",
        "https://www.twitch.tv/videos/abc",
        "https://www.twitch.tv/videos/123/extra",
        "https://www.twitch.tv/../videos/123",
        "https://twitch.tv.example.com/videos/123",
        "https://example.com/www.twitch.tv/videos/123",
        "https://www.twitch.tv@example.com/videos/123",
        "https://user:pw@www.twitch.tv/videos/123",
        "https://www.twitch.tv:8443/videos/123",
        "https://www.twitch.tv:x/videos/123",
        "ftp://www.twitch.tv/videos/123",
        "file:///videos/123",
        "https://[bad/videos/123",
        "live-1790000000",
    ],
)
def test_other_texts_are_refused_with_a_sentence(text: str) -> None:
    with pytest.raises(ValueError, match="expected a video id like 2100000001 or an address like https://"):
        video_id_from(text)


def test_what_was_typed_is_shown_short_and_without_control_characters() -> None:
    with pytest.raises(ValueError, match="expected") as caught:
        video_id_from("\x1b[31m" + "x" * 1000)
    assert "\x1b" not in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("text", "possible"),
    [
        ("gardenia", True),
        ("a_1", True),
        ("", False),
        ("Gardenia", False),
        ("a" * 26, False),
        ("a b", False),
        ("é", False),
    ],
)
def test_a_login_has_its_own_alphabet(text: str, possible: bool) -> None:
    assert is_login(text) is possible
