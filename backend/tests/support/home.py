"""One installation under test: a pretended Twitch, a data folder, a database, and services that work on them."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import stat
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import pytest
from blake3 import blake3
from sqlalchemy import NullPool, create_engine
from sqlalchemy.engine import make_url

from support import warm
from support.service import ServiceProcess, service_env
from support.standin import hosted_standin
from support.warm import Process
from vodkeep_standin.scenario import ids
from vodkeep_standin.scenario.builtin import scenario_for_tests
from vodkeep_standin.scenario.model import Scenario, Video
from vodkeep_standin.server import Standin

CHANNEL = ids.CHANNEL


def scenario_with(*videos: str | Video, **rest: Any) -> Scenario:
    """The ``test`` scenario with these videos only, each by its id or made by hand, and the channels they need."""
    whole = scenario_for_tests()
    chosen = [whole.videos[video] if isinstance(video, str) else video for video in videos]
    logins = dict.fromkeys([CHANNEL, *(video.channel for video in chosen)])
    return Scenario.of("acceptance", [whole.channels[login] for login in logins], chosen, **rest)


class Home:
    """What one person runs, and the means to look at it from outside."""

    def __init__(self, root: Path, standin: Standin, dsn: str | None, stack: ExitStack, *, cold: bool = False) -> None:
        self.root = root
        self.standin = standin
        self.dsn = dsn
        self.data_dir = root / "data"
        self.cold = cold
        self._stack = stack

    # Running ----------------------------------------------------------------------------------------------

    def env(self, **extra: str) -> dict[str, str]:
        """The environment of a program that works here; ``extra`` has the last word."""
        dsn = {"DB_DSN": self.dsn} if self.dsn is not None else {}
        return service_env(self.data_dir, {**self.standin.env(), **dsn, **extra})

    def spawn(self, *arguments: str, **extra: str) -> ServiceProcess:
        """Start a service and do not wait for it; it is killed at the end of the test."""
        service = ServiceProcess(self.env(**extra), self.root, *arguments, cold=self.cold)
        self._stack.callback(service.close)
        return service

    def start(self, *arguments: str, **extra: str) -> ServiceProcess:
        """Start a service and wait until its page can be asked."""
        return self.spawn(*arguments, **extra).wait_until_listening()

    def start_archive(self, *arguments: str, streams: int = subprocess.DEVNULL, **extra: str) -> Process:
        """Start ``vodkeep archive``; ``streams`` is where it writes to."""
        env = self.env_without_credentials(**extra)
        return warm.start(
            "vodkeep", "archive", *arguments, env=env, cwd=self.root, cold=self.cold, stdout=streams, stderr=streams
        )

    def archive(self, *arguments: str, timeout_s: float = 90.0, **extra: str) -> subprocess.CompletedProcess[str]:
        """Run ``vodkeep archive`` to its end, without any Twitch credentials."""
        env = self.env_without_credentials(**extra)
        return warm.run("vodkeep", "archive", *arguments, env=env, cwd=self.root, timeout_s=timeout_s, cold=self.cold)

    def env_without_credentials(self, **extra: str) -> dict[str, str]:
        """The environment of somebody who has no account at Twitch at all."""
        return {name: value for name, value in self.env(**extra).items() if not name.startswith(("TWITCH_CLIENT",))}

    def processes(self) -> dict[int, str]:
        """The command lines of all processes that work here: children inherit DATA_DIR from the service."""
        mark = f"DATA_DIR={self.data_dir}".encode()
        found = {}
        for folder in Path("/proc").iterdir():
            if not folder.name.isdigit() or int(folder.name) == os.getpid():
                continue
            try:
                if mark in (folder / "environ").read_bytes().split(b"\0"):
                    found[int(folder.name)] = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
        return found

    def end_processes(self) -> None:
        """End whatever is left; a test that failed must not burden the others."""
        for pid in self.processes():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue

    @contextmanager
    def half_read(self, host: str, port: int, path: str) -> Iterator[None]:
        """Ask for something large and read only its beginning for the time of the block."""
        with socket.create_connection((host, port), timeout=60) as asking:
            asking.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            asking.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode())
            assert asking.recv(1000).startswith(b"HTTP/1.1 200")
            yield

    # The database -----------------------------------------------------------------------------------------

    def sql(self, statement: str, *, file: str = "vodkeep.db") -> list[dict[str, Any]]:
        """Run one statement as an operator would, in a connection of its own; the rows, if it has any.

        ``file`` is the one to ask on SQLite, such as ``chat.db``.
        """
        url = make_url(self.dsn or f"sqlite:///{self.data_dir / file}")
        if url.get_backend_name() == "postgresql":
            url = url.set(drivername="postgresql+psycopg")
        engine = create_engine(url, poolclass=NullPool)
        try:
            with engine.begin() as connection:
                result = connection.exec_driver_sql(statement)
                return [dict(row) for row in result.mappings()] if result.returns_rows else []
        finally:
            engine.dispose()

    def vod(self, video_id: str) -> dict[str, Any]:
        """The row of a video."""
        (row,) = self.sql(f"SELECT * FROM vods WHERE twitch_vod_id='{video_id}'")
        return row

    def kv(self, channel: str = CHANNEL) -> dict[str, str]:
        """The channel's entries in ``kv``."""
        return {row["key"]: row["value"] for row in self.sql(f"SELECT key, value FROM kv WHERE channel='{channel}'")}

    @contextmanager
    def locked_rows(self) -> Iterator[None]:
        """Let nobody else write to ``vods`` for the time of the block."""
        if self.dsn is None:
            connection = sqlite3.connect(self.data_dir / "vodkeep.db", timeout=20, isolation_level=None)
            try:
                connection.execute("BEGIN IMMEDIATE")
                yield
                connection.execute("ROLLBACK")
            finally:
                connection.close()
            return
        engine = create_engine(make_url(self.dsn).set(drivername="postgresql+psycopg"), poolclass=NullPool)
        with engine.connect() as locking:
            locking.exec_driver_sql("LOCK TABLE vods IN EXCLUSIVE MODE")
            yield
            locking.rollback()
        engine.dispose()

    # The files --------------------------------------------------------------------------------------------

    def folders(self, channel: str = CHANNEL) -> list[Path]:
        """The items of a channel."""
        parent = self.data_dir / channel
        return sorted(parent.iterdir()) if parent.exists() else []

    def folder(self, video_id: str, channel: str = CHANNEL) -> Path:
        """The one folder of an item."""
        (folder,) = [path for path in self.folders(channel) if path.name.endswith(f"[{video_id}]")]
        return folder

    def manifest(self, video_id: str) -> Any:
        """What the folder says of itself."""
        return json.loads((self.folder(video_id) / "manifest.json").read_text("utf-8"))

    def leftovers(self) -> list[str]:
        """What lies in the work folder."""
        work = self.data_dir / ".work"
        return sorted(str(path.relative_to(work)) for path in work.rglob("*")) if work.exists() else []

    def journal(self, video_id: str) -> dict[str, int]:
        """The segments that the journal proves, by their name at the edge, with their size."""
        path = self.data_dir / ".work" / video_id / "journal.ndjson"
        proven = {}
        for text in path.read_text("utf-8").splitlines() if path.exists() else []:
            try:
                entry = json.loads(text)
            except ValueError:
                continue  # The line that was being written.
            if "sn" in entry:
                proven[str(entry["name"])] = int(entry["size"])
        return proven

    # The requests -----------------------------------------------------------------------------------------

    def segment_requests(self, video_id: str, *, since: datetime | None = None) -> Counter[str]:
        """How often each segment of a video was asked for."""
        names = {segment.name for segment in self.standin.media(video_id).source.segments}
        stems = {name.split(".")[0] for name in names}
        grants = {key for key, grant in dict(self.standin.world.grants).items() if grant.video_id == video_id}
        asked: Counter[str] = Counter()
        for entry in self.standin.requests.entries("/edge/*"):
            _, _, grant, *_, name = entry.path.split("/")
            if grant in grants and name.split(".")[0].split("-")[0] in stems and (since is None or entry.time >= since):
                asked[name] += 1
        return asked


