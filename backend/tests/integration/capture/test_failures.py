"""What happens when something fails: each row of the table in docs/capture.md, on real sockets.

Times are shortened (`IN_A_HURRY`), numbers of tries are not.
"""

from __future__ import annotations

import gzip
import json
import os
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from email.utils import formatdate
from pathlib import Path

import anyio
import pytest
import urllib3

from support.bad_edge import (
    Answer,
    Asked,
    BadEdge,
    Line,
    closed_port,
    deaf_port,
    playlist_of,
    running_bad_edge,
    serve_well,
)
from support.capture_run import VIDEO_ID, KnownPlaylist, capture, service_of
from support.mp4_media import make_fragments, make_transport_segments
from vodkeep.capture.download import CanceledError, MediaClient, media_pool
from vodkeep.capture.fetch import Meter, SegmentFetcher
from vodkeep.capture.model import HoleCause, PacketCounts, Progress, ResolvedVod, Segment, Source
from vodkeep.capture.pace import Pace
from vodkeep.capture.patience import Patience
from vodkeep.capture.reel import Reel
from vodkeep.capture.service import Captured, CaptureService
from vodkeep.capture.transport_stream import read_transport_stream
from vodkeep.errors import Incomplete, NetworkError, RateLimited, ServerError, VodkeepError
from vodkeep.rate import RateLimiter
from vodkeep.telemetry.log import get_logger
from vodkeep_standin.serving.proxy import CertificateAuthority

pytestmark = pytest.mark.anyio

IN_A_HURRY = Patience(
    connect_s=5.0,
    silence_s=4.0,
    stall_s=5.0,
    backoff_base_s=0.005,
    backoff_cap_s=0.04,
    retry_after_cap_s=0.05,
    outage_s=0.15,
)
# For the rows that consist of waiting.
IN_A_GREAT_HURRY = replace(IN_A_HURRY, silence_s=0.2, stall_s=0.25)
CONNECTIONS = 4
SEGMENTS = 8
BAD = "5.ts"
WORKERS = ("segment", "part", "dismantle", "reel-sync", "decode")


@pytest.fixture(scope="module")
def bodies() -> dict[str, bytes]:
    segments = make_transport_segments("h264", "aac", seconds=2 * SEGMENTS)
    assert len(segments) == SEGMENTS
    return {f"{number}.ts": body for number, body in enumerate(segments)}


@pytest.fixture
def edge(bodies: dict[str, bytes]) -> Iterator[BadEdge]:
    with running_bad_edge() as edge:
        edge.contents.update(bodies)
        edge.contents["index.m3u8"] = playlist_of(list(bodies))
        yield edge
    assert_no_thread_left(2.0)


@pytest.fixture
def pool() -> Iterator[urllib3.PoolManager]:
    with media_pool(CONNECTIONS) as pool:
        yield pool


ServiceOf = Callable[..., CaptureService]


@pytest.fixture
def service_at(edge: BadEdge, tmp_path: Path, pool: urllib3.PoolManager) -> ServiceOf:
    """Makes the engine that captures from ``edge``."""

    def make(
        patience: Patience = IN_A_HURRY, resolver: KnownPlaylist | None = None, rate: RateLimiter | None = None
    ) -> CaptureService:
        playlist = resolver or KnownPlaylist(f"{edge.url}index.m3u8")
        return service_of(tmp_path, playlist, connections=CONNECTIONS, rate=rate, patience=patience, pool=pool)

    return make


