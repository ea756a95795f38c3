"""Files over HTTP: ranges, conditions, and what must never leave the data directory."""

from __future__ import annotations

import json
import os
import re
import unicodedata
from email.utils import format_datetime, parsedate_to_datetime
from pathlib import Path
from typing import Any

import anyio
import pytest

from support.web_site import Serve, Site, add_vod, keep_vod
from vodkeep.db.engine import Database
from vodkeep.web.app import create_app
from vodkeep.web.media import MediaFile, NotServed, locate
from vodkeep.web.server import serve

pytestmark = pytest.mark.anyio

CONTENT = b"0123456789"
VIDEO = "/media/v1/video.mp4"


@pytest.fixture
def folder(database: Database, data_dir: Path) -> Path:
    return keep_vod(database, data_dir, "v1", content=CONTENT)


async def fetch(site: Site, path: str = VIDEO, **headers: str) -> tuple[int, dict[str, str], bytes]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with site.get(path, headers=named) as answer:
        return answer.status, {k.lower(): v for k, v in answer.headers.items()}, await answer.read()


async def test_the_three_files_are_served_whole(serve_site: Serve, folder: Path) -> None:
    async with serve_site() as site:
        for name, media_type in (
            ("video.mp4", "video/mp4"),
            ("thumbnail.jpg", "image/jpeg"),
            ("manifest.json", "application/json"),
        ):
            status, headers, body = await fetch(site, f"/media/v1/{name}")
            assert (status, headers["content-type"]) == (200, media_type)
            assert body == (folder / name).read_bytes()
            assert headers["accept-ranges"] == "bytes"
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["content-disposition"].startswith("inline; ")


@pytest.mark.parametrize(
    ("asked", "sent", "content_range"),
    [
        ("bytes=0-0", b"0", "bytes 0-0/10"),
        ("bytes=0-", b"0123456789", "bytes 0-9/10"),
        ("bytes=4-", b"456789", "bytes 4-9/10"),
        ("bytes=-3", b"789", "bytes 7-9/10"),
        ("bytes=-99", b"0123456789", "bytes 0-9/10"),
        ("bytes=8-99", b"89", "bytes 8-9/10"),
        ("bytes=2-4,99-100", b"234", "bytes 2-4/10"),
    ],
)
async def test_one_range(serve_site: Serve, folder: Path, asked: str, sent: bytes, content_range: str) -> None:
    async with serve_site() as site:
        status, headers, body = await fetch(site, Range=asked)
        assert (status, body, headers["content-range"]) == (206, sent, content_range)
        assert headers["content-length"] == str(len(sent))
        async with site.head(VIDEO, headers={"Range": asked}) as answer:
            assert answer.status == 206
            assert answer.headers["Content-Range"] == content_range
            assert await answer.read() == b""


async def test_several_ranges_come_as_parts(serve_site: Serve, folder: Path) -> None:
    async with serve_site() as site:
        status, headers, body = await fetch(site, Range="bytes=0-1,-2,50-60")
    assert status == 206
    match = re.fullmatch(r"multipart/byteranges; boundary=(\w+)", headers["content-type"])
    assert match is not None
    parts = body.split(b"--" + match[1].encode())
    assert b"bytes 0-1/10\r\n\r\n01\r\n" in parts[1]
    assert b"bytes 8-9/10\r\n\r\n89\r\n" in parts[2]
    assert parts[3] == b"--"
    assert headers["content-length"] == str(len(body))


@pytest.mark.parametrize("asked", ["bytes=10-", "bytes=10-20", "bytes=-0", "bytes=99-,50-60"])
async def test_a_range_outside_of_the_file_is_a_416(serve_site: Serve, folder: Path, asked: str) -> None:
    async with serve_site() as site:
        status, headers, body = await fetch(site, Range=asked)
    assert status == 416
    assert headers["content-range"] == "bytes */10"
    assert headers["content-type"] == "application/problem+json"
    assert json.loads(body)["code"] == "range_not_satisfiable"


