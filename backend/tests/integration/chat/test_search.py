"""Finding messages by words, person, channel and time; the index behind it; on both databases."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, select, text

from support.chat_messages import START_MS, a_chatter, a_message, a_session
from support.clock import START, FakeClock
from support.statements import Statements, full_scans, listening
from vodkeep.chat import search, search_index
from vodkeep.chat.ids import MARGIN_MS
from vodkeep.chat.indexer import Indexer
from vodkeep.chat.model import ChatMessage
from vodkeep.chat.places import BadCursor
from vodkeep.chat.reading import ChatReader
from vodkeep.chat.search import ChatSearch, Hits, Query, SearchNotReady, SearchTooSlow
from vodkeep.chat.search_words import read_terms, snippet
from vodkeep.chat.sessions import Session, SessionStore, base_of
from vodkeep.chat.store import insert_messages
from vodkeep.chat.tables import chat_index_queue, chat_message
from vodkeep.db.engine import Database
from vodkeep.telemetry.log import get_logger

pytestmark = pytest.mark.anyio

VOD = "2500000001"
NOW_MS = round(START.timestamp() * 1000)


def put(database: Database, session: Session, *messages: ChatMessage) -> None:
    with database.unit_of_work() as unit:
        insert_messages(unit.connection, session, messages)
        unit.commit()


def end(database: Database, *sessions: Session) -> None:
    with database.unit_of_work() as unit:
        for session in sessions:
            SessionStore(unit.connection).end(session.id, START_MS)
        unit.commit()


def indexer_of(database: Database, clock: FakeClock | None = None) -> Indexer:
    with database.unit_of_work() as unit:
        search_index.prepare(unit.connection)
        unit.commit()
    return Indexer(database, clock or FakeClock(), get_logger("chat_index"))


async def index(database: Database) -> int:
    done, total = 1, 0
    while done:
        total += (done := await indexer_of(database).work())
    return total


def said(number: int, body: str, who: int = 1, after_ms: int | None = None, **changes: Any) -> ChatMessage:
    return a_message(number, after_ms=after_ms, body=body, chatter=a_chatter(who), **changes)


def session_of_item(database: Database, **changes: object) -> Session:
    return a_session(database, "chan", **{"vod_id": VOD, "vod_offset_ms": -MARGIN_MS, **changes})


def searching(database: Database) -> ChatSearch:
    return ChatSearch(ChatReader(database))


def query(words: str = "", *, login: str | None = None, limit: int = 50, cursor: str | None = None) -> Query:
    return Query.typed(words, login=login, limit=limit, cursor=cursor)


async def find(database: Database, words: str = "", **where: Any) -> list[str]:
    from_ms, to_ms = where.pop("from_ms", None), where.pop("to_ms", None)
    hits = await searching(database).in_item(VOD, query(words, **where), from_ms=from_ms, to_ms=to_ms)
    assert hits is not None
    return [hit.body for hit in hits.hits]


async def test_words_phrases_people_and_time_in_one_item(chat_database: Database) -> None:
    session = session_of_item(chat_database)
    elsewhere = a_session(chat_database, "chan", stream_id="s2", vod_id="other")
    put(
        chat_database,
        session,
        said(1, "Good morning chat", 1),
        said(2, "morning good people", 2),
        said(3, "what a GOOD, morning!", 3),
        said(4, "nothing here", 1),
        said(5, "goodness", 2),
    )
    put(chat_database, elsewhere, said(10, "good morning elsewhere"))
    assert await index(chat_database) == 6
    assert await find(chat_database, "good") == ["Good morning chat", "morning good people", "what a GOOD, morning!"]
    assert await find(chat_database, "morning good") == await find(chat_database, "good")
    assert await find(chat_database, '"good morning"') == ["Good morning chat", "what a GOOD, morning!"]
    assert await find(chat_database, "good", login="user2") == ["morning good people"]
    assert await find(chat_database, login="user1") == ["Good morning chat", "nothing here"]
    assert await find(chat_database, login="nobody") == []
    assert await find(chat_database, "good", from_ms=2, to_ms=3) == ["morning good people"]
    assert await find(chat_database, "absent") == []
    assert await find(chat_database, "...") == []
    assert await searching(chat_database).in_item("unknown", query("good")) is None


async def test_a_person_is_found_under_every_name_and_in_every_colour(chat_database: Database) -> None:
    session = session_of_item(chat_database)
    old, new = a_chatter(7, login="was", color="#000000"), a_chatter(7, login="is")
    put(
        chat_database, session, a_message(1, chatter=old), a_message(2, chatter=new), a_message(3, chatter=a_chatter(8))
    )
    await index(chat_database)
    assert await find(chat_database, login="is") == await find(chat_database, login="was") == ["message 1", "message 2"]


@pytest.mark.parametrize("limit", [1, 2, 7])
async def test_pages_of_hits_lose_and_repeat_nothing(chat_database: Database, limit: int) -> None:
    first = session_of_item(chat_database)
    second = session_of_item(chat_database, stream_id="s2", base_ms=base_of(START_MS + 5), vod_offset_ms=5 - MARGIN_MS)
    put(chat_database, first, *(said(n, f"word {n}", after_ms=n // 3) for n in range(20)))
    put(chat_database, second, *(said(100 + n, f"word {100 + n}", after_ms=5 + n // 3) for n in range(20)))
    await index(chat_database)
    found: list[tuple[int, str]] = []
    cursor: str | None = None
    while True:
        hits = await searching(chat_database).in_item(VOD, query("word", limit=limit, cursor=cursor))
        assert hits is not None
        found += [(hit.offset_ms or 0, hit.body) for hit in hits.hits]
        cursor = hits.following
        if cursor is None:
            break
    assert len(set(found)) == len(found) == 40
    assert [offset for offset, _ in found] == sorted(offset for offset, _ in found)


# --- the library ---------------------------------------------------------------------------------------------------


def library(database: Database, sessions: int = 14) -> list[Session]:
    """Broadcasts of two channels that overlap: number n began n minutes after the first, and lasts three."""
    made = []
    for n in range(sessions):
        channel = "odd" if n % 2 else "even"
        start_ms = START_MS + n * 60_000
        session = a_session(
            database, channel, stream_id=f"s{n}", base_ms=base_of(start_ms), vod_id=f"vod{n}", vod_offset_ms=-MARGIN_MS
        )
        words = ["common", *(["rare"] if n == 2 else []), *(["seldom"] if n % 5 == 0 else [])]
        put(
            database,
            session,
            *(
                said(
                    n * 1000 + m,
                    " ".join(words) + f" {n}-{m}",
                    who=n % 3,
                    channel=channel,
                    sent_ms=start_ms + m * 20_000,
                )
                for m in range(9)
            ),
        )
        made.append(session)
    end(database, *made)
    return made


async def everywhere(
    database: Database, words: str, *, limit: int = 5, login: str | None = None, **where: Any
) -> list[Any]:
    """All hits, page by page."""
    found: list[Any] = []
    cursor: str | None = None
    while True:
        hits = await searching(database).in_library(query(words, limit=limit, cursor=cursor, login=login), **where)
        found += hits.hits
        cursor = hits.following
        if cursor is None:
            return found
        assert len(hits.hits) == limit


@pytest.mark.parametrize("limit", [3, 10, 200])
async def test_over_the_library_the_newest_come_first_whatever_the_way_they_were_found(
    chat_database: Database, limit: int
) -> None:
    library(chat_database)
    await index(chat_database)
    for words, count in (("common", 14 * 9), ("seldom", 3 * 9), ("rare", 9), ("common rare", 9), ("absent", 0)):
        found = await everywhere(chat_database, words, limit=limit)
        assert len({hit.number for hit in found}) == len(found) == count, words
        keys = [(hit.sent_ms, hit.number) for hit in found]
        assert keys == sorted(keys, reverse=True)
        assert all(word in hit.body for hit in found for word in words.split())


async def test_the_library_by_channel_person_and_time(chat_database: Database) -> None:
    library(chat_database)
    await index(chat_database)
    assert {hit.channel for hit in await everywhere(chat_database, "common", channel="odd")} == {"odd"}
    assert {hit.login for hit in await everywhere(chat_database, "common", login="user2")} == {"user2"}
    assert len(await everywhere(chat_database, "", login="user2")) == 4 * 9
    since, until = START_MS + 300_000, START_MS + 420_000
    for words in ("common", "seldom"):
        everything = await everywhere(chat_database, words)
        spans: list[dict[str, Any]] = [{"since_ms": since}, {"until_ms": until}, {"since_ms": since, "until_ms": until}]
        for where in spans:
            low, high = where.get("since_ms", 0), where.get("until_ms", 2**60)
            expected = [hit.number for hit in everything if low <= hit.sent_ms < high]
            assert expected
            assert [hit.number for hit in await everywhere(chat_database, words, **where)] == expected
    hit = (await everywhere(chat_database, "rare"))[0]
    assert (hit.vod_id, hit.offset_ms, hit.sent_ms, hit.display_name) == (
        "vod2", 160_000, START_MS + 280_000, "User2",
    )  # fmt: skip


async def test_cursors_from_elsewhere_are_refused(chat_database: Database) -> None:
    session = session_of_item(chat_database)
    put(chat_database, session, said(1, "word"))
    await index(chat_database)
    for cursor in ("x", str(999 << 32)):
        with pytest.raises(BadCursor):
            await searching(chat_database).in_item(VOD, query("word", cursor=cursor))
        with pytest.raises(BadCursor):
            await searching(chat_database).in_library(query("word", cursor=cursor))


# --- what people type ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("typed", "terms"),
    [
        ("good  morning", ("good", "morning")),
        ('"good   morning" all', ("good morning", "all")),
        ('unclosed "good morning', ("unclosed", "good morning")),
        ('a"b c"d', ("a", "b c", "d")),
        (':) ... "--" \'', ()),
        ("twice twice", ("twice",)),
        ("nul\0nul", ("nul",)),
        ("", ()),
    ],
)
def test_words_and_phrases_are_told_apart(typed: str, terms: Sequence[str]) -> None:
    assert read_terms(typed) == terms


def test_terms_are_bounded() -> None:
    assert len(read_terms(" ".join(f"w{n}" for n in range(1000)))) == 16


@pytest.mark.parametrize(
    ("body", "shown"),
    [("short", "short"), ("x" * 300 + " needle " + "y" * 300, "…" + "x" * 49 + " needle " + "y" * 143 + "…")],
)
def test_a_snippet_is_around_the_first_word(body: str, shown: str) -> None:
    assert snippet(body, ("absent", "Needle")) == shown


async def test_whatever_is_typed_is_never_an_error(chat_database: Database) -> None:
    """Operators and syntax of both databases included."""
    session = session_of_item(chat_database)
    put(chat_database, session, said(1, "NEAR the end AND not OR that"))
    await index(chat_database)
    special = st.sampled_from(
        ["AND", "OR", "NOT", "NEAR", "NEAR(a b, 2)", "*", "^", "-", "+", "(", ")", "{", "}", ":", '"', "'", "\\",
         "body:",
         "rowid", "&", "|", "!", "<->", "<2>", ":*", ":A", "%", "%s", ";", "--", "/*", "?", ":x", "\0", "\ud7ff", "…"]
    )  # fmt: skip
    typed = st.lists(st.one_of(special, st.text(max_size=12)), max_size=12).map(" ".join)

    @settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(typed, st.one_of(st.none(), st.text(max_size=20)))
    def check(words: str, login: str | None) -> None:
        looked_for = query(words, login=login and login.replace("\0", ""))
        with chat_database.unit_of_work(write=False) as unit:
            assert isinstance(search.search_item(unit.connection, VOD, looked_for), Hits)
            assert isinstance(search.search_library(unit.connection, looked_for), Hits)

    check()
    assert await find(chat_database, "NEAR") == ["NEAR the end AND not OR that"]
    assert await find(chat_database, "OR AND NOT") == ["NEAR the end AND not OR that"]


# --- the index -----------------------------------------------------------------------------------------------------


async def test_without_an_index_it_says_so(chat_database: Database) -> None:
    session_of_item(chat_database)
    with pytest.raises(SearchNotReady):
        await searching(chat_database).in_item(VOD, query("word"))


async def test_late_messages_are_found_and_nothing_twice_however_often_the_indexer_stops(
    chat_database: Database,
) -> None:
    session = session_of_item(chat_database)
    rng = random.Random(5)
    numbers = list(range(300))
    rng.shuffle(numbers)
    while numbers:
        batch, numbers = numbers[:23], numbers[23:]
        put(chat_database, session, *(said(n, f"word {n}") for n in batch))
        if rng.random() < 0.7:
            await indexer_of(chat_database).work()  # each time a new one
    await index(chat_database)
    hits = await searching(chat_database).in_item(VOD, query("word", limit=1000))
    assert hits is not None
    assert [hit.body for hit in hits.hits] == [f"word {n}" for n in range(300)]
    assert hits.complete
    assert rows(chat_database, select(chat_index_queue.c.id)) == []
    assert await indexer_of(chat_database).work() == 0
    if chat_database.is_sqlite:
        with chat_database.unit_of_work() as unit:  # FTS5 compares the index with the messages
            unit.connection.exec_driver_sql("INSERT INTO chat_search(chat_search, rank) VALUES('integrity-check', 1)")


async def test_the_latest_seconds_wait_and_the_answer_says_so(chat_database: Database, clock: FakeClock) -> None:
    session = session_of_item(chat_database, base_ms=NOW_MS - MARGIN_MS)
    put(chat_database, session, said(1, "old", sent_ms=NOW_MS - 11_000), said(2, "fresh", sent_ms=NOW_MS - 9_000))
    indexer = indexer_of(chat_database, clock)
    assert await indexer.work() == 1
    hits = await searching(chat_database).in_item(VOD, query("fresh"))
    assert hits is not None
    assert (hits.hits, hits.complete) == ([], False)
    await clock.advance(2)
    assert await indexer.work() == 1
    hits = await searching(chat_database).in_item(VOD, query("fresh"))
    assert hits is not None
    assert ([hit.body for hit in hits.hits], hits.complete) == (["fresh"], True)


async def test_what_is_forgotten_is_not_found_again(chat_database: Database) -> None:
    """Messages in the index, on the list for it, and not there yet."""
    session = session_of_item(chat_database)
    put(chat_database, session, *(said(n, f"secret {n}", who=n % 2) for n in range(10, 20)))
    await index(chat_database)
    put(chat_database, session, *(said(n, f"secret {n}", who=n % 2) for n in range(4)))
    put(chat_database, session, *(said(n, f"secret {n}", who=n % 2) for n in range(30, 34)))
    person = a_chatter(1).key()
    with chat_database.unit_of_work() as unit:
        numbers = list(
            unit.connection.execute(select(chat_message.c.id).where(chat_message.c.chatter_id == person)).scalars()
        )
        search_index.forget(unit.connection, numbers)
        unit.connection.execute(delete(chat_message).where(chat_message.c.id.in_(numbers)))
        unit.commit()
    await index(chat_database)
    kept = [f"secret {n}" for n in (*range(4), *range(10, 20), *range(30, 34)) if n % 2 == 0]
    assert await find(chat_database, "secret") == kept
    if chat_database.is_sqlite:
        with chat_database.unit_of_work() as unit:
            unit.connection.exec_driver_sql("INSERT INTO chat_search(chat_search, rank) VALUES('integrity-check', 1)")
    else:
        assert len(rows(chat_database, text("SELECT id FROM chat_search"))) == len(kept)


async def test_a_search_that_takes_too_long_is_given_up(
    chat_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = session_of_item(chat_database)
    put(chat_database, session, *(said(n, f"word {n}") for n in range(500)))
    await index(chat_database)
    monkeypatch.setattr(search, "STATEMENT_LIMIT_S", 0.001)
    monkeypatch.setattr(search, "_STEPS", 10)
    slow = "SELECT count(*) FROM chat_message a, chat_message b, chat_message c"
    monkeypatch.setattr(search, "search_item", lambda connection, *_, **__: connection.exec_driver_sql(slow).scalar())
    with pytest.raises(SearchTooSlow):
        await searching(chat_database).in_item(VOD, query("word"))
    monkeypatch.undo()
    assert len(await find(chat_database, "word")) == 50


@pytest.mark.parametrize("database_kind", [pytest.param("postgres", marks=pytest.mark.postgres)])
async def test_a_user_without_rights_gets_the_slower_index_and_the_same_hits(
    chat_database: Database, database_kind: str
) -> None:
    session = session_of_item(chat_database)
    put(chat_database, session, *(said(n, f"word {n}", who=n % 2) for n in range(10)))
    with chat_database.unit_of_work() as unit:
        connection = unit.connection
        connection.exec_driver_sql("CREATE ROLE ordinary")
        connection.exec_driver_sql("GRANT ALL ON SCHEMA public TO ordinary")
        connection.exec_driver_sql("GRANT SELECT ON ALL TABLES IN SCHEMA public TO ordinary")
        connection.exec_driver_sql("SET LOCAL ROLE ordinary")
        assert "btree_gin" in search_index.prepare(connection).note
        connection.exec_driver_sql("RESET ROLE")
        search_index.add_range(connection, 0, 2**62)
        found = search.search_item(connection, VOD, query("word", login="user1"))
        assert found is not None
        assert [hit.body for hit in found.hits] == [f"word {n}" for n in range(1, 10, 2)]
        # All of it is undone with the transaction, the role too.


async def test_no_question_reads_all_there_is(chat_database: Database) -> None:
    library(chat_database, 30)
    crowd = a_session(chat_database, stream_id="crowd")
    put(chat_database, crowd, *(said(n, "crowd", who=n) for n in range(100_000, 100_500)))
    await index(chat_database)
    with chat_database.unit_of_work() as unit:
        unit.connection.exec_driver_sql("ANALYZE")
        unit.commit()
    reader, finder = ChatReader(chat_database), searching(chat_database)
    with listening(chat_database) as statements:
        for view in ("seen", "moderated"):
            await reader.window("vod3", limit=5, view=view)  # type: ignore[arg-type]
        await reader.activity("vod3", width_ms=60_000)
        await finder.in_item("vod3", query("common", login="user1"))
        await finder.in_library(query("common"))
        await finder.in_library(query("rare", login="user1"), channel="odd")
        await Indexer(chat_database, FakeClock(), get_logger("chat_index")).work()
    check_plans(chat_database, statements)


@pytest.mark.parametrize("database_kind", [pytest.param("postgres", marks=pytest.mark.postgres)])
async def test_a_word_of_one_item_is_looked_for_among_its_own_messages(
    chat_database: Database, database_kind: str
) -> None:
    for number in range(20):
        session = a_session(chat_database, stream_id=f"s{number}", vod_id=f"vod{number}")
        put(chat_database, session, *(said(number * 100 + n, "common") for n in range(50)))
    await index(chat_database)
    with listening(chat_database) as statements:
        found = await searching(chat_database).in_item("vod3", query("common"))
    assert found is not None
    assert len(found.hits) == 50
    (asked,) = [one for one in statements.about("chat_search") if "hits" in one.text]
    with chat_database.unit_of_work() as unit:
        unit.connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
        plan = unit.connection.exec_driver_sql(f"EXPLAIN {asked.text}", asked.parameters).scalars()
        (condition,) = [line for line in plan if "Index Cond" in line]
    assert "(id >> 32) =" in condition
    assert "to_tsvector" in condition


def check_plans(database: Database, statements: Statements) -> None:
    growing = frozenset({"chat_message", "chat_bucket", "chatter", "chat_search", "chat_session"})
    asked = statements.about(*growing)
    assert len(asked) >= 8
    found: dict[str, Any] = {}
    for one in asked:
        with database.unit_of_work() as unit:
            # So few rows are read whole by PostgreSQL; whether an index could serve is the question.
            if not database.is_sqlite:
                unit.connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
            if scans := full_scans(unit.connection, one, growing):
                found[one.shape] = scans
    assert found == {}


def rows(database: Database, statement: Any) -> list[Any]:
    with database.unit_of_work(write=False) as unit:
        return list(unit.connection.execute(statement).all())
