"""What two containers must have in common to count as the same broadcast."""

from __future__ import annotations

import pytest
from bench.capture.packets import AnnexB, Fingerprint, LengthPrefixed, Sound

SPS, PPS, DELIMITER, FILLER = b"\x67\x64\x00", b"\x68\xee", b"\x09\xf0", b"\x0c\xff\xff\x80"
SLICE, SECOND_SLICE, NOTE = b"\x65\x88\x84\x21", b"\x41\x9a\x02", b"\x06\x05\x01\x80"


def in_a_transport_stream(*parts: bytes, code: bytes = b"\0\0\0\1") -> bytes:
    return b"".join(code + part for part in parts)


def in_an_mp4(*parts: bytes, length_bytes: int = 4) -> bytes:
    return b"".join(len(part).to_bytes(length_bytes, "big") + part for part in parts)


@pytest.mark.parametrize("code", [b"\0\0\1", b"\0\0\0\1"])
@pytest.mark.parametrize("length_bytes", [1, 2, 4])
def test_the_same_picture_in_both_containers(code: bytes, length_bytes: int) -> None:
    stream = in_a_transport_stream(DELIMITER, SPS, PPS, NOTE, SLICE, SECOND_SLICE, FILLER, code=code)
    mp4 = in_an_mp4(NOTE, SLICE, SECOND_SLICE, length_bytes=length_bytes)

    assert list(AnnexB()(stream)) == list(LengthPrefixed(length_bytes)(mp4)) == [NOTE, SLICE, SECOND_SLICE]


def test_another_picture_is_another_picture() -> None:
    stream = in_a_transport_stream(SLICE, SECOND_SLICE)

    assert list(AnnexB()(stream)) != list(LengthPrefixed(4)(in_an_mp4(SLICE, SECOND_SLICE + b"\x01")))
    assert list(AnnexB()(stream)) != list(LengthPrefixed(4)(in_an_mp4(SLICE)))
    assert list(AnnexB()(stream)) != list(LengthPrefixed(4)(in_an_mp4(SECOND_SLICE, SLICE)))


def test_a_length_that_leads_out_of_the_packet_is_refused() -> None:
    with pytest.raises(ValueError, match="longer than its packet"):
        list(LengthPrefixed(4)(in_an_mp4(SLICE)[:-1]))


@pytest.mark.parametrize(("second_byte", "header"), [(0xF1, 7), (0xF0, 9)])
def test_sound_is_compared_without_its_header(second_byte: int, header: int) -> None:
    frame = b"\x21\x10\x05\x20"
    framed = bytes([0xFF, second_byte]) + bytes(header - 2) + frame

    assert list(Sound(adts=True)(framed)) == list(Sound(adts=False)(frame)) == [frame]


def test_a_difference_is_told_in_words() -> None:
    whole = Fingerprint(video=600, audio=468, video_md5="a", audio_md5="b")

    assert whole.difference(whole) is None
    assert Fingerprint(599, 468, "x", "b").difference(whole) == "599 video packets instead of 600"
    assert Fingerprint(600, 468, "a", "x").difference(whole) == "other audio packets"
