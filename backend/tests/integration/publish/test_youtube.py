"""Uploading to the stand-in's YouTube over real sockets: one video, the same bytes, whatever breaks on the way."""

from __future__ import annotations

import hashlib
import random
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from support.standin import hosted_standin
from support.youtube import METADATA, RESET, Upload, connected
from vodkeep.errors import (
    CredentialsError,
    LimitReached,
    NetworkError,
    PermanentError,
    RateLimited,
    ServerError,
    VodkeepError,
)
from vodkeep.publish.model import Committed, SessionGone, VideoMetadata
from vodkeep.publish.resumable import UNIT_BYTES
from vodkeep_standin.faults.garbage import Garbage
from vodkeep_standin.faults.reset import Reset
from vodkeep_standin.faults.rule import AnyFault
from vodkeep_standin.faults.status import Status
from vodkeep_standin.faults.upload_break import UploadBreak
from vodkeep_standin.faults.youtube_error import YouTubeError
from vodkeep_standin.server import Standin
from vodkeep_standin.serving.incoming import Break
from vodkeep_standin.youtube.model import Library, PublishedVideo, Quota

pytestmark = pytest.mark.anyio

SIZE = 9 * UNIT_BYTES + 12_345
CHUNK = 4 * UNIT_BYTES


@pytest.fixture(scope="module")
def house() -> Iterator[Standin]:
    with hosted_standin("catalog:1", speed=0) as standin:
        yield standin


@pytest.fixture
def google(house: Standin) -> Standin:
    """The stand-in with nothing uploaded, no faults, and a full quota."""
    house.faults.clear()
    house.requests.clear()
    library = house.youtube
    library.videos.clear()
    library.sessions.clear()
    library.playlists["PLstandin"] = []
    library.quota, library.outcome, library.reason = Quota(), "processed", None
    return house


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("source") / "video.mp4"
    path.write_bytes(random.Random(6).randbytes(SIZE))
    return path


def only_video(library: Library, source: Path) -> PublishedVideo:
    """The one video there is, which has the file's very bytes."""
    (video,) = library.videos.values()
    assert video.sha256 == hashlib.sha256(source.read_bytes()).hexdigest()
    return video


def sent_twice(library: Library) -> int:
    (session,) = library.sessions.values()
    return session.arrived_bytes - session.size_bytes


async def test_a_file_becomes_one_video_with_the_same_bytes(google: Standin, source: Path) -> None:
    upload = Upload()
    async with connected(google) as connection:
        uri = await connection.youtube.begin(METADATA, size_bytes=SIZE)
        assert await connection.youtube.ask(uri, size_bytes=SIZE) == Committed(0)
        finished = await connection.send(uri, source, upload=upload)
        assert await connection.youtube.ask(uri, size_bytes=SIZE) == finished
    video = only_video(google.youtube, source)
    assert video.id == finished.video_id
    assert (video.details.title, video.details.description) == (METADATA.title, METADATA.description)
    assert (video.details.tags, video.details.privacy) == (METADATA.tags, "private")
    assert video.details.recorded_at == "2026-11-01T00:00:00Z"
    assert upload.committed == [CHUNK, 2 * CHUNK]
    assert upload.sent == sorted(upload.sent)
    assert upload.sent[-1] == SIZE
    assert upload.confirmed == 3
    assert sent_twice(google.youtube) == 0
    # What asking and sending take belongs to the one videos.insert.
    assert dict(connection.spending.calls) == {"videos.insert": 1}


