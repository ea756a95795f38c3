"""What an image is, told by its bytes."""

from __future__ import annotations

import io
from typing import get_args

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vodkeep.chat.vault.images import CutShort, NotAnImage, inspect
from vodkeep.chat.vault.model import ImageFacts, ImageType
from vodkeep_standin.emotes.images import MEDIA_TYPES, image
from vodkeep_standin.emotes.model import Form

FORMS: tuple[Form, ...] = get_args(Form)
MOVING = frozenset({"apng", "gif", "awebp"})


def jpeg() -> bytes:
    """A JPEG by an encoder that is not ours."""
    target = io.BytesIO()
    with av.open(target, "w", format="mjpeg") as container:
        stream = container.add_stream("mjpeg", rate=1)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuvj420p"
        frame = av.VideoFrame.from_ndarray(np.zeros((32, 48, 3), np.uint8), "rgb24")
        for packet in [*stream.encode(frame), *stream.encode()]:
            container.mux(packet)
    return target.getvalue()


@pytest.mark.parametrize("form", FORMS)
def test_the_images_of_the_stand_in_are_what_they_say(form: Form) -> None:
    facts = inspect(image(form, "Kappa", 32))
    side = 64 if form == "avif" else 32  # the one that was made beforehand
    assert facts == ImageFacts(ImageType(MEDIA_TYPES[form]), side, side, form in MOVING)


@pytest.mark.parametrize("form", [form for form in FORMS if form not in ("awebp", "avif")])
def test_a_decoder_that_is_not_ours_draws_them(form: Form) -> None:
    with av.open(io.BytesIO(image(form, "Kappa", 28)), "r") as container:
        frames = list(container.decode(video=0))
    assert {(frame.width, frame.height) for frame in frames} == {(28, 28)}
    pixels = frames[0].to_ndarray(format="rgb24").reshape(-1, 3)
    assert len({tuple(pixel) for pixel in pixels}) == 1


def test_a_jpeg_is_told() -> None:
    assert inspect(jpeg()) == ImageFacts(ImageType.JPEG, 48, 32, animated=False)


@pytest.mark.parametrize("body", [jpeg(), *(image(form, "Kappa", 28) for form in FORMS)], ids=["jpeg", *FORMS])
def test_no_beginning_of_an_image_is_taken_for_the_whole(body: bytes) -> None:
    whole = inspect(body)
    for end in range(len(body)):
        try:
            facts = inspect(body[:end])
        except NotAnImage:
            continue
        # A GIF may lack its trailer, and so end between two of its pictures; the last box of our AVIF is a comment.
        assert facts.type is ImageType.GIF or body[end + 4 : end + 8] == b"free", end
        assert (facts.width, facts.height) == (whole.width, whole.height)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>",
        b"<?xml version='1.0'?><svg/>",
        b"<!doctype html><title>Wi-Fi</title>",
        b"\n\n<html>",
        b"BM" + bytes(64),
        b"II*\0" + bytes(64),
        b"%PDF-1.7",
        b"\0\0\0\x18ftypisom\0\0\0\0isommp42" + bytes(64),
        b"RIFF\x24\0\0\0WAVEfmt " + bytes(32),
    ],
)
def test_nothing_else_is_an_image(body: bytes) -> None:
    with pytest.raises(NotAnImage):
        inspect(body)


def test_a_picture_that_claims_to_be_huge_is_refused() -> None:
    with pytest.raises(NotAnImage, match="claims"):
        inspect(image("webp", "Kappa", 4096))


def test_a_body_that_is_cut_off_says_so() -> None:
    with pytest.raises(CutShort):
        inspect(image("png", "Kappa")[:-3])


@given(st.binary(max_size=200))
def test_rubbish_raises_nothing_else(body: bytes) -> None:
    with pytest.raises(NotAnImage):
        inspect(body)


@given(st.sampled_from(FORMS), st.data())
def test_damage_raises_nothing_else(form: Form, data: st.DataObject) -> None:
    """Bytes changed and cut out anywhere: an image within bounds, or NotAnImage."""
    body = bytearray(image(form, "Kappa", 16))
    for _ in range(data.draw(st.integers(1, 6))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    start = data.draw(st.integers(0, len(body)))
    del body[start : start + data.draw(st.integers(0, 8))]
    try:
        facts = inspect(bytes(body))
    except NotAnImage:
        return
    assert 1 <= facts.width <= 2048
    assert 1 <= facts.height <= 2048
