"""Chats as files: written in several forms, read back in those that keep everything. Blocking, and never held whole."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from io import TextIOWrapper
from pathlib import Path
from typing import Any, BinaryIO

from vodkeep.chat import ndjson, twitch_downloader
from vodkeep.chat.forms import Form
from vodkeep.chat.model import ChatMessage, Chatter, Kind, Source
from vodkeep.chat.ndjson import Head
from vodkeep.chat.subtitles import write_ass, write_text, write_webvtt
from vodkeep.chat.walk import Placed
from vodkeep.chat.zstd import MAGIC, ZstdCompressor, ZstdError, ZstdFile
from vodkeep.errors import RequestRefused

_PIECE_BYTES = 64 * 1024
_LONGEST_LINE = 1024 * 1024
# Of 100,000 messages: 0.2 s and 40 bytes each; level 9 takes 0.5 s for 37, since ids do not compress.
_ZSTD_LEVEL = 3


CONTENT_TYPES = {
    Form.NDJSON: "application/x-ndjson",
    Form.NDJSON_ZST: "application/zstd",
    Form.TWITCH_DOWNLOADER: "application/json",
    Form.TEXT: "text/plain; charset=utf-8",
    Form.WEBVTT: "text/vtt; charset=utf-8",
    Form.ASS: "text/x-ssa; charset=utf-8",
}


class UnreadableFile(RequestRefused):
    """A file that is not the chat it should be."""

    code = "unreadable_file"


def write_chat(
    form: Form, head: Head, messages: Iterator[Placed], *, title: str = "", channel_name: str = ""
) -> Iterator[bytes]:
    """The file, in pieces of some size."""
    match form:
        case Form.NDJSON:
            return _gathered(_lines(head, messages))
        case Form.NDJSON_ZST:
            return compressed(_lines(head, messages))
        case Form.TWITCH_DOWNLOADER:
            return _gathered(twitch_downloader.write_document(head, title, channel_name, messages))
        case Form.TEXT:
            return _gathered(write_text(messages))
        case Form.WEBVTT:
            return _gathered(write_webvtt(messages))
        case Form.ASS:
            return _gathered(write_ass(messages))


def compressed(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The same in one Zstandard frame."""
    compressor = ZstdCompressor(level=_ZSTD_LEVEL)
    for piece in _gathered(iter(pieces)):
        if packed := compressor.compress(piece):
            yield packed
    yield compressor.flush()


def read_chat(path: Path, *, channel: str, start_ms: int) -> Iterator[Placed]:
    """The messages of a file in whatever form it is, as such of ``channel`` whose picture began at ``start_ms``.

    Our NDJSON, also compressed; TwitchDownloader's JSON and the older rechat, which has the same comments; the live
    chat of YouTube as yt-dlp writes it (``--sub-langs live_chat``). Raises `UnreadableFile`, in the middle as well.
    """
    try:
        with path.open("rb") as file:
            is_packed = file.read(len(MAGIC)) == MAGIC
            file.seek(0)
            if is_packed:
                with ZstdFile(file) as unpacked:
                    yield from _read(unpacked, channel, start_ms)  # type: ignore[arg-type]  # it reads as a file does
            else:
                yield from _read(file, channel, start_ms)
    except (ZstdError, EOFError) as error:
        raise UnreadableFile(f"{path} is damaged: {error}.") from error
    except UnicodeDecodeError as error:
        raise UnreadableFile(f"{path} holds no text in UTF-8.") from error
    except (ValueError, RecursionError) as error:
        raise UnreadableFile(f"{path} cannot be read as a chat: {error}.") from error
    except OSError as error:
        raise UnreadableFile(f"{path} cannot be read: {error.strerror or error}.") from error


def _lines(head: Head, messages: Iterator[Placed]) -> Iterator[bytes]:
    yield ndjson.write_head(head)
    yield from map(ndjson.write_line, messages)


