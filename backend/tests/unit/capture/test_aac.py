from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.transport_packets import adts
from vodkeep.capture.aac import read_adts
from vodkeep.capture.samples import SegmentDamagedError, TrackSamples, UnsupportedMediaError


def read(*packets: tuple[int, bytes]) -> TrackSamples:
    """PES packets as pairs of time (-1: none) and payload."""
    starts = np.cumsum([0] + [len(payload) for _, payload in packets])[:-1]
    pts = np.array([time for time, _ in packets], np.int64)
    return read_adts(memoryview(b"".join(payload for _, payload in packets)), starts, pts)


def test_headers_are_taken_off() -> None:
    track = read((0, adts(b"abc") + adts(b"defgh", checked=True)))
    assert track.sizes.tolist() == [3, 5]
    assert bytes(track.payload) == b"abcdefgh"
    assert track.sync.all()
    assert not track.cts.any()
    assert track.tail == 1024


@pytest.mark.parametrize(
    ("rate", "channels", "profile", "configuration", "entry_rate", "speakers"),
    [
        (3, 2, 1, "1190", 48_000, 2),
        (4, 1, 1, "1208", 44_100, 1),
        (3, 6, 1, "11b0", 48_000, 6),
        (3, 7, 1, "11b8", 48_000, 8),
        (11, 2, 1, "1590", 8_000, 2),
        (6, 2, 0, "0b10", 24_000, 2),
    ],
)
def test_the_sample_entry_says_what_adts_said(
    rate: int, channels: int, profile: int, configuration: str, entry_rate: int, speakers: int
) -> None:
    form = read((0, adts(b"x", rate=rate, channels=channels, profile=profile))).format
    assert (form.kind, form.codec, form.timescale, form.sample_rate) == ("audio", "mp4a", entry_rate, entry_rate)
    assert form.channels == speakers
    entry = form.sample_entry
    assert int.from_bytes(entry[:4], "big") == len(entry)
    assert int.from_bytes(entry[24:26], "big") == speakers
    assert int.from_bytes(entry[32:34], "big") == entry_rate
    assert entry[36 + 8 + 4 + 2 + 3 + 2 + 13 :].startswith(b"\x05\x02" + bytes.fromhex(configuration))


def test_a_rate_that_does_not_fit_the_entry_is_left_out() -> None:
    form = read((0, adts(b"x", rate=0))).format
    assert form.timescale == 96_000
    assert form.sample_entry[32:36] == bytes(4)


def test_times_count_in_samples_of_sound() -> None:
    assert read((90_000, adts(b"a")), (91_920, adts(b"b") + adts(b"c"))).dts.tolist() == [48_000, 49_024, 50_048]


def test_times_are_rounded_once_not_per_frame() -> None:
    """44.1 kHz has no whole number of 90 kHz ticks per frame; PES packets round each time for themselves."""
    packets = [(round(index * 1024 * 90_000 / 44_100), adts(b"x", rate=4)) for index in range(200)]
    assert np.unique(np.diff(read(*packets).dts)).tolist() == [1024]


@pytest.mark.parametrize("jitter", [-950, -1, 1, 950])
def test_jitter_of_less_than_half_a_frame_is_ignored(jitter: int) -> None:
    track = read((0, adts(b"a")), (1920 + jitter, adts(b"b")), (3840, adts(b"c")))
    assert track.dts.tolist() == [0, 1024, 2048]


def test_a_pause_is_kept() -> None:
    track = read((0, adts(b"a")), (1920 + 9000, adts(b"b") + adts(b"c")), (5760 + 9000, adts(b"d")))
    assert track.dts.tolist() == [0, 1024 + 4800, 2048 + 4800, 3072 + 4800]


def test_slow_drift_is_followed_half_a_frame_late() -> None:
    """A clock that is 1 % fast: what is written never strays half a frame from what was said."""
    packets = [(index * 1939, adts(b"x")) for index in range(300)]
    track = read(*packets)
    said = np.arange(300) * 1939 * 48 / 90
    assert np.abs(track.dts - said).max() <= 513
    assert np.diff(track.dts).min() == 1024


def test_sound_that_overlaps_runs_on_until_its_time_has_come() -> None:
    packets = [(0, adts(b"a") * 10), (9600, adts(b"b") * 5), (19_200, adts(b"c")), (40_000, adts(b"d"))]
    assert np.diff(read(*packets).dts).tolist() == [1024] * 15 + [21_333 - 15 * 1024]


