"""The catalog's rows, on both databases."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import func, insert, select, text, update

from vodkeep.catalog.model import BroadcasterId, Channel, StreamId, Video, VodId
from vodkeep.catalog.store import CatalogStore, Saved
from vodkeep.db.engine import Database
from vodkeep.db.events import EventLog
from vodkeep.db.kv import KvStore
from vodkeep.db.tables import channels, kv, vods

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
LATER = NOW + timedelta(minutes=1)
GARDENIA = BroadcasterId("141981764")


def video(number: int, **changes: Any) -> Video:
    return replace(
        Video(
            id=VodId(str(2_100_000_000 + number)),
            broadcaster_id=GARDENIA,
            created_at=NOW - timedelta(hours=number),
            title=f"Roses {number}",
            description="All about roses",
            duration=timedelta(hours=3),
            stream_id=StreamId(str(40_000_000_000 + number)),
            thumbnail_url="https://cdn.example/%{width}x%{height}.jpg",
        ),
        **changes,
    )


def save(database: Database, *videos: Video, login: str = "gardenia", at: datetime = NOW) -> Saved:
    with database.unit_of_work() as unit:
        saved = CatalogStore(unit.connection).save_videos(login, videos, now=at, corr="c0ffee")
        unit.commit()
    return saved


def row(database: Database, video_id: str) -> dict[str, Any]:
    with database.unit_of_work(write=False) as unit:
        found = unit.connection.execute(select(vods).where(vods.c.twitch_vod_id == video_id)).mappings().one()
        return dict(found)


def count(database: Database) -> int:
    with database.unit_of_work(write=False) as unit:
        return unit.connection.execute(select(func.count()).select_from(vods)).scalar_one()


def test_a_new_video_becomes_a_pending_row_with_its_event(database: Database) -> None:
    assert save(database, video(1)) == Saved(new=(VodId("2100000001"),), refreshed=())
    kept = row(database, "2100000001")
    assert (kept["channel"], kept["title"], kept["description"]) == ("gardenia", "Roses 1", "All about roses")
    assert (kept["date"], kept["duration_seconds"]) == (NOW - timedelta(hours=1), 10_800)
    assert (kept["stream_id"], kept["download_state"], kept["processed"]) == ("40000000001", "pending", 0)
    assert kept["created_at"] == kept["updated_at"] == NOW
    with database.unit_of_work(write=False) as unit:
        (event,) = EventLog(unit.connection).of_item("2100000001")
    assert (event.kind, event.to_state, event.at, event.corr) == ("discovered", "pending", NOW, "c0ffee")


def test_seeing_the_same_page_again_writes_nothing(database: Database) -> None:
    save(database, video(1), video(2))
    assert save(database, video(1), video(2), at=LATER) == Saved((), ())
    assert row(database, "2100000001")["updated_at"] == NOW
    with database.unit_of_work(write=False) as unit:
        assert len(EventLog(unit.connection).of_item("2100000001")) == 1


def test_a_page_may_hold_new_changed_and_unchanged_videos(database: Database) -> None:
    save(database, video(1), video(2))
    saved = save(database, video(3), video(2, title="Renamed"), video(1), at=LATER)
    assert saved == Saved(new=(VodId("2100000003"),), refreshed=(VodId("2100000002"),))


def test_a_refresh_follows_twitch_and_leaves_the_pipeline_alone(database: Database) -> None:
    save(database, video(1))
    pipeline = {
        "processed": 1,
        "processing_error": "x",
        "error_code": "sub_only",
        "youtube_url": "https://youtu.be/1",
        "download_state": "parked",
        "download_retries": 3,
        "upload_retries": 2,
        "not_before": LATER,
        "download_bytes": 5,
        "download_total": 9,
        "downloaded_path": "gardenia/x",
        "priority": 7,
        "skip_upload": 1,
        "generation": 4,
        "completeness": 0.5,
    }
    with database.unit_of_work() as unit:
        unit.connection.execute(update(vods).values(**pipeline))
        unit.commit()
    before = row(database, "2100000001")
    changed = video(
        1,
        title="New title",
        description="New words",
        duration=timedelta(hours=4),
        thumbnail_url="https://cdn.example/new.jpg",
        stream_id=StreamId("77"),
        created_at=NOW - timedelta(days=9),
    )
    assert save(database, changed, login="somebody_else", at=LATER).refreshed == ("2100000001",)
    after = row(database, "2100000001")
    expected = before | {
        "title": "New title",
        "description": "New words",
        "duration_seconds": 14_400,
        "thumbnail_url": "https://cdn.example/new.jpg",
        "stream_id": "77",
        "updated_at": LATER,
    }
    assert after == expected


def test_what_twitch_does_not_say_never_erases_what_is_known(database: Database) -> None:
    save(database, video(1))
    silent = video(1, title=None, description="", duration=None, thumbnail_url=None, stream_id=None)
    assert save(database, silent, at=LATER) == Saved((), ())
    assert row(database, "2100000001")["title"] == "Roses 1"


def test_a_date_that_was_not_known_is_filled_in(database: Database) -> None:
    with database.unit_of_work() as unit:
        unit.connection.execute(
            insert(vods).values(twitch_vod_id="2100000001", channel="gardenia", created_at=NOW, updated_at=NOW)
        )
        unit.commit()
    assert save(database, video(1), at=LATER).refreshed == ("2100000001",)
    assert row(database, "2100000001")["date"] == NOW - timedelta(hours=1)


def test_hostile_and_oversized_texts_are_kept_as_text(database: Database) -> None:
    title = "🌹 <b>'; DROP TABLE vods; --</b> ../ \u202e" + "x" * 5000
    save(database, video(1, title=title, description="y" * 50_000, duration=timedelta(hours=9999)))
    kept = row(database, "2100000001")
    assert kept["title"] == title[:1000]
    assert len(kept["description"]) == 20_000
    assert kept["duration_seconds"] == 9999 * 3600


def test_an_empty_page_and_a_double_entry_are_harmless(database: Database) -> None:
    assert save(database) == Saved((), ())
    assert save(database, video(1, title="first"), video(1, title="second")).new == ("2100000001",)
    assert row(database, "2100000001")["title"] == "second"


def test_leaving_without_a_commit_keeps_nothing(database: Database) -> None:
    with database.unit_of_work() as unit:
        CatalogStore(unit.connection).save_videos("gardenia", [video(1)], now=NOW)
    assert count(database) == 0


def test_two_writers_of_the_same_page_add_each_video_once(database: Database) -> None:
    """Each starts before the other has committed; the unique key decides, and only the winner writes the event."""
    videos = [video(number) for number in range(100)]
    barrier = threading.Barrier(2)
    results: list[Saved] = []

    def write(page: list[Video]) -> None:
        barrier.wait(timeout=60)
        results.append(save(database, *page))

    threads = [threading.Thread(target=write, args=(page,)) for page in (videos, videos[::-1])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert len(results) == 2
    assert sorted(results[0].new + results[1].new) == sorted(v.id for v in videos)
    with database.unit_of_work(write=False) as unit:
        assert all(len(EventLog(unit.connection).of_item(v.id)) == 1 for v in videos)


# --- channels


def channel(login: str = "gardenia", id_: str = GARDENIA) -> Channel:
    return Channel(BroadcasterId(id_), login, login.title(), "https://cdn.example/p.png")


def test_a_channel_is_kept_and_its_backfill_survives_a_refresh(database: Database) -> None:
    with database.unit_of_work() as unit:
        store = CatalogStore(unit.connection)
        assert store.channel("gardenia") is None
        store.save_channel("gardenia", channel(), now=NOW)
        store.save_backfill("gardenia", cursor="page-2", now=NOW)
        store.save_channel("gardenia", replace(channel(), display_name="Gardénia"), now=LATER)
        unit.commit()
    with database.unit_of_work() as unit:
        store = CatalogStore(unit.connection)
        known = store.channel("gardenia")
        assert known is not None
        assert (known.broadcaster_id, known.display_name) == (GARDENIA, "Gardénia")
        assert (known.backfill_cursor, known.backfill_done_at) == ("page-2", None)
        store.save_backfill("gardenia", cursor=None, now=LATER, done_at=LATER)
        known = store.channel("gardenia")
        assert known is not None
        assert (known.backfill_cursor, known.backfill_done_at) == (None, LATER)
        store.ask_for_backfill("gardenia", now=LATER)
        known = store.channel("gardenia")
        assert known is not None
        assert known.backfill_done_at is None


def test_a_renamed_channel_takes_everything_with_it(database: Database) -> None:
    save(database, video(1), video(2))
    save(database, video(3), login="other")
    with database.unit_of_work() as unit:
        store, facts = CatalogStore(unit.connection), KvStore(unit.connection)
        store.save_channel("gardenia", channel(), now=NOW)
        store.save_backfill("gardenia", cursor="page-2", now=NOW)
        facts.set("circuit_state", "open", NOW, channel="gardenia")
        facts.set("avg_download_ms", "10", NOW, channel="gardenia")
        facts.set("avg_download_ms", "99", NOW, channel="rosa")
        facts.set("avg_download_ms", "1", NOW)
        assert store.rename_channel("gardenia", "rosa", now=LATER) == 2
        unit.commit()
    with database.unit_of_work(write=False) as unit:
        store = CatalogStore(unit.connection)
        assert store.channel("gardenia") is None
        (known,) = store.channels_of(GARDENIA)
        assert (known.login, known.backfill_cursor) == ("rosa", "page-2")
        rows = unit.connection.execute(select(kv.c.channel, kv.c.key, kv.c.value).order_by(kv.c.channel, kv.c.key))
        assert [tuple(fact) for fact in rows] == [
            ("", "avg_download_ms", "1"),
            ("rosa", "avg_download_ms", "99"),
            ("rosa", "circuit_state", "open"),
        ]
    assert [row(database, f"210000000{n}")["channel"] for n in (1, 2, 3)] == ["rosa", "rosa", "other"]


def vod_days(database: Database) -> int | None:
    with database.unit_of_work(write=False) as unit:
        found: int | None = unit.connection.execute(text("SELECT vod_days FROM channels")).scalar_one()
    return found


def note_list(database: Database, *days: float, is_end: bool = True) -> int | None:
    """Twitch lists recordings of such ages; returns what is known then."""
    listed = [replace(video(number), created_at=NOW - timedelta(days=age)) for number, age in enumerate(days)]
    with database.unit_of_work() as unit:
        CatalogStore(unit.connection).note_lifetime("gardenia", listed, is_end=is_end, now=NOW)
        unit.commit()
    return vod_days(database)


def test_how_long_recordings_stay_is_read_off_the_list(database: Database) -> None:
    with database.unit_of_work() as unit:
        unit.connection.execute(insert(channels).values(login="gardenia"))
        unit.commit()
    assert note_list(database, 1, 3) == 7
    assert note_list(database, 1, 12, is_end=False) == 14
    assert note_list(database, 40) == 60
    assert note_list(database, 2, 6) == 60, "a channel that has streamed little shows nothing"


def test_it_becomes_shorter_when_what_was_listed_is_gone_from_a_whole_list(database: Database) -> None:
    with database.unit_of_work() as unit:
        unit.connection.execute(insert(channels).values(login="gardenia", vod_days=60))
        unit.commit()
    ages = (70, 40, 30)
    save(database, *(replace(video(20 + age), created_at=NOW - timedelta(days=age)) for age in ages))
    assert note_list(database, 2, 12) == 60, "two that are gone may have been deleted by hand; the third is too old"
    save(database, replace(video(11), created_at=NOW - timedelta(days=20)))
    assert note_list(database, 2, 12, is_end=False) == 60, "they may be on the next page"
    assert note_list(database, is_end=True) == 60, "an empty list shows nothing"
    assert note_list(database, 2, 16) == 60
    assert note_list(database, 2, 12) == 14
    assert note_list(database, 2, 12) == 14
