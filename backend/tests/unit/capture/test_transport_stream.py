from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.transport_packets import (
    AAC,
    AUDIO_PID,
    DELIMITER,
    H264,
    PAT_PID,
    PMT_PID,
    PPS,
    SPS,
    VIDEO_PID,
    SegmentBuilder,
    adts,
    association,
    key_picture,
    packet,
    pes,
    picture,
    program_map,
    read_plainly,
    small_segment,
)
from vodkeep.capture.samples import SegmentDamagedError, SegmentSamples, TrackSamples, UnsupportedMediaError
from vodkeep.capture.transport_stream import read_transport_stream

TURN = 1 << 33


def samples(track: TrackSamples) -> list[bytes]:
    ends = np.cumsum(track.sizes, dtype=np.int64)
    assert ends[-1] == len(track.payload)
    return [
        bytes(track.payload[end - size : end]) for end, size in zip(ends.tolist(), track.sizes.tolist(), strict=True)
    ]


def video(segment: SegmentSamples) -> TrackSamples:
    track = segment.track("video")
    assert track is not None
    return track


def audio(segment: SegmentSamples) -> TrackSamples:
    track = segment.track("audio")
    assert track is not None
    return track


def same(one: SegmentSamples, other: SegmentSamples) -> bool:
    return len(one.tracks) == len(other.tracks) and all(
        left.format == right.format
        and bytes(left.payload) == bytes(right.payload)
        and left.tail == right.tail
        and all(np.array_equal(getattr(left, name), getattr(right, name)) for name in ("sizes", "dts", "cts", "sync"))
        for left, right in zip(one.tracks, other.tracks, strict=True)
    )


def of_video(*units: bytes) -> bytes:
    """A segment with these PES packets of picture."""
    builder = SegmentBuilder().tables()
    for unit in units:
        builder.add(VIDEO_PID, unit)
    return builder.body


def test_a_segment_comes_apart_into_samples() -> None:
    body = small_segment().body
    segment = read_transport_stream(body)
    plain_video, plain_audio = read_plainly(body, VIDEO_PID, AUDIO_PID)
    assert [track.format.codec for track in segment.tracks] == ["avc1", "mp4a"]
    assert samples(video(segment)) == plain_video.samples
    assert video(segment).dts.tolist() == [90_000, 93_000, 96_000, 99_000]
    assert video(segment).cts.tolist() == [0, 0, 0, 0]
    assert video(segment).sync.tolist() == [True, False, False, False]
    assert video(segment).tail == 3000
    assert samples(audio(segment)) == plain_audio.samples
    assert audio(segment).dts.tolist() == [48_000 + 1024 * index for index in range(6)]
    assert audio(segment).tail == 1024


def test_arrays_have_the_types_promised() -> None:
    for track in read_transport_stream(small_segment().body).tracks:
        assert (track.sizes.dtype, track.dts.dtype, track.cts.dtype, track.sync.dtype) == (
            np.dtype(np.uint32),
            np.dtype(np.int64),
            np.dtype(np.int32),
            np.dtype(np.bool_),
        )
        assert isinstance(track.payload, memoryview)
        assert (track.payload.format, track.payload.ndim) == ("B", 1)


def test_the_body_is_left_alone() -> None:
    body = small_segment().body
    before = bytes(bytearray(body))
    read_transport_stream(body)
    assert body == before


def test_picture_alone_and_sound_alone_are_fine() -> None:
    pictures, sound = SegmentBuilder().tables(), SegmentBuilder().tables()
    for raw in small_segment().packets[2:]:
        (pictures if raw[2] == VIDEO_PID & 0xFF else sound).packets.append(raw)
    assert [track.format.kind for track in read_transport_stream(pictures.body).tracks] == ["video"]
    assert [track.format.kind for track in read_transport_stream(sound.body).tracks] == ["audio"]


