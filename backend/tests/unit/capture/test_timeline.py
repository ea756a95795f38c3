from __future__ import annotations

import numpy as np
import pytest

from vodkeep.capture.assemble import Placement, Timeline
from vodkeep.capture.model import InitSection, Segment
from vodkeep.capture.samples import TrackFormat, TrackSamples

VIDEO = TrackFormat("video", "avc1", 90_000, 640, 360, 0, 0, b"")
AUDIO = TrackFormat("audio", "mp4a", 48_000, 0, 0, 48_000, 2, b"")
FRAME = 3_000  # 30 frames a second at 90 kHz
TURN = 2**33


def video(start_s: float, frames: int = 120) -> TrackSamples:
    dts = int(start_s * 90_000) + FRAME * np.arange(frames, dtype=np.int64)
    return samples(VIDEO, dts, FRAME)


def audio(start_s: float, frames: int = 188, offset_ticks: int = 0) -> TrackSamples:
    dts = round(start_s * 48_000) + offset_ticks + 1024 * np.arange(frames, dtype=np.int64)
    return samples(AUDIO, dts, 1024)


def samples(track_format: TrackFormat, dts: np.ndarray, tail: int) -> TrackSamples:
    count = len(dts)
    return TrackSamples(
        format=track_format,
        sizes=np.ones(count, np.uint32),
        dts=dts,
        cts=np.zeros(count, np.int32),
        sync=np.ones(count, np.bool_),
        tail=tail,
        payload=memoryview(bytes(count)),
    )


def segment(index: int, *, discontinuity: bool = False, init: InitSection | None = None) -> Segment:
    return Segment(
        index, index, f"http://e/{index}.ts", index * 4_000_000, 4_000_000, discontinuity=discontinuity, init=init
    )


def begin(placement: Placement, track: TrackSamples) -> float:
    """Where a track's first sample lies on the movie's timeline, in seconds."""
    return int(placement.times(track)[0][0]) / track.format.timescale


def test_the_first_picture_is_at_zero_and_sound_keeps_its_distance() -> None:
    timeline = Timeline()
    picture, sound = video(1.4), audio(1.38)
    placement = timeline.place(segment(0), [picture, sound])
    assert begin(placement, sound) == pytest.approx(0, abs=1e-4)
    assert begin(placement, picture) == pytest.approx(0.02, abs=1e-4)


def test_a_run_follows_the_encoders_clock_not_the_playlists_rounding() -> None:
    timeline = Timeline()
    for index in range(100):
        picture = video(10 + 4.002 * index)
        placement = timeline.place(segment(index), [picture])
    assert timeline.runs == 1
    assert begin(placement, picture) == pytest.approx(99 * 4.002, abs=1e-4)


def test_a_discontinuity_begins_at_its_own_place() -> None:
    timeline = Timeline()
    timeline.place(segment(0), [video(100)])
    picture = video(7)
    placement = timeline.place(segment(1, discontinuity=True), [picture])
    assert timeline.runs == 2
    assert begin(placement, picture) == pytest.approx(4)


def test_a_clock_that_starts_anew_without_saying_so_is_noticed() -> None:
    timeline = Timeline()
    timeline.place(segment(0), [video(100)])
    picture = video(0)
    placement = timeline.place(segment(1), [picture])
    assert timeline.runs == 2
    assert begin(placement, picture) == pytest.approx(4)


def test_what_follows_a_hole_stays_where_the_playlist_has_it() -> None:
    timeline = Timeline()
    timeline.place(segment(0), [video(100)])
    picture = video(120)
    placement = timeline.place(segment(5), [picture])
    assert begin(placement, picture) == pytest.approx(20)


def test_a_broadcast_that_begins_with_a_hole_begins_late() -> None:
    timeline = Timeline()
    picture = video(50)
    assert begin(timeline.place(segment(3), [picture]), picture) == pytest.approx(12)


