"""What it takes to store chat, from a TLS socket to the commit, beside one INSERT per message.

``python -m bench.chat_ingest --messages 200000 --rows 20000``

A process sends lines of chat over TLS on loopback as fast as they are taken. Two receivers read them with the same
code and take them apart with the same parser: our recorder, and one that stores every message with one INSERT and one
commit, as a program does that does not think of bursts. Each runs in a process of its own on a new database: SQLite as
the service has it, with every commit on the disk; PostgreSQL with its data in memory and without fsync, which favours
the many commits. ``--memory`` puts the SQLite file into memory as well.
Then come the single stages: what is written against one COPY (or ``executemany``) of rows that are ready, how much room
a message takes, what it costs to move a whole chat, and how late the event loop runs while 5,000 messages come at once.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import ssl
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.abc
import trustme
from anyio.streams.tls import TLSListener
from sqlalchemy import URL, Connection, make_url, select

from support.postgres import PostgresServer, find_binaries, fresh_database
from vodkeep.chat.database import CHAT
from vodkeep.chat.irc import Splitter, parse_line
from vodkeep.chat.model import ChatMessage
from vodkeep.chat.recording import Recording
from vodkeep.chat.sessions import Session, SessionStore, base_of
from vodkeep.chat.store import MessageWriter
from vodkeep.chat.tables import chat_message
from vodkeep.chat.twitch_lines import message_of
from vodkeep.clock import SystemClock
from vodkeep.db.engine import Database
from vodkeep.db.migrate import upgrade
from vodkeep.telemetry.log import configure_logging, get_logger
from vodkeep.telemetry.metrics import Metrics

_START_MS = 1_760_000_000_000
_RATE = 2000  # messages/s of the stream's own time
_BATCH = 2000
_MOVED = 350_000
_BURST = 5000
_CLOCK_TICKS = os.sysconf("SC_CLK_TCK")

_WORDS = "lol that was so close the boss again what a play gg no way chat is right about this one nice"

# What a program keeps that writes a row per message, and how it finds them again.
_ROWS = (
    "CREATE TABLE chat_rows (id {serial}, vod_id TEXT NOT NULL, username TEXT NOT NULL, message TEXT NOT NULL,"
    " abs_timestamp {time} NOT NULL, rel_timestamp DOUBLE PRECISION NOT NULL, badges TEXT, emotes TEXT, color TEXT,"
    " user_id TEXT, msg_id TEXT, reply_to TEXT)"
)
_ROWS_INDEXES = (
    "CREATE INDEX chat_rows_rel ON chat_rows (vod_id, rel_timestamp)",
    "CREATE INDEX chat_rows_abs ON chat_rows (vod_id, abs_timestamp)",
)
_INSERT_ROW = (
    "INSERT INTO chat_rows (vod_id, username, message, abs_timestamp, rel_timestamp, badges, emotes, color, user_id,"
    " msg_id, reply_to) VALUES ({marks})"
)


def chat_lines(count: int, seed: int = 1) -> list[bytes]:
    """Lines as a busy channel has them: a few people say much, and one message in four has an emote."""
    rng = random.Random(seed)
    words = _WORDS.split()
    lines = []
    for number in range(count):
        person = int(rng.paretovariate(0.8)) % 5000
        body = " ".join(rng.choice(words) for _ in range(1 + int(rng.expovariate(0.15)) % 40))
        emotes = ""
        if rng.random() < 0.25:
            body, emotes = f"Kappa {body}", "25:0-4"
        sent_ms = _START_MS + number * 1000 // _RATE - (400 if rng.random() < 1 / 7 else 0)
        badges = ("", "subscriber/12", "vip/1,subscriber/3", "moderator/1")[person % 4]
        lines.append(
            f"@badge-info=;badges={badges};client-nonce={rng.getrandbits(128):032x};color=#1E90FF;"
            f"display-name=Person{person};emotes={emotes};first-msg=0;flags=;id={uuid.UUID(int=rng.getrandbits(128))};"
            f"mod=0;returning-chatter=0;room-id=1;subscriber=1;tmi-sent-ts={sent_ms + 1000};turbo=0;"
            f"user-id={100000 + person};user-type= :person{person}!person{person}@person{person}.tmi.twitch.tv"
            f" PRIVMSG #chan :{body}\r\n".encode()
        )
    return lines


def messages_of(lines: Sequence[bytes]) -> list[ChatMessage]:
    """What the lines mean."""
    found = []
    for raw in lines:
        line = parse_line(raw.rstrip())
        message = message_of(line, _START_MS) if line is not None else None
        if message is not None:
            found.append(message)
    return found


async def send(port_file: Path, certificate: Path, count: int) -> None:
    """The other side: all lines to the first who connects, as fast as they are taken."""
    data = b"".join(chat_lines(count))
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(certificate)
    sockets = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = sockets.listeners[0].extra(anyio.abc.SocketAttribute.local_port)  # noqa: S610  # nothing of Django
    sent = anyio.Event()

    async def serve(stream: anyio.abc.ByteStream) -> None:
        async with stream:
            for start in range(0, len(data), 65536):
                await stream.send(data[start : start + 65536])
            await stream.receive()
        sent.set()

    async with TLSListener(sockets, context, standard_compatible=False) as listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, serve)
        await anyio.Path(port_file).write_text(str(port))
        await sent.wait()
        tasks.cancel_scope.cancel()


async def receive(port: int, certificate: Path, take: Callable[[list[bytes]], Any], count: int) -> float:
    """Read lines until there were ``count``; returns when the first came."""
    context = ssl.create_default_context(cafile=str(certificate))
    splitter, first, taken = Splitter(), 0.0, 0
    async with await anyio.connect_tcp("127.0.0.1", port, ssl_context=context, tls_standard_compatible=False) as stream:
        while taken < count:
            chunk = await stream.receive(65536)
            first = first or time.perf_counter()
            lines = splitter.feed(chunk)
            taken += len(lines)
            await take(lines)
        await stream.send(b"!")
    return first


async def record(database: Database, folder: Path, port: int, certificate: Path, count: int) -> dict[str, float]:
    """Our way."""
    session = open_session(database)
    lateness: list[float] = []

    async def look() -> None:
        while True:
            before = time.perf_counter()
            await anyio.sleep(0.005)
            lateness.append(time.perf_counter() - before - 0.005)

    async with Recording(database, folder, "bench", SystemClock(), get_logger("bench"), Metrics()) as recording:
        await recording.begin("chan", session)

        async def take(lines: list[bytes]) -> None:
            await recording.lines(lines, _START_MS)

        cpu = own_cpu()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(look)
            first = await receive(port, certificate, take, count)
            await recording.end("chan")
            done = time.perf_counter()
            tasks.cancel_scope.cancel()
        cpu = own_cpu() - cpu
    stored = recording.state().stored
    if stored != count:
        raise SystemExit(f"{stored} of {count} messages were stored")
    lateness.sort()
    return {
        "seconds": done - first,
        "cpu": cpu,
        "late_p99_ms": lateness[int(len(lateness) * 0.99)] * 1000,
        "late_max_ms": lateness[-1] * 1000,
    }


async def insert_each(database: Database, port: int, certificate: Path, count: int) -> dict[str, float]:
    """One INSERT and one commit per message, on the driver's connection."""
    with database.unit_of_work() as unit:
        make_rows(unit.connection)
        unit.commit()
    with database.unit_of_work() as unit:
        unit.commit()
        driver: Any = unit.connection.connection.driver_connection
        statement = insert_row(unit.connection)
        begin = "BEGIN IMMEDIATE" if database.is_sqlite else "BEGIN"
        cursor = driver.cursor()

        async def take(lines: list[bytes]) -> None:
            for message in messages_of(lines):
                cursor.execute(begin)
                cursor.execute(statement, as_row(message))
                cursor.execute("COMMIT")

        cpu = own_cpu()
        first = await receive(port, certificate, take, count)
        return {"seconds": time.perf_counter() - first, "cpu": own_cpu() - cpu}