@pytest.mark.parametrize(
    ("fault", "twice"),
    [
        (UploadBreak(after_bytes=UNIT_BYTES + 1000), UNIT_BYTES),
        (UploadBreak(after_bytes=3 * UNIT_BYTES, ending="close"), UNIT_BYTES),
        (UploadBreak(after_bytes=2 * UNIT_BYTES, keeps_bytes=CHUNK + UNIT_BYTES), 2 * UNIT_BYTES),
        (UploadBreak(after_bytes=CHUNK, keeps_bytes=0), CHUNK),
        (UploadBreak(after_bytes=UNIT_BYTES, ending="status", status=500), UNIT_BYTES),
        (UploadBreak(after_bytes=0, ending="reset"), 0),
        (Status(status=503), 0),
        (Status(status=502, body="<html><h1>Bad Gateway</h1></html>", content_type="text/html"), 0),
        (Status(status=403, body="<html>portal</html>", content_type="text/html"), 0),
        (Status(status=200, body="<html>portal</html>", content_type="text/html"), 0),
        (Status(status=308, body=""), 0),
        (YouTubeError(reason="authError"), 0),
    ],
    ids=lambda value: repr(value)[:60],
)
async def test_what_breaks_is_taken_up_where_youtube_is(
    google: Standin, source: Path, fault: AnyFault, twice: int
) -> None:
    """The second of three chunks meets the fault."""
    google.faults.add(fault, method="PUT", path="/upload/*", after=1, count=1)
    async with connected(google) as connection:
        uri = await connection.youtube.begin(METADATA, size_bytes=SIZE)
        finished = await connection.send(uri, source)
    assert only_video(google.youtube, source).id == finished.video_id
    assert sent_twice(google.youtube) <= twice


async def test_an_answer_that_is_lost_after_the_last_byte_makes_no_second_video(google: Standin, source: Path) -> None:
    google.faults.add(Reset(), method="PUT", path="/upload/*", after=2, count=1)
    async with connected(google) as connection:
        uri = await connection.youtube.begin(METADATA, size_bytes=SIZE)
        finished = await connection.send(uri, source)
    assert only_video(google.youtube, source).id == finished.video_id
    assert sent_twice(google.youtube) == 0


async def test_a_line_that_takes_nothing_is_given_up(google: Standin, source: Path) -> None:
    google.faults.add(UploadBreak(after_bytes=UNIT_BYTES, ending="stall"), method="PUT", path="/upload/*", count=1)
    big = source.with_name("big.mp4")
    # More than the buffers of the sockets hold.
    big.write_bytes(source.read_bytes() * 12)
    async with connected(google, chunk_bytes=big.stat().st_size, stall_s=1.0) as connection:
        uri = await connection.youtube.begin(METADATA, size_bytes=big.stat().st_size)
        await connection.send(uri, big)
    only_video(google.youtube, big)


async def test_connections_cut_anywhere_never_cost_more_than_a_chunk_each(google: Standin, source: Path) -> None:
    """Many uploads over one stand-in; each is cut several times, and keeps less than it was sent now and then."""
    rng = random.Random(60)
    async with connected(google, chunk_bytes=3 * UNIT_BYTES, failures=50) as connection:
        for _ in range(25):
            google.faults.clear()
            google.youtube.videos.clear()
            google.youtube.sessions.clear()
            cuts = rng.randint(1, 6)
            for skipped in range(cuts):
                ending: Break = rng.choice(("reset", "close", "status"))
                keeps = rng.choice((None, None, rng.randrange(SIZE)))
                fault = UploadBreak(after_bytes=rng.randrange(3 * UNIT_BYTES), ending=ending, keeps_bytes=keeps)
                google.faults.add(fault, method="PUT", path="/upload/*", after=skipped, count=1, probability=0.7)
            uri = await connection.youtube.begin(METADATA, size_bytes=SIZE)
            await connection.send(uri, source)
            only_video(google.youtube, source)
            assert sent_twice(google.youtube) <= cuts * 3 * UNIT_BYTES


async def test_another_process_goes_on_where_the_first_was_killed(google: Standin, source: Path) -> None:
    google.faults.add(UploadBreak(after_bytes=1000), method="PUT", path="/upload/*", after=1)
    async with connected(google, failures=1) as connection:
        uri = await connection.youtube.begin(METADATA, size_bytes=SIZE)
        with pytest.raises(NetworkError) as failure:
            await connection.send(uri, source)
    assert "upload_id" not in str(failure.value)
    google.faults.clear()
    async with connected(google) as connection:
        state = await connection.youtube.ask(uri, size_bytes=SIZE)
        assert isinstance(state, Committed)
        assert state.bytes >= CHUNK
        await connection.send(uri, source, start=state.bytes)
    only_video(google.youtube, source)
    assert sent_twice(google.youtube) <= CHUNK


