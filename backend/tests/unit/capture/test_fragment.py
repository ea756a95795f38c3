from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vodkeep.capture.fragment import InitTracks, read_fragment, read_init
from vodkeep.capture.mp4_boxes import box, full_box
from vodkeep.capture.samples import SegmentDamagedError, SegmentSamples, UnsupportedMediaError

NON_SYNC = 0x0101_0000
SYNC = 0x0200_0000


def u16(*values: int) -> bytes:
    return b"".join(value.to_bytes(2, "big") for value in values)


def u32(*values: int) -> bytes:
    return b"".join((value & 0xFFFF_FFFF).to_bytes(4, "big") for value in values)


def u64(*values: int) -> bytes:
    return b"".join(value.to_bytes(8, "big") for value in values)


AVCC = box(b"avcC", b"\x01\x64\x00\x1f\xff\xe1" + u16(4) + b"\x67abc" + b"\x01" + u16(3) + b"\x68de")
AVCC_EMPTY = box(b"avcC", b"\x01\x64\x00\x1f\xff\xe0\x00")
HVCC_SETS = b"".join(bytes((kind,)) + u16(1) + u16(2) + b"xx" for kind in (32, 33, 34))


def hvcc(sets: bytes, count: int) -> bytes:
    return box(b"hvcC", b"\x01" + bytes(20) + b"\x03" + bytes((count,)) + sets)


def visual(kind: bytes = b"avc1", *boxes: bytes) -> bytes:
    return box(kind, bytes(6), u16(1), bytes(16), u16(1280, 720), bytes(50), *(boxes or (AVCC,)))


def audio(kind: bytes = b"mp4a", *boxes: bytes) -> bytes:
    return box(kind, bytes(6), u16(1), bytes(8), u16(2, 16), bytes(4), u32(48000 << 16), *boxes)


def trak(
    number: int, handler: bytes, timescale: int, entries: Sequence[bytes], edits: Sequence[tuple[int, int]] = ()
) -> bytes:
    rows = b"".join(u32(duration, time, 0x1_0000) for duration, time in edits)
    return box(
        b"trak",
        full_box(b"tkhd", 0, 3, u32(0, 0, number), bytes(68)),
        box(b"edts", full_box(b"elst", 0, 0, u32(len(edits)), rows)) if edits else b"",
        box(
            b"mdia",
            full_box(b"mdhd", 0, 0, u32(0, 0, timescale, 0), bytes(4)),
            full_box(b"hdlr", 0, 0, bytes(4), handler, bytes(13)),
            box(b"minf", box(b"stbl", full_box(b"stsd", 0, 0, u32(len(entries)), *entries))),
        ),
    )


def trex(number: int, index: int = 1, duration: int = 0, size: int = 0, flags: int = 0) -> bytes:
    return full_box(b"trex", 0, 0, u32(number, index, duration, size, flags))


def init_section(*traks: bytes, defaults: Sequence[bytes] = ()) -> bytes:
    return box(b"ftyp", b"iso6") + box(
        b"moov", full_box(b"mvhd", 0, 0, u32(0, 0, 1000, 0), bytes(80)), *traks, box(b"mvex", *defaults)
    )


VIDEO = trak(1, b"vide", 90000, [visual()])
AUDIO = trak(2, b"soun", 48000, [audio()])
TEXT = trak(3, b"meta", 1000, [box(b"stpp", bytes(20))])
BOTH = read_init(init_section(AUDIO, VIDEO, defaults=[trex(1, 1, 3000, 0, SYNC), trex(2, 1, 1024, 5)]))


@dataclass(frozen=True)
class Run:
    """A trun under construction; what is None is not in it."""

    samples: Sequence[bytes]
    durations: Sequence[int] | None = None
    flags: Sequence[int] | None = None
    cts: Sequence[int] | None = None
    first_flags: int | None = None
    sizes: bool = True
    offset: int | None = None  # into the mdat's content
    version: int = 0

    def box(self, data_offset: int) -> bytes:
        columns: list[Sequence[int]] = []
        flags = 0
        for flag, column in (
            (0x100, self.durations),
            (0x200, [len(sample) for sample in self.samples] if self.sizes else None),
            (0x400, self.flags),
            (0x800, self.cts),
        ):
            if column is not None:
                flags |= flag
                columns.append(column)
        head = u32(len(self.samples))
        if self.offset is not None:
            flags |= 1
            head += u32(data_offset + self.offset)
        if self.first_flags is not None:
            flags |= 4
            head += u32(self.first_flags)
        rows = b"".join(u32(*row) for row in zip(*columns, strict=True))
        return full_box(b"trun", self.version, flags, head, rows)


