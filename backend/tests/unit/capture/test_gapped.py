from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from vodkeep.capture.gapped import GappedStream

# Runs of stream and gap in turns; runs may be empty, gaps may not.
layouts = st.lists(st.tuples(st.binary(max_size=5), st.binary(min_size=1, max_size=5)), max_size=8)


def lay_out(layout: list[tuple[bytes, bytes]], rest: bytes) -> tuple[GappedStream, bytes]:
    octets, at, size = bytearray(), [], []
    for run, gap in layout:
        octets += run
        at.append(len(octets))
        size.append(len(gap))
        octets += gap
    octets += rest
    stream = GappedStream(np.frombuffer(octets, np.uint8), np.array(at, np.int64), np.array(size, np.int64))
    return stream, b"".join(run for run, _ in layout) + rest


@given(layouts, st.binary(max_size=5))
def test_a_gapped_stream_reads_like_one_without_gaps(layout: list[tuple[bytes, bytes]], rest: bytes) -> None:
    stream, plain = lay_out(layout, rest)
    assert len(stream) == len(plain)
    assert bytes(stream.joined()) == plain
    assert stream.read(0, len(plain)) == plain
    everything = np.arange(len(plain))
    places = stream.places(everything)
    assert stream.octets[places].tobytes() == plain
    assert (stream.offsets(places) == everything).all()


@given(layouts, st.binary(max_size=5))
def test_gaps_know_where_in_the_stream_they_are(layout: list[tuple[bytes, bytes]], rest: bytes) -> None:
    stream, _ = lay_out(layout, rest)
    assert stream.gap_offsets.tolist() == np.cumsum([len(run) for run, _ in layout]).tolist()


def test_a_stream_without_gaps_has_a_buffer_of_its_own() -> None:
    body = bytearray(b"abc")
    stream = GappedStream.of(body)
    stream.octets[0] = 0
    assert body == b"abc"