def make_rows(connection: Connection) -> None:
    """The table of one row per message."""
    on_sqlite = connection.dialect.name == "sqlite"
    serial = "INTEGER PRIMARY KEY" if on_sqlite else "BIGSERIAL PRIMARY KEY"
    connection.exec_driver_sql(_ROWS.format(serial=serial, time="TEXT" if on_sqlite else "TIMESTAMPTZ"))
    for statement in _ROWS_INDEXES:
        connection.exec_driver_sql(statement)


def insert_row(connection: Connection) -> str:
    """The statement that stores one."""
    mark = "?" if connection.dialect.name == "sqlite" else "%s"
    return _INSERT_ROW.format(marks=", ".join([mark] * 11))


def as_row(message: ChatMessage) -> tuple[object, ...]:
    """A message as such a row."""
    who = message.chatter
    assert who is not None
    sent = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(message.sent_ms // 1000)) + f".{message.sent_ms % 1000:03d}Z"
    return (
        *("123456789", who.login, message.body, sent, (message.sent_ms - _START_MS) / 1000),
        *(who.badges, message.emotes, who.color, who.user_id, message.msg_id, message.reply_to),
    )


def open_session(database: Database) -> Session:
    """A new stream's."""
    with database.unit_of_work() as unit:
        stream = uuid.uuid4().hex
        session = SessionStore(unit.connection).open("chan", stream_id=stream, base_ms=base_of(_START_MS))
        unit.commit()
    return session


def say(text: str) -> None:
    """To whoever measures."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def own_cpu() -> float:
    """CPU seconds of this process so far."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def server_cpu(server: PostgresServer | None) -> float:
    """CPU seconds of a server and all its processes, those that have ended included."""
    if server is None:
        return 0.0
    total = 0
    children = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
    for pid in [str(server.pid), *children]:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += sum(map(int, fields[11:15] if pid == str(server.pid) else fields[11:13]))
    return total / _CLOCK_TICKS


@contextmanager
def new_database(folder: Path, server: PostgresServer | None) -> Iterator[Database]:
    """A migrated database of its own."""
    with ExitStack() as stack:
        if server is None:
            url = URL.create("sqlite", database=str(folder / f"{uuid.uuid4().hex}.db"))
        else:
            url = server.url(stack.enter_context(fresh_database(server)))
        database = Database(url)
        stack.callback(database.dispose)
        upgrade(database, CHAT)
        yield database


def end_to_end(
    role: str, database: Database, folder: Path, count: int, server: PostgresServer | None
) -> dict[str, float]:
    """One receiver in a process of its own, with another that sends."""
    with tempfile.TemporaryDirectory(dir=folder) as own:
        port_file = Path(own) / "port"
        common = [sys.executable, "-m", "bench.chat_ingest", "--folder", own, "--messages", str(count), "--role"]
        sender = subprocess.Popen([*common, "send"])
        try:
            while not port_file.exists() or not port_file.read_text():
                if sender.poll() is not None:
                    raise RuntimeError("The sender ended before it listened; its words are above.")
                time.sleep(0.05)
            before = server_cpu(server)
            done = subprocess.run(
                [*common, role],
                env={**os.environ, "CHAT_URL": database.url.render_as_string(hide_password=False)},
                stdout=subprocess.PIPE,
                check=True,
            )
            figures: dict[str, float] = json.loads(done.stdout)
            figures["server_cpu"] = server_cpu(server) - before
            sender.wait(timeout=60)
        finally:
            sender.kill()
            sender.wait()
    return figures


def stages(folder: Path, server: PostgresServer | None, messages: Sequence[ChatMessage]) -> None:
    """Writing alone, the room it takes, and moving a whole chat."""
    count = len(messages)
    with new_database(folder, server) as database:
        session, writer = open_session(database), MessageWriter("bench")
        before = time.perf_counter()
        for start in range(0, count, _BATCH):
            with database.unit_of_work() as unit:
                written = writer.write(unit.connection, session, messages[start : start + _BATCH])
                unit.commit()
            writer.remember(written)
        ours_s = time.perf_counter() - before
        ours_bytes = size_of(database, "chat_session", "chat_message", "chatter", "chat_bucket", "chat_clear") / count
        best_s = at_once(database)
        moved_ms = (
            min(timed(database, "UPDATE chat_session SET vod_offset_ms = vod_offset_ms + 5") for _ in range(9)) * 1000
        )
    with new_database(folder, server) as database:
        with database.unit_of_work() as unit:
            make_rows(unit.connection)
            empty = size_of(database, "chat_rows")
            cursor: Any = unit.connection.connection.driver_connection
            cursor = cursor.cursor()
            cursor.executemany(insert_row(unit.connection), [as_row(message) for message in messages])
            unit.commit()
        rows_bytes = (size_of(database, "chat_rows") - empty) / count
        rows_ms = (
            timed(database, "UPDATE chat_rows SET rel_timestamp = rel_timestamp + 5 WHERE vod_id = '123456789'") * 1000
        )
    say(
        f"  insert stage: {count / ours_s:,.0f} /s, {ours_s / count * 1e6:.1f} us each; the finished rows at once"
        f" {count / best_s:,.0f} /s: {ours_s / best_s:.2f} times as long"
    )
    say(f"  room: {ours_bytes:.0f} bytes each, as rows {rows_bytes:.0f}: {ours_bytes / rows_bytes:.2f}x (target 0.38)")
    say(f"  moving {count:,} messages: {moved_ms:.2f} ms (target 5), as rows {rows_ms:,.0f} ms")


def at_once(database: Database) -> float:
    """How long the finished rows of chat_message take in one COPY or ``executemany``."""
    with database.unit_of_work() as unit:
        rows = [tuple(row) for row in unit.connection.execute(select(chat_message).order_by(chat_message.c.id))]
        unit.connection.exec_driver_sql("DELETE FROM chat_message")
        unit.commit()
    if not database.is_sqlite:
        with database.unit_of_work() as unit:
            unit.connection.exec_driver_sql("TRUNCATE chat_message")
            unit.commit()
    before = time.perf_counter()
    with database.unit_of_work() as unit:
        cursor: Any = unit.connection.connection.driver_connection
        cursor = cursor.cursor()
        if database.is_sqlite:
            cursor.executemany("INSERT INTO chat_message VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
        else:
            with cursor.copy("COPY chat_message FROM STDIN") as copy:
                for row in rows:
                    copy.write_row(row)
        unit.commit()
    return time.perf_counter() - before


def timed(database: Database, statement: str) -> float:
    """Seconds that one statement and its commit take."""
    before = time.perf_counter()
    with database.unit_of_work() as unit:
        unit.connection.exec_driver_sql(statement)
        unit.commit()
    return time.perf_counter() - before


def size_of(database: Database, *tables: str) -> int:
    """Bytes of the tables with their indexes; of the whole file on SQLite."""
    with database.unit_of_work(write=False) as unit:
        if database.is_sqlite:
            pages = unit.connection.exec_driver_sql("PRAGMA page_count").scalar_one()
            return int(pages) * int(unit.connection.exec_driver_sql("PRAGMA page_size").scalar_one())
        sizes = " + ".join(f"pg_total_relation_size('{table}')" for table in tables)
        try:
            return int(unit.connection.exec_driver_sql(f"SELECT {sizes}").scalar_one())
        except Exception:  # noqa: BLE001  # it was made in a transaction that nobody else sees yet
            return 0


def compare(kind: str, folder: Path, count: int, rows: int, runs: int) -> None:
    """All figures of one database."""
    with ExitStack() as stack:
        server: PostgresServer | None = None
        if kind == "postgresql":
            server = PostgresServer(find_binaries())
            stack.callback(server.close)
            server.start()
        ours, theirs = [], []
        for _ in range(runs):
            with new_database(folder, server) as database:
                ours.append(end_to_end("record", database, folder, count, server))
            with new_database(folder, server) as database:
                theirs.append(end_to_end("insert", database, folder, rows, server))
        with new_database(folder, server) as database:
            burst = end_to_end("record", database, folder, _BURST, server)
        best, other = min(ours, key=lambda each: each["cpu"]), min(theirs, key=lambda each: each["cpu"])
        speed = count / min(each["seconds"] for each in ours)
        row_speed = rows / min(each["seconds"] for each in theirs)
        cpu, row_cpu = best["cpu"] / count * 1e6, other["cpu"] / rows * 1e6
        both, row_both = cpu + best["server_cpu"] / count * 1e6, row_cpu + other["server_cpu"] / rows * 1e6
        say(f"{kind}, best of {runs}")
        say(f"  end to end: {speed:,.0f} /s, one INSERT each {row_speed:,.0f} /s: {speed / row_speed:.1f} times")
        say(f"  CPU per message: {cpu:.1f} us, one INSERT each {row_cpu:.1f} us: 1/{row_cpu / cpu:.1f}")
        if server is not None:
            say(f"  with the server's: {both:.1f} us and {row_both:.1f} us: 1/{row_both / both:.1f}")
        say(
            f"  event loop during a burst of {_BURST}: late by {burst['late_p99_ms']:.1f} ms at p99,"
            f" {burst['late_max_ms']:.1f} ms at most"
        )
        stages(folder, server, messages_of(chat_lines(_MOVED, seed=2)))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=200_000, help="for us")
    parser.add_argument("--rows", type=int, default=20_000, help="for the one that stores each by itself")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--databases", default="sqlite,postgresql")
    parser.add_argument("--memory", action="store_true", help="SQLite in /dev/shm")
    parser.add_argument("--role", choices=["send", "record", "insert"], help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    configure_logging("error", "text", sys.stderr)
    if options.role is None:
        with tempfile.TemporaryDirectory(dir="/dev/shm" if options.memory else None) as folder:  # noqa: S108
            for kind in options.databases.split(","):
                compare(kind, Path(folder), options.messages, options.rows, options.runs)
        return
    port_file, certificate = options.folder / "port", options.folder / "ca.pem"
    if options.role == "send":
        anyio.run(send, port_file, certificate, options.messages)
        return
    database = Database(make_url(os.environ["CHAT_URL"]))
    port = int(port_file.read_text())
    if options.role == "record":
        figures = anyio.run(record, database, options.folder, port, certificate, options.messages)
    else:
        figures = anyio.run(insert_each, database, port, certificate, options.messages)
    database.dispose()
    say(json.dumps(figures))


if __name__ == "__main__":
    main()