@dataclass(frozen=True)
class Traf:
    number: int
    runs: Sequence[Run]
    time: int | None = 0
    index: int | None = None
    duration: int | None = None
    size: int | None = None
    sample_flags: int | None = None
    moof_base: bool = True
    extra: bytes = b""

    def box(self, data_offset: int) -> bytes:
        flags, fields = 0x2_0000 if self.moof_base else 0, b""
        for flag, value in ((2, self.index), (8, self.duration), (16, self.size), (32, self.sample_flags)):
            if value is not None:
                flags |= flag
                fields += u32(value)
        return box(
            b"traf",
            full_box(b"tfhd", 0, flags, u32(self.number), fields),
            full_box(b"tfdt", 1, 0, u64(self.time)) if self.time is not None else b"",
            *(run.box(data_offset) for run in self.runs),
            self.extra,
        )


def fragment(*trafs: Traf, content: bytes | None = None) -> bytes:
    """A moof, and the mdat with all samples in the order of the runs."""
    if content is None:
        content = b"".join(sample for traf in trafs for run in traf.runs for sample in run.samples)
    head = full_box(b"mfhd", 0, 0, u32(1))
    size = 8 + len(head) + sum(len(traf.box(0)) for traf in trafs)
    return box(b"moof", head, *(traf.box(size + 8) for traf in trafs)) + box(b"mdat", content)


def unit(content: bytes) -> bytes:
    """A sample of one NAL unit."""
    return u32(len(content)) + content


def tables(samples: SegmentSamples, kind: Any = "video") -> tuple[list[int], list[int], list[bool], int]:
    track = samples.track(kind)
    assert track is not None
    return track.dts.tolist(), track.cts.tolist(), track.sync.tolist(), track.tail


# --- initialization sections -------------------------------------------------------------------------------------


def test_an_init_section_names_its_tracks_video_first() -> None:
    video, sound = BOTH.tracks
    assert (video.track_id, video.duration, video.flags, video.unit_length_bytes) == (1, 3000, SYNC, (4,))
    picture = video.formats[0]
    assert (picture.kind, picture.codec, picture.timescale) == ("video", "avc1", 90000)
    assert (picture.width, picture.height, picture.sample_rate, picture.channels) == (1280, 720, 0, 0)
    assert picture.sample_entry == visual()
    assert (sound.track_id, sound.size) == (2, 5)
    tone = sound.formats[0]
    assert (tone.kind, tone.codec, tone.timescale) == ("audio", "mp4a", 48000)
    assert (tone.width, tone.height, tone.sample_rate, tone.channels) == (0, 0, 48000, 2)


@pytest.mark.parametrize(
    ("entry", "codec"),
    [
        pytest.param(visual(b"avc3", AVCC), "avc1", id="avc3 with its sets"),
        pytest.param(visual(b"avc3", AVCC_EMPTY), "avc3", id="avc3 without"),
        pytest.param(visual(b"hev1", hvcc(HVCC_SETS, 3)), "hvc1", id="hev1 with its sets"),
        pytest.param(visual(b"hev1", hvcc(HVCC_SETS[:14], 2)), "hev1", id="hev1 without a picture parameter set"),
        pytest.param(visual(b"av01", box(b"av1C", b"\x81\x00\x00\x00")), "av01", id="av01"),
        pytest.param(visual(b"vp09", box(b"vpcC", bytes(12))), "vp09", id="vp09"),
    ],
)
def test_video_gets_the_name_most_players_take(entry: bytes, codec: str) -> None:
    """Safari plays hvc1 and avc1 only, and those promise parameter sets in the sample entry."""
    found = read_init(init_section(trak(1, b"vide", 1000, [entry]))).tracks[0].formats[0]
    assert found.codec == codec
    assert found.sample_entry == entry[:4] + codec.encode() + entry[8:]