def assert_no_thread_left(timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    for thread in threading.enumerate():
        if thread.name.startswith(WORKERS):
            thread.join(max(0.0, deadline - time.monotonic()))
            assert not thread.is_alive(), thread.name


class CountedPlaylist(KnownPlaylist):
    """A resolver that counts, and may hang at its ``hangs_at``-th answer."""

    def __init__(self, url: str, hangs_at: int | None = None) -> None:
        super().__init__(url)
        self.resolved = 0
        self.was_canceled = False
        self._hangs_at = hangs_at

    async def resolve(self, video_id: str, rendition: str | None = None) -> ResolvedVod:
        self.resolved += 1
        if self.resolved == self._hangs_at:
            try:
                await anyio.sleep_forever()
            finally:
                self.was_canceled = True
        return await super().resolve(video_id, rendition)


def proven(folder: Path) -> set[str]:
    """The names of the segments that count."""
    journal = folder / ".work" / VIDEO_ID / "journal.ndjson"
    lines = [json.loads(line) for line in journal.read_bytes().splitlines()] if journal.exists() else []
    return {line["name"] for line in lines if "sn" in line}


def packets_in(body: bytes) -> PacketCounts:
    samples = read_transport_stream(body)
    counts = {track.format.kind: track.count for track in samples.tracks}
    return PacketCounts(counts["video"], counts["audio"])


def check_hole(captured: Captured, bodies: dict[str, bytes], cause: HoleCause, names: tuple[str, ...] = (BAD,)) -> None:
    """Everything is there but ``names``, and nothing else is claimed."""
    numbers = [int(name.split(".")[0]) for name in names]
    assert {hole.media_sequence: hole.cause for hole in captured.holes} == dict.fromkeys(numbers, cause)
    assert captured.completeness == pytest.approx(1 - len(names) / SEGMENTS, abs=0.01)
    missing = sum((end - start for start, end in stretches(captured)), 0)
    assert missing == 2_000_000 * len(names)
    there = [packets_in(body) for name, body in bodies.items() if name not in names]
    assert captured.facts.packets == sum(there, PacketCounts(0, 0))


def stretches(captured: Captured) -> list[tuple[int, int]]:
    return [(one.start_us, one.end_us) for one in captured.ledger if one.source is Source.MISSING]


# --- Answers -----------------------------------------------------------------------------------------------------


def status(code: int, *headers: str) -> Answer:
    return lambda line, asked, content: line.answer(code, b"<html>No.</html>", *headers)


def cut_short(line: Line, asked: Asked, content: bytes) -> None:
    line.head(200, length=len(content))
    line.send(content[: len(content) // 2])
    line.hang_up()


def reset_within(line: Line, asked: Asked, content: bytes) -> None:
    line.head(200, length=len(content))
    line.send(content[: len(content) // 2])
    line.reset()


def longer_than_announced(line: Line, asked: Asked, content: bytes) -> None:
    line.head(200, length=len(content) - 1000)
    line.send(content)


def shorter_and_silent(line: Line, asked: Asked, content: bytes) -> None:
    line.head(200, length=len(content) + 1000)
    line.send(content)
    line.be_silent()


def without_length(line: Line, asked: Asked, content: bytes) -> None:
    line.head(200, "Connection: close")
    line.send(content)
    line.hang_up()


def chunked(line: Line, asked: Asked, content: bytes) -> None:
    line.head(200, "Transfer-Encoding: chunked")
    for start in range(0, len(content), 5000):
        piece = content[start : start + 5000]
        line.send(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
    line.send(b"0\r\n\r\n")


def chunked_and_cut_short(line: Line, asked: Asked, content: bytes) -> None:
    line.head(200, "Transfer-Encoding: chunked")
    piece = content[: 188 * 20]
    line.send(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
    line.hang_up()


def compressed(line: Line, asked: Asked, content: bytes) -> None:
    line.answer(200, gzip.compress(content), "Content-Encoding: gzip")


def a_part(line: Line, asked: Asked, content: bytes) -> None:
    """Whole packets, so that only the answer's head betrays it."""
    size = 188 * 40
    line.answer(206, content[:size], f"Content-Range: bytes 0-{size - 1}/{len(content)}")


def in_a_circle(line: Line, asked: Asked, content: bytes) -> None:
    line.answer(302, b"", f"Location: {asked.path}")


def silent(line: Line, asked: Asked, content: bytes) -> None:
    line.be_silent()


def silent_within(line: Line, asked: Asked, content: bytes) -> None:
    line.head(200, length=len(content))
    line.send(content[:5000])
    line.be_silent()


def dripping(line: Line, asked: Asked, content: bytes) -> None:
    line.head(200, length=len(content))
    line.drip(content, 0.05)


def dripping_head(line: Line, asked: Asked, content: bytes) -> None:
    line.drip(b"HTTP/1.1 200 OK\r\nX-Long: " + b"a" * 10_000, 0.05)


def dripping_refusal(line: Line, asked: Asked, content: bytes) -> None:
    line.head(503, length=1000)
    line.drip(b"<" * 1000, 0.05)


def not_http(line: Line, asked: Asked, content: bytes) -> None:
    line.send(b"SSH-2.0-OpenSSH_9.7\r\n\r\n")
    line.hang_up()


def damaged(line: Line, asked: Asked, content: bytes) -> None:
    body = bytearray(content)
    body[188 * 30] ^= 0xFF
    line.answer(200, bytes(body))


@dataclass(frozen=True)
class Row:
    """What one segment that is always answered so comes to."""

    name: str
    answer: Answer
    asked: int  # requests for it in one attempt
    cause: HoleCause
    error: type[VodkeepError] = ServerError  # when it befalls all segments
    resolved: int = 1
    patience: Patience = IN_A_HURRY

    def __str__(self) -> str:
        return self.name


def gone(name: str, answer: Answer, asked: int = 2, resolved: int = 1) -> Row:
    return Row(name, answer, asked, HoleCause.GONE, resolved=resolved)


def broken(name: str, answer: Answer) -> Row:
    return Row(name, answer, 3, HoleCause.DAMAGED)


def mute(
    name: str,
    answer: Answer,
    error: type[VodkeepError] = NetworkError,
    patience: Patience = IN_A_HURRY,
    asked: int = 6,
) -> Row:
    return Row(name, answer, asked, HoleCause.UNREACHABLE, error=error, patience=patience)


ROWS = [
    gone("404", status(404)),
    gone("410", status(410)),
    gone("416", status(416)),
    gone("451", status(451)),
    # The playlist is resolved again three times before a 403 is believed.
    gone("403", status(403), asked=5, resolved=4),
    broken("garbage", lambda line, asked, content: line.answer(200, os.urandom(20_000))),
    broken("HTML with status 200", lambda line, asked, content: line.answer(200, b"<html>Log in!</html>")),
    broken("empty", lambda line, asked, content: line.answer(200, b"")),
    broken("damaged packet", damaged),
    broken("longer than announced", longer_than_announced),
    broken("compressed", compressed),
    mute("500", status(500), ServerError),
    mute("503", status(503), ServerError),
    mute("503 with Retry-After", status(503, "Retry-After: 3600"), ServerError),
    mute("reset before the answer", lambda line, asked, content: line.reset()),
    mute("hung up before the answer", lambda line, asked, content: line.hang_up()),
    mute("reset within the body", reset_within),
    mute("truncated", cut_short),
    mute("chunked and truncated", chunked_and_cut_short),
    mute("without length", without_length, ServerError),
    mute("a part that nobody asked for", a_part, ServerError),
    mute("not HTTP", not_http),
    # Each try follows three redirections.
    mute("redirections in a circle", in_a_circle, ServerError, asked=24),
    mute("redirection to nowhere", status(302, "Location: http://["), ServerError),
]
SLOW_ROWS = [
    mute("no answer", silent, patience=IN_A_GREAT_HURRY),
    mute("silent within the body", silent_within, patience=IN_A_GREAT_HURRY),
    # Nearly all of it has come each time, so the rest is asked for.
    mute("shorter than announced", shorter_and_silent, asked=12, patience=IN_A_GREAT_HURRY),
    mute("dripping body", dripping, patience=IN_A_GREAT_HURRY),
    mute("dripping head", dripping_head, patience=IN_A_GREAT_HURRY),
    mute("dripping refusal", dripping_refusal, ServerError, patience=IN_A_GREAT_HURRY),
]


# --- One segment ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("row", ROWS, ids=str)
async def test_one_segment_that_cannot_be_had(
    row: Row, edge: BadEdge, bodies: dict[str, bytes], tmp_path: Path, service_at: ServiceOf
) -> None:
    """It costs a bounded number of requests, is never counted, and the rest can be finished without it.

    The second attempt meets nothing but failures, and still knows that from an outage.
    """
    edge.spoil_for_good(BAD, row.answer)
    resolver = CountedPlaylist(f"{edge.url}index.m3u8")
    service = service_at(patience=row.patience, resolver=resolver)
    with pytest.raises(Incomplete) as raised:
        await capture(service)
    assert (raised.value.code, raised.value.systemic) == ("incomplete", False)
    first = edge.counts()
    assert first.pop(BAD) == row.asked
    # At most one of the others is asked for again, as a witness.
    assert set(first) == set(bodies) - {BAD}
    assert first.total() <= SEGMENTS
    assert resolver.resolved == row.resolved
    assert proven(tmp_path) == set(bodies) - {BAD}

    asked = len(edge.segments_asked())
    captured = await capture(service, accept_holes=True)
    check_hole(captured, bodies, row.cause)
    second = edge.counts(asked)
    assert second.pop(BAD) == row.asked
    assert second.total() == 1  # the witness


@pytest.mark.parametrize("row", SLOW_ROWS, ids=str)
async def test_one_segment_that_takes_for_ever(
    row: Row, edge: BadEdge, bodies: dict[str, bytes], tmp_path: Path, service_at: ServiceOf
) -> None:
    edge.spoil_for_good(BAD, row.answer)
    captured = await capture(service_at(patience=row.patience), accept_holes=True)
    check_hole(captured, bodies, row.cause)
    # So short a silence may be one of a busy machine, and the witness's: then one more is needed.
    assert row.asked <= edge.counts()[BAD] <= row.asked + 1


async def test_once_is_not_always(
    edge: BadEdge, bodies: dict[str, bytes], tmp_path: Path, service_at: ServiceOf
) -> None:
    """Every misfortune befalls some segment once, several of different kinds each; each costs one more request."""
    costs_more = ("403", "redirections in a circle", "shorter than announced")
    rows = [row for row in ROWS + SLOW_ROWS if row.name not in costs_more]
    for number, name in enumerate(bodies):
        edge.spoil(name, *(row.answer for row in rows[number :: len(bodies)]))
    captured = await capture(service_at(patience=replace(IN_A_GREAT_HURRY, outage_s=Patience().outage_s)))
    assert captured.completeness == 1.0
    asked = edge.counts()
    for number, name in enumerate(bodies):
        spoilt = len(rows[number :: len(bodies)])
        # So short a silence may be one of a busy machine as well.
        assert 1 + spoilt <= asked[name] <= 3 + spoilt


@pytest.mark.parametrize("answer", [chunked, status(307, "Location: 5.ts?other")], ids=["chunked", "redirected"])
async def test_what_is_no_failure(answer: Answer, edge: BadEdge, tmp_path: Path, service_at: ServiceOf) -> None:
    edge.spoil(BAD, answer)
    assert (await capture(service_at())).completeness == 1.0
    assert edge.counts().total() <= SEGMENTS + 1


# --- All segments --------------------------------------------------------------------------------------------------


IN_THE_MIDDLE = ("404", "403", "garbage", "503", "reset within the body", "silent within the body")


@pytest.mark.parametrize(
    ("row", "after"),
    [*((row, 0) for row in ROWS + SLOW_ROWS), *((row, 4) for row in ROWS + SLOW_ROWS if row.name in IN_THE_MIDDLE)],
    ids=str,
)
async def test_an_outage(
    row: Row, after: int, edge: BadEdge, bodies: dict[str, bytes], tmp_path: Path, service_at: ServiceOf
) -> None:
    """The attempt ends with the cause, says nothing about any segment, and what was fetched is not fetched again."""
    edge.spoil_all(row.answer, after=after)
    service = service_at(patience=row.patience)
    begun = time.monotonic()
    with pytest.raises(VodkeepError) as raised:
        await capture(service, accept_holes=True)
    assert type(raised.value) is row.error
    assert (raised.value.code, raised.value.systemic) == (row.error.code, True)
    assert time.monotonic() - begun < 30
    kept = proven(tmp_path)
    assert len(kept) == after
    # Pauses grow, so a worker tries about ten times until it is an outage; each time a witness may be asked as well.
    assert edge.counts().total() <= after + CONNECTIONS * 30 * (4 if row.name.startswith("redirections") else 1)
    assert not (tmp_path / ".work" / VIDEO_ID / "out").exists()
    if after:
        edge.heal()
        asked = len(edge.segments_asked())
        assert (await capture(service)).completeness == 1.0
        assert edge.counts(asked) == dict.fromkeys(set(bodies) - kept, 1)


async def test_a_burst_of_errors_is_waited_out(edge: BadEdge, tmp_path: Path, service_at: ServiceOf) -> None:
    """Ten seconds of 5xx, as while an edge starts anew, here in a twentieth of the time."""
    usual = Patience()
    patience = replace(
        IN_A_HURRY,
        backoff_base_s=usual.backoff_base_s / 20,
        backoff_cap_s=usual.backoff_cap_s / 20,
        outage_s=usual.outage_s / 20,
    )
    ends: list[float] = []

    def for_a_while(line: Line, asked: Asked, content: bytes) -> None:
        if not ends:
            ends.append(time.monotonic() + 10 / 20)
        if time.monotonic() < ends[0]:
            line.answer(503, b"")
        else:
            serve_well(line, asked, content)

    edge.spoil_all(for_a_while, after=2)
    captured = await capture(service_at(patience=patience))
    assert captured.completeness == 1.0
    assert edge.counts().total() < SEGMENTS + CONNECTIONS * 20


@pytest.mark.parametrize(
    ("host", "everywhere"),
    [("closed", False), ("closed", True), ("untrusted", False), ("untrusted", True), ("unknown", True)],
)
async def test_a_host_that_is_dead(
    host: str, everywhere: bool, edge: BadEdge, bodies: dict[str, bytes], tmp_path: Path, service_at: ServiceOf
) -> None:
    """Three segments lie on a host that nobody can reach: holes, and no outage, because the others come."""
    dead = ("2.ts", "6.ts", "7.ts")  # The last ones too: when they fail, nothing succeeds any more.
    with untrusted_host() as untrusted:
        url = {"closed": closed_port(), "unknown": "http://media.invalid/vod/", "untrusted": untrusted.url}[host]
        uris = [f"{url}{name}" if everywhere or name in dead else name for name in bodies]
        edge.contents["index.m3u8"] = playlist_of(uris)
        service = service_at()
        if everywhere:
            with pytest.raises(NetworkError) as raised:
                await capture(service, accept_holes=True)
            assert raised.value.code == "network"
            assert proven(tmp_path) == set()
            return
        with pytest.raises(Incomplete):
            await capture(service)
        assert edge.counts().total() <= SEGMENTS  # a witness for each at the most
        captured = await capture(service, accept_holes=True)
        check_hole(captured, bodies, HoleCause.UNREACHABLE, dead)
        assert edge.counts().total() <= SEGMENTS + len(dead)


@contextmanager
def untrusted_host() -> Iterator[BadEdge]:
    """A host whose certificate is signed by nobody we trust; it counts who tried."""
    with running_bad_edge(CertificateAuthority().context("127.0.0.1")) as edge:
        yield edge


MANY = 60
# Three until it is found out, while all other connections may be trying too; and all tries of one segment.
FOR_A_DEAD_HOST = 2 + (CONNECTIONS - 1) + 6


def spread(edge: BadEdge, bodies: dict[str, bytes], url: str) -> list[str]:
    """A broadcast of `MANY` segments, two of three at ``url`` and the others at ``edge``; the names of these."""
    names = [f"{number}.ts" for number in range(MANY)]
    edge.contents |= dict(zip(names, list(bodies.values()) * (MANY // len(bodies) + 1), strict=False))
    uris = [name if number % 3 == 0 else f"{url}{name}" for number, name in enumerate(names)]
    lines = playlist_of(uris).decode().replace("#EXTINF", "#EXT-X-DISCONTINUITY\n#EXTINF")
    edge.contents["index.m3u8"] = lines.encode()
    return names[::3]


async def test_a_dead_host_is_tried_as_often_as_one_segment(
    edge: BadEdge, bodies: dict[str, bytes], tmp_path: Path, service_at: ServiceOf
) -> None:
    """Forty segments lie there. A few connections tell that nobody is there, and one segment makes sure."""
    with untrusted_host() as dead:
        there = spread(edge, bodies, dead.url)
        resolver = CountedPlaylist(f"{edge.url}index.m3u8")
        with pytest.raises(Incomplete, match=f"{MANY - len(there)} of {MANY} segments"):
            await capture(service_at(resolver=resolver))
        assert proven(tmp_path) == set(there)
        assert dead.connections <= FOR_A_DEAD_HOST
        assert edge.counts().total() <= len(there) + 1  # a witness
        assert resolver.resolved == 2  # It might have moved.
        captured = await capture(service_at(resolver=resolver), accept_holes=True)
        assert dead.connections <= 2 * FOR_A_DEAD_HOST
    assert {hole.cause for hole in captured.holes} == {HoleCause.UNREACHABLE}
    assert captured.completeness == pytest.approx(1 / 3, abs=0.01)


@pytest.mark.parametrize("how", ["resolved again", "redundant"])
async def test_another_host_is_used_where_one_is_offered(
    how: str, edge: BadEdge, bodies: dict[str, bytes], tmp_path: Path, service_at: ServiceOf
) -> None:
    """The same segments lie at another host: one that the playlist names once it is resolved again, or one whose
    playlist is a redundant variant."""
    with untrusted_host() as dead:
        spread(edge, bodies, dead.url)
        good = playlist_of([f"{number}.ts" for number in range(MANY)]).decode()
        edge.contents["good.m3u8"] = good.replace("#EXTINF", "#EXT-X-DISCONTINUITY\n#EXTINF").encode()

        class Moving(CountedPlaylist):
            async def resolve(self, video_id: str, rendition: str | None = None) -> ResolvedVod:
                resolved = await super().resolve(video_id, rendition)
                if how == "redundant":
                    return replace(resolved, playlist_url=f"{dead.url}index.m3u8", other_urls=(f"{edge.url}good.m3u8",))
                return resolved if self.resolved == 1 else replace(resolved, playlist_url=f"{edge.url}good.m3u8")

        resolver = Moving(f"{edge.url}index.m3u8")
        captured = await capture(service_at(resolver=resolver))
        assert captured.completeness == 1.0
        assert dead.connections <= FOR_A_DEAD_HOST
        assert edge.counts() == dict.fromkeys((f"{number}.ts" for number in range(MANY)), 1)
        assert resolver.resolved == (1 if how == "redundant" else 2)


async def test_a_host_that_comes_back_is_not_given_up(
    edge: BadEdge, bodies: dict[str, bytes], tmp_path: Path, service_at: ServiceOf
) -> None:
    """It starts anew, as an edge does, while everything else is fetched."""
    url = closed_port()
    port = int(url.split(":")[2].split("/")[0])
    there = spread(edge, bodies, url)
    patience = replace(IN_A_HURRY, backoff_base_s=0.1, backoff_cap_s=1.0, outage_s=15.0)
    with ExitStack() as stack:

        async def come_back() -> None:
            await anyio.to_thread.run_sync(edge.wait_for_requests, len(there))
            back = stack.enter_context(running_bad_edge(port=port))
            back.contents.update(edge.contents)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(come_back)
            captured = await capture(service_at(patience=patience))
    assert captured.completeness == 1.0


async def test_a_host_that_was_given_up_gets_one_try_now_and_then(
    edge: BadEdge, bodies: dict[str, bytes], tmp_path: Path, service_at: ServiceOf
) -> None:
    with untrusted_host() as dead:
        spread(edge, bodies, dead.url)
        captured = await capture(service_at(patience=replace(IN_A_HURRY, given_up_s=0.0)), accept_holes=True)
        assert len(captured.holes) == 40
        # One for each segment that is left when the first has tried in vain.
        assert 30 <= dead.connections <= 40 + FOR_A_DEAD_HOST


# --- 429, 403 ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("headers", [(), ("Retry-After: 3600",)], ids=["without Retry-After", "with Retry-After"])
async def test_asked_to_slow_down_for_ever(
    headers: tuple[str, ...], edge: BadEdge, tmp_path: Path, service_at: ServiceOf
) -> None:
    edge.spoil_for_good(BAD, status(429, *headers))
    with pytest.raises(RateLimited) as raised:
        await capture(service_at(), accept_holes=True)
    assert raised.value.code == "rate_limited"
    assert raised.value.delay_s == (3600 if headers else None)
    assert edge.counts()[BAD] == 8
    assert BAD not in proven(tmp_path)


@pytest.mark.parametrize("form", ["seconds", "date"])
@pytest.mark.parametrize("code", [429, 503])
async def test_retry_after_is_obeyed(
    code: int, form: str, edge: BadEdge, tmp_path: Path, service_at: ServiceOf
) -> None:
    # A date has no fractions of a second, so between one and two of them are left.
    when = "1" if form == "seconds" else formatdate(time.time() + 2, usegmt=True)
    times: list[float] = []

    def refuse_once(line: Line, asked: Asked, content: bytes) -> None:
        times.append(time.monotonic())
        if len(times) == 1:
            line.answer(code, b"", f"Retry-After: {when}")
        else:
            serve_well(line, asked, content)

    edge.spoil_for_good(BAD, refuse_once)
    captured = await capture(service_at(patience=replace(IN_A_HURRY, retry_after_cap_s=60)))
    assert captured.completeness == 1.0
    assert len(times) == 2
    assert 0.8 < times[1] - times[0] < 3


async def test_the_token_runs_out_half_way(edge: BadEdge, tmp_path: Path, service_at: ServiceOf) -> None:
    """403 for every address handed out before; one more resolution mends it for all."""
    resolver = CountedPlaylist(f"{edge.url}index.m3u8")

    def only_fresh(line: Line, asked: Asked, content: bytes) -> None:
        if resolver.resolved < 2:
            line.answer(403, b"")
        else:
            serve_well(line, asked, content)

    edge.spoil_all(only_fresh, after=3)
    assert (await capture(service_at(resolver=resolver))).completeness == 1.0
    assert resolver.resolved == 2
    assert edge.counts().total() <= SEGMENTS + CONNECTIONS


# --- What comes before the segments ----------------------------------------------------------------------------------


BEFORE = ("playlist", "init section")
BEFORE_ROWS = [
    ("404", status(404), 2, ServerError),
    ("403", status(403), 2, ServerError),
    ("429", status(429, "Retry-After: 3600"), 8, RateLimited),
    ("503", status(503), 6, ServerError),
    ("HTML", lambda line, asked, content: line.answer(200, b"<html>"), 3, ServerError),
    ("truncated", cut_short, 6, NetworkError),
    ("reset", lambda line, asked, content: line.reset(), 6, NetworkError),
    ("no answer", silent, 6, NetworkError),
    ("dripping body", dripping, 6, NetworkError),
]


def spoilt_before(edge: BadEdge, what: str) -> str:
    """A short broadcast in fragments; the name of what comes before its segments."""
    fragments = make_fragments(seconds=2)
    edge.contents |= {"init.mp4": fragments.init, "0.m4s": fragments.bodies[0]}
    edge.contents["index.m3u8"] = playlist_of(["0.m4s"], init="init.mp4")
    return "index.m3u8" if what == "playlist" else "init.mp4"


def asked_for(edge: BadEdge, name: str) -> int:
    return [asked.name for asked in edge.requests].count(name)


@pytest.mark.parametrize(
    ("answer", "tries", "error"), [row[1:] for row in BEFORE_ROWS], ids=[r[0] for r in BEFORE_ROWS]
)
@pytest.mark.parametrize("what", BEFORE)
async def test_without_it_nothing_begins(
    what: str,
    answer: Answer,
    tries: int,
    error: type[VodkeepError],
    edge: BadEdge,
    tmp_path: Path,
    service_at: ServiceOf,
) -> None:
    name = spoilt_before(edge, what)
    edge.spoil_for_good(name, answer)
    service = service_at(patience=IN_A_GREAT_HURRY)
    with pytest.raises(VodkeepError) as raised:
        await capture(service, accept_holes=True)
    assert type(raised.value) is error
    assert asked_for(edge, name) == tries
    assert proven(tmp_path) == set()
    edge.heal()
    assert (await capture(service)).completeness == 1.0


@pytest.mark.parametrize("what", BEFORE)
async def test_a_bad_moment_before_the_segments_is_waited_out(
    what: str, edge: BadEdge, tmp_path: Path, service_at: ServiceOf
) -> None:
    """Each misfortune once, in a row: no try is used up by another kind of failure."""
    name = spoilt_before(edge, what)
    answers = [answer for _, answer, _, _ in BEFORE_ROWS if answer is not BEFORE_ROWS[1][1]]
    edge.spoil(name, *answers)
    captured = await capture(service_at(patience=IN_A_GREAT_HURRY))
    assert captured.completeness == 1.0
    assert asked_for(edge, name) == len(answers) + 1


@pytest.mark.parametrize("what", BEFORE)
async def test_retry_after_is_obeyed_before_the_segments(
    what: str, edge: BadEdge, tmp_path: Path, service_at: ServiceOf
) -> None:
    name = spoilt_before(edge, what)
    times: list[float] = []

    def refuse_once(line: Line, asked: Asked, content: bytes) -> None:
        times.append(time.monotonic())
        if len(times) == 1:
            line.answer(503, b"", "Retry-After: 1")
        else:
            serve_well(line, asked, content)

    edge.spoil_for_good(name, refuse_once)
    captured = await capture(service_at(patience=replace(IN_A_HURRY, retry_after_cap_s=60)))
    assert captured.completeness == 1.0
    assert len(times) == 2
    assert times[1] - times[0] > 0.8


@pytest.mark.parametrize("what", BEFORE)
async def test_cancel_wakes_who_waits_for_his_next_try(
    what: str, edge: BadEdge, tmp_path: Path, service_at: ServiceOf
) -> None:
    name = spoilt_before(edge, what)
    edge.spoil_for_good(name, status(503, "Retry-After: 60"))
    service = service_at(patience=Patience())
    await cancel_when(service, lambda: until(lambda: asked_for(edge, name) == 1))


# --- Cancellation ----------------------------------------------------------------------------------------------------


async def until(condition: Callable[[], bool]) -> None:
    """Look again and again: files and threads announce nothing."""
    with anyio.fail_after(60):
        while not condition():  # noqa: ASYNC110
            await anyio.sleep(0.01)


async def cancel_when(service: CaptureService, ready: Callable[[], Awaitable[None]]) -> None:
    """Cancel a capture once ``ready`` returns; it ends within two seconds and says nothing afterwards."""
    said: list[Progress] = []
    ended = anyio.Event()

    async def run() -> None:
        try:
            await capture(service, on_progress=said.append)
        finally:
            ended.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run)
        await ready()
        begun = time.monotonic()
        tasks.cancel_scope.cancel()
    assert ended.is_set()
    assert time.monotonic() - begun < 8.0  # Two, where nothing else runs; what waits here would wait longer by far.
    before = len(said)
    folder = service.work_folder(VIDEO_ID).path
    files = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    await anyio.to_thread.run_sync(assert_no_thread_left, 3.0)
    assert len(said) == before
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == files


@pytest.mark.parametrize(
    "answer",
    [silent, silent_within, dripping, dripping_head, dripping_refusal, status(503, "Retry-After: 60"),
     status(429, "Retry-After: 60")],
    ids=["no answer", "silent body", "dripping body", "dripping head", "dripping refusal", "503 pause", "429 pause"],
)  # fmt: skip
async def test_cancel_wakes_whatever_waits(
    answer: Answer, edge: BadEdge, tmp_path: Path, service_at: ServiceOf
) -> None:
    edge.spoil_all(answer, after=2)
    service = service_at(patience=Patience())

    async def ready() -> None:
        await anyio.to_thread.run_sync(edge.wait_for_requests, 4)
        await until(lambda: len(proven(tmp_path)) == 2)

    begun = time.monotonic()
    await cancel_when(service, ready)
    assert_no_thread_left(0.0)  # Nobody was left behind to end by itself.
    assert time.monotonic() - begun < 40
    assert len(proven(tmp_path)) == 2


@pytest.mark.parametrize("name", ["index.m3u8", "init.mp4"])
async def test_cancel_before_the_first_segment(name: str, edge: BadEdge, tmp_path: Path, service_at: ServiceOf) -> None:
    edge.contents["index.m3u8"] = playlist_of(["0.m4s"], init="init.mp4")
    edge.spoil_for_good(name, silent)
    service = service_at(patience=Patience())
    await cancel_when(service, lambda: until(lambda: any(asked.name == name for asked in edge.requests)))


async def test_cancel_while_our_own_limit_holds_back(edge: BadEdge, tmp_path: Path, service_at: ServiceOf) -> None:
    service = service_at(rate=RateLimiter(1000))
    await cancel_when(service, lambda: until(lambda: len(edge.segments_asked()) >= 1))
    assert proven(tmp_path) == set()


async def test_cancel_while_it_is_resolved_again(edge: BadEdge, tmp_path: Path, service_at: ServiceOf) -> None:
    """The resolver is a child process; it must not outlive the capture that asked."""
    resolver = CountedPlaylist(f"{edge.url}index.m3u8", hangs_at=2)
    edge.spoil_all(status(403), after=2)
    service = service_at(patience=Patience(), resolver=resolver)
    await cancel_when(service, lambda: until(lambda: resolver.resolved == 2))
    assert resolver.was_canceled


@pytest.mark.parametrize("phase", ["connecting", "shaking hands"])
async def test_cancel_leaves_behind_what_cannot_be_woken(
    phase: str, edge: BadEdge, tmp_path: Path, service_at: ServiceOf
) -> None:
    """Such a thread ends by itself, and touches nothing until then."""
    with deaf_port(accepts=phase != "connecting") as deaf:
        url = deaf if phase == "connecting" else deaf.replace("http:", "https:")
        edge.contents["index.m3u8"] = playlist_of([f"{url}{number}.ts" for number in range(4)])
        service = service_at(patience=Patience(connect_s=3.0, silence_s=3.0))

        def is_connecting() -> bool:
            return any(thread.name.startswith("segment") for thread in threading.enumerate())

        await cancel_when(service, lambda: until(is_connecting))


async def test_nobody_writes_into_a_reel_that_is_given_up(
    pool: urllib3.PoolManager, edge: BadEdge, bodies: dict[str, bytes], tmp_path: Path
) -> None:
    """A segment that is being written at the moment of the cancellation is waited for; none begins after it."""
    writing, go_on = threading.Event(), threading.Event()
    appended: list[int] = []

    class SlowReel(Reel):
        @property
        def is_begun(self) -> bool:
            return True

        def append(self, media_sequence: int, *_: object) -> None:  # type: ignore[override]
            writing.set()
            go_on.wait(10)
            appended.append(media_sequence)
            raise NetworkError("enough")

    cancel = threading.Event()
    client = MediaClient(pool, RateLimiter(None), "vodkeep/test", IN_A_HURRY)
    fetcher = SegmentFetcher(
        client,
        SlowReel(tmp_path, VIDEO_ID),
        Meter(SEGMENTS, SEGMENTS * 2_000_000),
        Pace(CONNECTIONS),
        most_connections=CONNECTIONS,
        cancel=cancel,
        inits={},
        begin_reel=lambda _: None,
        refresh=lambda: pytest.fail("nothing has run out"),
        log=get_logger("vod_download"),
        patience=IN_A_HURRY,
    )
    segments = [Segment(n, n, f"{edge.url}{n}.ts", n * 2_000_000, 2_000_000) for n in range(SEGMENTS)]
    raised: list[BaseException] = []

    def fetch() -> None:
        try:
            fetcher.fetch(segments)
        except CanceledError as error:
            raised.append(error)

    fetching = threading.Thread(target=fetch)
    fetching.start()
    assert writing.wait(10)
    cancel.set()
    client.abort()
    fetcher.wake()
    settled = threading.Event()

    def settle() -> None:
        fetcher.settle()
        settled.set()

    settling = threading.Thread(target=settle)
    settling.start()
    assert not settled.wait(0.2)
    go_on.set()
    assert settled.wait(10)
    assert len(appended) == 1
    fetching.join(10)
    settling.join(10)
    assert len(appended) == 1
    assert len(raised) == 1