@pytest.mark.parametrize("status", [404, 410])
async def test_a_session_that_is_gone_is_said_to_be(google: Standin, source: Path, status: int) -> None:
    async with connected(google) as connection:
        uri = await connection.youtube.begin(METADATA, size_bytes=SIZE)
        (session,) = google.youtube.sessions.values()
        session.gone = status
        with pytest.raises(SessionGone):
            await connection.youtube.ask(uri, size_bytes=SIZE)
        with pytest.raises(SessionGone):
            await connection.send(uri, source)


async def test_a_session_ends_after_a_week(google: Standin) -> None:
    async with connected(google) as connection:
        uri = await connection.youtube.begin(METADATA, size_bytes=SIZE)
        google.advance(7 * 86_400)
        connection.tokens.value = google.world.google_tokens.issue().value
        with pytest.raises(SessionGone):
            await connection.youtube.ask(uri, size_bytes=SIZE)


async def test_a_token_that_ends_in_the_middle_is_replaced(google: Standin, source: Path) -> None:
    async with connected(google) as connection:
        uri = await connection.youtube.begin(METADATA, size_bytes=SIZE)
        google.world.google_tokens.expire()
        await connection.send(uri, source)
        assert connection.tokens.renewed == 1
        google.world.google_tokens.expire()
        connection.tokens.stubborn = True
        with pytest.raises(CredentialsError):
            await connection.youtube.look(["abc"])
    only_video(google.youtube, source)


@pytest.mark.parametrize(
    ("fault", "kind", "code"),
    [
        (YouTubeError(reason="quotaExceeded"), LimitReached, "quota_exhausted"),
        (YouTubeError(reason="dailyLimitExceeded"), LimitReached, "quota_exhausted"),
        (YouTubeError(reason="dailyUploads"), LimitReached, "quota_exhausted"),
        (YouTubeError(reason="uploadLimitExceeded"), LimitReached, "upload_limit_exceeded"),
        (YouTubeError(reason="rateLimitExceeded", retry_after="7"), RateLimited, "rate_limited"),
        (YouTubeError(reason="rateLimitExceeded", status=403), RateLimited, "rate_limited"),
        (YouTubeError(reason="userRateLimitExceeded"), RateLimited, "rate_limited"),
        (YouTubeError(reason="youtubeSignupRequired"), PermanentError, "youtube_signup_required"),
        (YouTubeError(reason="invalidTitle"), PermanentError, "invalid_title"),
        (YouTubeError(reason="somethingNew"), PermanentError, "upload_rejected"),
        (YouTubeError(reason="backendError"), ServerError, "server_error"),
        (Status(status=403, body="<html>portal</html>", content_type="text/html"), ServerError, "server_error"),
        (Garbage(form="html"), ServerError, "server_error"),
        (Reset(), NetworkError, "network"),
    ],
    ids=lambda value: repr(value)[:60],
)
async def test_every_refusal_has_its_own_error(
    google: Standin, fault: AnyFault, kind: type[VodkeepError], code: str
) -> None:
    google.faults.add(fault, method="POST", path="/upload/*")
    async with connected(google) as connection:
        with pytest.raises(kind) as failure:
            await connection.youtube.begin(METADATA, size_bytes=SIZE)
    assert failure.value.code == code
    if code == "quota_exhausted":
        assert isinstance(failure.value, LimitReached)
        assert failure.value.until == RESET
        assert connection.spending.exhausted_by == ["videos.insert"]
    if code == "upload_limit_exceeded":
        assert isinstance(failure.value, LimitReached)
        assert abs(failure.value.until - datetime.now(UTC) - timedelta(hours=24)) < timedelta(hours=1)
    # Nothing is tried again in a hurry.
    assert connection.clock.waits_s == []
    assert len(google.requests.entries("/upload/*")) == 1 or isinstance(fault, Reset)