@pytest.mark.parametrize("codec", ["Opus", "fLaC", "ac-3", "ec-3"])
def test_other_sound_is_taken(codec: str) -> None:
    init = init_section(trak(1, b"soun", 48000, [audio(codec.encode(), box(b"xxxx"))]))
    assert read_init(init).tracks[0].formats[0].codec == codec


@pytest.mark.parametrize(
    ("init", "complaint"),
    [
        pytest.param(init_section(trak(1, b"vide", 1, [visual(b"encv")])), "encrypted", id="encrypted picture"),
        pytest.param(init_section(trak(1, b"soun", 1, [audio(b"enca")])), "encrypted", id="encrypted sound"),
        pytest.param(init_section(trak(1, b"vide", 1, [visual(b"mjpg")])), "video as 'mjpg'", id="unknown codec"),
        pytest.param(init_section(VIDEO, trak(2, b"vide", 1, [visual()])), "several video", id="two pictures"),
        pytest.param(
            init_section(trak(1, b"vide", 90, [visual()], edits=[(5, 0), (5, 90)])), "edit list", id="cut media"
        ),
    ],
)
def test_media_we_cannot_place_is_unsupported(init: bytes, complaint: str) -> None:
    with pytest.raises(UnsupportedMediaError, match=complaint):
        read_init(init)


@pytest.mark.parametrize(
    ("init", "complaint"),
    [
        pytest.param(b"", "moov box is missing", id="empty"),
        pytest.param(box(b"moov"), "neither picture nor sound", id="no track"),
        pytest.param(init_section(TEXT), "neither picture nor sound", id="only text"),
        pytest.param(init_section(VIDEO)[:-1], "does not fit", id="cut short"),
        pytest.param(init_section(trak(1, b"vide", 0, [visual()])), "timescale", id="no timescale"),
        pytest.param(init_section(trak(1, b"vide", 1, [])), "stsd box is empty", id="no sample entry"),
        pytest.param(init_section(trak(1, b"vide", 1, [box(b"avc1", bytes(70))])), "too short", id="short entry"),
        pytest.param(init_section(trak(1, b"vide", 1, [visual(b"avc1", b"")])), "no configuration", id="no avcC"),
        pytest.param(init_section(VIDEO, trak(1, b"soun", 1, [audio()])), "same number", id="one number for two"),
    ],
)
def test_a_broken_init_section_is_damaged(init: bytes, complaint: str) -> None:
    with pytest.raises(SegmentDamagedError, match=complaint):
        read_init(init)


@pytest.mark.parametrize(
    ("edits", "dts"),
    [
        pytest.param([], 9000, id="none"),
        pytest.param([(0, 6000)], 3000, id="media begin later"),
        pytest.param([(20, -1), (0, 0)], 10800, id="delayed"),
        pytest.param([(20, -1), (0, 6000)], 4800, id="both"),
    ],
)
def test_the_edit_list_moves_decoding_times(edits: list[tuple[int, int]], dts: int) -> None:
    tracks = read_init(init_section(trak(1, b"vide", 90000, [visual()], edits)))
    body = fragment(Traf(1, [Run([unit(b"a")], [3000], offset=0)], time=9000))
    assert tables(read_fragment(body, tracks))[0] == [dts]


# --- segments ----------------------------------------------------------------------------------------------------

A, B, C = unit(b"aaaa"), unit(b"bb"), unit(b"cccccc")


def test_each_sample_says_everything_itself() -> None:
    run = Run([A, B, C], [10, 20, 30], [SYNC, NON_SYNC, 0x1_0000], [5, 0, 7], offset=0)
    found = read_fragment(fragment(Traf(1, [run], time=100)), BOTH)
    track = found.track("video")
    assert track is not None
    assert track.sizes.tolist() == [len(A), len(B), len(C)]
    assert tables(found) == ([100, 110, 130], [5, 0, 7], [True, False, False], 30)
    assert bytes(track.payload) == A + B + C
    assert found.track("audio") is None


