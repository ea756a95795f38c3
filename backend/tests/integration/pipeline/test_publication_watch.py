"""YouTube is asked what became of the videos, and its items say so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert

from support.clock import START, FakeClock
from support.kept_items import DURATION_MS, KeptItems, proven
from vodkeep.db.engine import Database
from vodkeep.db.events import EventLog
from vodkeep.db.tables import publications
from vodkeep.errors import CredentialsError, LimitReached, ServerError
from vodkeep.keep.retention import Limits, Policy
from vodkeep.pipeline.publication_watch import AT_ONCE, PublicationWatch
from vodkeep.pipeline.retention import Retention
from vodkeep.publish.model import VideoStatus
from vodkeep.publish.store import PublicationStore
from vodkeep.telemetry.log import get_logger

pytestmark = pytest.mark.anyio


class YouTube:
    """Says what a test wants of videos."""

    def __init__(self) -> None:
        self.videos: dict[str, VideoStatus] = {}
        self.asked: list[list[str]] = []
        self.error: Exception | None = None

    def has(self, video_id: str, **changes: Any) -> None:
        fine = VideoStatus(video_id, "processed", "", "", "public", duration_ms=DURATION_MS)
        self.videos[video_id] = replace(fine, **changes)

    async def look(self, video_ids: Sequence[str]) -> Mapping[str, VideoStatus]:
        self.asked.append(list(video_ids))
        if self.error is not None:
            raise self.error
        return {each: self.videos[each] for each in video_ids if each in self.videos}


@pytest.fixture
def kept(database: Database, tmp_path: Path) -> KeptItems:
    (tmp_path / "archive").mkdir()
    return KeptItems(database, tmp_path / "archive")


def watch_of(
    kept: KeptItems, clock: FakeClock, youtube: YouTube, restore: Any = None, account_of: Any = None
) -> PublicationWatch:
    async def nothing() -> None:
        pass

    async def only(_channel: str) -> YouTube:
        return youtube

    return PublicationWatch(
        kept.database,
        kept.library,
        account_of or only,
        clock,
        get_logger("publication_watch"),
        proven_after=timedelta(days=1),
        restore=restore or nothing,
    )


def state_of(kept: KeptItems, video_id: str) -> tuple[str, str | None]:
    with kept.database.unit_of_work(write=False) as unit:
        (publication,) = PublicationStore(unit.connection).of_item(video_id)
        return publication.state, publication.reason_code


def error_of(kept: KeptItems, video_id: str) -> str | None:
    code: str | None = kept.row(video_id)["error_code"]
    return code


async def test_a_video_is_followed_until_it_is_proven(kept: KeptItems, clock: FakeClock) -> None:
    youtube = YouTube()
    new: dict[str, Any] = {"state": "uploaded", "uploaded_at": START, "processed_at": None, "checked_at": None}
    kept.add("1", part={**new, "next_check_at": START, "youtube_duration_ms": None})
    watch = watch_of(kept, clock, youtube)
    youtube.has("yt-1", upload_status="uploaded", duration_ms=0)
    assert await watch.look() == 120
    assert state_of(kept, "1") == ("uploaded", None)
    youtube.has("yt-1")
    clock.jump(120)
    await watch.look()
    assert state_of(kept, "1") == ("processed", None)
    with kept.database.unit_of_work(write=False) as unit:
        events = [event.code for event in EventLog(unit.connection).of_item("1") if event.kind == "publication"]
    assert events == ["processed"]
    asked = len(youtube.asked)
    clock.jump(86_300)
    await watch.look()
    assert len(youtube.asked) == asked, "nothing is asked before it is due"
    clock.jump(100)
    await watch.look()
    assert len(youtube.asked) == asked + 1


async def test_what_is_wrong_shows_on_the_item_and_brings_its_video_back(kept: KeptItems, clock: FakeClock) -> None:
    youtube = YouTube()
    kept.add("1")
    retention = Retention(
        kept.database,
        kept.library,
        Policy(Limits(keep_days=30)),
        clock,
        get_logger("retention"),
        interval=timedelta(hours=6),
    )
    await retention.run()
    assert not kept.video("1").exists()
    watch = watch_of(kept, clock, youtube, retention.restore_unproven)
    kept.publish("1", next_check_at=START)
    await watch.look()
    assert error_of(kept, "1") == "youtube_not_found"
    clock.jump(3600)
    youtube.has("yt-1", privacy="private")
    await watch.look()
    assert (state_of(kept, "1"), error_of(kept, "1")) == (("processed", "made_private"), "youtube_made_private")
    assert kept.video("1").exists()
    assert kept.row("1")["processing_error"].startswith("The video is private")
    clock.jump(86_400)
    youtube.has("yt-1")
    await watch.look()
    assert (state_of(kept, "1"), error_of(kept, "1")) == (("processed", None), None)
    kept.publish("1", next_check_at=clock.now())
    youtube.has("yt-1", upload_status="rejected", rejection_reason="copyright")
    await watch.look()
    assert (state_of(kept, "1"), error_of(kept, "1")) == (("rejected", "rejected"), "youtube_rejected")


@pytest.mark.parametrize("known", [False, True], ids=["not connected", "refused"])
async def test_an_account_that_is_refused_holds_up_no_other(known: bool, kept: KeptItems, clock: FakeClock) -> None:
    youtube, refusing = YouTube(), YouTube()
    refusing.error = CredentialsError("No YouTube account is connected.", code="not_connected")
    new = {"state": "uploaded", "processed_at": None, "checked_at": None}
    kept.add("1", channel="moss", part={**new, "next_check_at": START})
    kept.add("2", part={**new, "next_check_at": START})
    youtube.has("yt-2")

    async def account_of(channel: str) -> YouTube:
        if channel != "moss":
            return youtube
        if not known:
            raise CredentialsError("No YouTube account is connected.", code="not_connected")
        return refusing

    watch = watch_of(kept, clock, youtube, account_of=account_of)
    with pytest.raises(CredentialsError):
        await watch.look()
    assert (state_of(kept, "1")[0], state_of(kept, "2")[0]) == ("uploaded", "processed")


async def test_an_answer_that_failed_changes_nothing_and_many_are_asked_together(
    kept: KeptItems, clock: FakeClock
) -> None:
    youtube = YouTube()
    rows = [proven(str(number), next_check_at=START, youtube_id=f"v{number}") for number in range(AT_ONCE + 10)]
    with kept.database.unit_of_work() as unit:
        unit.connection.execute(insert(publications), rows)
        unit.commit()
    watch = watch_of(kept, clock, youtube)
    for error in (ServerError("No."), LimitReached("No.", code="quota_exhausted", until=START + timedelta(hours=5))):
        youtube.error = error
        with pytest.raises(type(error)):
            await watch.look()
        assert state_of(kept, "1") == ("processed", None)
    assert watch._patience_s(LimitReached("No.", code="x", until=START + timedelta(hours=5))) == 5 * 3600
    youtube.error = None
    youtube.asked.clear()
    for number in range(AT_ONCE + 10):
        youtube.has(f"v{number}")
    await watch.look()
    assert sorted(len(each) for each in youtube.asked) == [10, AT_ONCE]
