"""Google's own Python client against the stand-in: an independent reading of the protocol that ours is tested with.

It is unmodified; only the address in the description of the interface, which it brings along, is another.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from google.oauth2.credentials import Credentials
from google_auth_httplib2 import AuthorizedHttp
from googleapiclient.discovery import build_from_document
from googleapiclient.discovery_cache import get_static_doc
from googleapiclient.errors import HttpError
from googleapiclient.http import MediaFileUpload, build_http

from support.standin import hosted_standin
from vodkeep_standin.faults.upload_break import UploadBreak
from vodkeep_standin.faults.youtube_error import YouTubeError
from vodkeep_standin.server import Standin

UNIT = 256 * 1024
BODY = {"snippet": {"title": "A title", "description": "Words"}, "status": {"privacyStatus": "private"}}


@pytest.fixture(scope="module")
def google() -> Iterator[Standin]:
    with hosted_standin("catalog:1", speed=0) as standin:
        yield standin


@pytest.fixture
def client(google: Standin) -> Iterator[Any]:
    google.faults.clear()
    google.youtube.videos.clear()
    google.youtube.sessions.clear()
    # The description of the interface that the client brings along, with another address in it.
    description = json.loads(get_static_doc("youtube", "v3"))
    description |= {"rootUrl": f"{google.http_url}/", "baseUrl": f"{google.http_url}/", "mtlsRootUrl": ""}
    credentials = Credentials(  # type: ignore[no-untyped-call]
        google.world.google_tokens.issue().value
    )
    http = AuthorizedHttp(credentials, http=build_http())
    with build_from_document(description, http=http) as service:
        yield service


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "video.mp4"
    path.write_bytes(random.Random(3).randbytes(5 * UNIT + 77))
    return path


def uploaded(client: Any, source: Path, *, chunks: int = 2) -> dict[str, Any]:
    """Upload in chunks, with the client's own way of going on after errors."""
    media = MediaFileUpload(str(source), mimetype="video/mp4", chunksize=chunks * UNIT, resumable=True)
    request = client.videos().insert(part="snippet,status", body=BODY, media_body=media)
    response = None
    while response is None:
        # As Google's examples do it: after a broken connection the client asks where it is, and goes on.
        with suppress(ConnectionError):
            _, response = request.next_chunk()
    return dict(response)


def test_it_uploads_looks_and_lists(google: Standin, client: Any, source: Path) -> None:
    video_id = uploaded(client, source)["id"]
    (video,) = google.youtube.videos.values()
    assert (video.id, video.sha256) == (video_id, hashlib.sha256(source.read_bytes()).hexdigest())
    found = client.videos().list(part="snippet,status,contentDetails", id=video_id).execute()
    assert [each["status"]["uploadStatus"] for each in found["items"]] == ["uploaded"]
    own = client.channels().list(part="contentDetails", mine=True).execute()["items"][0]
    uploads = own["contentDetails"]["relatedPlaylists"]["uploads"]
    listed = client.playlistItems().list(part="contentDetails", playlistId=uploads, maxResults=50).execute()
    assert [each["contentDetails"]["videoId"] for each in listed["items"]] == [video_id]
    assert google.refused == []


@pytest.mark.parametrize("keeps", [None, 2 * UNIT], ids=["keeps whole units", "keeps nothing of it"])
def test_it_goes_on_after_an_error_in_the_middle(google: Standin, client: Any, source: Path, keeps: int | None) -> None:
    fault = UploadBreak(after_bytes=UNIT + 5, ending="reset", keeps_bytes=keeps)
    google.faults.add(fault, method="PUT", path="/upload/*", after=1, count=1)
    uploaded(client, source)
    (video,) = google.youtube.videos.values()
    assert video.sha256 == hashlib.sha256(source.read_bytes()).hexdigest()


def test_it_understands_what_is_refused(google: Standin, client: Any, source: Path) -> None:
    google.faults.add(YouTubeError(reason="quotaExceeded"), method="POST", path="/upload/*")
    with pytest.raises(HttpError) as failure:
        uploaded(client, source)
    assert failure.value.status_code == 403
    assert failure.value.error_details[0]["reason"] == "quotaExceeded"