def test_the_33_bit_clock_goes_round_without_a_seam() -> None:
    timeline = Timeline()
    start_s = TURN / 90_000 - 6  # goes round in the second segment
    first, second = video(start_s), video(start_s + 4)
    third = video(start_s + 8 - TURN / 90_000)
    third.dts += (int(second.dts[-1]) + FRAME - TURN) - int(third.dts[0])  # what floating point lost
    begins = []
    for index, picture in enumerate([first, second, third]):
        begins.append(begin(timeline.place(segment(index), [picture]), picture))
    assert timeline.runs == 1
    assert begins == pytest.approx([0, 4, 8], abs=1e-3)


def test_a_fragments_clock_never_goes_round() -> None:
    timeline = Timeline()
    init = InitSection("http://e/init.mp4")
    timeline.place(segment(0, init=init), [video(4)])
    picture = video(8 + TURN / 90_000)
    timeline.place(segment(1, init=init), [picture])
    assert timeline.runs == 2


def test_rounded_stamps_of_sound_are_ironed_out_without_drifting() -> None:
    timeline = Timeline()
    ends: list[int] = []
    for index in range(200):
        # The stamps wobble by up to 3 ticks around 188 frames a segment.
        sound = audio(index * 188 * 1024 / 48_000, offset_ticks=(index * 7) % 7 - 3)
        placement = timeline.place(segment(index), [sound])
        first = int(placement.times(sound)[0][0])
        if ends:
            assert first == ends[-1]
        ends.append(first + 188 * 1024)
    assert timeline.runs == 1


def test_sound_that_really_drifts_is_put_back_to_its_picture() -> None:
    timeline = Timeline()
    worst = 0.0
    for index in range(400):
        picture = video(4 * index)
        sound = audio(4 * index, frames=187)  # 187 frames are 11 ms short of 4 s each time
        placement = timeline.place(segment(index), [picture, sound])
        worst = max(worst, abs(begin(placement, picture) - begin(placement, sound)))
    assert worst <= 0.021


def test_decoding_times_only_ever_grow() -> None:
    timeline = Timeline()
    last = -1
    for index in range(20):
        picture = video(4 * index, frames=123)  # overlaps the next by three frames
        placement = timeline.place(segment(index), [picture])
        movie = placement.times(picture)[0]
        assert movie[0] > last
        last = int(movie[-1])


def test_a_run_never_begins_before_the_last_one_has_ended() -> None:
    timeline = Timeline()
    timeline.place(segment(0), [video(0, frames=130)])  # longer than the playlist says
    picture = video(500)
    placement = timeline.place(segment(1, discontinuity=True), [picture])
    assert begin(placement, picture) == pytest.approx(130 / 30)


def test_sound_that_joins_late_is_placed_by_its_runs_clock() -> None:
    timeline = Timeline()
    timeline.place(segment(0), [video(100)])
    picture, sound = video(104), audio(104.5)
    placement = timeline.place(segment(1), [picture, sound])
    assert begin(placement, sound) - begin(placement, picture) == pytest.approx(0.5, abs=1e-3)


def test_sound_that_overlaps_at_every_seam_stays_with_its_picture() -> None:
    """Each segment has more sound than picture, as where Twitch put silence in the place of music."""
    timeline = Timeline()
    last = -1
    for index in range(1_000):
        picture, sound = video(index * 4), audio(index * 4, frames=190)  # 53 ms too much
        placement = timeline.place(segment(index), [picture, sound])
        times, offsets = placement.times(sound)
        assert times[0] > last
        assert (np.diff(times) > 0).all()
        assert not offsets.any()
        last = int(times[-1])
        assert abs(times[10] - sound.dts[10]) <= 1
    assert last / 48_000 == pytest.approx(4_000 + 0.053, abs=0.03)


def test_pictures_that_overlap_are_shown_when_they_should_be() -> None:
    timeline = Timeline()
    timeline.place(segment(0), [video(0)])
    picture = video(4 - 3 / 30)  # Three pictures come again.
    times, offsets = timeline.place(segment(1), [picture]).times(picture)
    assert times[0] == 119 * FRAME + 1
    assert (np.diff(times) > 0).all()
    np.testing.assert_array_equal(times + offsets, picture.dts)
