"""The client for a VOD's own chat against the stand-in."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator

import aiohttp
import pytest

from vodkeep.chat.comments import CommentsClient, Patience
from vodkeep.clock import SystemClock
from vodkeep.errors import NetworkError, PermanentError, ServerError
from vodkeep.telemetry.log import get_logger
from vodkeep_standin.faults.base import Fault
from vodkeep_standin.faults.garbage import Garbage
from vodkeep_standin.faults.gql_comments import OPERATION, GqlComments
from vodkeep_standin.faults.reset import Reset
from vodkeep_standin.faults.rule import AnyFault
from vodkeep_standin.faults.status import Status
from vodkeep_standin.faults.truncate import Truncate
from vodkeep_standin.scenario import ids
from vodkeep_standin.scenario.chat import VideoChat
from vodkeep_standin.server import Standin

pytestmark = pytest.mark.anyio

QUICK = Patience(exchange_s=60.0, connect_s=30.0, read_s=30.0, backoff_base_s=0.001, backoff_cap_s=0.002)


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as opened:
        yield opened


@pytest.fixture
def client(standin: Standin, session: aiohttp.ClientSession) -> CommentsClient:
    standin.scenario.update_video(ids.PLAIN, chat=VideoChat(per_second=12))
    return CommentsClient(
        session,
        gql_url=f"{standin.http_url}/gql",
        client_id="kimne78",
        clock=SystemClock(),
        rng=random.Random(1),
        log=get_logger("test"),
        patience=QUICK,
    )


async def ids_of(client: CommentsClient, start_ms: int = 0, end_ms: int = 30_000) -> list[str]:
    found: dict[str, None] = {}
    known = -1
    async for taken in client.read(ids.PLAIN, start_ms, end_ms):
        assert not taken.holes
        found |= {comment.id: None for comment in taken.comments}
        known = taken.known_to_ms
    assert known == -(-end_ms // 1000) * 1000
    return list(found)


def said(standin: Standin, start_ms: int = 0, end_ms: int = 30_000) -> list[str]:
    script = standin.world.chat_script(standin.scenario.videos[ids.PLAIN])
    return [line.id for line in script.between(start_ms, end_ms)]


MISFORTUNES: dict[str, tuple[AnyFault, int | None]] = {
    "integrity": (GqlComments(form="integrity"), None),
    "empty pages": (GqlComments(form="empty"), 2),
    "an end that is none": (GqlComments(form="no_more"), 1),
    "the same page again": (GqlComments(form="repeated"), 3),
    "null comments": (GqlComments(form="null_comments"), 3),
    "null commenters": (GqlComments(form="null_commenters"), None),
    "server errors": (Status(503), 4),
    "rate limit": (Status(429, retry_after="0"), 2),
    "reset": (Reset(), 3),
    "cut off": (Truncate(after_bytes=100), 3),
    "garbage": (Garbage(), 2),
}


@pytest.mark.parametrize("name", MISFORTUNES)
@pytest.mark.parametrize("after", [0, 2])
async def test_the_whole_chat_comes_through(client: CommentsClient, standin: Standin, name: str, after: int) -> None:
    fault, count = MISFORTUNES[name]
    standin.faults.add(fault, operation=OPERATION, count=count, after=after)
    assert await ids_of(client) == said(standin)


async def test_a_range_is_read_alone(client: CommentsClient, standin: Standin) -> None:
    assert await ids_of(client, 10_000, 20_000) == said(standin, 10_000, 20_000)
    assert len(standin.requests.entries("/gql")) <= 5


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        pytest.param(Status(500), ServerError, id="server errors"),
        pytest.param(Reset(), NetworkError, id="no answer"),
        pytest.param(GqlComments(form="null_comments"), ServerError, id="errors inside"),
        pytest.param(GqlComments(form="repeated"), ServerError, id="a circle"),
    ],
)
async def test_patience_has_an_end(
    client: CommentsClient, standin: Standin, fault: Fault, kind: type[Exception]
) -> None:
    standin.faults.add(fault, operation=OPERATION)  # type: ignore[arg-type]
    with pytest.raises(kind):
        await ids_of(client, 0, 3_600_000)
    assert len(standin.requests.entries("/gql")) < 40


async def test_a_deleted_video_is_told_apart_from_a_chat_that_is_not_offered(
    client: CommentsClient, standin: Standin
) -> None:
    standin.scenario.update_video(ids.PLAIN, chat=VideoChat(disabled=True))
    with pytest.raises(PermanentError) as caught:
        await ids_of(client)
    assert caught.value.code == "chat_not_offered"
    standin.scenario.update_video(ids.PLAIN, deleted=True)
    with pytest.raises(PermanentError) as caught:
        await ids_of(client)
    assert caught.value.code == "deleted"
