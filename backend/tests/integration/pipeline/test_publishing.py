"""Publishing an item at the stand-in's YouTube: one video of the same bytes, whatever ends the run and wherever."""

from __future__ import annotations

import hashlib
import random
import subprocess
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import imageio_ffmpeg
import pytest

from support.kept_items import KeptItems
from support.queue_rows import Rows
from support.standin import hosted_standin
from support.youtube import connected
from vodkeep.clock import SystemClock
from vodkeep.db.engine import Database
from vodkeep.errors import CredentialsError, LimitReached, NetworkError
from vodkeep.keep.library import describe_file
from vodkeep.keep.manifest import MANIFEST_NAME, load_manifest, write_manifest
from vodkeep.pipeline.action_store import ActionStore
from vodkeep.pipeline.metrics import NoMetrics
from vodkeep.pipeline.model import Asked, Asker, DownloadState, QueueItem
from vodkeep.pipeline.publish_runner import PublishRunner
from vodkeep.pipeline.publish_stage import Publisher, Uploads
from vodkeep.pipeline.retry import RetryPolicy
from vodkeep.pipeline.store import QueueStore
from vodkeep.publish.metadata import PublishTemplates
from vodkeep.publish.model import Committed, Finished, VideoMetadata, VideoStatus
from vodkeep.publish.publication import Publication
from vodkeep.publish.split import Limits
from vodkeep.publish.store import PublicationStore
from vodkeep.telemetry.log import get_logger
from vodkeep_standin.server import Standin
from vodkeep_standin.youtube.model import Quota

pytestmark = pytest.mark.anyio

CHUNK = 256 * 1024
CHUNKS = 6
S = DownloadState
UNLIMITED = Limits(12 * 3600 * 1000, 256 * 10**9)


class Killed(BaseException):
    """The process is gone: nothing it would still have done is done."""


class Mortal:
    """A YouTube whose caller is killed at its ``lives``-th step, right before or right after it was answered."""

    def __init__(self, youtube: Uploads, lives: int) -> None:
        self._youtube = youtube
        self._lives = lives
        self.steps = 0

    def _step(self) -> None:
        self.steps += 1
        if self.steps == self._lives:
            raise Killed

    async def _call(self, call: Awaitable[Any]) -> Any:
        try:
            self._step()
        except Killed:
            call.close()  # type: ignore[attr-defined]
            raise
        answer = await call
        self._step()
        return answer

    async def begin(self, metadata: VideoMetadata, *, size_bytes: int) -> str:
        return str(await self._call(self._youtube.begin(metadata, size_bytes=size_bytes)))

    async def ask(self, session_uri: str, *, size_bytes: int) -> Committed | Finished:
        answer: Committed | Finished = await self._call(self._youtube.ask(session_uri, size_bytes=size_bytes))
        return answer

    async def send(
        self,
        session_uri: str,
        path: Path,
        *,
        size_bytes: int,
        start: int,
        on_sent: Callable[[int], None],
        on_committed: Callable[[int], Awaitable[None]],
        confirm: Callable[[], Awaitable[None]],
    ) -> Finished:
        async def committed(position: int) -> None:
            self._step()
            await on_committed(position)
            self._step()

        finished: Finished = await self._call(
            self._youtube.send(
                session_uri,
                path,
                size_bytes=size_bytes,
                start=start,
                on_sent=on_sent,
                on_committed=committed,
                confirm=confirm,
            )
        )
        return finished

    async def find(self, marker: str, *, since: datetime) -> VideoStatus | None:
        found: VideoStatus | None = await self._call(self._youtube.find(marker, since=since))
        return found

    async def look(self, video_ids: Sequence[str]) -> Mapping[str, VideoStatus]:
        answers: Mapping[str, VideoStatus] = await self._call(self._youtube.look(video_ids))
        return answers

    async def set_thumbnail(self, video_id: str, path: Path) -> None:
        await self._call(self._youtube.set_thumbnail(video_id, path))

    async def add_to_playlist(self, playlist_id: str, video_id: str) -> None:
        await self._call(self._youtube.add_to_playlist(playlist_id, video_id))

    async def set_description(self, video_id: str, metadata: VideoMetadata) -> None:
        await self._call(self._youtube.set_description(video_id, metadata))


