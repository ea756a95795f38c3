"""Bodies in parts, and parts of bodies: what a client makes of servers that handle ranges badly."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from support.bad_edge import Answer, Asked, BadEdge, Line, running_bad_edge, serve_well
from vodkeep.capture.download import GoneError, MediaClient, media_pool
from vodkeep.capture.model import ByteRange
from vodkeep.capture.patience import Patience
from vodkeep.errors import NetworkError, ServerError, VodkeepError
from vodkeep.rate import RateLimiter

SIZE = 400_000
PARTS = 4
CONTENT = random.Random(7).randbytes(SIZE)


@pytest.fixture
def edge() -> Iterator[BadEdge]:
    with running_bad_edge() as edge:
        edge.contents["a"] = CONTENT
        yield edge


@pytest.fixture
def client() -> Iterator[MediaClient]:
    with media_pool(PARTS) as pool:
        yield MediaClient(pool, RateLimiter(None), "vodkeep/test", Patience(connect_s=1, silence_s=1, stall_s=2))


def in_parts(client: MediaClient, edge: BadEdge) -> bytes:
    with ThreadPoolExecutor(PARTS) as executor:
        return bytes(client.fetch_body(f"{edge.url}a", threading.Event(), part_bytes=SIZE // PARTS, executor=executor))


def whole(client: MediaClient, edge: BadEdge) -> bytes:
    return bytes(client.fetch_body(f"{edge.url}a", threading.Event()))


def part(line: Line, first: int, last: int, *, total: int = SIZE, claimed: int | None = None) -> None:
    claimed = first if claimed is None else claimed
    line.answer(206, CONTENT[first : last + 1], f"Content-Range: bytes {claimed}-{claimed + last - first}/{total}")


def ignores_ranges(line: Line, asked: Asked, content: bytes) -> None:
    line.answer(200, content)


def another_part(line: Line, asked: Asked, content: bytes) -> None:
    assert asked.range is not None
    first, last = asked.range
    part(line, first, last, claimed=first + 188)


def no_content_range(line: Line, asked: Asked, content: bytes) -> None:
    assert asked.range is not None
    line.answer(206, content[asked.range[0] : asked.range[1] + 1])


def more_than_asked(line: Line, asked: Asked, content: bytes) -> None:
    assert asked.range is not None
    first, _ = asked.range
    part(line, first, SIZE - 1)


def ignores_later_ranges(line: Line, asked: Asked, content: bytes) -> None:
    """It is another resource by now, one that is just as long as the part."""
    assert asked.range is not None
    if asked.range[0] == 0:
        serve_well(line, asked, content)
    else:
        line.answer(200, bytes(asked.range[1] + 1 - asked.range[0]))


def absurdly_large(line: Line, asked: Asked, content: bytes) -> None:
    line.answer(206, content[:10], "Content-Range: bytes 0-9/999999999999")


def refuses_later_parts(line: Line, asked: Asked, content: bytes) -> None:
    assert asked.range is not None
    if asked.range[0] == 0:
        serve_well(line, asked, content)
    else:
        line.answer(416, b"", f"Content-Range: bytes */{SIZE}")


def test_parts_of_a_body(client: MediaClient, edge: BadEdge) -> None:
    assert in_parts(client, edge) == CONTENT
    assert len(edge.requests) == PARTS


def test_a_server_that_ignores_ranges_is_asked_once(client: MediaClient, edge: BadEdge) -> None:
    edge.spoil_for_good("a", ignores_ranges)
    assert in_parts(client, edge) == CONTENT
    assert len(edge.requests) == 1


@pytest.mark.parametrize(
    ("answer", "error", "requests"),
    [
        (another_part, ServerError, PARTS),
        (no_content_range, ServerError, 1),
        (more_than_asked, ServerError, PARTS),
        (ignores_later_ranges, ServerError, PARTS),
        (absurdly_large, ServerError, 1),
        (refuses_later_parts, GoneError, PARTS),
    ],
)
def test_bad_parts(answer: Answer, error: type[Exception], requests: int, client: MediaClient, edge: BadEdge) -> None:
    edge.spoil_for_good("a", answer)
    with pytest.raises(error):
        in_parts(client, edge)
    assert len(edge.requests) == requests


@pytest.mark.parametrize("answer", [ignores_ranges, another_part, no_content_range, more_than_asked])
def test_bad_answers_to_a_range_of_the_playlist(answer: Answer, client: MediaClient, edge: BadEdge) -> None:
    """A segment that is a part of a file (EXT-X-BYTERANGE) is never anything but that part."""
    edge.spoil_for_good("a", answer)
    with pytest.raises(VodkeepError):
        client.fetch_body(f"{edge.url}a", threading.Event(), byte_range=ByteRange(1000, 5000))
    edge.heal()
    body = client.fetch_body(f"{edge.url}a", threading.Event(), byte_range=ByteRange(1000, 5000))
    assert bytes(body) == CONTENT[5000:6000]


def breaks_off_after(size: int, *, by_reset: bool = False) -> Answer:
    def answer(line: Line, asked: Asked, content: bytes) -> None:
        first = asked.range[0] if asked.range else 0
        head = f"Content-Range: bytes {first}-{SIZE - 1}/{SIZE}" if asked.range else "X-Whole: 1"
        line.head(206 if asked.range else 200, head, length=SIZE - first)
        line.send(content[first : first + size])
        if by_reset:
            line.reset()
        else:
            line.hang_up()

    return answer


def test_a_body_that_breaks_off_goes_on_from_there(client: MediaClient, edge: BadEdge) -> None:
    edge.spoil("a", breaks_off_after(150_000), breaks_off_after(150_000))
    assert whole(client, edge) == CONTENT
    starts = [asked.range[0] if asked.range else 0 for asked in edge.requests]
    assert len(starts) == 3
    assert starts == sorted(starts)
    assert starts[1] > 100_000


def falls_silent_after(size: int) -> Answer:
    def answer(line: Line, asked: Asked, content: bytes) -> None:
        line.head(200, length=SIZE)
        line.send(content[:size])
        line.be_silent()

    return answer


def test_no_byte_that_came_before_a_silence_is_asked_for_again(client: MediaClient, edge: BadEdge) -> None:
    edge.spoil("a", falls_silent_after(150_001))
    assert whole(client, edge) == CONTENT
    assert [asked.range for asked in edge.requests] == [None, (150_001, SIZE - 1)]


def test_a_body_that_breaks_off_again_and_again_is_given_up(client: MediaClient, edge: BadEdge) -> None:
    """Whoever lets a body go on only in small pieces would keep us for ever."""
    edge.spoil_for_good("a", breaks_off_after(140_000))
    edge.contents["a"] = CONTENT
    edge.spoil("a", breaks_off_after(150_000), breaks_off_after(2000))
    with pytest.raises(NetworkError):
        whole(client, edge)
    assert len(edge.requests) == 2


def test_a_body_goes_on_only_at_the_place_where_it_broke_off(client: MediaClient, edge: BadEdge) -> None:
    edge.spoil("a", breaks_off_after(150_000), another_part)
    with pytest.raises(ServerError):
        whole(client, edge)


def test_the_watch_ends_with_the_last_request(client: MediaClient, edge: BadEdge) -> None:
    whole(client, edge)
    for thread in threading.enumerate():
        if thread.name == "media-watch":
            thread.join(5)
            assert not thread.is_alive()
    assert whole(client, edge) == CONTENT