def _gathered(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The same in larger pieces."""
    waiting = bytearray()
    for piece in pieces:
        waiting += piece
        if len(waiting) >= _PIECE_BYTES:
            yield bytes(waiting)
            waiting.clear()
    if waiting:
        yield bytes(waiting)


def _read(file: BinaryIO, channel: str, start_ms: int) -> Iterator[Placed]:
    first = file.readline(_LONGEST_LINE)
    if not first.strip():
        raise ValueError("it is empty")
    told = _whole_object(first)
    if told is not None and "format" in told:
        ndjson.read_head(first)
        yield from _read_ndjson(file, channel)
    elif told is not None and "replayChatItemAction" in told:
        yield from _read_live_chat(first, file, channel, start_ms)
    else:
        yield from _read_comments(first, file, channel, start_ms)


def _whole_object(line: bytes) -> dict[str, Any] | None:
    """The object that the line is, if it is a whole one."""
    try:
        told = json.loads(line)
    except ValueError:
        return None
    return told if isinstance(told, dict) and "comments" not in told else None


def _read_ndjson(file: BinaryIO, channel: str) -> Iterator[Placed]:
    number = 1
    while line := file.readline(_LONGEST_LINE):
        number += 1
        if not line.strip():
            continue
        if not line.endswith(b"\n") and len(line) >= _LONGEST_LINE:
            raise ValueError(f"line {number} is longer than any message")
        try:
            yield ndjson.read_line(line, channel)
        except ValueError as error:
            raise ValueError(f"line {number}: {error}") from error


def _read_comments(first: bytes, file: BinaryIO, channel: str, start_ms: int) -> Iterator[Placed]:
    comments = twitch_downloader.CommentArray()
    # What was read to recognise the file may end in the middle of a character.
    file.seek(0)
    text = TextIOWrapper(file, "utf-8")
    try:
        while not comments.is_done:
            piece = text.read(_PIECE_BYTES)
            for entry in comments.feed(piece, last=not piece):
                yield twitch_downloader.read_comment(entry, channel=channel, start_ms=start_ms)
    finally:
        text.detach()


def _read_live_chat(first: bytes, file: BinaryIO, channel: str, start_ms: int) -> Iterator[Placed]:
    """Lines of YouTube's replay; what is no message (tickers, banners, placeholders) is passed over."""
    number = 0
    line = first
    while line:
        number += 1
        if line.strip():
            try:
                action = json.loads(line)["replayChatItemAction"]
                offset_ms = int(action.get("videoOffsetTimeMsec") or 0)
                for each in action.get("actions") or ():
                    item = (each.get("addChatItemAction") or {}).get("item") or {}
                    message = _live_message(item, channel, start_ms + offset_ms)
                    if message is not None:
                        yield Placed(offset_ms, message)
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise ValueError(f"line {number} is no action of a live chat") from error
        line = file.readline(_LONGEST_LINE)


def _live_message(item: dict[str, Any], channel: str, replayed_ms: int) -> ChatMessage | None:
    found = item.get("liveChatTextMessageRenderer") or item.get("liveChatPaidMessageRenderer")
    if not isinstance(found, dict) or not found.get("id"):
        return None
    body = "".join(
        str(run.get("text") or ((run.get("emoji") or {}).get("shortcuts") or [""])[0])
        for run in (found.get("message") or {}).get("runs") or ()
    )
    name = str((found.get("authorName") or {}).get("simpleText") or "")
    paid = (found.get("purchaseAmountText") or {}).get("simpleText")
    return ChatMessage(
        channel=channel,
        kind=Kind.MESSAGE,
        sent_ms=replayed_ms,
        chatter=Chatter(
            user_id=f"youtube:{found.get('authorExternalChannelId') or ''}",
            login="",
            display_name=name.removeprefix("@"),
            color="",
            badges="",
        ),
        body=body,
        emotes="",
        msg_id=str(found["id"]),
        reply_to=None,
        extra={"paid": paid} if paid else {},
        source=Source.IMPORT,
    )
