"""Leases: who may do what only one process may do, until when, by the database's clock.

Holders that run on several machines have several clocks, and only the database's is everybody's. A lease that nobody
renews becomes free by itself; each change of hands raises its token, so that a late write of an earlier holder can be
told from one of the present holder.

A lease may also be *bound* to the life of the process that holds it. Its life is a lease too, the only one that such a
process renews, however many it has. When a life has run out, whoever looks next buries it: in one transaction, life
and bound leases become free. The life's row settles who is first, the process that renews it or the one that
buries it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import (
    ColumnElement,
    Connection,
    Text,
    and_,
    any_,
    case,
    delete,
    func,
    literal,
    not_,
    or_,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from vodkeep.db.tables import UtcDateTime, leases

PROCESS_PREFIX = "worker:"
"""The life of a process is the lease of this prefix and the name of its holder, the process."""

_NOBODY = ""

# When a bound lease runs out: not by itself.
_BOUND = datetime(9999, 12, 31, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Lease:
    """A right that one holder has for a while."""

    name: str  # what it is about, such as "planner"
    holder: str  # a process: host, pid and a random part
    token: int  # from 1; grows whenever the lease changes hands
    expires_at: datetime  # UTC, by the database's clock; in the year 9999 when it is bound
    detail: str  # what the holder says about itself; may be empty


class LeaseStore:
    """The ``leases`` table within one transaction; the caller commits."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._on_sqlite = connection.dialect.name == "sqlite"

    def take(self, name: str, holder: str, ttl: timedelta, detail: str = "") -> Lease | None:
        """Hold ``name`` for ``ttl`` from now; ``None`` when it is somebody else's.

        Who holds it already, or held it last, keeps the token; ``detail`` replaces what was said before.
        """
        return next(iter(self.take_all({name: detail}, holder, ttl)), None)

    def take_all(self, details: Mapping[str, str], holder: str, ttl: timedelta | None = None) -> list[Lease]:
        """Take each lease that ``details`` names, with its detail, as `take` does; returns those that are ours.

        Without ``ttl`` they are bound to the holder's life, which the holder has renewed or taken in this transaction.
        They are locked in the order given: who takes several uses the same order everywhere.
        """
        if not details:
            return []
        insert = sqlite.insert if self._on_sqlite else postgresql.insert
        mine = leases.c.holder == holder
        until = literal(_BOUND, UtcDateTime()) if ttl is None else self._time(ttl)
        # One statement: on PostgreSQL the condition is looked at again once a racing holder has committed.
        statement = insert(leases).values(
            [
                {"name": name, "holder": holder, "token": 1, "expires_at": until, "detail": detail}
                for name, detail in details.items()
            ]
        )
        taken = statement.on_conflict_do_update(
            index_elements=["name"],
            set_={
                "holder": holder,
                "token": leases.c.token + case((mine, 0), else_=1),
                "expires_at": until,
                "detail": statement.excluded.detail,
            },
            where=or_(mine, leases.c.expires_at <= self._time()),
        )
        return [Lease(*row) for row in self._connection.execute(taken.returning(*_COLUMNS))]

    def renew(self, holder: str, ttl: timedelta, names: Collection[str]) -> set[str]:
        """Hold what is the holder's of ``names`` for ``ttl`` from now; returns what it still holds.

        A lease that ran out is still its last holder's while nobody else has taken it.
        """
        statement = update(leases).where(*self._of(holder, names)).values(expires_at=self._time(ttl))
        return set(self._connection.execute(statement.returning(leases.c.name)).scalars().all())

    def release(self, holder: str, names: Collection[str] | None = None) -> None:
        """Let go of what is the holder's: ``names``, or everything. The rows stay, so that tokens keep growing."""
        self._connection.execute(update(leases).where(*self._of(holder, names)).values(**self._free()))

    def bound_to(self, holder: str) -> set[str]:
        """What is bound to the holder's life."""
        query = select(leases.c.name).where(leases.c.holder == holder, leases.c.expires_at == _BOUND)
        return set(self._connection.execute(query).scalars().all())

    def bury(self) -> list[str]:
        """Free the lives that ran out and what is bound to them; returns the holders that are dead."""
        over = (
            select(leases.c.name)
            .where(leases.c.name.startswith(PROCESS_PREFIX), leases.c.holder != _NOBODY)
            .where(leases.c.expires_at <= self._time())
            # What is locked is being renewed, or buried by another.
            .with_for_update(skip_locked=True)
        )
        lives = self._connection.execute(
            update(leases).where(leases.c.name.in_(over)).values(**self._free()).returning(leases.c.name)
        )
        dead = [name.removeprefix(PROCESS_PREFIX) for name in lives.scalars()]
        if dead:
            theirs = (leases.c.holder.in_(dead), leases.c.expires_at == _BOUND)
            self._connection.execute(update(leases).where(*theirs).values(**self._free()))
        return dead

    def held_by_others(self, names: Collection[str], holder: str) -> set[str]:
        """Which of ``names`` are held at this moment, and not by ``holder``."""
        query = select(leases.c.name).where(
            self._one_of(names), leases.c.holder.not_in({_NOBODY, holder}), leases.c.expires_at > self._time()
        )
        return set(self._connection.execute(query).scalars().all())

    def release_all(self) -> None:
        """Let go of everybody's; for who knows that nobody else is alive."""
        self._connection.execute(update(leases).where(leases.c.holder != _NOBODY).values(**self._free()))

    def forget(self, age: timedelta) -> int:
        """Remove what ran out longer than ``age`` ago, tokens included; returns how many there were.

        A life stays until it is buried: else nobody would know that what is bound to it is free.
        """
        unburied = and_(leases.c.name.startswith(PROCESS_PREFIX), leases.c.holder != _NOBODY)
        return self._connection.execute(
            delete(leases).where(leases.c.expires_at <= self._time(-age), not_(unburied))
        ).rowcount

    def live(self, prefix: str = "", *, besides: str = _NOBODY) -> list[Lease]:
        """What is held at this moment and begins with ``prefix``, by name; without what the holder ``besides`` has."""
        query = select(*_COLUMNS).where(
            leases.c.holder.not_in({_NOBODY, besides}),
            leases.c.expires_at > self._time(),
            leases.c.name.startswith(prefix, autoescape=True),
        )
        # Sorted here: the order of text is the server's affair on PostgreSQL.
        return sorted((Lease(*row) for row in self._connection.execute(query)), key=lambda lease: lease.name)

    def _of(self, holder: str, names: Collection[str] | None) -> list[ColumnElement[bool]]:
        mine = leases.c.holder == holder
        return [mine] if names is None else [mine, self._one_of(names)]

    def _one_of(self, names: Collection[str]) -> ColumnElement[bool]:
        if self._on_sqlite:
            return leases.c.name.in_(names)
        # A thousand parameters would cost more than the statement itself.
        return leases.c.name == any_(literal(list(names), postgresql.ARRAY(Text)))

    def _free(self) -> dict[str, object]:
        return {"holder": _NOBODY, "expires_at": self._time(), "detail": ""}

    def _time(self, later: timedelta = timedelta()) -> ColumnElement[datetime]:
        """The database's clock plus ``later``, and not the time at which the transaction began."""
        seconds = later.total_seconds()
        if self._on_sqlite:
            # SQLite knows milliseconds; the zeros keep text order and time order the same.
            return func.strftime("%Y-%m-%dT%H:%M:%f000Z", "now", f"{seconds:+.3f} seconds", type_=UtcDateTime())
        now: ColumnElement[datetime] = func.clock_timestamp(type_=UtcDateTime())
        return now + func.make_interval(0, 0, 0, 0, 0, 0, seconds)


_COLUMNS = (leases.c.name, leases.c.holder, leases.c.token, leases.c.expires_at, leases.c.detail)
