"""Small facts, the timeline, insert-or-update and times, the same on both databases."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone

import pytest
from sqlalchemy import insert, select
from sqlalchemy.exc import StatementError

from vodkeep.db.engine import Database
from vodkeep.db.events import Event, EventLog
from vodkeep.db.kv import KvStore
from vodkeep.db.tables import vods
from vodkeep.db.upsert import insert_if_absent, insert_or_update

AT = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


class TestKvStore:
    def test_a_channel_sees_its_own_facts_only(self, database: Database) -> None:
        with database.unit_of_work() as unit:
            store = KvStore(unit.connection)
            store.set("circuit_state", "open", AT, "one")
            store.set("circuit_state", "closed", AT, "two")
            store.set("last_run", "now", AT)

            assert store.get("circuit_state", "one") == "open"
            assert store.get("circuit_state", "two") == "closed"
            assert store.get("circuit_state") is None
            assert store.all("one") == {"circuit_state": "open"}
            assert store.all() == {"last_run": "now"}

    def test_the_last_value_wins(self, database: Database) -> None:
        with database.unit_of_work() as unit:
            store = KvStore(unit.connection)
            store.set("a", "1", AT)
            store.set("a", "2", AT + timedelta(seconds=1))
            assert store.all() == {"a": "2"}

    def test_deleting_tells_how_many_there_were(self, database: Database) -> None:
        with database.unit_of_work() as unit:
            store = KvStore(unit.connection)
            store.set("a", "1", AT)
            store.set("b", "1", AT)
            store.set("a", "1", AT, "one")

            assert store.delete("a", "b", "c") == 2
            assert store.delete() == 0
            assert store.all("one") == {"a": "1"}

    @pytest.mark.parametrize("value", ["", "ü 🎮 \u202e <b>", "x" * 100_000, "' OR 1=1; --"])
    def test_any_text_comes_back(self, database: Database, value: str) -> None:
        with database.unit_of_work() as unit:
            KvStore(unit.connection).set("a", value, AT)
            unit.commit()
        with database.unit_of_work(write=False) as unit:
            assert KvStore(unit.connection).get("a") == value


class TestEventLog:
    def test_the_timeline_of_an_item_is_read_in_order(self, database: Database) -> None:
        with database.unit_of_work() as unit:
            log = EventLog(unit.connection)
            log.append("1", at=AT, kind="discovered")
            log.append("2", at=AT, kind="discovered")
            log.append(
                "1",
                at=AT,
                kind="state",
                from_state="downloading",
                to_state="parked",
                code="sub_only",
                sentence="Only subscribers may watch it.",
                remedy="Give the token of a subscriber.",
                corr="c-1",
            )
            first, second = log.of_item("1")
            assert log.of_item("1", limit=1) == [second]
            assert log.of_item("3") == []

        assert (first.kind, first.corr, first.sentence) == ("discovered", None, "")
        assert first.id < second.id
        assert second == Event(
            id=second.id,
            twitch_vod_id="1",
            at=AT,
            kind="state",
            from_state="downloading",
            to_state="parked",
            code="sub_only",
            sentence="Only subscribers may watch it.",
            remedy="Give the token of a subscriber.",
            corr="c-1",
        )


class TestUpsert:
    def test_a_second_sight_changes_what_it_names_and_nothing_else(self, database: Database) -> None:
        first = {"twitch_vod_id": "1", "channel": "c", "title": "old", "created_at": AT, "updated_at": AT}
        second = first | {"title": "new", "created_at": AT + timedelta(1), "updated_at": AT + timedelta(1)}
        with database.unit_of_work() as unit:
            insert_or_update(unit.connection, vods, first | {"priority": 7}, key=["twitch_vod_id"])
            insert_or_update(unit.connection, vods, second, key=["twitch_vod_id"])
            row = unit.connection.execute(select(vods)).one()
            assert (row.title, row.priority) == ("new", 7)
            assert (row.created_at, row.updated_at) == (AT, AT + timedelta(1))

            insert_or_update(unit.connection, vods, first | {"priority": 0}, key=["twitch_vod_id"], update=["title"])
            row = unit.connection.execute(select(vods)).one()
            assert (row.title, row.priority) == ("old", 7)

    def test_of_many_at_once_exactly_one_inserts(self, database: Database) -> None:
        def see(title: str) -> bool:
            with database.unit_of_work() as unit:
                row = {"twitch_vod_id": "1", "channel": "c", "title": title}
                inserted = insert_if_absent(unit.connection, vods, row, key=["twitch_vod_id"])
                unit.commit()
                return inserted

        with ThreadPoolExecutor(6) as pool:
            inserted = list(pool.map(see, "abcdef"))

        assert inserted.count(True) == 1
        with database.unit_of_work(write=False) as unit:
            assert unit.connection.execute(select(vods.c.title)).scalar_one() == "abcdef"[inserted.index(True)]


class TestTimes:
    @pytest.mark.parametrize(
        "time",
        [
            AT,
            AT + timedelta(microseconds=1),
            datetime(2026, 11, 23, 23, 30, tzinfo=timezone(timedelta(hours=-8))),
            datetime(1, 1, 2, tzinfo=UTC),
            datetime(9999, 12, 30, 23, 59, 59, 999999, tzinfo=UTC),
        ],
        ids=str,
    )
    def test_an_instant_comes_back_in_utc(self, database: Database, time: datetime) -> None:
        with database.unit_of_work() as unit:
            unit.connection.execute(insert(vods).values(twitch_vod_id="1", channel="c", date=time))
            stored = unit.connection.execute(select(vods.c.date)).scalar_one()
        assert stored == time
        assert stored.tzinfo is UTC

    def test_a_time_without_a_zone_is_a_bug(self, database: Database) -> None:
        naive = AT.replace(tzinfo=None)
        with database.unit_of_work() as unit, pytest.raises(StatementError, match="naive"):
            unit.connection.execute(insert(vods).values(twitch_vod_id="1", channel="c", date=naive))

    def test_times_are_compared_as_times(self, database: Database) -> None:
        """Also with those that the database wrote by default, and with whole seconds."""
        times = [AT, AT + timedelta(microseconds=5), AT + timedelta(milliseconds=5), AT + timedelta(seconds=1)]
        with database.unit_of_work() as unit:
            for number, time in enumerate(reversed(times)):
                row = {"twitch_vod_id": str(number), "channel": "c", "date": time}
                unit.connection.execute(insert(vods).values(**row))
            stored = unit.connection.execute(select(vods.c.date).order_by(vods.c.date)).scalars().all()
            later = select(vods.c.date).where(vods.c.date > AT)
            assert len(unit.connection.execute(later).all()) == 3
            default = select(vods.c.twitch_vod_id).where(vods.c.created_at > datetime.now(UTC) - timedelta(1))
            assert len(unit.connection.execute(default).all()) == 4
        assert stored == times