HomeOf = Callable[..., Home]


# What must hold of an item ------------------------------------------------------------------------------------


def check_kept(home: Home, video_id: str) -> Any:
    """Check an item that is kept, from its row to the packets of its file; returns its manifest."""
    row = home.vod(video_id)
    assert (row["download_state"], row["processed"]) == ("done", 1), row
    assert (row["processing_error"], row["error_code"], row["completeness"]) == (None, None, 1.0), row
    folder = home.folder(video_id)
    assert row["downloaded_path"] == str(folder.relative_to(home.data_dir) / "video.mp4")
    # Only chat in which somebody said something has emotes.
    names = sorted(path.name for path in folder.iterdir() if path.name != "emotes.json")
    assert names == ["chat.ndjson.zst", "manifest.json", "thumbnail.jpg", "video.mp4"]
    assert row["chat_completeness"] == 1.0, row
    assert stat.S_IMODE(folder.stat().st_mode) == 0o750
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o640}
    assert (folder / "thumbnail.jpg").read_bytes()[:3] == b"\xff\xd8\xff"
    manifest = check_manifest(home, video_id)
    assert manifest["completeness"] == 1.0
    assert {stretch["source"] for stretch in manifest["ledger"]} == {"vod"}
    media = home.standin.media(video_id)
    counted = count_packets(folder / "video.mp4")
    assert counted == source_packets(home.standin, video_id) == (media.video_packets, media.audio_packets)
    assert row["download_bytes"] == (folder / "video.mp4").stat().st_size
    return manifest


