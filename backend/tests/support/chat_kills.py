"""A recorder that is killed, or frozen, again and again while chat comes over TLS, and its database goes away a while.

``python -m support.chat_kills --database sqlite --outage 60 --seconds 90`` is the long form of what the tests do. The
recorder runs in a child process (``support.chat_recorder``) and reads from a socket here; a line that it has not
acknowledged is sent again, and so are some that it has.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sqlite3
import ssl
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import anyio
import anyio.to_thread
import trustme
from anyio.streams.tls import TLSListener
from sqlalchemy import URL

from support import warm
from support.chat_messages import a_session, message_id, reload, stored_ids
from support.irc_lines import privmsg
from support.postgres import PostgresServer, find_binaries, fresh_database
from support.warm import Process
from vodkeep.chat.database import CHAT
from vodkeep.chat.sessions import Session
from vodkeep.db.engine import Database
from vodkeep.db.migrate import upgrade

_TICK_S = 0.02
_OVERLAP = 200  # messages
_TAKEN_OVER = 500  # messages that a successor has acknowledged when the frozen one goes on


@dataclass(frozen=True, slots=True)
class Course:
    """What happens."""

    seconds: float = 4.0  # as long the chat goes on
    rate: int = 2000  # messages/s
    kills: int = 4
    outage_s: float = 1.5
    seed: int = 1
    freezes: bool = False  # it is only stopped, and goes on once another has taken over

    @property
    def messages(self) -> int:
        return round(self.seconds * self.rate)


@dataclass(slots=True)
class Report:
    """What became of it."""

    sent: int = 0
    resent: int = 0
    kills: int = 0
    thaws: int = 0  # of those that were frozen
    missing: list[int] = field(default_factory=list)
    twice: int = 0
    counted: int = 0  # what the session says it has
    spool_peak: int = 0  # bytes


class Feed:
    """Sends numbered messages at a rate.

    A new connection begins a little before the end of what was acknowledged: two connections that follow one another
    may both be told the same, and of what a killed process took it could not always tell us.
    """

    def __init__(self, course: Course) -> None:
        self._course = course
        # Some of them come late, as Twitch sends them.
        self._order = sorted(range(course.messages), key=lambda number: number + (300 if number % 7 == 0 else 0))
        self._started = 0.0
        self.acknowledged = 0
        self.sent = 0
        self.resent = 0
        self.done = anyio.Event()

    async def serve(self, stream: anyio.abc.ByteStream) -> None:
        """One connection, to its end or that of the chat."""
        first = max(0, self.acknowledged - _OVERLAP)
        taken = 0
        try:
            async with stream, anyio.create_task_group() as tasks:
                tasks.start_soon(self._send, stream, first)
                rest = b""
                async for chunk in stream:
                    *numbers, rest = (rest + chunk).split(b"\n")
                    taken += sum(map(int, numbers))
                    self.acknowledged = max(self.acknowledged, first + taken)
                    if self.acknowledged >= self._course.messages:
                        self.done.set()
                        break
                tasks.cancel_scope.cancel()
        except* (anyio.BrokenResourceError, anyio.EndOfStream, anyio.ClosedResourceError, OSError, ssl.SSLError):
            pass  # It was killed.

    async def _send(self, stream: anyio.abc.ByteStream, position: int) -> None:
        self._started = self._started or time.monotonic()
        while position < self._course.messages:
            due = min(self._course.messages, int((time.monotonic() - self._started) * self._course.rate))
            upto = min(due, position + 500)
            if upto <= position:
                await anyio.sleep(_TICK_S)
                continue
            numbers = self._order[position:upto]
            await stream.send(b"".join(privmsg(n, after_ms=n * 1000 // self._course.rate) + b"\r\n" for n in numbers))
            self.resent += max(0, min(self.sent, upto) - position)
            self.sent = max(self.sent, upto)
            position = upto


async def run(
    course: Course, database: Database, data_dir: Path, outage: Callable[[], AbstractContextManager[None]]
) -> Report:
    """Let it happen; the database is migrated and empty."""
    session = a_session(database)
    report = Report()
    rng = random.Random(course.seed)
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    certificate = data_dir / "ca.pem"
    authority.cert_pem.write_to_path(certificate)
    feed = Feed(course)
    sockets = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = sockets.listeners[0].extra(anyio.abc.SocketAttribute.local_port)
    async with TLSListener(sockets, context, standard_compatible=False) as listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, feed.serve)
        start = partial(_start, database.url, data_dir, port, certificate, session)
        # By what was sent, so that a slow machine kills no process that has not begun.
        moments = sorted(rng.randrange(600, course.messages) for _ in range(course.kills))
        await _kill_along(course, feed, start, moments, outage, data_dir, report, database, session)
        tasks.cancel_scope.cancel()
    found = stored_ids(database, session.id)
    wanted = {message_id(number): number for number in range(course.messages)}
    report.sent, report.resent = feed.sent, feed.resent
    report.missing = sorted(wanted[each] for each in wanted.keys() - set(found))
    report.twice = len(found) - len(set(found))
    report.counted = reload(database, session).messages
    return report


async def _kill_along(
    course: Course,
    feed: Feed,
    start: Callable[[], Process],
    moments: list[int],
    outage: Callable[[], AbstractContextManager[None]],
    data_dir: Path,
    report: Report,
    database: Database,
    session: Session,
) -> None:
    stack = ExitStack()
    away, back_at = 0, 0.0
    sent_before = 0
    process = start()
    frozen: list[tuple[Process, int]] = []  # and how much must have been acknowledged for it to go on
    all_of_them = [process]
    try:
        with anyio.fail_after(course.seconds * 3 + course.outage_s + 60):
            while not feed.done.is_set() or moments or away < 2 or frozen:
                while frozen and (feed.acknowledged >= frozen[0][1] or feed.done.is_set()):
                    frozen.pop(0)[0].send_signal(signal.SIGCONT)
                    report.thaws += 1
                if away == 0 and feed.sent >= course.messages // 3:
                    await anyio.to_thread.run_sync(stack.enter_context, outage())
                    away, back_at = 1, time.monotonic() + course.outage_s
                elif away == 1 and time.monotonic() >= back_at:
                    await anyio.to_thread.run_sync(stack.close)
                    away = 2
                has_more = feed.sent > sent_before or feed.sent == course.messages
                if moments and feed.sent >= moments[0] and has_more:
                    del moments[0]
                    sent_before = feed.sent
                    if course.freezes:
                        process.send_signal(signal.SIGSTOP)
                        frozen.append((process, feed.acknowledged + _TAKEN_OVER))
                    else:
                        process.send_signal(signal.SIGKILL)
                        await anyio.to_thread.run_sync(process.wait)
                    report.kills += 1
                    process = start()
                    all_of_them.append(process)
                report.spool_peak = max(report.spool_peak, _size_of(data_dir / ".chat-journal"))
                await anyio.sleep(_TICK_S)
            # The last one stores what all of them left; each ends when it is done.
            for each in all_of_them:
                await anyio.to_thread.run_sync(each.wait)
    finally:
        stack.close()
        for each in all_of_them:
            each.kill()
            each.wait()


def _start(url: URL, data_dir: Path, port: int, certificate: Path, session: Session) -> Process:
    return warm.start(
        *("support.chat_recorder", str(data_dir), str(port), str(certificate), str(session.id)),
        env={**os.environ, "CHAT_URL": url.render_as_string(hide_password=False)},
        cwd=data_dir,
        stderr=2,
    )


def _size_of(folder: Path) -> int:
    size = 0
    # Not glob: folders and files come and go meanwhile.
    for root, _, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):
                size += Path(root, name).stat().st_size
    return size


@contextmanager
def locked_file(path: Path) -> Iterator[None]:
    """Nobody else can write the SQLite file."""
    connection = sqlite3.connect(path, isolation_level=None, timeout=30, check_same_thread=False)
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        connection.rollback()
        connection.close()


@contextmanager
def stopped_server(server: PostgresServer) -> Iterator[None]:
    """There is no server."""
    server.stop()
    try:
        yield
    finally:
        server.start()


def main() -> None:
    """Run the long form, print what became of it; exit code 1 if anything is missing or twice."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--database", choices=["sqlite", "postgresql"], default="sqlite")
    parser.add_argument("--seconds", type=float, default=90)
    parser.add_argument("--outage", type=float, default=60)
    parser.add_argument("--rate", type=int, default=2000)
    parser.add_argument("--kills", type=int, default=12)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    course = Course(options.seconds, options.rate, options.kills, options.outage, options.seed)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        if options.database == "sqlite":
            database = Database(URL.create("sqlite", database=str(folder / "chat.db")))
            outage = partial(locked_file, folder / "chat.db")
        else:
            server = PostgresServer(find_binaries(), keeps_commits=True)
            stack.callback(server.close)
            server.start()
            database = Database(server.url(stack.enter_context(fresh_database(server))))
            outage = partial(stopped_server, server)
        stack.callback(database.dispose)
        upgrade(database, CHAT)
        report = anyio.run(run, course, database, folder, outage)
    sys.stdout.write(
        f"{options.database}: {report.sent} sent, {report.resent} of them again, {report.kills} kills, database away"
        f" {course.outage_s:g} s, journals up to {report.spool_peak / 1e6:.1f} MB:"
        f" {len(report.missing)} missing, {report.twice} twice, {report.counted} counted\n"
    )
    sys.exit(1 if report.missing or report.twice or report.counted != course.messages else 0)


if __name__ == "__main__":
    main()