def test_samples_that_say_nothing_take_the_defaults() -> None:
    """From the fragment's header where it has them, else from trex (sections 8.8.3 and 8.8.7)."""
    from_trex = fragment(Traf(1, [Run([A, A], offset=0)], time=7))
    assert tables(read_fragment(from_trex, BOTH)) == ([7, 3007], [0, 0], [True, True], 3000)
    from_header = fragment(
        Traf(1, [Run([A, A, A], offset=0, sizes=False)], duration=50, size=len(A), sample_flags=NON_SYNC)
    )
    assert tables(read_fragment(from_header, BOTH)) == ([0, 50, 100], [0, 0, 0], [False] * 3, 50)


def test_the_first_sample_may_have_flags_of_its_own() -> None:
    body = fragment(Traf(1, [Run([A, B], [1, 1], first_flags=SYNC, offset=0)], sample_flags=NON_SYNC))
    assert tables(read_fragment(body, BOTH))[2] == [True, False]


@pytest.mark.parametrize("version", [0, 1])
def test_composition_offsets_may_be_negative(version: int) -> None:
    body = fragment(Traf(1, [Run([A, B], [10, 10], cts=[-10, 20], offset=0, version=version)]))
    assert tables(read_fragment(body, BOTH))[1] == [-10, 20]


def test_sound_always_begins_anywhere() -> None:
    body = fragment(Traf(2, [Run([b"12345", b"67890"], offset=0, sizes=False)], sample_flags=NON_SYNC))
    assert tables(read_fragment(body, BOTH), "audio") == ([0, 1024], [0, 0], [True, True], 1024)


def test_picture_and_sound_of_one_fragment_lie_side_by_side() -> None:
    body = fragment(
        Traf(2, [Run([b"12345"], offset=len(A + B), sizes=False)], time=48),
        Traf(1, [Run([A, B], offset=0)], time=90),
        content=A + B + b"12345",
    )
    found = read_fragment(body, BOTH)
    assert [track.format.kind for track in found.tracks] == ["video", "audio"]
    assert [bytes(track.payload) for track in found.tracks] == [A + B, b"12345"]


def test_bytes_in_a_row_are_not_copied() -> None:
    body = fragment(Traf(1, [Run([A], offset=0), Run([B, C])]))
    track = read_fragment(body, BOTH).track("video")
    assert track is not None
    assert track.payload.obj is body
    assert bytes(track.payload) == A + B + C


def test_several_fragments_and_runs_are_joined() -> None:
    first = fragment(
        Traf(1, [Run([A], [10], offset=0), Run([C], [10], offset=len(A + B))], time=100),
        content=A + B + C,
    )
    second = fragment(Traf(1, [Run([B], [15], offset=0)], time=200))
    found = read_fragment(box(b"styp", b"msdh") + box(b"sidx", bytes(40)) + first + box(b"emsg") + second, BOTH)
    track = found.track("video")
    assert track is not None
    assert bytes(track.payload) == A + C + B
    # The second fragment says itself when it begins; a sample before it lasts until then.
    assert tables(found) == ([100, 110, 200], [0, 0, 0], [True] * 3, 15)


def test_a_fragment_without_time_follows_the_one_before() -> None:
    body = fragment(Traf(1, [Run([A], [10], offset=0)], time=100)) + fragment(
        Traf(1, [Run([B], [10], offset=0)], time=None)
    )
    assert tables(read_fragment(body, BOTH))[0] == [100, 110]


def test_without_offsets_data_follow_each_other_from_the_moof() -> None:
    """Section 8.8.7.1: the first track counts from the moof, the others from the end of the data before them."""
    tracks = read_init(init_section(VIDEO, AUDIO, TEXT, defaults=[trex(1, 1, 3000), trex(2, 1, 1024)]))
    body = fragment(
        Traf(1, [Run([A], offset=0)], moof_base=False),
        Traf(3, [Run([b"text"], [5])], time=None, moof_base=False),
        Traf(2, [Run([b"12345"]), Run([b"678"])], moof_base=False),
    )
    found = read_fragment(body, tracks)
    assert [bytes(track.payload) for track in found.tracks] == [A, b"12345678"]


def test_empty_samples_are_left_out_and_the_one_before_lasts_longer() -> None:
    body = fragment(Traf(1, [Run([A, b"", B, b""], [10, 20, 30, 40], offset=0)]))
    found = read_fragment(body, BOTH)
    assert tables(found) == ([0, 30], [0, 0], [True, True], 70)


