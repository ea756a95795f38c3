"""The fragment reader against libavformat, on what ffmpeg writes."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Literal

import pytest

from support.mp4_media import Fragments, inputs, make_fragments, packets_of, read_packets, run_ffmpeg, split_stream
from vodkeep.capture.fragment import read_fragment, read_init
from vodkeep.capture.samples import SegmentDamagedError, UnsupportedMediaError

KINDS: tuple[Literal["video", "audio"], ...] = ("video", "audio")
MIXES = [("h264", "aac"), ("hevc", "aac"), ("hev1", "aac"), ("av1", "opus"), ("h264-no-b", "flac"), (None, "aac")]


def assert_same_packets(fragments: Fragments) -> None:
    expected = read_packets(fragments.init + b"".join(fragments.bodies))
    segments = fragments.samples()
    assert expected
    for kind in KINDS:
        assert packets_of(segments, kind) == expected.get(kind, [])


@pytest.mark.parametrize(("video", "audio"), MIXES)
def test_samples_are_the_packets_that_libavformat_reads(video: str | None, audio: str) -> None:
    fragments = make_fragments(video, audio)
    assert len(fragments.bodies) >= 3
    assert_same_packets(fragments)


@pytest.mark.parametrize(
    ("video", "audio", "picture", "sound"),
    [
        ("h264", "aac", "avc1", "mp4a"),
        ("hev1", "aac", "hvc1", "mp4a"),
        ("av1", "opus", "av01", "Opus"),
        ("h264-no-b", "flac", "avc1", "fLaC"),
    ],
)
def test_formats_are_told(video: str, audio: str, picture: str, sound: str) -> None:
    first, second = make_fragments(video, audio).samples()[0].tracks
    assert (first.format.codec, first.format.width, first.format.height) == (picture, 256, 144)
    assert (second.format.codec, second.format.sample_rate, second.format.channels) == (sound, 48000, 2)


def test_a_segment_of_one_fragment_is_not_copied() -> None:
    fragments = make_fragments()
    tracks = read_init(fragments.init)
    for body in fragments.bodies:
        assert all(track.payload.obj is body for track in read_fragment(body, tracks).tracks)


@pytest.mark.parametrize(
    "flags",
    [
        "empty_moov+default_base_moof",
        "empty_moov+omit_tfhd_offset",
        "delay_moov+default_base_moof+dash",
        "delay_moov+default_base_moof+cmaf+negative_cts_offsets",
        "empty_moov+default_base_moof+separate_moof",
    ],
)
def test_segments_of_many_fragments_are_joined(flags: str, tmp_path: Path) -> None:
    stream = tmp_path / "stream.mp4"
    arguments = inputs("h264", "aac", 4)
    run_ffmpeg("-v", "error", *arguments, "-movflags", flags, "-frag_duration", "700000", str(stream))
    fragments = split_stream(stream.read_bytes())
    assert fragments.bodies[0].count(b"moof") >= 6
    assert_same_packets(fragments)


def test_absolute_addresses_are_left_to_others(tmp_path: Path) -> None:
    """ffmpeg writes them unless told otherwise; cut off from their file they mean nothing."""
    stream = tmp_path / "stream.mp4"
    run_ffmpeg("-v", "error", *inputs("h264", None, 2), "-movflags", "empty_moov", str(stream))
    with pytest.raises(UnsupportedMediaError):
        split_stream(stream.read_bytes()).samples()


def test_encrypted_media_are_left_to_others(tmp_path: Path) -> None:
    stream = tmp_path / "stream.mp4"
    run_ffmpeg(
        *("-v", "error", *inputs("h264", "aac", 2), "-movflags", "empty_moov+default_base_moof"),
        *("-encryption_scheme", "cenc-aes-ctr", "-encryption_key", "00" * 16, "-encryption_kid", "11" * 16),
        str(stream),
    )
    with pytest.raises(UnsupportedMediaError, match="encrypted"):
        split_stream(stream.read_bytes()).samples()


def mangle(content: bytes, rng: random.Random) -> bytes:
    """A copy with a few changes, most of them where the structure is."""
    mangled = bytearray(content)
    structure = max(64, content.find(b"mdat") + 8)
    for _ in range(rng.randint(1, 5)):
        if not mangled:
            break
        position = rng.randrange(min(structure, len(mangled)) if rng.random() < 0.9 else len(mangled))
        # Changes that move what follows break the boxes at once, so they are rarer than those that go deeper.
        match rng.randrange(12):
            case 0:
                del mangled[position : position + rng.randint(1, 40)]
            case 1:
                mangled[position:position] = mangled[position : position + rng.randint(1, 40)]
            case 2:
                del mangled[rng.randrange(len(mangled)) :]
            case 3:
                end = min(len(mangled), position + 400)
                mangled[position:end] = bytes(end - position)
            case 4 | 5 | 6:
                value = rng.choice([0, 1, 8, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF, rng.randrange(1 << 16)])
                mangled[position : position + 4] = value.to_bytes(4, "big")
            case _:
                mangled[position] ^= 1 << rng.randrange(8)
    return bytes(mangled)


@pytest.mark.parametrize(("video", "audio"), MIXES)
def test_mangled_media_are_samples_or_a_named_error(video: str | None, audio: str) -> None:
    fragments = make_fragments(video, audio)
    tracks = read_init(fragments.init)
    rng = random.Random(20261123)
    outcomes = {"read": 0, "refused": 0}
    for _ in range(300):
        init, body = fragments.init, rng.choice(fragments.bodies)
        try:
            if rng.random() < 0.3:
                found = read_fragment(body, read_init(mangle(init, rng)))
            else:
                found = read_fragment(mangle(body, rng), tracks)
        except (SegmentDamagedError, UnsupportedMediaError):
            outcomes["refused"] += 1
            continue
        outcomes["read"] += 1
        for track in found.tracks:
            assert int(track.sizes.sum()) == len(track.payload)
    # Changed values that make sense as such cannot be seen; most changes must be.
    assert outcomes["refused"] > outcomes["read"]
