from __future__ import annotations

import pytest

from vodkeep.publish.resumable import (
    UNIT_BYTES,
    begin_headers,
    chunk_end,
    chunk_headers,
    is_trusted,
    kept_bytes,
    question_headers,
)


def test_headers_are_those_of_the_protocol() -> None:
    assert begin_headers(1000, "video/mp4")["X-Upload-Content-Length"] == "1000"
    assert question_headers(1000) == {"Content-Length": "0", "Content-Range": "bytes */1000"}
    assert chunk_headers(0, 262_144, 1_000_000, "video/mp4") == {
        "Content-Length": "262144",
        "Content-Range": "bytes 0-262143/1000000",
        "Content-Type": "video/mp4",
    }


def test_chunks_are_whole_units_but_for_the_last() -> None:
    size = 10 * UNIT_BYTES + 5
    assert chunk_end(0, size, 4 * UNIT_BYTES + 7) == 4 * UNIT_BYTES
    assert chunk_end(0, size, 1) == UNIT_BYTES
    assert chunk_end(8 * UNIT_BYTES, size, 4 * UNIT_BYTES) == size
    assert chunk_end(3, 5, UNIT_BYTES) == 5


@pytest.mark.parametrize(
    ("headers", "kept"),
    [
        ({}, 0),
        ({"range": "bytes=0-262143"}, 262_144),
        ({"range": "0-0"}, 1),
        ({"range": "bytes=0-999"}, 1000),
        ({"range": "bytes=0-1000"}, None),
        ({"range": "bytes=5-10"}, None),
        ({"range": "bytes=0-"}, None),
        ({"range": "junk"}, None),
    ],
    ids=str,
)
def test_how_much_is_kept(headers: dict[str, str], kept: int | None) -> None:
    assert kept_bytes(headers, 1000 if "262143" not in str(headers) else 10**6) == kept


@pytest.mark.parametrize(
    ("address", "trusted"),
    [
        ("https://www.googleapis.com/upload?upload_id=a", True),
        ("https://storage.googleapis.com/upload", True),
        ("http://www.googleapis.com/upload", False),
        ("https://evil.example/upload", False),
        ("https://evilgoogleapis.com/upload", False),
        ("https://www.googleapis.com.evil.example/", False),
        ("https://[broken", False),
        ("", False),
    ],
)
def test_a_token_goes_to_youtube_only(address: str, trusted: bool) -> None:
    assert is_trusted(address, "https://www.googleapis.com") is trusted


def test_tests_may_have_another_host() -> None:
    assert is_trusted("http://127.0.0.1:80/x", "http://127.0.0.1:80")
    assert not is_trusted("http://127.0.0.1:81/x", "http://127.0.0.1:80")
