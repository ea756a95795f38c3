"""What the recorder of each process says about itself, in ``kv``, for ``/status`` and ``vodkeep status`` of any other.

A note is written when something in it has changed, and every half a minute. It counts as long as its process is alive,
which that one's lease tells; what the dead leave behind is removed by the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta

import anyio
import msgspec
from sqlalchemy import delete, select

from vodkeep.clock import Clock
from vodkeep.db.engine import Database, UnitOfWork
from vodkeep.db.kv import KvStore
from vodkeep.db.tables import kv
from vodkeep.errors import DatabaseUnavailable

PREFIX = "chat_recorder:"
"""The key of a note in ``kv`` is this and the name of the process."""

_LOOK_S = 2.0
_REPEAT = timedelta(seconds=30)
_FORGET = 3 * _REPEAT
_FAREWELL_S = 2.0

# Names of channels that a note repeats at most; a thousand belong into the log.
_MOST_REFUSED = 20


class LoginTrouble(msgspec.Struct, frozen=True):
    """Why the account cannot be used; chat is read anonymously meanwhile."""

    account: str
    reason: str
    since: datetime
    retry_at: datetime


class RecorderNote(msgspec.Struct, frozen=True):
    """How a recorder is doing."""

    enabled: bool
    reason: str = ""  # why it is not enabled
    remedy: str = ""
    connections: int = 0  # that are up
    channels: int = 0  # that it should be in
    joined: int = 0  # that it is in
    refused: dict[str, str] = {}  # channels that Twitch does not let us into, and why
    login_failure: LoginTrouble | None = None
    connection_failure: str | None = None  # why a connection is not up
    spool_bytes: int = 0  # on disk and not in the database yet
    problem: str | None = None  # why what is said is not stored

    @classmethod
    def shortened(cls, refused: dict[str, str]) -> dict[str, str]:
        """As many of ``refused`` as a note takes."""
        return dict(sorted(refused.items())[:_MOST_REFUSED])


class RecorderNotes:
    """Keeps the note of this process up to date."""

    def __init__(self, database: Database, clock: Clock, holder: str, tell: Callable[[], RecorderNote]) -> None:
        self._database = database
        self._clock = clock
        self._key = f"{PREFIX}{holder}"
        self._tell = tell

    async def run(self) -> None:
        """Write the note again and again, until canceled; then take it back."""
        written: RecorderNote | None = None
        written_at = self._clock.now()
        try:
            while True:
                note, now = self._tell(), self._clock.now()
                if note != written or now - written_at >= _REPEAT:
                    with_note = msgspec.json.encode(note).decode()
                    try:
                        await self._database.run(lambda unit: self._write(unit, with_note, now))  # noqa: B023 - awaited
                    except DatabaseUnavailable:
                        pass  # It is told when the database is back; others say that it is away.
                    else:
                        written, written_at = note, now
                await self._clock.sleep(_LOOK_S)
        finally:
            with anyio.move_on_after(_FAREWELL_S, shield=True):
                await self._take_back()

    def _write(self, unit: UnitOfWork, text: str, now: datetime) -> None:
        KvStore(unit.connection).set(self._key, text, now)
        # Of those that were killed.
        unit.connection.execute(
            delete(kv).where(kv.c.channel == "", kv.c.key.startswith(PREFIX), kv.c.updated_at < now - _FORGET)
        )
        unit.commit()

    async def _take_back(self) -> None:
        def work(unit: UnitOfWork) -> None:
            KvStore(unit.connection).delete(self._key)
            unit.commit()

        try:
            await self._database.run(work)
        except DatabaseUnavailable:
            return


def load_notes(unit: UnitOfWork, holders: Iterable[str]) -> list[RecorderNote]:
    """What the recorders of these processes say; what another version wrote differently is left out."""
    keys = [f"{PREFIX}{holder}" for holder in holders]
    query = select(kv.c.value).where(kv.c.channel == "", kv.c.key.in_(keys)).order_by(kv.c.key)
    return list(_readable(unit.connection.execute(query).scalars()))


def _readable(texts: Iterable[str]) -> Iterable[RecorderNote]:
    for text in texts:
        try:
            yield msgspec.json.decode(text, type=RecorderNote)
        except msgspec.DecodeError:
            continue
