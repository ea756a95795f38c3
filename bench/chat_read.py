"""How long chat takes to read and to search, with millions of messages over 200 broadcasts.

``python -m bench.chat_read --messages 1000000``

Each kind of database is filled in bulk, as years of recording leave it, and indexed; the SQLite file is kept for the
next time. Then the questions that the API asks are asked again and again, at random places and for words of every
frequency. Processor time is that of the asking thread: on SQLite all there is, on PostgreSQL without the server's.
"""

from __future__ import annotations

import argparse
import bisect
import json
import platform
import random
import resource
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy import URL, Connection, insert

from support.postgres import PostgresServer, find_binaries, fresh_database
from vodkeep.chat import search_index
from vodkeep.chat.database import CHAT
from vodkeep.chat.ids import first_id
from vodkeep.chat.model import Chatter
from vodkeep.chat.reading import ChatterTexts, View, load_activity, load_window
from vodkeep.chat.search import Query, search_item, search_library
from vodkeep.chat.store import BUCKET_MS
from vodkeep.chat.tables import chat_session
from vodkeep.db import migrate
from vodkeep.db.engine import Database

CACHE = Path.home() / ".cache" / "vodkeep-bench"
BROADCASTS = 200
LONG_VOD = "long"
LONG_MESSAGES = 500_000
LENGTH_MS = 6 * 3_600_000
WINDOW = 1_000
WORDS = 30_000
CHATTERS = 100_000
START_MS = 1_700_000_000_000

_BATCH = 50_000
_FORM = 4  # of the files that are kept