class Failing(Mortal):
    """Ends the first upload with an error."""

    def __init__(self, youtube: Uploads, error: Exception) -> None:
        super().__init__(youtube, 0)
        self._error = error

    async def find(self, marker: str, *, since: datetime) -> VideoStatus | None:
        raise self._error


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A film of several chunks: a small one, and a box that players pass over."""
    target = tmp_path_factory.mktemp("film") / "video.mp4"
    command = [
        imageio_ffmpeg.get_ffmpeg_exe(),
        "-v",
        "error",
        "-f",
        "lavfi",
        "-t",
        "4",
        "-i",
        "testsrc2=rate=10:size=128x72",
    ]
    subprocess.run([*command, "-pix_fmt", "yuv420p", "-g", "10", str(target)], check=True, timeout=100)
    padding = random.Random(5).randbytes(CHUNK * CHUNKS - target.stat().st_size - 8 - 1000)
    with target.open("ab") as file:
        file.write((len(padding) + 8).to_bytes(4, "big") + b"free" + padding)
    return target


@pytest.fixture(scope="module")
def house() -> Iterator[Standin]:
    with hosted_standin("catalog:1", speed=0) as standin:
        yield standin


@pytest.fixture
def google(house: Standin) -> Standin:
    """The stand-in with nothing uploaded."""
    house.faults.clear()
    library = house.youtube
    library.videos.clear()
    library.sessions.clear()
    library.playlists["PLstandin"] = []
    library.quota, library.outcome, library.reason = Quota(), "processed", None
    return house


class Shop:
    """An item that is to be published, and runs that each could be another process's."""

    def __init__(self, database: Database, rows: Rows, root: Path, film: Path, google: Standin) -> None:
        self.database, self.rows, self.library, self.google = database, rows, root, google
        self.items = KeptItems(database, root)
        self.film = film

    def add(self, video_id: str) -> None:
        folder = self.items.add(
            video_id, published=False, download_state="downloaded", processed=0, stage="publish", days_old=1
        )
        (folder / "video.mp4").write_bytes(self.film.read_bytes())
        (folder / "thumbnail.jpg").write_bytes(b"\xff\xd8\xff\xe0 a picture")
        manifest = load_manifest(folder)
        assert manifest is not None
        files = (describe_file(folder / "video.mp4"), describe_file(folder / "thumbnail.jpg"))
        (folder / MANIFEST_NAME).write_text(write_manifest(replace(manifest, files=files)))

    def item(self, video_id: str) -> QueueItem:
        with self.database.unit_of_work() as unit:
            QueueStore(unit.connection).ripen(datetime.now(UTC) + timedelta(days=400))
            unit.commit()
            found = QueueStore(unit.connection).find(video_id)
        assert found is not None
        return found

    def publications(self, video_id: str) -> list[Publication]:
        with self.database.unit_of_work(write=False) as unit:
            return PublicationStore(unit.connection).of_item(video_id)

    def runner(self, youtube: Uploads, limits: Limits = UNLIMITED) -> PublishRunner:
        async def account(_channel: str) -> Uploads:
            return youtube

        return PublishRunner(
            database=self.database,
            publish=Publisher(
                self.database,
                account,
                library=self.library,
                templates=PublishTemplates(playlist="PLstandin"),
                limits=limits,
                ffmpeg=imageio_ffmpeg.get_ffmpeg_exe(),
                log=get_logger("vod_upload"),
            ),
            clock=SystemClock(),
            log=get_logger("vod_upload"),
            metrics=NoMetrics(),
            retry=RetryPolicy(3, timedelta(seconds=2), timedelta(minutes=10)),
            rng=random.Random(1),
        )

    def assert_one_video(self, video_id: str) -> None:
        marker = f"Vodkeep {video_id}/"
        (video,) = [each for each in self.google.youtube.videos.values() if marker in each.details.description]
        assert video.sha256 == hashlib.sha256(self.film.read_bytes()).hexdigest()
        (one,) = self.publications(video_id)
        assert (one.youtube_id, one.session_uri, one.thumbnail_done, one.playlist_done) == (video.id, None, True, True)
        row = self.rows.get(video_id)
        assert (row["processed"], row["download_state"]) == (1, "done")
        assert row["youtube_url"].endswith(video.id)
        manifest = load_manifest(self.items.folder(video_id))
        assert manifest is not None
        assert [entry.youtube_id for entry in manifest.publications] == [video.id]


@pytest.fixture
def shop(database: Database, rows: Rows, tmp_path: Path, film: Path, google: Standin) -> Shop:
    return Shop(database, rows, tmp_path / "library", film, google)


async def test_whatever_instant_a_run_is_killed_at_there_is_one_video(shop: Shop) -> None:
    """Before and after each question to YouTube and each save, the one after the last byte among them."""
    async with connected(shop.google, chunk_bytes=CHUNK) as connection:
        lives, ended = 0, False
        while not ended:
            lives += 1
            video_id = str(1000 + lives)
            shop.add(video_id)
            mortal = Mortal(connection.youtube, lives)
            with suppress(BaseExceptionGroup, Killed):
                await shop.runner(mortal).run(shop.item(video_id))
            ended = mortal.steps < lives
            if not ended:
                assert await shop.runner(connection.youtube).run(shop.item(video_id)) is S.DONE, lives
            shop.assert_one_video(video_id)
    assert lives > 20
    for session in shop.google.youtube.sessions.values():
        assert session.arrived_bytes <= session.size_bytes + CHUNK, "at most one chunk came twice"


