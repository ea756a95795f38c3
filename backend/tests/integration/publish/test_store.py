"""Publications in the database: rounds, parts, sessions and what YouTube says of the videos."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy.exc import IntegrityError

from vodkeep.db.engine import Database
from vodkeep.publish.publication import PlannedPart, PublicationState, marker_of, watch_url
from vodkeep.publish.store import PublicationStore

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
SESSION = "https://upload.example/session?upload_id=a-secret"


def _part(part: int = 1, parts: int = 1, *, number: int = 1, vod_id: str = "100") -> PlannedPart:
    return PlannedPart(
        part=part,
        parts=parts,
        start_ms=(part - 1) * 1000,
        end_ms=part * 1000,
        source_name=f"part-{part}.mp4",
        size_bytes=10_000,
        checksum="sha256:00",
        title=f"Part {part}",
        privacy="private",
        marker=marker_of(vod_id, number, part),
    )


def test_an_upload_from_the_plan_to_the_processed_video(database: Database) -> None:
    with database.unit_of_work() as unit:
        store = PublicationStore(unit.connection)
        assert store.current("100") == []
        (one,) = store.plan("100", [_part()], NOW)
        assert (one.round, one.state, one.duration_ms, one.marker) == (1, "planned", 1000, "Vodkeep 100/1.1")
        store.save_session(one.id, SESSION, NOW)
        store.save_committed(one.id, 4096, NOW)
        (one,) = store.current("100")
        assert (one.state, one.session_uri, one.session_at, one.committed_bytes) == ("uploading", SESSION, NOW, 4096)
        assert "secret" not in repr(one)
        store.save_uploaded(one.id, "vid1", NOW, next_check_at=NOW + HOUR)
        store.save_done(one.id, NOW, thumbnail=True)
        (one,) = store.current("100")
        assert (one.state, one.session_uri, one.committed_bytes) == ("uploaded", None, 10_000)
        assert (one.thumbnail_done, one.playlist_done, one.uploaded_at) == (True, False, NOW)
        assert store.next_check_at() == NOW + HOUR
        assert store.load_due_checks(NOW, limit=10) == []
        assert [each.id for each in store.load_due_checks(NOW + HOUR, limit=10)] == [one.id]
        for later in (NOW + HOUR, NOW + 2 * HOUR):
            store.save_check(
                one.id, later, state=PublicationState.PROCESSED, next_check_at=None, youtube_duration_ms=999
            )
        found = store.find_video("vid1")
        assert found is not None
        assert (found.processed_at, found.checked_at, found.checks) == (NOW + HOUR, NOW + 2 * HOUR, 2)
        assert (found.youtube_duration_ms, store.next_check_at()) == (999, None)
        assert store.find(one.id) == found
        unit.commit()
    assert watch_url("vid1") == "https://www.youtube.com/watch?v=vid1"


def test_a_fresh_publication_is_a_new_round_and_the_old_one_stays_known(database: Database) -> None:
    with database.unit_of_work() as unit:
        store = PublicationStore(unit.connection)
        first = store.plan("100", [_part(1, 2), _part(2, 2)], NOW)
        store.plan("200", [_part(vod_id="200")], NOW)
        store.save_uploaded(first[0].id, "vid1", NOW, next_check_at=NOW)
        assert store.supersede("100", NOW) == 2
        assert store.current("100") == []
        assert store.load_due_checks(NOW, limit=10) == [], "nobody asks about what was superseded"
        assert store.supersede("100", NOW) == 0
        assert store.next_round("100") == 2
        (fresh,) = store.plan("100", [_part(number=2)], NOW)
        assert (fresh.round, fresh.marker) == (2, "Vodkeep 100/2.1")
        assert [(each.round, each.part, each.state) for each in store.of_item("100")] == [
            (1, 1, "superseded"),
            (1, 2, "superseded"),
            (2, 1, "planned"),
        ]
        assert [each.state for each in store.current("200")] == ["planned"]
        assert store.find_video("vid1") is not None


def test_a_vanished_video_is_not_asked_about_any_more(database: Database) -> None:
    with database.unit_of_work() as unit:
        store = PublicationStore(unit.connection)
        (one,) = store.plan("100", [_part()], NOW)
        store.save_uploaded(one.id, "vid1", NOW, next_check_at=NOW)
        store.save_vanished([], NOW)
        store.save_vanished([one.id], NOW)
        (one,) = store.current("100")
        assert (one.state, one.reason_code, one.next_check_at) == ("vanished", "vanished", None)
        store.save_session(one.id, SESSION, NOW)
        assert store.current("100")[0].committed_bytes == 0, "it begins anew"


def test_a_part_is_there_once(database: Database) -> None:
    """Two processes that plan the same round at once cannot both succeed."""
    with database.unit_of_work() as unit, pytest.raises(IntegrityError):
        PublicationStore(unit.connection).plan("100", [_part(), _part()], NOW)