@pytest.mark.parametrize("asked", ["bytes=5-2", "bytes=a-b", "items=0-1", "bytes", "bytes=", "bytes=+1-2", "x" * 3000])
async def test_a_range_that_makes_no_sense_is_ignored(serve_site: Serve, folder: Path, asked: str) -> None:
    async with serve_site() as site:
        status, headers, body = await fetch(site, Range=asked)
    assert (status, body) == (200, CONTENT)
    assert "content-range" not in headers


async def test_conditions(serve_site: Serve, folder: Path) -> None:
    async with serve_site() as site:
        _, headers, _ = await fetch(site)
        etag, modified = headers["etag"], headers["last-modified"]
        earlier = format_datetime(parsedate_to_datetime(modified).replace(year=2020), usegmt=True)
        for conditions, expected in (
            ({"If_None_Match": etag}, (304, b"")),
            ({"If_None_Match": '"other"'}, (200, CONTENT)),
            ({"If_None_Match": '"other"', "If_Modified_Since": modified}, (200, CONTENT)),
            ({"If_Modified_Since": modified}, (304, b"")),
            ({"If_Modified_Since": earlier}, (200, CONTENT)),
            ({"If_None_Match": etag, "Range": "bytes=0-1"}, (304, b"")),
            ({"Range": "bytes=0-1", "If_Range": etag}, (206, b"01")),
            ({"Range": "bytes=0-1", "If_Range": modified}, (206, b"01")),
            ({"Range": "bytes=0-1", "If_Range": f"W/{etag}"}, (200, CONTENT)),
            ({"Range": "bytes=0-1", "If_Range": '"other"'}, (200, CONTENT)),
            ({"Range": "bytes=99-", "If_Range": '"other"'}, (200, CONTENT)),
            ({"Range": "bytes=0-1", "If_Range": earlier}, (200, CONTENT)),
        ):
            status, headers, body = await fetch(site, **conditions)
            assert (status, body) == expected, conditions
            assert headers["etag"] == etag


async def test_a_file_that_was_replaced_has_another_etag(serve_site: Serve, folder: Path) -> None:
    async with serve_site() as site:
        _, headers, _ = await fetch(site)
        new = folder / "new.mp4"
        new.write_bytes(CONTENT[::-1])
        os.utime(new, ns=((folder / "video.mp4").stat().st_mtime_ns,) * 2)
        new.rename(folder / "video.mp4")
        status, _, body = await fetch(site, Range="bytes=0-1", If_Range=headers["etag"])
    assert (status, body) == (200, CONTENT[::-1])


async def test_head_tells_the_length_without_the_body(serve_site: Serve, folder: Path) -> None:
    async with serve_site() as site, site.head(VIDEO) as answer:
        assert answer.status == 200
        assert answer.headers["Content-Length"] == "10"
        assert await answer.read() == b""


async def test_an_empty_file(serve_site: Serve, database: Database, data_dir: Path) -> None:
    keep_vod(database, data_dir, "v1", content=b"")
    async with serve_site() as site:
        assert (await fetch(site))[0] == 200
        assert (await fetch(site, Range="bytes=0-"))[0] == 416


async def test_a_large_file_arrives_whole_and_from_any_place(serve_site: Serve, folder: Path) -> None:
    content = bytes(range(256)) * 12_000  # 3 MB, several chunks and no multiple of one
    (folder / "video.mp4").write_bytes(content + b"end")
    async with serve_site() as site:
        assert (await fetch(site))[2] == content + b"end"
        status, headers, body = await fetch(site, Range="bytes=1000001-")
        assert status == 206
        assert body == (content + b"end")[1000001:]
        assert headers["content-length"] == str(len(body))


