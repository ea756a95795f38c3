"""Our client against the stand-in's YouTube, with a clock that never waits and a ledger that only counts."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import anyio.lowlevel

from vodkeep.clock import SystemClock
from vodkeep.publish.client import YouTube
from vodkeep.publish.exchange import Limits, open_session
from vodkeep.publish.model import Finished, VideoMetadata
from vodkeep.publish.resumable import UNIT_BYTES
from vodkeep.publish.upload import Persistence
from vodkeep.rate import RateLimiter
from vodkeep_standin.server import Standin

RESET = datetime(2026, 11, 24, 8, 0, tzinfo=UTC)
METADATA = VideoMetadata(
    "A title", "Words.\nVodkeep 1/1.1", ("one", "two words"), recorded_at=datetime(2026, 11, 1, tzinfo=UTC)
)


class QuickClock(SystemClock):
    """Tells the real time and never waits; what it was asked to wait is kept in ``waits_s``."""

    def __init__(self) -> None:
        self.waits_s: list[float] = []

    async def sleep(self, seconds: float) -> None:
        """Only let others run."""
        self.waits_s.append(seconds)
        await anyio.lowlevel.checkpoint()


class Tokens:
    """Tokens of the stand-in; a refused one is replaced."""

    def __init__(self, standin: Standin) -> None:
        self._standin = standin
        self.value = standin.world.google_tokens.issue().value
        self.renewed = 0
        self.stubborn = False

    async def access_token(self, *, rejected: str | None = None) -> str:
        """The present token, or a new one."""
        if rejected == self.value and not self.stubborn:
            self.renewed += 1
            self.value = self._standin.world.google_tokens.issue().value
        return self.value


@dataclass
class CountedSpending:
    """Counts calls; every limit is renewed at ``RESET``."""

    calls: Counter[str] = field(default_factory=Counter)
    exhausted_by: list[str] = field(default_factory=list)

    async def spend(self, method: str) -> None:
        """Count."""
        self.calls[method] += 1

    async def exhausted(self, method: str) -> datetime:
        """Remember."""
        self.exhausted_by.append(method)
        return RESET


@dataclass
class Upload:
    """What was told about an upload while it ran."""

    sent: list[int] = field(default_factory=list)
    committed: list[int] = field(default_factory=list)
    confirmed: int = 0

    async def on_committed(self, position: int) -> None:
        """Remember."""
        self.committed.append(position)

    async def confirm(self) -> None:
        """Count."""
        self.confirmed += 1


@dataclass
class Connection:
    """A client and everything it was given."""

    youtube: YouTube
    tokens: Tokens
    spending: CountedSpending
    clock: QuickClock

    async def send(self, session_uri: str, path: Path, *, start: int = 0, upload: Upload | None = None) -> Finished:
        """Send a file and note what is said meanwhile."""
        told = upload if upload is not None else Upload()
        return await self.youtube.send(
            session_uri,
            path,
            size_bytes=path.stat().st_size,
            start=start,
            on_sent=told.sent.append,
            on_committed=told.on_committed,
            confirm=told.confirm,
        )


@asynccontextmanager
async def connected(
    standin: Standin,
    *,
    chunk_bytes: int = 4 * UNIT_BYTES,
    rate: int | None = None,
    stall_s: float = 60.0,
    failures: int = 6,
) -> AsyncIterator[Connection]:
    """A client of the stand-in."""
    clock, tokens, spending = QuickClock(), Tokens(standin), CountedSpending()
    async with open_session() as session:
        youtube = YouTube(
            session,
            tokens=tokens,
            spending=spending,
            api_url=standin.http_url,
            clock=clock,
            rng=random.Random(1),
            limiter=RateLimiter(rate),
            chunk_bytes=chunk_bytes,
            limits=Limits(stall_s=stall_s),
            persistence=Persistence(failures=failures),
        )
        yield Connection(youtube, tokens, spending, clock)
