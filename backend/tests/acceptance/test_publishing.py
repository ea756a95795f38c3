"""A broadcast is published by the real service, which is killed in the middle of the upload and right behind it."""

from __future__ import annotations

import base64
import hashlib

from support.home import Home, HomeOf, check_kept
from support.service import ServiceProcess, wait_until
from support.slow import HeldReceipt
from vodkeep_standin.faults.upload_break import UploadBreak
from vodkeep_standin.oauth.person import connect_account
from vodkeep_standin.scenario import ids

KEY = b"a key of thirty-two bytes, no more"[:32]
CHUNK = 256 * 1024
UPLOADS = "/upload/youtube/v3/videos"
ENV = {
    "ENCRYPTION_KEY": base64.b64encode(KEY).decode(),
    "YOUTUBE_UPLOAD_ENABLED": "1",
    "YOUTUBE_UPLOAD_OWNERSHIP": "self",
    "YT_REDIRECT_URI": "http://localhost:8080/api/v1/accounts/youtube/callback",
    "LOG_LEVEL": "debug",
}
AGAIN = f"UPDATE vods SET processed=0, processing_error=NULL, youtube_url=NULL WHERE twitch_vod_id='{ids.PLAIN}'"
PAGES = (
    "/", "/healthz", "/readyz", "/status", "/metrics", "/admin/monitor", "/api/v1/vods", f"/api/v1/vods/{ids.PLAIN}",
    "/api/v1/accounts", f"/media/{ids.PLAIN}/manifest.json",
)  # fmt: skip


def answers(service: ServiceProcess) -> str:
    """Everything that is there to be read."""
    replies = [service.get(path) for path in PAGES]
    assert [status for status, _, _ in replies if status != 200] == []
    return "\n".join(f"{headers}\n{body.decode()}" for _, body, headers in replies)


def kill(home: Home, service: ServiceProcess) -> str:
    """``kill -9``; returns what the service had printed and answered."""
    said = answers(service)
    service.kill()
    wait_until(lambda: home.processes() == {}, "nothing is left of it")
    return said + service.output()


def check_published(home: Home) -> None:
    """One video of the same bytes, and the row that says so."""
    (video,) = home.standin.youtube.videos.values()
    film = home.folder(ids.PLAIN) / "video.mp4"
    assert video.sha256 == hashlib.sha256(film.read_bytes()).hexdigest()
    row = home.vod(ids.PLAIN)
    assert (row["processed"], row["youtube_url"].endswith(video.id), row["upload_retries"]) == (1, True, 0)
    (publication,) = home.sql("SELECT state, youtube_id, session_uri FROM publications")
    assert publication == {"state": "uploaded", "youtube_id": video.id, "session_uri": None}


def test_killed_while_uploading_and_before_it_is_written_down(home_of: HomeOf, dsn: str | None) -> None:
    home = home_of(ids.PLAIN, dsn=dsn)
    youtube, faults = home.standin.youtube, home.standin.faults
    said = []

    # The line goes silent in the middle of the fourth chunk.
    silence = faults.add(UploadBreak(CHUNK // 2, "stall"), method="PUT", path=UPLOADS, after=3)
    service = home.start(UPLOAD_CHUNK_SIZE="256KiB", **ENV)
    service.wait_for("started")
    connect_account(service.url, "youtube")
    wait_until(lambda: any(each.arrived_bytes > 3 * CHUNK for each in youtube.sessions.values()), "the upload hangs")
    (session,) = youtube.sessions.values()
    said.append(kill(home, service))
    (row,) = home.sql("SELECT state, session_uri, committed_bytes FROM publications")
    assert (row["state"], session.id in row["session_uri"], row["committed_bytes"]) == ("uploading", True, 3 * CHUNK)
    assert youtube.videos == {}
    faults.remove(silence)

    # The other time YouTube has everything, and its receipt does not arrive.
    receipt = HeldReceipt(home.standin)
    service = home.start(**ENV)
    receipt.wait_until_held()
    said.append(kill(home, service))
    assert (home.vod(ids.PLAIN)["processed"], home.vod(ids.PLAIN)["youtube_url"]) == (0, None)
    assert len(youtube.videos) == 1
    receipt.release()

    service = home.start(**ENV)
    service.wait_for("vod processed", vod_id=ids.PLAIN)
    check_published(home)
    check_kept(home, ids.PLAIN)
    assert session.arrived_bytes <= session.size_bytes + CHUNK, "at most one chunk came twice"

    # The runbook's statement links the same video again.
    mark = service.mark()
    home.sql(AGAIN)
    service.wait_for("publication linked again", after=mark)
    service.wait_for("vod processed", after=mark)
    check_published(home)
    assert list(youtube.sessions.values()) == [session]

    said.append(answers(service))
    assert service.terminate() == 0
    said.append(service.output())
    secrets = {
        "session": session.id,
        "client secret": home.standin.scenario.google_client_secret,
        "key": ENV["ENCRYPTION_KEY"],
        "key in hex": KEY.hex(),
        **{f"token {number}": token for number, token in enumerate(home.standin.world.google_tokens.issued)},
    }
    assert len(secrets) >= 6
    assert [name for name, secret in secrets.items() if any(secret in text for text in said)] == []
