"""Chats as files, out and in, and a person who is taken out of all of them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import text

from vodkeep.chat.comment_pages import Comment, message_of
from vodkeep.chat.files import UnreadableFile, read_chat
from vodkeep.chat.fill import Broadcast, Filled, merge_into_item
from vodkeep.chat.forms import Form
from vodkeep.chat.indexer import Indexer
from vodkeep.chat.journal import FOLDER
from vodkeep.chat.model import ChatMessage, Chatter, Kind
from vodkeep.chat.search_index import prepare
from vodkeep.chat.walk import Placed, load_sessions, walk
from vodkeep.clock import SystemClock
from vodkeep.db.engine import Database
from vodkeep.errors import RequestRefused, UnknownItem
from vodkeep.keep.fixity import check_files
from vodkeep.keep.manifest import CHAT_NAME, Manifest, load_manifest, write_manifest
from vodkeep.pipeline.chat_library import ChatLibrary
from vodkeep.pipeline.chat_stage import load_subject, write_into_folder
from vodkeep.pipeline.store import QueueStore
from vodkeep.telemetry.log import get_logger

START = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
START_MS = round(START.timestamp() * 1000)
ITEM = "2600000001"
BROADCAST = Broadcast(ITEM, "lumen", None, START_MS, 60_000)
MOSS = Chatter("7", "moss", "Moss", "#FF0000", "vip/1")
OTTER = Chatter("8", "otter", "Otter", "", "")
UNTIL = START_MS + 3_600_000


def said(number: int, who: Chatter, words: str, **extra: object) -> ChatMessage:
    comment = Comment(f"00000000-0000-4000-8000-{number:012d}", number, START_MS + number * 1000 + 5, who, words, "")
    message = message_of(comment, channel="lumen", start_ms=START_MS)
    message.extra = extra
    return message


def chat() -> list[ChatMessage]:
    reply = said(3, OTTER, "no", reply_user_id="7", reply_login="moss", reply_name="Moss", reply_body="hello 🦦")
    reply.reply_to = "00000000-0000-4000-8000-000000000001"
    ban = said(4, OTTER, "", target_user_id="7", target_login="moss", seconds=600)
    ban.kind, ban.chatter = Kind.CLEAR_USER, None
    gift = said(5, OTTER, "", type="subgift", system="Otter gifted Moss a sub", params={"recipient-user-name": "moss"})
    gift.kind = Kind.USER_NOTICE
    cheer = said(6, OTTER, "Cheer100 <b> {x}", bits=100)
    emote = said(2, MOSS, "🎉 Kappa")
    emote.emotes = "25:2-6"
    action = said(7, OTTER, "waves")
    action.kind = Kind.ACTION
    return [said(1, MOSS, "hello 🦦"), emote, reply, ban, gift, cheer, action]


@pytest.fixture
def library(database: Database, chat_database: Database, tmp_path: Path) -> Iterator[ChatLibrary]:
    """An item with a folder and a chat."""
    root = tmp_path / "library"
    folder = root / "lumen" / "evening"
    folder.mkdir(parents=True)
    manifest = Manifest(
        ITEM, None, "lumen", "Lumen", "Evening", START, 60_000, 1.0, "chunked", ("vodkeep",), START, (), (), (), ()
    )
    (folder / "manifest.json").write_text(write_manifest(manifest), "utf-8")
    with database.unit_of_work() as unit:
        unit.connection.execute(
            text(
                "INSERT INTO vods (twitch_vod_id, channel, title, date, duration_seconds, download_state, processed,"
                " downloaded_path) VALUES (:id, 'lumen', 'Evening', :date, 60, 'done', 1, 'lumen/evening/video.mp4')"
            ),
            {"id": ITEM, "date": "2026-11-23T12:00:00.000000Z"},
        )
        unit.commit()
    with chat_database.unit_of_work() as unit:
        merge_into_item(unit.connection, BROADCAST, chat())
        unit.commit()
    write_file(database, chat_database, root)
    return ChatLibrary(database, chat_database, root)  # type: ignore[return-value]


def write_file(database: Database, chat_database: Database, root: Path) -> None:
    with database.unit_of_work(write=False) as unit:
        item = QueueStore(unit.connection).find(ITEM)
        assert item is not None
        subject = load_subject(unit, item, root)
    assert subject is not None
    write_into_folder(chat_database, subject, Filled(6, 0.5), lambda: None, check=lambda: None)


def kept(chat_database: Database) -> list[Placed]:
    return list(walk(chat_database, load_sessions(chat_database, ITEM)))


def in_file(root: Path, folder: Path = Path("lumen/evening")) -> list[Placed]:
    return list(read_chat(root / folder / CHAT_NAME, channel="lumen", start_ms=START_MS))


def words_in_file_of(database: Database, *words: bytes) -> set[bytes]:
    """Those of ``words`` that the SQLite file or its log holds anywhere; none on PostgreSQL."""
    if not database.is_sqlite:
        return set()
    log = database.path.with_name(f"{database.path.name}-wal")
    held = b"".join(path.read_bytes() for path in (database.path, log) if path.exists()).lower()
    return {word for word in words if word in held}


def empty(chat_database: Database) -> None:
    with chat_database.unit_of_work() as unit:
        for table in ("chat_message", "chat_session", "chat_bucket", "chat_clear", "chatter", "chat_index_queue"):
            unit.connection.execute(text(f"DELETE FROM {table}"))
        unit.commit()


@pytest.mark.parametrize("form", [Form.NDJSON, Form.NDJSON_ZST, Form.TWITCH_DOWNLOADER])
def test_there_and_back_nothing_is_lost(
    library: ChatLibrary, chat_database: Database, tmp_path: Path, form: Form
) -> None:
    before = kept(chat_database)
    file = tmp_path / "chat"
    file.write_bytes(b"".join(library.export(ITEM, form).pieces))
    again = library.import_file(ITEM, file)
    wanted = before
    if form is Form.TWITCH_DOWNLOADER:  # It has no events.
        wanted = [placed for placed in before if placed.message.kind is not Kind.CLEAR_USER]
    assert (again.found, again.added) == (len(wanted), 0), "twice is once"
    empty(chat_database)
    assert library.import_file(ITEM, file).added == len(wanted)
    after = kept(chat_database)
    for placed in (*after, *wanted):
        placed.message.source = 0  # type: ignore[assignment]  # where it came from is another matter
    assert after == wanted
    assert [placed.message.msg_id for placed in in_file(tmp_path / "library")] == [
        placed.message.msg_id for placed in wanted
    ]


def test_forms_for_reading(library: ChatLibrary) -> None:
    words = {form: b"".join(library.export(ITEM, form).pieces).decode() for form in (Form.TEXT, Form.WEBVTT, Form.ASS)}
    assert words[Form.TEXT].splitlines() == [
        "[0:00:01] Moss: hello 🦦",
        "[0:00:02] Moss: 🎉 Kappa",
        "[0:00:03] Otter: no",
        "[0:00:05] Otter: Otter gifted Moss a sub",
        "[0:00:06] Otter: Cheer100 <b> {x}",
        "[0:00:07] Otter waves",
    ]
    cues = words[Form.WEBVTT].split("\n\n")
    assert cues[0] == "WEBVTT"
    assert cues[1] == "00:00:01.005 --> 00:00:02.005 line:0 align:start\n<v Moss>Moss: hello 🦦</v>"
    assert "Cheer100 &lt;b&gt; {x}" in words[Form.WEBVTT]
    lines = [line for line in words[Form.ASS].splitlines() if line.startswith("Dialogue")]
    assert lines[0] == "Dialogue: 0,0:00:01.00,0:00:02.00,Chat,,0,0,0,,{\\c&H0000FF&}Moss{\\r}: hello 🦦"
    assert "{x}" not in words[Form.ASS]


def test_twitch_downloader_finds_what_it_looks_for(library: ChatLibrary) -> None:
    document = json.loads(b"".join(library.export(ITEM, Form.TWITCH_DOWNLOADER).pieces))
    assert document["video"]["id"] == ITEM
    assert document["streamer"]["name"] == "Lumen"
    second = document["comments"][1]
    assert second["content_offset_seconds"] == 2.005
    assert second["message"]["fragments"] == [
        {"text": "🎉 ", "emoticon": None},
        {"text": "Kappa", "emoticon": {"emoticon_id": "25"}},
    ]
    assert second["message"]["user_badges"] == [{"_id": "vip", "version": "1"}]


def test_a_live_chat_of_yt_dlp(library: ChatLibrary, chat_database: Database, tmp_path: Path) -> None:
    renderer = {
        "id": "ChwKGk",
        "message": {"runs": [{"text": "hi "}, {"emoji": {"shortcuts": [":wave:"]}}]},
        "authorName": {"simpleText": "@quill"},
        "authorExternalChannelId": "UC1",
    }
    action = {
        "replayChatItemAction": {
            "actions": [{"addChatItemAction": {"item": {"liveChatTextMessageRenderer": renderer}}}],
            "videoOffsetTimeMsec": "8500",
        }
    }
    placeholder: dict[str, object] = {"replayChatItemAction": {"actions": [{"addChatItemAction": {"item": {}}}]}}
    file = tmp_path / "x.live_chat.json"
    file.write_text("\n".join(map(json.dumps, (action, placeholder))), "utf-8")
    assert [library.import_file(ITEM, file).added for _ in range(2)] == [1, 0]
    last = kept(chat_database)[-1]
    assert (last.offset_ms, last.message.body, last.message.msg_id) == (8500, "hi :wave:", "ChwKGk")
    assert last.message.chatter == Chatter("youtube:UC1", "", "quill", "", "")


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\x00\xff\xfe", id="no text"),
        pytest.param(b"<html>", id="HTML"),
        pytest.param(b'{"comments": [{"_id": "a"', id="cut off"),
        pytest.param(b'{"comments": [{"_id": "a"}]}', id="another shape"),
        pytest.param(b'{"comments": 7}', id="no list"),
        pytest.param(b'{"video": {}}', id="no comments"),
        pytest.param(b"[1, 2]", id="a list"),
        pytest.param(b"\x28\xb5\x2f\xfd\x00\x00", id="damaged zstd"),
        pytest.param(b'{"format": "vodkeep-chat/9"}', id="a later format"),
        pytest.param(b'{"comments": [' + b"[" * 100_000, id="deep"),
    ],
)
def test_a_file_that_is_no_chat_is_one_sentence(library: ChatLibrary, tmp_path: Path, body: bytes) -> None:
    file = tmp_path / "bad"
    file.write_bytes(body)
    with pytest.raises(UnreadableFile) as caught:
        library.import_file(ITEM, file)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_unknown_items_and_items_without_a_chat_are_refused(library: ChatLibrary, chat_database: Database) -> None:
    with pytest.raises(UnknownItem):
        library.export("1", Form.TEXT)
    empty(chat_database)
    with pytest.raises(RequestRefused, match="Nothing is kept of the chat"):
        library.export(ITEM, Form.TEXT)


@pytest.mark.parametrize("name", ["moss", "@Moss", "7"])
@pytest.mark.anyio
async def test_a_person_is_erased_everywhere(
    library: ChatLibrary, chat_database: Database, database: Database, tmp_path: Path, name: str
) -> None:
    with chat_database.unit_of_work() as unit:
        prepare(unit.connection)
        unit.commit()
    await Indexer(chat_database, SystemClock(), get_logger("test")).work()
    root = tmp_path / "library"
    backup = tmp_path / "backup.json"
    backup.write_bytes(b"".join(library.export(ITEM, Form.TWITCH_DOWNLOADER).pieces))
    journal = root / FOLDER / "host-1"
    journal.mkdir(parents=True)
    lines = [
        b"\x1e1795435200000",
        b"@id=a;user-id=7;x=y :moss!moss@moss PRIVMSG #lumen :hello",
        b"@reply-parent-user-id=7;reply-parent-msg-body=hello;user-id=8 :otter!o@o PRIVMSG #lumen :no",
        b"@id=b;user-id=77 :mossy!m@m PRIVMSG #lumen :I am not moss",
    ]
    (journal / "1").write_bytes(b"\n".join(lines) + b"\n")

    replaced = root / ".work" / ITEM / "replaced-0"
    shutil.copytree(root / "lumen/evening", replaced)
    assert {b"moss", b"hello"} <= words_in_file_of(chat_database, b"moss", b"hello") or not chat_database.is_sqlite

    dry = library.erase(name, UNTIL, dry_run=True)
    assert (dry.tally.messages, dry.tally.quotations, dry.tally.files, dry.tally.journal_lines) == (3, 2, 2, 2)
    assert len(kept(chat_database)) == len(in_file(root)) == 7

    done = library.erase(name, UNTIL, dry_run=False)
    assert done.tally == dry.tally
    assert (done.unreadable, done.is_purged) == ((), True)
    assert words_in_file_of(chat_database, b"moss", b"hello") == set()
    for placed in (kept(chat_database), in_file(root), in_file(root, replaced)):
        told = json.dumps([(str(each.message.chatter), each.message.body, dict(each.message.extra)) for each in placed])
        assert len(placed) == 4
        assert "moss" not in told.lower()
        assert "hello" not in told
    blanked = (journal / "1").read_bytes().split(b"\n")
    assert blanked[0] == lines[0]
    assert blanked[1].strip() == b""
    assert blanked[2].startswith(b"@reply-parent-user-id=-;reply-parent-msg-body=-----;user-id=8 ")
    assert blanked[3] == lines[3]
    assert [len(line) for line in blanked[:4]] == [len(line) for line in lines]

    manifest = load_manifest(root / "lumen/evening")
    assert manifest is not None
    assert manifest.chat is not None
    assert manifest.chat.messages == 4
    assert check_files(root / "lumen/evening", manifest, lambda _: None) == ()
    with chat_database.unit_of_work(write=False) as unit:
        assert unit.connection.execute(text("SELECT count(*) FROM chatter WHERE user_id = '7'")).scalar_one() == 0
        counted = unit.connection.execute(text("SELECT sum(n) FROM chat_bucket")).scalar_one()
        messages = unit.connection.execute(text("SELECT sum(messages) FROM chat_session")).scalar_one()
        assert int(counted) == int(messages) == 4
        assert b"moss" not in b"".join(
            bytes(row[0]) for row in unit.connection.execute(text("SELECT digest FROM chat_erased"))
        )

    # Neither a backup nor a second run brings anything back.
    assert library.import_file(ITEM, backup).added == 0
    assert "moss" not in str(kept(chat_database)).lower()
    again = library.erase(name, UNTIL, dry_run=False)
    assert (again.tally.messages, again.tally.quotations, again.tally.files) == (0, 0, 0)


def test_what_is_said_after_an_erasure_is_kept(library: ChatLibrary, chat_database: Database) -> None:
    library.erase("moss", START_MS + 30_000, dry_run=False)
    with chat_database.unit_of_work() as unit:
        assert merge_into_item(unit.connection, BROADCAST, [said(20, MOSS, "old"), said(40, MOSS, "new")]) == 1
        unit.commit()
    assert kept(chat_database)[-1].message.body == "new"


def test_erasing_nobody_says_so_and_changes_nothing(library: ChatLibrary, chat_database: Database) -> None:
    done = library.erase("nobody", UNTIL, dry_run=False)
    assert (done.person.is_known, done.tally.messages, done.tally.files) == (False, 0, 0)
    assert len(kept(chat_database)) == 7