class Crowd:
    """What is said and by whom: words and people after Zipf, so that a few are everywhere and most are rare."""

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(seed)
        self.words = [f"{'kvmst'[n % 5]}{'aeiou'[n // 5 % 5]}{n:x}" for n in range(WORDS)]
        self._weights = list(accumulate(1 / (n + 8) for n in range(WORDS)))
        self.chatters = [Chatter(str(n), f"user{n}", f"User{n}", "#1E90FF", "subscriber/12") for n in range(CHATTERS)]
        self.keys = [chatter.key() for chatter in self.chatters]

    def word(self) -> str:
        """One of them, as often as it is said."""
        return self.words[bisect.bisect(self._weights, self._rng.random() * self._weights[-1])]

    def row(self, number: int, people: list[int], loud: list[float]) -> tuple[Any, ...]:
        """A row of ``chat_message``, said by one of ``people``."""
        rng = self._rng
        body = " ".join(self.word() for _ in range(min(20, 1 + int(rng.expovariate(0.22)))))
        emotes = "25:0-3" if rng.random() < 0.25 else None
        reply = rng.randbytes(16) if rng.random() < 0.05 else None
        extra = '{"first":true}' if rng.random() < 0.02 else None
        key = people[bisect.bisect(loud, rng.random() * loud[-1])]
        return (number, key, 0, 0, emotes, body, rng.randbytes(16), reply, extra)

    def session(self, session_id: int, messages: int) -> Iterator[tuple[Any, ...]]:
        """The rows of one broadcast, in order; there are a tenth as many people as messages."""
        people = self._rng.sample(self.keys, min(CHATTERS, max(10, messages // 10)))
        loud = list(accumulate(1 / (n + 20) for n in range(len(people))))
        for offset in sorted(self._rng.sample(range(LENGTH_MS), messages)):
            yield self.row(first_id(session_id, offset), people, loud)


def fill(connection: Connection, messages: int) -> None:
    """Everything but the search index; blocking for a while."""
    crowd = Crowd(7)
    put = _copy if connection.dialect.name != "sqlite" else _insert
    put(
        connection,
        "chatter",
        6,
        [
            (key, who.user_id, who.login, who.display_name, who.color, who.badges)
            for key, who in zip(crowd.keys, crowd.chatters, strict=True)
        ],
    )
    sizes = [messages // BROADCASTS] * BROADCASTS + [LONG_MESSAGES]
    for session_id, size in enumerate(sizes, 1):
        vod_id = LONG_VOD if session_id > BROADCASTS else f"vod{session_id}"
        base_ms = START_MS + session_id * 86_400_000
        told = {
            "id": session_id,
            "channel": f"c{session_id % 5}",
            "stream_id": f"s{session_id}",
            "source": 0,
            "base_ms": base_ms,
            "vod_id": vod_id,
            "state": "ended",
            "ended_ms": base_ms + LENGTH_MS,
            "last_ms": base_ms + LENGTH_MS,
            "messages": size,
            "fts_upto_id": first_id(session_id + 1, 0),
        }
        connection.execute(insert(chat_session), [told])
        buckets: dict[int, int] = {}
        batch: list[tuple[Any, ...]] = []
        for row in crowd.session(session_id, size):
            bucket = ((row[0] & 0xFFFFFFFF) >> 4) // BUCKET_MS
            buckets[bucket] = buckets.get(bucket, 0) + 1
            batch.append(row)
            if len(batch) == _BATCH:
                put(connection, "chat_message", 9, batch)
                batch = []
        put(connection, "chat_message", 9, batch)
        put(connection, "chat_bucket", 3, [(session_id, bucket, n) for bucket, n in buckets.items()])


def build_index(connection: Connection) -> None:
    """The index of everything, the quick way."""
    search_index.prepare(connection)
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("INSERT INTO chat_search(chat_search) VALUES('rebuild')")
        return
    name, definition = connection.exec_driver_sql(
        "SELECT indexname, indexdef FROM pg_indexes WHERE tablename = 'chat_search' ORDER BY indexname LIMIT 1"
    ).one()
    connection.exec_driver_sql(f"DROP INDEX {name}")
    search_index.add_range(connection, 0, 2**62)
    connection.exec_driver_sql("SET LOCAL maintenance_work_mem = '1GB'")
    connection.exec_driver_sql(definition)


def _insert(connection: Connection, table: str, columns: int, rows: list[tuple[Any, ...]]) -> None:
    driver: Any = connection.connection.driver_connection
    driver.executemany(f"INSERT INTO {table} VALUES ({', '.join('?' * columns)})", rows)  # noqa: S608 - names of ours


def _copy(connection: Connection, table: str, _columns: int, rows: list[tuple[Any, ...]]) -> None:
    driver: Any = connection.connection.driver_connection
    with driver.cursor() as cursor, cursor.copy(f"COPY {table} FROM STDIN") as copy:
        for row in rows:
            copy.write_row(row)


@dataclass(frozen=True, slots=True)
class Figure:
    """How long one question takes, milliseconds."""

    question: str
    p50: float
    p99: float
    cpu: float  # the mean
    asked: int

    def line(self) -> str:
        """For people."""
        return f"{self.question:34s} {self.p50:8.2f} {self.p99:8.2f} {self.cpu:8.2f} {self.asked:7d}"


def measure(question: str, database: Database, ask: Callable[[Connection], object], times: int) -> Figure:
    """Ask ``times`` times, after a tenth of that to get warm."""
    walls: list[float] = []
    cpu = 0.0
    with database.unit_of_work(write=False) as unit:
        for number in range(-times // 10, times):
            began, used = time.perf_counter(), time.thread_time()
            ask(unit.connection)
            if number >= 0:
                walls.append((time.perf_counter() - began) * 1000)
                cpu += (time.thread_time() - used) * 1000
    walls.sort()
    return Figure(question, walls[times // 2], walls[int(times * 0.99)], cpu / times, times)


def ask_everything(database: Database, times: int) -> list[Figure]:
    """All the questions."""
    rng = random.Random(11)
    crowd = Crowd(3)
    texts = ChatterTexts()

    def vod() -> str:
        return f"vod{rng.randint(1, BROADCASTS)}"

    def place() -> int:
        return rng.randrange(LENGTH_MS)

    def query(words: str = "", login: str | None = None) -> Query:
        return Query.typed(words, login=login, limit=50, cursor=None)

    def two() -> str:
        return f"{crowd.word()} {crowd.word()}"

    def rare() -> str:
        return crowd.words[rng.randrange(WORDS // 2, WORDS)]

    def login() -> str:
        return f"user{rng.randrange(CHATTERS)}"

    figures = [
        measure(
            f"window of {WINDOW}",
            database,
            lambda c: load_window(c, vod(), texts, limit=WINDOW, offset_ms=place()),
            times,
        ),
        measure(
            f"window of {WINDOW}, as moderated",
            database,
            lambda c: load_window(c, vod(), texts, limit=WINDOW, offset_ms=place(), view=View.MODERATED),
            times,
        ),
        measure("histogram, 60 s", database, lambda c: load_activity(c, vod(), width_ms=60_000), times),
        measure("histogram, 10 s", database, lambda c: load_activity(c, vod(), width_ms=10_000), times),
        measure("search a broadcast: a word", database, lambda c: search_item(c, vod(), query(crowd.word())), times),
        measure("search a broadcast: two words", database, lambda c: search_item(c, vod(), query(two())), times),
        measure("search a broadcast: a phrase", database, lambda c: search_item(c, vod(), query(f'"{two()}"')), times),
        measure("a person in a broadcast", database, lambda c: search_item(c, vod(), query(login=login())), times),
        measure("search the library: a word", database, lambda c: search_library(c, query(crowd.word())), times // 4),
        measure("search the library: a rare word", database, lambda c: search_library(c, query(rare())), times // 4),
        measure("search the library: two words", database, lambda c: search_library(c, query(two())), times // 4),
        measure("a person in the library", database, lambda c: search_library(c, query(login=login())), times // 4),
    ]
    before = _peak_mb()
    figures.append(
        measure(
            f"open a chat of {LONG_MESSAGES} anywhere",
            database,
            lambda c: load_window(c, LONG_VOD, texts, limit=500, offset_ms=place()),
            times,
        )
    )
    _tell(f"peak memory before and after opening it {times} times: {before:.0f} and {_peak_mb():.0f} MB")
    return figures


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


@contextmanager
def sqlite_database(messages: int) -> Iterator[Database]:
    """The kept file, made if need be."""
    CACHE.mkdir(parents=True, exist_ok=True)
    path = CACHE / f"chat-read-{_FORM}-{messages}.db"
    if not path.exists():
        making = path.with_suffix(".making")
        making.unlink(missing_ok=True)
        database = Database(URL.create("sqlite", database=str(making)))
        build(database, messages)
        database.dispose()
        making.rename(path)
    database = Database(URL.create("sqlite", database=str(path)))
    yield database
    database.dispose()


@contextmanager
def postgres_database(messages: int) -> Iterator[Database]:
    """One that is made and goes."""
    server = PostgresServer(find_binaries())
    try:
        server.start()
        with fresh_database(server) as name:
            database = Database(server.url(name))
            build(database, messages)
            yield database
            database.dispose()
    finally:
        server.close()


def build(database: Database, messages: int) -> None:
    """Fill and index it; the time is told."""
    migrate.upgrade(database, CHAT)
    began = time.perf_counter()
    for step in (lambda c: fill(c, messages), build_index, lambda c: c.exec_driver_sql("ANALYZE")):
        with database.unit_of_work(patience=migrate._PATIENCE) as unit:
            step(unit.connection)
            unit.commit()
    _tell(f"{messages + LONG_MESSAGES} messages made and indexed in {time.perf_counter() - began:.0f} s")


def _tell(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument("--times", type=int, default=400)
    parser.add_argument("--databases", default="sqlite,postgres")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    _tell(f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, psycopg {psycopg.__version__}")
    for kind in options.databases.split(","):
        make = sqlite_database if kind == "sqlite" else postgres_database
        with make(options.messages) as database:
            figures = ask_everything(database, options.times)
        _tell(f"\n{kind}, {options.messages} messages in {BROADCASTS} broadcasts and one of {LONG_MESSAGES}")
        _tell(f"{'ms':34s} {'p50':>8s} {'p99':>8s} {'CPU':>8s} {'asked':>7s}")
        for figure in figures:
            _tell(figure.line())
        if options.json:
            _tell(json.dumps({kind: [[f.question, f.p50, f.p99, f.cpu, f.asked] for f in figures]}))


if __name__ == "__main__":
    main()