@pytest.mark.parametrize(
    "fault", [YouTubeError(reason="quotaExceeded"), YouTubeError(reason="uploadLimitExceeded")], ids=repr
)
async def test_a_limit_in_the_middle_of_an_upload_ends_it_at_once(
    google: Standin, source: Path, fault: AnyFault
) -> None:
    google.faults.add(fault, method="PUT", path="/upload/*", after=1)
    async with connected(google) as connection:
        uri = await connection.youtube.begin(METADATA, size_bytes=SIZE)
        with pytest.raises(LimitReached):
            await connection.send(uri, source)
    assert len(google.requests.entries("/upload/*", method="PUT")) == 2


@pytest.mark.parametrize(
    ("metadata", "code"),
    [
        (replace(METADATA, title="a < b"), "invalid_title"),
        (replace(METADATA, title=101 * "x"), "invalid_title"),
        (replace(METADATA, description=2501 * "é"), "invalid_description"),
        (replace(METADATA, tags=tuple(f"tag {number:03}" for number in range(60))), "invalid_tags"),
        (replace(METADATA, category_id="999"), "invalid_category"),
    ],
    ids=["brackets", "long title", "long description", "many tags", "no category"],
)
async def test_youtube_does_not_accept_every_metadata(google: Standin, metadata: VideoMetadata, code: str) -> None:
    async with connected(google) as connection:
        with pytest.raises(PermanentError) as failure:
            await connection.youtube.begin(metadata, size_bytes=SIZE)
    assert failure.value.code == code
    assert failure.value.remedy


async def test_a_video_is_followed_until_it_is_processed_rejected_or_gone(google: Standin, source: Path) -> None:
    async with connected(google) as connection:
        uri = await connection.youtube.begin(METADATA, size_bytes=SIZE)
        video_id = (await connection.send(uri, source)).video_id

        async def status() -> tuple[str, int | None, str | None]:
            seen = (await connection.youtube.look([video_id]))[video_id]
            return seen.upload_status, seen.duration_ms, seen.refusal

        video = google.youtube.videos[video_id]
        video.outcome, video.reason, video.duration_s = "processed", None, 3723.4
        assert await status() == ("uploaded", 0, None)
        google.advance(google.youtube.processing_s)
        assert await status() == ("processed", 3_723_000, None)
        video.outcome, video.reason = "rejected", "duplicate"
        assert await status() == ("rejected", 0, "duplicate")
        video.vanished = True
        assert await connection.youtube.look([video_id, "unknown"]) == {}


async def test_a_video_is_found_by_the_marker_in_its_description(google: Standin, source: Path) -> None:
    began = google.world.clock.now()
    async with connected(google) as connection:
        for part in range(1, 53):
            about = replace(METADATA, description=f"Words.\n\nVodkeep 77/1.{part}")
            uri = await connection.youtube.begin(about, size_bytes=5)
            (source.parent / "five").write_bytes(b"12345")
            await connection.send(uri, source.parent / "five")
        found = await connection.youtube.find("Vodkeep 77/1.1", since=began)
        assert found is not None
        assert found.description.endswith("Vodkeep 77/1.1")
        assert await connection.youtube.find("Vodkeep 77/1", since=began) is None
        google.youtube.videos[found.video_id].vanished = True
        assert await connection.youtube.find("Vodkeep 77/1.1", since=began) is None
        calls = connection.spending.calls["playlistItems.list"]
        assert await connection.youtube.find("nothing", since=began + timedelta(days=1)) is None
        assert connection.spending.calls["playlistItems.list"] == calls + 1