def test_a_large_mdat_and_one_up_to_the_end_are_read() -> None:
    plain = fragment(Traf(1, [Run([A], offset=0)]))
    open_ended = plain.replace(u32(8 + len(A)) + b"mdat", u32(0) + b"mdat")
    assert tables(read_fragment(open_ended, BOTH)) == tables(read_fragment(plain, BOTH))
    large = fragment(Traf(1, [Run([A], offset=8)]))
    large = large.replace(u32(8 + len(A)) + b"mdat", u32(1) + b"mdat" + u64(16 + len(A)))
    assert tables(read_fragment(large, BOTH)) == tables(read_fragment(plain, BOTH))


def test_the_second_sample_entry_is_another_format() -> None:
    tracks = read_init(
        init_section(trak(1, b"vide", 90000, [visual(), visual(b"avc1", AVCC, box(b"pasp", u32(1, 1)))]))
    )
    samples = read_fragment(fragment(Traf(1, [Run([A], [1], offset=0)], index=2)), tracks)
    assert samples.tracks[0].format == tracks.tracks[0].formats[1]
    both = fragment(Traf(1, [Run([A], [1], offset=0)], index=1)) + fragment(
        Traf(1, [Run([A], [1], offset=0)], time=1, index=2)
    )
    with pytest.raises(UnsupportedMediaError, match="changes inside"):
        read_fragment(both, tracks)


def with_base(base: int) -> bytes:
    """A segment whose only tfhd has a base-data-offset."""
    size = 8 + 8 + 24 + 20 + 24
    moof = box(
        b"moof",
        box(
            b"traf",
            full_box(b"tfhd", 0, 1, u32(1), u64(base)),
            full_box(b"tfdt", 1, 0, u64(0)),
            full_box(b"trun", 0, 0x201, u32(1, size + 8, len(A))),
        ),
    )
    assert len(moof) == size
    return moof + box(b"mdat", A)


def test_a_segment_that_counts_from_its_own_moof_is_read() -> None:
    body = with_base(0)
    assert bytes(read_fragment(body, BOTH).tracks[0].payload) == A


def test_a_segment_that_counts_from_another_file_is_unsupported() -> None:
    body = with_base(777)
    with pytest.raises(UnsupportedMediaError, match="another file"):
        read_fragment(body, BOTH)


def test_encrypted_samples_are_unsupported() -> None:
    body = fragment(Traf(1, [Run([A], offset=0)], extra=full_box(b"senc", 0, 0, u32(1), bytes(8))))
    with pytest.raises(UnsupportedMediaError, match="encrypted"):
        read_fragment(body, BOTH)


GOOD = fragment(Traf(1, [Run([A, B], [10, 10], offset=0)]))


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        pytest.param(b"", "no media fragment", id="empty"),
        pytest.param(b"<html>Service unavailable</html>", "does not fit", id="an error page"),
        pytest.param(GOOD[:-1], "does not fit", id="cut short"),
        pytest.param(GOOD[: GOOD.index(b"mdat") - 4], "no media fragment", id="cut before the media"),
        pytest.param(GOOD + b"\0\0\0", "inside a box header", id="bytes behind the end"),
        pytest.param(fragment(Traf(9, [Run([A], offset=0)])), "track 9", id="unknown track"),
        pytest.param(fragment(Traf(1, [Run([A], offset=0)], time=None)), "no decoding time", id="no time"),
        pytest.param(fragment(Traf(1, [Run([A], offset=0)], time=1 << 63)), "outside of time", id="far away"),
        pytest.param(fragment(Traf(1, [Run([A], offset=1)])), "outside of its mdat", id="behind the media"),
        pytest.param(fragment(Traf(1, [Run([A], offset=-1)])), "outside of its mdat", id="before the media"),
        pytest.param(fragment(Traf(1, [Run([A], offset=0)], index=2)), "sample description", id="unknown entry"),
        pytest.param(fragment(Traf(1, [])), "neither picture nor sound", id="no runs"),
        pytest.param(fragment(Traf(1, [Run([A], [10], offset=0)], time=50)) + GOOD, "run backwards", id="back in time"),
        pytest.param(fragment(Traf(1, [Run([A, A], [0, 0], offset=0)])), "take no time", id="out of time"),
        pytest.param(
            fragment(Traf(1, [Run([A] * 9, offset=0), Run([A] * 9, offset=0), Run([A] * 9, offset=0)]), content=A * 9),
            "overlap",
            id="the same bytes again and again",
        ),
        pytest.param(fragment(Traf(1, [Run([b"\0\0\0\x09abcd"], offset=0)])), "whole units", id="unit too long"),
        pytest.param(fragment(Traf(1, [Run([b"\0\0\0"], offset=0)])), "whole units", id="no room for a length"),
        pytest.param(fragment(Traf(1, [Run([bytes(64)], offset=0)])), "whole units", id="zeros"),
        pytest.param(fragment(Traf(1, [Run([A + bytes(8000)], offset=0)])), "whole units", id="zeros behind a unit"),
    ],
)
def test_a_broken_segment_is_damaged(body: bytes, complaint: str) -> None:
    with pytest.raises(SegmentDamagedError, match=complaint):
        read_fragment(body, BOTH)