def test_sound_that_goes_back_far_is_damage() -> None:
    with pytest.raises(SegmentDamagedError, match="back in time"):
        read((90_000, adts(b"a")), (45_000, adts(b"b")))


def test_a_frame_may_reach_over_pes_packets() -> None:
    frames = adts(b"a" * 50) + adts(b"b" * 50) + adts(b"c" * 50)
    track = read((0, frames[:80]), (3840, frames[80:]))
    assert track.sizes.tolist() == [50, 50, 50]
    # The second packet's time belongs to the third frame, the first that begins in it.
    assert track.dts.tolist() == [0, 1024, 2048]


def test_a_pes_packet_in_which_no_frame_begins_gives_no_time() -> None:
    frames = adts(b"a" * 50) + adts(b"b" * 50)
    track = read((0, frames[:20]), (77, frames[20:40]), (1920, frames[40:]))
    assert track.dts.tolist() == [0, 1024]


def test_a_pes_packet_without_a_time_goes_on() -> None:
    assert read((0, adts(b"a")), (-1, adts(b"b"))).dts.tolist() == [0, 1024]


@pytest.mark.parametrize("packets", [[(-1, adts(b"a"))], [(-1, adts(b"a")), (1920, adts(b"b"))]])
def test_sound_that_begins_without_a_time_is_damage(packets: list[tuple[int, bytes]]) -> None:
    with pytest.raises(SegmentDamagedError, match="no time"):
        read(*packets)


@pytest.mark.parametrize(
    ("payload", "complaint"),
    [
        (adts(b"a") + b"zzzzzzzz" + adts(b"b"), "bytes between the frames"),
        (b"zzzzzzzz" + adts(b"b"), "bytes between the frames"),
        (adts(b"a", rate=13), "no sample rate"),
        (adts(b""), "is empty"),
        (b"\xff\xf1\x4c\x80\x00\x1f\xfc", "shorter than its header"),
        (bytes(300), "bytes between the frames"),
    ],
)
def test_broken_frames_are_named(payload: bytes, complaint: str) -> None:
    with pytest.raises(SegmentDamagedError, match=complaint):
        read((0, payload))


@pytest.mark.parametrize(
    ("payload", "complaint"),
    [
        (adts(b"a") + adts(b"b" * 40)[:20], "ends in the next segment"),
        (adts(b"a") + adts(b"b")[:5], "ends in the next segment"),
        (adts(b"a" * 40)[30:] + adts(b"b") * 4, "begins in the segment before"),
        (adts(b"a", blocks=1), "several raw data blocks"),
        (adts(b"a", channels=0), "describes its channels"),
        (adts(b"a") + adts(b"b", rate=4), "changes its coding"),
        (adts(b"a") + adts(b"b", channels=1), "changes its coding"),
        (adts(b"a") + adts(b"b", profile=0), "changes its coding"),
    ],
)
def test_sound_that_we_cannot_cut_is_named(payload: bytes, complaint: str) -> None:
    with pytest.raises(UnsupportedMediaError, match=complaint):
        read((0, payload))


def test_bits_that_mean_nothing_to_a_decoder_may_change() -> None:
    other = bytearray(adts(b"b"))
    other[2] |= 2  # private
    other[3] |= 0x3C  # original, home, copyright
    other[5] ^= 0x1F  # buffer fullness
    assert read((0, adts(b"a") + bytes(other))).sizes.tolist() == [1, 1]


@given(st.lists(st.tuples(st.binary(min_size=1, max_size=300), st.booleans()), min_size=1, max_size=20), st.data())
def test_any_frames_in_any_packets_come_out_whole(frames: list[tuple[bytes, bool]], data: st.DataObject) -> None:
    stream = b"".join(adts(body, checked=checked) for body, checked in frames)
    cuts = sorted(data.draw(st.sets(st.integers(1, len(stream)), max_size=5)) - {len(stream)})
    packets = [stream[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    track = read((0, packets[0]), *((-1, packet) for packet in packets[1:]))
    assert bytes(track.payload) == b"".join(body for body, _ in frames)
    assert track.sizes.tolist() == [len(body) for body, _ in frames]


@given(st.binary(min_size=1, max_size=400))
def test_garbage_is_an_error_of_ours(stream: bytes) -> None:
    with pytest.raises((SegmentDamagedError, UnsupportedMediaError)):
        read((0, b"\xff" + stream if stream[0] != 0xFF else stream[:1] + b"\xe0" + stream))