async def test_thumbnail_playlist_and_description(google: Standin, source: Path, tmp_path: Path) -> None:
    picture = tmp_path / "thumbnail.jpg"
    picture.write_bytes(b"\xff\xd8 a picture")
    async with connected(google) as connection:
        youtube = connection.youtube
        uri = await youtube.begin(METADATA, size_bytes=SIZE)
        video_id = (await connection.send(uri, source)).video_id
        await youtube.set_thumbnail(video_id, picture)
        assert google.youtube.videos[video_id].thumbnail == picture.read_bytes()
        await youtube.add_to_playlist("PLstandin", video_id)
        await youtube.add_to_playlist("PLstandin", video_id)
        assert google.youtube.playlists["PLstandin"] == [video_id]
        with pytest.raises(PermanentError, match="playlist"):
            await youtube.add_to_playlist("PLother", video_id)
        await youtube.set_description(video_id, replace(METADATA, description="Part 2 follows."))
        details = google.youtube.videos[video_id].details
        assert (details.description, details.title, details.tags) == ("Part 2 follows.", METADATA.title, METADATA.tags)
        assert details.privacy == "private"
        picture.write_bytes(bytes(2 * 1024 * 1024 + 1))
        with pytest.raises(PermanentError) as failure:
            await youtube.set_thumbnail(video_id, picture)
        assert failure.value.code == "invalid_thumbnail"
    assert google.youtube.quota.used_units == 50 + 2 + 50 + 1 + 50


async def test_bandwidth_is_limited(google: Standin, source: Path) -> None:
    """The waits are those of the limit; nobody waits them here."""
    async with connected(google, rate=1_000_000) as connection:
        uri = await connection.youtube.begin(METADATA, size_bytes=SIZE)
        await connection.send(uri, source)
    assert max(connection.clock.waits_s) >= SIZE / 1_000_000 - 0.25 - 1.0


async def test_a_chunk_is_never_in_memory_as_a_whole(google: Standin, tmp_path: Path) -> None:
    path, size = tmp_path / "large.mp4", 48 * 1024 * 1024
    with path.open("wb") as file:
        file.truncate(size)
    async with connected(google, chunk_bytes=size) as connection:
        uri = await connection.youtube.begin(METADATA, size_bytes=size)
        tracemalloc.start()
        try:
            await connection.send(uri, path)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    # Both ends are in this process: a piece on its way here, what waits in the buffers, a piece over there.
    assert peak < 12 * 1024 * 1024


async def test_a_file_that_changed_is_not_sent(google: Standin, source: Path, tmp_path: Path) -> None:
    path = tmp_path / "video.mp4"
    path.write_bytes(source.read_bytes())
    async with connected(google) as connection:
        uri = await connection.youtube.begin(METADATA, size_bytes=SIZE)
        shrink = Upload()

        async def confirm() -> None:
            shrink.confirmed += 1
            if shrink.confirmed == 2:
                path.write_bytes(b"short")

        with pytest.raises(PermanentError) as failure:
            await connection.youtube.send(
                uri, path, size_bytes=SIZE, start=0, on_sent=shrink.sent.append, on_committed=shrink.on_committed,
                confirm=confirm,
            )  # fmt: skip
        assert failure.value.code == "source_changed"
        with pytest.raises(PermanentError):
            await connection.youtube.send(
                uri, path, size_bytes=SIZE, start=0, on_sent=shrink.sent.append, on_committed=shrink.on_committed,
                confirm=confirm,
            )  # fmt: skip
    assert google.youtube.videos == {}


async def test_a_fence_stops_before_the_next_chunk(google: Standin, source: Path) -> None:
    class Lost(Exception):
        pass

    upload = Upload()

    async def confirm() -> None:
        if upload.committed:
            raise Lost

    async with connected(google) as connection:
        uri = await connection.youtube.begin(METADATA, size_bytes=SIZE)
        with pytest.raises(Lost):
            await connection.youtube.send(
                uri, source, size_bytes=SIZE, start=0, on_sent=upload.sent.append, on_committed=upload.on_committed,
                confirm=confirm,
            )  # fmt: skip
        assert await connection.youtube.ask(uri, size_bytes=SIZE) == Committed(CHUNK)


async def test_the_quota_of_the_other_side_is_kept_too(google: Standin) -> None:
    google.youtube.quota = Quota(units=1, uploads=0)
    async with connected(google) as connection:
        with pytest.raises(LimitReached):
            await connection.youtube.begin(METADATA, size_bytes=SIZE)
        assert await connection.youtube.look(["abc"]) == {}
        with pytest.raises(LimitReached):
            await connection.youtube.look(["abc"])