def test_other_streams_are_passed_over() -> None:
    """Timed metadata, advertisements and null packets, even where packets of them are missing."""
    whole = small_segment()
    builder = SegmentBuilder().tables(
        [(H264, VIDEO_PID, b""), (AAC, AUDIO_PID, b""), (0x15, 0x102, b""), (0x86, 0x103, b""), (0x06, 0x104, b"")]
    )
    for index, raw in enumerate(whole.packets[2:]):
        builder.packets.append(raw)
        builder.packets.append(packet(0x102 + index % 3, b"anything", 5 * index, start=True))
        builder.packets.append(packet(0x1FFF, bytes(184), 0))
    assert same(read_transport_stream(builder.body), read_transport_stream(whole.body))


def test_the_tables_may_come_at_the_end() -> None:
    packets = small_segment().packets
    assert same(read_transport_stream(b"".join(packets[2:] + packets[:2])), read_transport_stream(small_segment().body))


@pytest.mark.parametrize("room", [1, 2, 3, 5, 40, 183, 184])
def test_packets_may_be_filled_as_little_as_they_like(room: int) -> None:
    """Headers and start codes then lie in several packets."""
    builder = SegmentBuilder().tables()
    units = [key_picture(b"\xaa" * 50), picture(b"b" * 9, b"c" * 9, code=b"\0\0\1"), picture(b"d" * 500)]
    for index, unit in enumerate(units):
        builder.add(VIDEO_PID, pes(unit, 6000 + 3000 * index, 3000 * index, stuffing=index), room=room)
        builder.add(AUDIO_PID, pes(adts(b"x" * 30), 1920 * index, stream_id=0xC0, stated=True), room=room)
    segment = read_transport_stream(builder.body)
    plain_video, plain_audio = read_plainly(builder.body, VIDEO_PID, AUDIO_PID)
    assert samples(video(segment)) == plain_video.samples
    assert video(segment).cts.tolist() == [6000] * 3
    assert samples(audio(segment)) == plain_audio.samples


@given(
    st.lists(st.tuples(st.integers(1, 700), st.integers(1, 184), st.booleans()), min_size=1, max_size=8),
    st.sampled_from([b"\0\0\1", b"\0\0\0\1"]),
)
def test_pictures_of_any_size_in_packets_of_any_filling(shapes: list[tuple[int, int, bool]], code: bytes) -> None:
    builder = SegmentBuilder().tables()
    for index, (size, room, clocked) in enumerate(shapes):
        unit = picture(b"\x99" * size, idr=index == 0, parameters=(SPS, PPS) if index == 0 else (), code=code)
        builder.add(VIDEO_PID, pes(unit, 3000 * index), room=room, first=b"\x10" + bytes(6) if clocked else None)
    segment = read_transport_stream(builder.body)
    assert samples(video(segment)) == read_plainly(builder.body, VIDEO_PID, None)[0].samples


def test_a_pes_packet_without_a_time_continues_the_picture() -> None:
    unit = picture(b"b" * 300)
    split = read_transport_stream(
        of_video(pes(key_picture(b"a"), 0), pes(unit[:50], 3000), pes(unit[50:]), pes(picture(b"c"), 6000))
    )
    whole = read_transport_stream(of_video(pes(key_picture(b"a"), 0), pes(unit, 3000), pes(picture(b"c"), 6000)))
    assert same(split, whole)


def test_a_picture_without_a_time_of_its_own_is_named() -> None:
    with pytest.raises(UnsupportedMediaError, match="several pictures"):
        read_transport_stream(of_video(pes(key_picture(b"a"), 0), pes(picture(b"b"))))


