"""The server that stands in where nginx is not installed."""

from __future__ import annotations

import http.client
import os
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from bench.capture.server import Profile, Server, serving

SLOW_BYTES_S = 1_000_000
RAW = Profile("raw", 0.0, None, "raw")
SLOW = Profile("slow", 0.05, SLOW_BYTES_S, "slow")


@pytest.fixture
def content() -> bytes:
    return os.urandom(300_000)


@pytest.fixture
def server(tmp_path: Path, content: bytes) -> Iterator[Server]:
    media, work = tmp_path / "media", tmp_path / "work"
    media.mkdir()
    work.mkdir()
    (media / "0.ts").write_bytes(content)
    (tmp_path / "secret").write_text("not for anybody")
    with serving(media, work, [RAW, SLOW], own=True) as running:
        yield running


@pytest.fixture
def raw(server: Server) -> Iterator[http.client.HTTPConnection]:
    connection = http.client.HTTPConnection(urlsplit(server.addresses["raw"]).netloc, timeout=60)
    yield connection
    connection.close()


def get(connection: http.client.HTTPConnection, path: str, **headers: str) -> tuple[int, bytes]:
    connection.request("GET", path, headers=headers)
    answer = connection.getresponse()
    return answer.status, answer.read()


def test_files_come_whole_and_in_ranges_over_one_connection(raw: http.client.HTTPConnection, content: bytes) -> None:
    assert get(raw, "/0.ts") == (200, content)
    assert get(raw, "/0.ts", Range="bytes=1000-1999") == (206, content[1000:2000])
    assert get(raw, "/0.ts", Range="bytes=299000-") == (206, content[299000:])
    assert get(raw, "/1.ts") == (404, b"")
    assert get(raw, "/../secret") == (404, b"")


def test_every_request_waits_and_every_connection_is_capped(server: Server, content: bytes) -> None:
    connection = http.client.HTTPConnection(urlsplit(server.addresses["slow"]).netloc, timeout=60)
    started = time.monotonic()
    assert get(connection, "/0.ts") == (200, content)
    elapsed_s = time.monotonic() - started
    connection.close()

    assert elapsed_s >= 0.05 + len(content) / SLOW_BYTES_S


def test_its_own_processor_time_is_known(server: Server, raw: http.client.HTTPConnection) -> None:
    before = server.cpu_s()
    for _ in range(20):
        get(raw, "/0.ts")

    assert before < server.cpu_s() < before + 5