async def test_the_runbooks_statement_links_the_video_again_and_a_vanished_one_is_uploaded_again(
    shop: Shop, rows: Rows
) -> None:
    shop.add("100")
    async with connected(shop.google) as connection:
        assert await shop.runner(connection.youtube).run(shop.item("100")) is S.DONE
        for vanishes in (False, True):
            (video,) = [each for each in shop.google.youtube.videos.values() if not each.vanished]
            video.vanished = vanishes
            rows.execute(
                "UPDATE vods SET processed=0, processing_error=NULL, youtube_url=NULL WHERE twitch_vod_id='100'"
            )
            rows.execute("UPDATE vods SET download_state='downloaded', stage='publish' WHERE twitch_vod_id='100'")
            assert await shop.runner(connection.youtube).run(shop.item("100")) is S.DONE
            (present,) = [each for each in shop.google.youtube.videos.values() if not each.vanished]
            assert (present.id != video.id) is vanishes
            assert rows.get("100")["youtube_url"].endswith(present.id)


async def test_a_fresh_publication_is_a_second_video_that_is_asked_for(shop: Shop, rows: Rows) -> None:
    shop.add("100")
    async with connected(shop.google) as connection:
        assert await shop.runner(connection.youtube).run(shop.item("100")) is S.DONE
        with shop.database.unit_of_work() as unit:
            ActionStore(unit.connection).reprocess("100", datetime.now(UTC), Asked(Asker.CLI, None), republish=True)
            unit.commit()
        rows.execute("UPDATE vods SET download_state='downloaded', stage='publish' WHERE twitch_vod_id='100'")
        assert await shop.runner(connection.youtube).run(shop.item("100")) is S.DONE
    old, new = shop.publications("100")
    assert (old.state, new.state, new.round) == ("superseded", "uploaded", 2)
    assert len(shop.google.youtube.videos) == 2
    assert rows.get("100")["youtube_url"].endswith(str(new.youtube_id))


async def test_limits_and_a_missing_account_say_until_when_and_count_nothing(shop: Shop, rows: Rows) -> None:
    until = datetime(2027, 1, 1, 8, 0, tzinfo=UTC)
    shop.add("100")
    async with connected(shop.google) as connection:
        for error, code, retries in (
            (LimitReached("The quota is used up.", until=until, code="quota_exceeded"), "quota_exceeded", 0),
            (CredentialsError("No account.", code="not_connected"), "youtube_not_connected", 0),
            (NetworkError("No answer."), "network", 1),
        ):
            assert await shop.runner(Failing(connection.youtube, error)).run(shop.item("100")) is S.FAILED
            row = rows.get("100")
            assert (row["error_code"], row["upload_retries"], row["stage"]) == (code, retries, "publish")
            if code == "quota_exceeded":
                assert row["not_before"] == until
                assert "2027-01-01 08:00 UTC" in row["processing_error"]
        assert not shop.google.youtube.sessions


async def test_a_damaged_file_is_never_sent(shop: Shop, rows: Rows) -> None:
    shop.add("100")
    video = shop.items.video("100")
    video.write_bytes(video.read_bytes()[:-1] + b"\x00")
    async with connected(shop.google) as connection:
        assert await shop.runner(connection.youtube).run(shop.item("100")) is S.PARKED
    assert rows.get("100")["error_code"] == "source_damaged"
    assert not shop.google.youtube.sessions


async def test_a_long_broadcast_becomes_linked_parts(shop: Shop, rows: Rows) -> None:
    shop.add("100")
    async with connected(shop.google) as connection:
        assert await shop.runner(connection.youtube, Limits(2_500, 10**9)).run(shop.item("100")) is S.DONE
    first, second = shop.publications("100")
    videos = shop.google.youtube.videos
    assert str(second.youtube_id) in videos[str(first.youtube_id)].details.description
    assert str(first.youtube_id) in videos[str(second.youtube_id)].details.description
    assert first.end_ms == second.start_ms
    assert rows.get("100")["youtube_url"].endswith(str(first.youtube_id))
    assert not (shop.library / ".parts" / "100").exists()


class Waiting(Mortal):
    """Waits in the middle of an upload."""

    def __init__(self, youtube: Uploads) -> None:
        super().__init__(youtube, 0)
        self.arrived, self.go_on = anyio.Event(), anyio.Event()

    async def send(self, session_uri: str, path: Path, **options: Any) -> Finished:
        self.arrived.set()
        await self.go_on.wait()
        return await super().send(session_uri, path, **options)


async def test_a_stop_hands_back_and_a_run_that_lost_its_claim_sends_nothing(shop: Shop, rows: Rows) -> None:
    async with connected(shop.google) as connection:
        for video_id in ("100", "200"):
            shop.add(video_id)
            youtube = Waiting(connection.youtube)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(shop.runner(youtube).run, shop.item(video_id))
                await youtube.arrived.wait()
                if video_id == "100":
                    tasks.cancel_scope.cancel()
                else:
                    rows.execute("UPDATE vods SET generation=generation+1 WHERE twitch_vod_id='200'")
                    youtube.go_on.set()
            row = rows.get(video_id)
            state = "downloaded" if video_id == "100" else "uploading"
            assert (row["download_state"], row["upload_retries"]) == (state, 0)
        assert not shop.google.youtube.videos
        for video_id in ("100", "200"):
            assert await shop.runner(connection.youtube).run(shop.item(video_id)) is S.DONE
            shop.assert_one_video(video_id)
