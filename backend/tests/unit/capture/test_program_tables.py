from __future__ import annotations

import pytest

from support.transport_packets import association, program_map, section
from vodkeep.capture.program_tables import Stream, parse_program_association, parse_program_map, read_sections
from vodkeep.capture.samples import SegmentDamagedError

PAT = association({1: 0x1000})
LONG_MAP = program_map([(0x15, 0x200, b"\x25\xfd" + bytes(253)), (0x1B, 0x100, b"")])


def in_packets(unit: bytes, size: int = 184) -> list[tuple[bool, bytes]]:
    return [(at == 0, unit[at : at + size]) for at in range(0, len(unit), size)]


def test_a_section_in_one_packet_is_followed_by_stuffing() -> None:
    assert read_sections([(True, b"\0" + PAT + b"\xff" * 100)]) == [PAT]


def test_repetitions_count_once() -> None:
    assert read_sections([(True, b"\0" + PAT)] * 9) == [PAT]


def test_sections_of_several_packets_are_put_together() -> None:
    assert len(LONG_MAP) > 184
    assert read_sections(in_packets(b"\0" + LONG_MAP) * 2) == [LONG_MAP]


@pytest.mark.parametrize("size", [2, 3, 4, 50])
def test_sections_may_be_cut_anywhere(size: int) -> None:
    assert read_sections(in_packets(b"\0" + LONG_MAP, size)) == [LONG_MAP]


def test_a_section_ends_before_the_pointer_of_the_next() -> None:
    head, rest = LONG_MAP[:180], LONG_MAP[180:]
    packets = [(True, b"\0" + head), (True, bytes((len(rest),)) + rest + PAT + b"\xff")]
    assert read_sections(packets) == [LONG_MAP, PAT]


def test_several_sections_share_a_packet() -> None:
    assert read_sections([(True, b"\0" + PAT + association({2: 0x20}) + b"\xff\xff")]) == [PAT, association({2: 0x20})]


def test_the_beginning_of_the_first_section_may_be_missing() -> None:
    assert read_sections([(False, b"\x12\x34"), (True, b"\0" + PAT)]) == [PAT]


def test_sections_without_a_checksum_are_passed_over() -> None:
    assert read_sections([(True, b"\0\xc0\x30\x04abcd" + PAT)]) == [PAT]


def test_an_unfinished_section_is_none() -> None:
    assert read_sections([(True, b"\0" + LONG_MAP[:100])]) == []


def test_every_flipped_bit_is_noticed() -> None:
    for bit in range(8 * 3, 8 * len(PAT)):
        broken = bytearray(PAT)
        broken[bit // 8] ^= 1 << bit % 8
        with pytest.raises(SegmentDamagedError, match="wrong checksum"):
            read_sections([(True, b"\0" + bytes(broken))])


@pytest.mark.parametrize("payload", [b"", b"\x05abcd", b"\xff" * 184])
def test_a_pointer_out_of_the_packet_is_damage(payload: bytes) -> None:
    with pytest.raises(SegmentDamagedError, match="outside its packet"):
        read_sections([(True, payload)])


def test_the_network_is_no_program() -> None:
    assert parse_program_association([association({0: 0x10, 1: 0x1000, 7: 0x1001, 8: 0x1000})]) == [0x1000, 0x1001]


def test_streams_of_a_map() -> None:
    streams = [(0x1B, 0x100, b"\x28\x04\x64\x00\x1f\x3f"), (0x0F, 0x101, b""), (0x15, 0x102, b"\x26\x01\x00")]
    assert parse_program_map([program_map(streams, descriptors=b"\x05\x04HDMV")]) == [
        Stream(0x100, 0x1B, None),
        Stream(0x101, 0x0F, None),
        Stream(0x102, 0x15, None),
    ]


@pytest.mark.parametrize(
    ("kind", "descriptors", "name"),
    [
        (0x24, b"", "HEVC"),
        (0x03, b"", "MPEG-1 audio"),
        (0x81, b"", "AC-3"),
        (0xDB, b"", "encrypted H.264"),
        (0x06, b"\x0a\x04und\x00\x05\x04Opus", "Opus"),
        (0x06, b"\x05\x04AV01\x80\x04abcd", "AV1"),
        (0x06, b"\x6a\x01\x00", "AC-3"),
        (0x06, b"\x05\x04ID3 ", None),
        (0x06, b"\x59\x08abcdefgh", None),
        (0x15, b"\x05\x04AV01", None),
        (0x86, b"\x05\x04CUEI", None),
        (0x05, b"", None),
    ],
)
def test_media_that_we_do_not_read_has_a_name(kind: int, descriptors: bytes, name: str | None) -> None:
    assert parse_program_map([program_map([(kind, 0x100, descriptors)])]) == [Stream(0x100, kind, name)]


def test_tables_for_later_and_other_tables_are_ignored() -> None:
    assert parse_program_map([program_map([(0x1B, 0x100, b"")], current=False), section(0x42, bytes(8))]) == []


@pytest.mark.parametrize("cut", [1, 2, 4])
def test_a_map_whose_lengths_do_not_add_up_is_damage(cut: int) -> None:
    body = program_map([(0x1B, 0x100, b""), (0x0F, 0x101, b"\x0a\x04und\x00")])[8:-4]
    with pytest.raises(SegmentDamagedError, match="contradicts itself"):
        parse_program_map([section(2, body[:-cut])])