class TestTimes:
    def test_composition_offsets_are_presentation_minus_decoding(self) -> None:
        segment = read_transport_stream(
            of_video(pes(key_picture(b"a"), 6000, 0), pes(picture(b"b"), 15_000, 3000), pes(picture(b"c"), 6000))
        )
        assert video(segment).dts.tolist() == [0, 3000, 6000]
        assert video(segment).cts.tolist() == [6000, 12_000, 0]

    @pytest.mark.parametrize("start", [TURN - 1, TURN - 4000, TURN - 7000, TURN - 20_000])
    def test_the_clock_may_wrap(self, start: int) -> None:
        segment = read_transport_stream(small_segment(start=start).body)
        assert video(segment).dts.tolist() == [start + 3000 * index for index in range(4)]
        assert audio(segment).dts.tolist() == [(start * 48 + 45) // 90 + 1024 * index for index in range(6)]

    def test_presentation_may_wrap_before_decoding(self) -> None:
        segment = read_transport_stream(
            of_video(pes(key_picture(b"a"), 3000, TURN - 3000), pes(picture(b"b"), 9000, 0))
        )
        assert video(segment).dts.tolist() == [TURN - 3000, TURN]
        assert video(segment).cts.tolist() == [6000, 9000]

    def test_sound_that_begins_before_the_wrap_keeps_times_positive(self) -> None:
        builder = SegmentBuilder().tables()
        builder.add(VIDEO_PID, pes(key_picture(b"a"), 900))
        builder.add(AUDIO_PID, pes(adts(b"x"), TURN - 900, stream_id=0xC0))
        segment = read_transport_stream(builder.body)
        assert video(segment).dts.tolist() == [TURN + 900]
        assert audio(segment).dts.tolist() == [(TURN - 900) * 48 // 90]

    def test_equal_times_are_moved_apart(self) -> None:
        segment = read_transport_stream(
            of_video(
                *(
                    pes(unit, time)
                    for unit, time in zip(
                        [key_picture(b"a"), picture(b"b"), picture(b"c"), picture(b"d")],
                        [0, 3000, 3000, 6000],
                        strict=True,
                    )
                )
            )
        )
        assert video(segment).dts.tolist() == [0, 3000, 3001, 6000]
        assert video(segment).cts.tolist() == [0, 0, 0, 0]

    def test_an_overlap_is_squeezed_together(self) -> None:
        times = [0, 3000, 6000, 3000, 6000, 9000]
        units = [key_picture(b"a"), *(picture(bytes((0x61 + index,))) for index in range(5))]
        segment = read_transport_stream(of_video(*map(pes, units, times)))
        assert video(segment).dts.tolist() == [0, 3000, 6000, 6001, 6002, 9000]
        assert (video(segment).cts == 0).all()

    def test_a_picture_that_goes_back_far_is_damage(self) -> None:
        with pytest.raises(SegmentDamagedError, match="back in time"):
            read_transport_stream(of_video(pes(key_picture(b"a"), 90_000), pes(picture(b"b"), 45_000)))

    @pytest.mark.parametrize("pts", [3000, 6000 + 17 * 90_000, 6000 + (1 << 31), 6000 + (1 << 32)])
    def test_showing_before_decoding_or_long_after_is_damage(self, pts: int) -> None:
        with pytest.raises(SegmentDamagedError, match="before it is decoded, or long after"):
            read_transport_stream(of_video(pes(key_picture(b"a"), pts, 6000)))

    def test_the_last_sample_is_as_long_as_usual(self) -> None:
        times = [0, 3003, 6006, 9009, 20_000]
        units = [key_picture(b"a"), *(picture(b"b") for _ in range(4))]
        assert video(read_transport_stream(of_video(*map(pes, units, times)))).tail == 3003

    def test_a_single_picture_is_as_long_as_its_parameters_say(self) -> None:
        assert video(read_transport_stream(of_video(pes(key_picture(b"a"), 0)))).tail == 3000


class TestContinuity:
    def test_every_missing_packet_is_noticed(self) -> None:
        """But for the last one of a picture, whose length is stated nowhere."""
        packets = small_segment(frame_size=200).packets
        last_of_picture = max(index for index, raw in enumerate(packets) if raw[1:3] in (b"\x41\x00", b"\x01\x00"))
        for index in range(2, len(packets)):
            if index != last_of_picture:
                with pytest.raises(SegmentDamagedError):
                    read_transport_stream(b"".join(packets[:index] + packets[index + 1 :]))

    def test_every_packet_may_be_sent_twice(self) -> None:
        packets = small_segment().packets
        whole = read_transport_stream(b"".join(packets))
        for index in range(len(packets)):
            assert same(read_transport_stream(b"".join(packets[: index + 1] + packets[index:])), whole)

    def test_only_the_clock_may_differ_in_a_repetition(self) -> None:
        packets = small_segment().packets
        other = bytearray(packets[2])
        assert other[5] & 0x10
        other[6:10] = b"\x12\x34\x56\x78"
        whole = read_transport_stream(b"".join(packets))
        assert same(read_transport_stream(b"".join([*packets[:3], bytes(other), *packets[3:]])), whole)
        other[100] ^= 1
        with pytest.raises(SegmentDamagedError, match="missing"):
            read_transport_stream(b"".join([*packets[:3], bytes(other), *packets[3:]]))

    def test_no_packet_may_be_sent_three_times(self) -> None:
        packets = small_segment().packets
        for index in range(2, len(packets)):
            with pytest.raises(SegmentDamagedError, match="missing"):
                read_transport_stream(b"".join(packets[: index + 1] + packets[index : index + 1] + packets[index:]))

    def test_packets_without_payload_do_not_count(self) -> None:
        builder = SegmentBuilder().tables()
        builder.add(VIDEO_PID, pes(key_picture(b"a" * 500), 0))
        builder.put(VIDEO_PID, b"", adaptation=b"\x10" + bytes(6))
        builder.put(VIDEO_PID, b"", adaptation=b"\x10" + bytes(6))
        builder.add(VIDEO_PID, pes(picture(b"b"), 3000))
        assert video(read_transport_stream(builder.body)).count == 2

    def test_a_packet_sent_twice_may_announce_a_jump(self) -> None:
        builder = SegmentBuilder().tables().add(VIDEO_PID, pes(key_picture(b"a" * 500), 0), first=b"\x80")
        whole = read_transport_stream(builder.body)
        packets = builder.packets
        assert same(read_transport_stream(b"".join([*packets[:3], *packets[2:]])), whole)
        with pytest.raises(SegmentDamagedError, match="missing"):
            read_transport_stream(b"".join([*packets[:3], *packets[2:3], *packets[2:]]))

    def test_an_announced_jump_is_none(self) -> None:
        def body(announced: bytes) -> bytes:
            builder = SegmentBuilder().tables()
            builder.add(VIDEO_PID, pes(key_picture(b"a"), 0))
            builder.counters[VIDEO_PID] += 5
            return builder.add(VIDEO_PID, pes(picture(b"b"), 3000), first=announced).body

        assert video(read_transport_stream(body(b"\x80"))).count == 2
        with pytest.raises(SegmentDamagedError, match="packets of its picture are missing"):
            read_transport_stream(body(b"\x40"))


def change(raw: bytes, at: int, value: int) -> bytes:
    return raw[:at] + bytes((value,)) + raw[at + 1 :]


GOOD = small_segment()
SEGMENT = GOOD.body
VIDEO_AT = 188 * 2  # the first packet of picture
HEADER_AT = VIDEO_AT + 4 + 8  # its PES header, behind the adaptation field
AUDIO_AT = 188 * next(index for index, raw in enumerate(GOOD.packets) if raw[2] == 1)
SOUND_AT = AUDIO_AT + SEGMENT[AUDIO_AT : AUDIO_AT + 188].index(b"\0\0\1")


def with_streams(*streams: tuple[int, int, bytes]) -> bytes:
    return SegmentBuilder().tables(list(streams)).body + SEGMENT[376:]


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        (b"", "it is empty"),
        (b"<html>busy</html>", "does not begin like a transport stream"),
        (SEGMENT[:-1], "ends inside a transport stream packet"),
        (change(SEGMENT, 188 * 5, 0x48), "1 of .* lost their sync byte"),
        (SEGMENT[:100] + SEGMENT[101:] + b"\0", "lost their sync byte"),
        (change(SEGMENT, 188 * 5 + 1, SEGMENT[188 * 5 + 1] | 0x80), "marked as damaged"),
        (SEGMENT[188:], "no program association table"),
        (SEGMENT[:188] + SEGMENT[376:], "no program map"),
        (change(SEGMENT, 187, SEGMENT[187] ^ 1), "wrong checksum"),
        (change(SEGMENT, 375, SEGMENT[375] ^ 1), "wrong checksum"),
        (SEGMENT[:376], "neither picture nor sound"),
        (with_streams((0x15, 0x102, b"")), "neither picture nor sound"),
        (with_streams((H264, VIDEO_PID, b""), (AAC, VIDEO_PID, b"")), "the same PID"),
        (change(SEGMENT, VIDEO_AT + 188 + 3, SEGMENT[VIDEO_AT + 188 + 3] & 0x0F), "neither payload nor adaptation"),
        (change(SEGMENT, VIDEO_AT + 4, 183), "adaptation field is longer"),
        (SEGMENT[: VIDEO_AT + 1] + b"\x01" + SEGMENT[VIDEO_AT + 2 :], "picture begins inside a PES packet"),
        (change(SEGMENT, HEADER_AT, 1), "picture has a broken header"),
        (change(SEGMENT, HEADER_AT + 2, 0), "picture has a broken header"),
        (change(SEGMENT, HEADER_AT + 6, 0x40), "picture has a broken header"),
        (change(SEGMENT, HEADER_AT + 7, 0x40), "picture has a broken header"),
        (change(SEGMENT, HEADER_AT + 8, 4), "picture has a broken header"),
        (change(SEGMENT, HEADER_AT + 3, 0xBE), "carries something else"),
        (change(SEGMENT, HEADER_AT + 5, 9), "picture is not as long as it says"),
        (change(SEGMENT, HEADER_AT + 9, 0x20), "picture has a broken time"),
        (change(SEGMENT, SOUND_AT + 13, SEGMENT[SOUND_AT + 13] & 0xFE), "sound has a broken time"),
        (change(SEGMENT, SOUND_AT + 5, SEGMENT[SOUND_AT + 5] - 1), "sound is not as long as it says"),
        (change(SEGMENT, SOUND_AT + 8, 0xFF), "sound is shorter than its header"),
        (of_video(b"\0\0\1\xe0\0\0\x80\0"), "shorter than its header"),
        (of_video(b"\0\0\1\xe0\0\0\x80\0\x05abc"), "shorter than its header"),
        (of_video(pes(key_picture(b"a"))), "no time"),
        (of_video(pes(DELIMITER * 9, 0)), "no NAL units"),
    ],
)
def test_damage_is_named(body: bytes, complaint: str) -> None:
    with pytest.raises(SegmentDamagedError, match=complaint):
        read_transport_stream(body)


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        (with_streams((0x24, VIDEO_PID, b""), (AAC, AUDIO_PID, b"")), "^HEVC in a transport stream"),
        (with_streams((H264, VIDEO_PID, b""), (0x03, AUDIO_PID, b"")), "^MPEG-1 audio in a transport stream"),
        (with_streams((0xDB, VIDEO_PID, b""), (0xCF, AUDIO_PID, b"")), "^encrypted AAC, encrypted H.264 in"),
        (with_streams((H264, VIDEO_PID, b""), (H264, AUDIO_PID, b"")), "2 streams of pictures"),
        (with_streams((AAC, VIDEO_PID, b""), (AAC, AUDIO_PID, b"")), "2 streams of sound"),
        (change(SEGMENT, VIDEO_AT + 3, SEGMENT[VIDEO_AT + 3] | 0x80), "scrambled picture"),
        (change(SEGMENT, SOUND_AT + 6, 0x90), "scrambled sound"),
    ],
)
def test_what_we_do_not_read_is_named(body: bytes, complaint: str) -> None:
    with pytest.raises(UnsupportedMediaError, match=complaint):
        read_transport_stream(body)


def test_streams_that_are_announced_and_do_not_come_are_ignored() -> None:
    body = with_streams(
        (H264, 0x90, b""), (H264, VIDEO_PID, b""), (AAC, AUDIO_PID, b""), (AAC, 0x91, b""), (0x81, 0x92, b"")
    )
    assert same(read_transport_stream(body), read_transport_stream(SEGMENT))


def test_a_program_may_be_described_over_several_packets() -> None:
    builder = SegmentBuilder().add(PAT_PID, b"\0" + association({1: PMT_PID}))
    streams = [(0x15, 0x102, b"\x25\xfd" + bytes(253)), (H264, VIDEO_PID, b""), (AAC, AUDIO_PID, b"")]
    builder.add(PMT_PID, b"\0" + program_map(streams))
    assert len(builder.packets) > 2
    assert same(read_transport_stream(builder.body + SEGMENT[376:]), read_transport_stream(SEGMENT))