def test_claims_do_not_cost_memory() -> None:
    """A run may claim four billion samples in twenty bytes."""
    run = full_box(b"trun", 0, 0, u32(0xFFFF_FFFF))
    body = fragment(Traf(1, [], size=0, extra=run), content=b"x" * 50)
    with pytest.raises(SegmentDamagedError, match="more than a million"):
        read_fragment(body, BOTH)
    many = fragment(Traf(1, [], size=0, extra=full_box(b"trun", 0, 0, u32(1 << 20)) * 9), content=b"x" * 50)
    with pytest.raises(SegmentDamagedError, match="more than a million"):
        read_fragment(many, BOTH)


def test_av1_begins_with_an_obu() -> None:
    tracks = read_init(init_section(trak(1, b"vide", 1000, [visual(b"av01", box(b"av1C", bytes(4)))])))
    healthy = fragment(Traf(1, [Run([b"\x12\x00\x32"], [1], offset=0)]))
    assert tables(read_fragment(healthy, tracks))[0] == [0]
    with pytest.raises(SegmentDamagedError, match="not what its codec says"):
        read_fragment(fragment(Traf(1, [Run([bytes(3)], [1], offset=0)])), tracks)


# --- anything at all ---------------------------------------------------------------------------------------------

SEEDS = [
    GOOD,
    fragment(Traf(1, [Run([A, B], [9, 9], [SYNC, NON_SYNC], [1, 2], SYNC, offset=0)]), Traf(2, [Run([b"12345"])])),
    with_base(0),
]


def survives(body: bytes, tracks: InitTracks) -> None:
    try:
        found = read_fragment(body, tracks)
    except (SegmentDamagedError, UnsupportedMediaError):
        return
    for track in found.tracks:
        assert int(track.sizes.sum()) == len(track.payload)
        assert len(track.sizes) == len(track.dts) == len(track.cts) == len(track.sync)


@given(st.binary(max_size=300))
def test_garbage_is_never_a_crash(body: bytes) -> None:
    survives(body, BOTH)


@given(
    st.sampled_from(SEEDS),
    st.lists(st.tuples(st.integers(0, 400), st.sampled_from([0, 1, 2, 4, 0x7F, 0x80, 0xFF])), max_size=6),
    st.integers(0, 400),
)
def test_bent_segments_are_never_a_crash(seed: bytes, changes: list[tuple[int, int]], cut: int) -> None:
    body = bytearray(seed)
    for position, value in changes:
        body[position % len(body)] = value
    survives(bytes(body[: cut or None]), BOTH)


@given(
    st.lists(st.tuples(st.integers(0, 900), st.sampled_from([0, 1, 2, 4, 0x7F, 0x80, 0xFF])), max_size=6),
    st.integers(0, 900),
)
def test_bent_init_sections_are_never_a_crash(changes: list[tuple[int, int]], cut: int) -> None:
    init = bytearray(init_section(VIDEO, AUDIO, trak(4, b"vide", 9, [visual(b"hev1", hvcc(HVCC_SETS, 3))], [(1, -1)])))
    for position, value in changes:
        init[position % len(init)] = value
    try:
        tracks = read_init(bytes(init[: cut or None]))
    except (SegmentDamagedError, UnsupportedMediaError):
        return
    for seed in SEEDS:
        survives(seed, tracks)
