"""Resumable uploads.

https://developers.google.com/youtube/v3/guides/using_resumable_upload_protocol, read 2026-11. What it leaves open
is as Google's servers do it: chunks of a size that is no multiple of 256 KiB are refused, and of a request that broke
the whole units are kept, which may be less than what was sent.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path

import anyio.to_thread
import av

from vodkeep_standin.serving.call import Call, Reply, json_reply, text_reply
from vodkeep_standin.serving.incoming import BodyCutError, Cut
from vodkeep_standin.serving.routes import LOOPBACK, Route, route
from vodkeep_standin.youtube.gate import account_of, signed
from vodkeep_standin.youtube.metadata import RefusedError, details_of
from vodkeep_standin.youtube.model import UNIT_BYTES, UploadSession
from vodkeep_standin.youtube.problems import problem
from vodkeep_standin.youtube.resources import HOSTS, video_resource

_PATH = "/upload/youtube/v3/videos"
_RANGE = re.compile(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)")


async def begin(call: Call) -> Reply:
    """Begin a session; its address is in ``Location``."""
    if call.query.get("uploadType") != "resumable":
        return problem("mediaBodyRequired")
    account = account_of(call)
    assert account is not None
    try:
        document = json.loads(call.body or b"{}")
        size = int(call.headers.get("X-Upload-Content-Length", "0"))
        details = details_of(document)
    except (ValueError, AttributeError):
        return problem("invalidVideoMetadata")
    except RefusedError as refused:
        return problem(str(refused))
    session = call.world.youtube.begin(account, details, size)
    # Who came through the proxy knows Google's name only.
    base = call.world.base_url if call.host in LOOPBACK else f"https://{call.host}"
    location = f"{base}{_PATH}?uploadType=resumable&part={call.query.get('part', '')}&upload_id={session.id}"
    return Reply(200, b"", {"Location": location, "X-GUploader-UploadID": session.id[:8]})


@dataclass(frozen=True, slots=True)
class _Range:
    """A Content-Range; ``first`` is ``None`` in a question."""

    first: int | None
    end: int
    total: int | None


async def send(call: Call) -> Reply:
    """Take bytes, or say how many there are."""
    library = call.world.youtube
    session = library.session(call.query.get("upload_id", ""))
    if session is None or session.gone is not None:
        return text_reply("Not Found", status=404 if session is None else session.gone or 404)
    session.take_turn()
    if session.video_id is not None:
        return json_reply(video_resource(library, library.videos[session.video_id]))
    sent = _range_of(call, session)
    if isinstance(sent, Reply):
        return sent
    if sent.first is None:
        return _incomplete(session)
    return await _receive(call, session, sent.first, sent.end)


def _range_of(call: Call, session: UploadSession) -> _Range | Reply:
    length = int(call.headers.get("Content-Length", "0"))
    header = call.headers.get("Content-Range")
    if header is None:
        found = _Range(0, length, session.size_bytes)
    else:
        matched = _RANGE.fullmatch(header)
        if matched is None:
            return text_reply("Failed to parse Content-Range header.", status=400)
        first, last, total = matched.groups()
        whole = None if total == "*" else int(total)
        found = _Range(None, 0, whole) if first is None else _Range(int(first), int(last) + 1, whole)
    if found.total is not None and found.total != session.size_bytes:
        return text_reply("Content-Range does not match X-Upload-Content-Length.", status=400)
    if found.first is None:
        return found
    if found.end - found.first != length or found.end > session.size_bytes:
        return text_reply("Content-Range does not match Content-Length.", status=400)
    if found.end != session.size_bytes and length % UNIT_BYTES:
        return text_reply(
            "Invalid request. The number of bytes uploaded is required to be equal or greater than 262144, except for"
            " the final request (it's recommended to be the exact multiple of 262144). The received request contained"
            f" {length} bytes, which does not meet this requirement.",
            status=400,
        )
    if found.first > session.received:
        return text_reply(
            "Invalid request. According to the Content-Range header, the upload offset is"
            f" {found.first} byte(s), which exceeds already uploaded size of {session.received} byte(s).",
            status=400,
        )
    return found


async def _receive(call: Call, session: UploadSession, first: int, end: int) -> Reply:
    assert call.incoming is not None
    turn, position = session.turn, first
    session.acknowledged = session.received
    keeps: int | None = None
    try:
        with session.path.open("r+b") as file:
            async for piece in call.incoming.pieces():
                if session.turn != turn:
                    return Reply(503)
                session.is_writing = True
                session.arrived_bytes += len(piece)
                fresh = piece[max(0, session.received - position) :]
                file.seek(session.received)
                file.write(fresh)
                file.flush()
                position += len(piece)
                session.received += len(fresh)
    except BodyCutError:
        assert call.incoming.cut is not None
        keeps = call.incoming.cut.keeps_bytes
        if call.incoming.cut.ending == "stall":
            assert session.overtaken is not None
            await session.overtaken.wait()
            return _broken(Cut(0, "reset"))
        return _broken(call.incoming.cut)
    finally:
        # A client that went away cancels this: what came until then counts in whole units.
        if session.turn == turn and position < end:
            session.settle(keeps)
    if session.received < session.size_bytes:
        session.is_writing = False
        return _incomplete(session)
    sha256, duration_s = await anyio.to_thread.run_sync(_look, session.path)
    if session.video_id is None:
        call.world.youtube.finish(session, sha256, duration_s)
    return json_reply(video_resource(call.world.youtube, call.world.youtube.videos[session.video_id or ""]))


def _broken(cut: Cut) -> Reply:
    reply = problem("backendError", status=cut.status)
    if cut.ending != "status":
        reply.delivery.ending = cut.ending
        reply.delivery.cut_after = None if cut.ending == "reset" else 0
    return reply


def _incomplete(session: UploadSession) -> Reply:
    """How far it is; without ``Range`` when there is nothing yet."""
    headers = {"Range": f"bytes=0-{session.received - 1}"} if session.received else {}
    return Reply(308, b"", headers)


def _look(path: Path) -> tuple[str, float | None]:
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    try:
        with av.open(str(path)) as container:
            return sha256, None if container.duration is None else container.duration / 1_000_000
    except (av.FFmpegError, OSError):
        return sha256, None


ROUTES: list[Route] = [
    route("POST", HOSTS, _PATH, signed(begin, uploads=1)),
    route("PUT", HOSTS, _PATH, signed(send), reads_body=True),
]