async def test_a_client_that_goes_away_does_not_keep_the_file_being_read(serve_site: Serve, folder: Path) -> None:
    with (folder / "video.mp4").open("wb") as file:
        file.truncate(2_000_000_000)
    async with serve_site() as site:
        async with await anyio.connect_tcp("127.0.0.1", site.listening.port) as stream:
            await stream.send(f"GET {VIDEO} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            await stream.receive(1000)
        with anyio.fail_after(60):
            while not any(line.get("path") == VIDEO for line in site.log_lines):
                await site.json("/healthz")
        (line,) = [line for line in site.log_lines if line.get("path") == VIDEO]
    assert line["cut_off"] is True
    assert line["bytes"] < 200_000_000


async def test_the_saved_name_is_that_of_the_folder(serve_site: Serve, database: Database, data_dir: Path) -> None:
    title = '2026 "Füße" 😀; a=b [v1]'
    folder = data_dir / "otter" / title
    folder.mkdir(parents=True)
    (folder / "video.mp4").write_bytes(CONTENT)
    add_vod(database, "v1", downloaded_path=f"otter/{title}", processed=1, download_state="done")
    async with serve_site() as site:
        _, headers, _ = await fetch(site)
    assert headers["content-disposition"].startswith("inline; filename*=utf-8''2026%20%22F%C3%BC")
    assert headers["content-disposition"].isascii()


# --- what is not served ------------------------------------------------------------------------------------------


async def refused(site: Site, path: str) -> dict[str, Any]:
    status, _, body = await fetch(site, path)
    assert status == 404
    answer: dict[str, Any] = json.loads(body)
    assert answer["code"] == "unknown_media"
    return answer


async def test_nothing_is_served_before_it_is_kept(serve_site: Serve, database: Database) -> None:
    add_vod(database, "v1")
    async with serve_site() as site:
        await refused(site, VIDEO)
        await refused(site, "/media/unknown/video.mp4")


async def test_a_missing_file_is_a_404_and_logged(serve_site: Serve, folder: Path) -> None:
    (folder / "video.mp4").unlink()
    async with serve_site() as site:
        answer = await refused(site, VIDEO)
        assert str(folder) not in json.dumps(answer)
        (line,) = [line for line in site.log_lines if line["msg"] == "media not served"]
        assert line["vod_id"] == "v1"
        assert (await fetch(site, "/media/v1/thumbnail.jpg"))[0] == 200


@pytest.mark.parametrize(
    "stored", ["../secret", "otter/../../secret", "/etc", "", ".", "..", "./", "otter/..", "secret/../../secret"]
)
async def test_a_path_that_leaves_the_data_directory_is_not_followed(
    serve_site: Serve, database: Database, data_dir: Path, stored: str
) -> None:
    for secret in (data_dir.parent / "secret", data_dir):
        secret.mkdir(exist_ok=True)
        (secret / "video.mp4").write_bytes(b"SECRET")
    add_vod(database, "v1", downloaded_path=stored, processed=1, download_state="done")
    async with serve_site() as site:
        await refused(site, VIDEO)


async def test_links_out_of_the_data_directory_are_not_followed(
    serve_site: Serve, folder: Path, data_dir: Path
) -> None:
    secret = data_dir.parent / "secret"
    secret.mkdir()
    (secret / "video.mp4").write_bytes(b"SECRET")
    (folder / "video.mp4").unlink()
    (folder / "video.mp4").symlink_to(secret / "video.mp4")
    (folder / "thumbnail.jpg").unlink()
    (folder / "thumbnail.jpg").symlink_to("thumbnail.jpg")
    async with serve_site() as site:
        await refused(site, VIDEO)
        await refused(site, "/media/v1/thumbnail.jpg")
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()
        folder.symlink_to(secret)
        await refused(site, VIDEO)


async def test_a_link_inside_of_the_data_directory_is_fine(serve_site: Serve, folder: Path, data_dir: Path) -> None:
    moved = data_dir / "second-disk"
    folder.rename(moved)
    folder.symlink_to(moved)
    async with serve_site() as site:
        assert (await fetch(site))[2] == CONTENT


async def test_a_data_directory_that_is_itself_a_link_is_fine(serve_site: Serve, folder: Path, data_dir: Path) -> None:
    real = data_dir.parent / "real"
    data_dir.rename(real)
    data_dir.symlink_to(real)
    async with serve_site() as site:
        assert (await fetch(site))[2] == CONTENT


async def test_only_regular_files_are_served(serve_site: Serve, folder: Path) -> None:
    (folder / "video.mp4").unlink()
    (folder / "video.mp4").mkdir()
    (folder / "thumbnail.jpg").unlink()
    os.mkfifo(folder / "thumbnail.jpg")
    async with serve_site() as site:
        await refused(site, VIDEO)
        await refused(site, "/media/v1/thumbnail.jpg")


@pytest.mark.parametrize(
    "path",
    [
        "/media/v1/../../../../etc/passwd",
        "/media/v1/..%2f..%2f..%2fetc%2fpasswd",
        "/media/v1/%2e%2e/%2e%2e/vodkeep.db",
        "/media/v1/chat.ndjson.zst",
        "/media/v1/video.mp4/",
        "/media/v1/video.mp4%00.jpg",
        "/media/v1/VIDEO.MP4",
        "/media/..%2f..%2fsecret/video.mp4",
        "/media/%2e%2e/video.mp4",
        "/media//video.mp4",
        "/media/v1\\..\\..\\x/video.mp4",
    ],
)
async def test_no_address_reaches_another_file(serve_site: Serve, folder: Path, path: str) -> None:
    (folder / "chat.ndjson.zst").write_bytes(b"SECRET")
    async with serve_site() as site:
        raw = await site.raw(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    assert raw.startswith((b"HTTP/1.1 404", b"HTTP/1.1 400")), raw[:80]
    assert b"SECRET" not in raw
    assert b"root:" not in raw


def test_the_stored_path_may_name_the_video_itself(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    for name in ("video.mp4", "manifest.json"):
        (tmp_path / "a" / name).write_bytes(b"x")
    for stored in ("a", "a/", "a/video.mp4"):
        assert locate(tmp_path, stored, MediaFile.MANIFEST).path == tmp_path.resolve() / "a" / "manifest.json"
    with pytest.raises(NotServed):
        locate(tmp_path, "a\0b", MediaFile.VIDEO)
    with pytest.raises(NotServed):
        locate(tmp_path, "video.mp4", MediaFile.VIDEO)


def test_names_on_disk_in_another_unicode_form_are_found(tmp_path: Path) -> None:
    name = unicodedata.normalize("NFD", "Füße")
    (tmp_path / name).mkdir()
    (tmp_path / name / "video.mp4").write_bytes(b"x")
    assert locate(tmp_path, name, MediaFile.VIDEO).stat.st_size == 1


async def test_stopping_while_a_file_is_sent_is_quick_and_quiet(serve_site: Serve, folder: Path) -> None:
    with (folder / "video.mp4").open("wb") as file:
        file.truncate(2_000_000_000)
    async with serve_site() as site, anyio.create_task_group() as group:
        app = create_app(site.deps)
        with anyio.fail_after(60):
            async with anyio.create_task_group() as server:
                listening = await server.start(lambda **options: serve(app, "127.0.0.1", 0, grace_s=0, **options))
                stream = await anyio.connect_tcp("127.0.0.1", listening.port)
                await stream.send(f"GET {VIDEO} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
                await stream.receive(1000)
                server.cancel_scope.cancel()
        await stream.aclose()
        group.cancel_scope.cancel()
    (access,) = [line for line in site.log_lines if line.get("path") == VIDEO]
    assert access["cut_off"] is True
    assert [line for line in site.log_lines if line["level"] in {"error", "critical"}] == []
