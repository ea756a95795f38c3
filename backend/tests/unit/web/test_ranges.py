from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vodkeep.web.ranges import (
    MOST_RANGES,
    ByteSpan,
    NotSatisfiable,
    etag_matches,
    format_range,
    is_unmodified_since,
    parse_range,
    range_still_applies,
)

MODIFIED = datetime(2026, 11, 23, 12, 0, 5, 600_000, tzinfo=UTC)
AT = "Mon, 23 Nov 2026 12:00:05 GMT"
BEFORE = "Mon, 23 Nov 2026 12:00:04 GMT"
AFTER = "Mon, 23 Nov 2026 12:00:06 GMT"


@pytest.mark.parametrize(
    ("header", "spans"),
    [
        ("bytes=0-0", [(0, 0)]),
        ("bytes=0-9", [(0, 9)]),
        ("bytes=3-", [(3, 9)]),
        ("bytes=9-", [(9, 9)]),
        ("bytes=-1", [(9, 9)]),
        ("bytes=-10", [(0, 9)]),
        ("bytes=-99", [(0, 9)]),
        ("bytes=5-99", [(5, 9)]),
        ("bytes=0-1,4-5", [(0, 1), (4, 5)]),
        ("bytes= 0-1 , 4-5 ", [(0, 1), (4, 5)]),
        ("bytes=,0-1,,", [(0, 1)]),
        ("BYTES=0-1", [(0, 1)]),
        ("bytes=0-1,50-60", [(0, 1)]),
        ("bytes=4-5,0-1", [(4, 5), (0, 1)]),
        ("bytes=00000000-0000000001", [(0, 1)]),
    ],
)
def test_spans_within_ten_bytes(header: str, spans: list[tuple[int, int]]) -> None:
    assert parse_range(header, 10) == [ByteSpan(*span) for span in spans]


@pytest.mark.parametrize(
    "header", ["bytes=10-", "bytes=10-20", "bytes=-0", "bytes=99-100,50-", "bytes=9223372036854775807-"]
)
def test_nothing_within_the_content_is_not_satisfiable(header: str) -> None:
    with pytest.raises(NotSatisfiable):
        parse_range(header, 10)


def test_an_empty_file_satisfies_no_range() -> None:
    for header in ("bytes=0-", "bytes=0-0", "bytes=-5"):
        with pytest.raises(NotSatisfiable):
            parse_range(header, 0)


@pytest.mark.parametrize(
    "header",
    [
        "", "bytes", "bytes=", "bytes=,", "bytes=-", "bytes=a-b", "bytes=1-b", "bytes=5-2", "bytes=0-1,5-2",
        "bytes=--1", "bytes=+1-2", "bytes=1_0-2_0", "bytes=1-2-3", "bytes=١-٢", "bytes=0x1-0x2", "bytes=1.0-2",
        "items=0-1", "bytes:0-1", "0-1", "bytes=" + "9" * 30 + "-", "bytes=1 -2",
    ],
)  # fmt: skip
def test_what_is_malformed_or_of_another_unit_is_ignored(header: str) -> None:
    """RFC 9110 section 14.2: an invalid ranges-specifier or unknown unit is as if there were none."""
    assert parse_range(header, 10) is None


def test_a_flood_of_ranges_is_ignored() -> None:
    assert parse_range("bytes=" + ",".join(["0-0"] * MOST_RANGES), 10) is not None
    assert parse_range("bytes=" + ",".join(["0-0"] * (MOST_RANGES + 1)), 10) is None


@given(header=st.text(max_size=40) | st.from_regex(r"bytes=[0-9,\- ]{0,30}", fullmatch=True), size=st.integers(0, 50))
def test_every_span_lies_within_the_content(header: str, size: int) -> None:
    try:
        spans = parse_range(header, size)
    except NotSatisfiable:
        return
    for span in spans or []:
        assert 0 <= span.first <= span.last < size


@given(st.lists(st.tuples(st.integers(0, 99), st.integers(0, 99)), min_size=1, max_size=MOST_RANGES))
def test_a_formatted_header_reads_back_as_the_same_spans(pairs: list[tuple[int, int]]) -> None:
    spans = [ByteSpan(min(pair), max(pair)) for pair in pairs]
    assert parse_range(format_range(spans), 100) == spans


@pytest.mark.parametrize(
    ("header", "matches"),
    [
        ('"a"', True), ('W/"a"', True), ('"b", "a"', True), ('"b",W/"a"', True), ("*", True), (" * ", True),
        ('"b"', False), ('"A"', False), ("a", False), ("", False), ('"a', False),
    ],
)  # fmt: skip
def test_if_none_match(header: str, matches: bool) -> None:
    assert etag_matches(header, '"a"') is matches


@pytest.mark.parametrize(
    ("header", "unmodified"),
    [(AT, True), (AFTER, True), (BEFORE, False), ("", False), ("yesterday", False),
     ("Mon, 99 Nov 2026 12:00:05 GMT", False)],
)  # fmt: skip
def test_if_modified_since(header: str, unmodified: bool) -> None:
    assert is_unmodified_since(header, MODIFIED) is unmodified


@pytest.mark.parametrize(
    ("header", "applies"),
    [
        ('"a"', True), ('"b"', False), ('W/"a"', False), (AT, True), (BEFORE, False), (AFTER, False), ("x", False),
        ("", False),
    ],
)  # fmt: skip
def test_if_range_must_name_exactly_this_version(header: str, applies: bool) -> None:
    """RFC 9110 section 13.1.5: strong comparison, and a date only when it is the very same."""
    assert range_still_applies(header, '"a"', MODIFIED) is applies