def check_manifest(home: Home, video_id: str) -> Any:
    """Check a manifest against the files beside it and against the broadcast's length."""
    folder, manifest = home.folder(video_id), home.manifest(video_id)
    files = {entry["name"]: entry for entry in manifest["files"]}
    assert {"manifest.json", *files} == {path.name for path in folder.iterdir()}
    for name, entry in files.items():
        body = (folder / name).read_bytes()
        assert (entry["size_bytes"], entry["checksum"]) == (len(body), f"blake3:{blake3(body).hexdigest()}")
    video, audio = count_packets(folder / "video.mp4")
    assert {stream["kind"]: stream["packets"] for stream in manifest["streams"]} == {"video": video, "audio": audio}
    ledger = manifest["ledger"]
    assert ledger[0]["start_ms"] == 0
    assert ledger[-1]["end_ms"] == manifest["duration_ms"]
    assert all(one["end_ms"] == other["start_ms"] for one, other in pairwise(ledger))
    assert abs(manifest["duration_ms"] - 1000 * home.standin.media(video_id).duration_s) <= 100
    return manifest


def count_packets(source: Path | BytesIO) -> tuple[int, int]:
    """Packets of picture and sound in a file."""
    with av.open(str(source) if isinstance(source, Path) else source, mode="r") as container:
        counted: Counter[str] = Counter()
        for packet in container.demux():
            if packet.size:
                counted[packet.stream.type] += 1
    return counted["video"], counted["audio"]


def source_packets(standin: Standin, video_id: str) -> tuple[int, int]:
    """Packets in the segments that the pretended Twitch serves, read run by run as a player would."""
    media = standin.media(video_id)
    rendition = media.source
    video = audio = 0
    for run in sorted({segment.run for segment in rendition.segments}):
        names = [segment.name for segment in rendition.segments if segment.run == run]
        parts = [rendition.init_names[run], *names] if rendition.init_names else names
        joined = BytesIO(b"".join(media.path(rendition.name, name).read_bytes() for name in parts))
        of_run = count_packets(joined)
        video, audio = video + of_run[0], audio + of_run[1]
    return video, audio


@pytest.fixture
def home_of(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[HomeOf]:
    """Makes homes: ``home_of(ids.PLAIN, dsn=...)``; everything in them ends with the test."""
    cold = request.node.get_closest_marker("cold_start") is not None
    with ExitStack() as stack:

        def make(*videos: str | Video, dsn: str | None = None, speed: float = 0, **scenario: Any) -> Home:
            root = tmp_path / f"home-{len(list(tmp_path.glob('home-*')))}"
            root.mkdir()
            standin = stack.enter_context(hosted_standin(scenario_with(*videos, **scenario), speed=speed))
            home = Home(root, standin, dsn, stack, cold=cold)
            stack.callback(home.end_processes)
            return home

        yield make


@pytest.fixture
def dsn(database_kind: str, request: pytest.FixtureRequest) -> str | None:
    """Where the database is: nothing set (SQLite in DATA_DIR), or an empty PostgreSQL database."""
    if database_kind == "sqlite":
        return None
    postgres: str = request.getfixturevalue("postgres_dsn")
    return postgres
