"""Discovery and backfill, from the wire to the rows, on both databases."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs

import anyio
import pytest
from sqlalchemy import func, select, update
from structlog.testing import capture_logs

from integration.catalog.conftest import QUICK, MakeHelix
from support.clock import FakeClock
from vodkeep.catalog.client import HelixClient
from vodkeep.catalog.limits import CatalogLimits
from vodkeep.catalog.model import ChannelState
from vodkeep.catalog.service import BackfillResult, CatalogService, DiscoverResult
from vodkeep.catalog.store import CatalogStore
from vodkeep.clock import Clock, SystemClock
from vodkeep.db.engine import Database
from vodkeep.db.kv import KvStore
from vodkeep.db.tables import channels, events, vods
from vodkeep.errors import NetworkError, ServerError, VodkeepError
from vodkeep.telemetry.log import get_logger
from vodkeep_standin.faults.garbage import Garbage
from vodkeep_standin.faults.helix_body import HelixBody
from vodkeep_standin.faults.reset import Reset
from vodkeep_standin.faults.rule import AnyFault
from vodkeep_standin.faults.status import Status
from vodkeep_standin.faults.truncate import Truncate
from vodkeep_standin.scenario import ids
from vodkeep_standin.scenario.builtin import TEST_ANCHOR
from vodkeep_standin.scenario.model import Channel, Scenario, Video
from vodkeep_standin.scenario.synthetic import SyntheticCatalog
from vodkeep_standin.server import Standin

pytestmark = pytest.mark.anyio

LUMEN = ids.CHANNEL
ONE_TRY = replace(QUICK, attempts=1)

MakeService = Callable[..., CatalogService]


@pytest.fixture
def make_service(database: Database, make_helix: MakeHelix) -> MakeService:
    """Makes services on the same database; a second one knows only what the first one saved."""

    def make(
        *logins: str,
        clock: Clock | None = None,
        limits: CatalogLimits | None = None,
        helix: HelixClient | None = None,
    ) -> CatalogService:
        return CatalogService(
            database,
            helix or make_helix(clock, ONE_TRY),
            clock or SystemClock(),
            channels=logins or (LUMEN,),
            limits=limits or CatalogLimits(),
            backfill_interval=timedelta(hours=6),
            rng=random.Random(1),
            log=get_logger("test"),
        )

    return make


def list_videos(scenario: Scenario, *catalogs: Any) -> None:
    """Make these all that Twitch lists, besides single videos."""
    scenario.sources = catalogs


def rows(database: Database, channel: str = LUMEN) -> int:
    with database.unit_of_work(write=False) as unit:
        query = select(func.count()).select_from(vods).where(vods.c.channel == channel)
        return unit.connection.execute(query).scalar_one()


def discovered(database: Database) -> int:
    with database.unit_of_work(write=False) as unit:
        query = select(func.count(), func.count(func.distinct(events.c.twitch_vod_id))).where(
            events.c.kind == "discovered"
        )
        total, distinct = unit.connection.execute(query).one()
    assert total == distinct
    return int(total)


def channel_row(database: Database, login: str = LUMEN) -> Any:
    with database.unit_of_work(write=False) as unit:
        return unit.connection.execute(select(channels).where(channels.c.login == login)).one_or_none()


def fact(database: Database, key: str, channel: str = LUMEN) -> str | None:
    with database.unit_of_work(write=False) as unit:
        return KvStore(unit.connection).get(key, channel=channel)


def pages_asked(standin: Standin) -> list[str | None]:
    """The cursor of each request for a page of videos, oldest first."""
    queries = [parse_qs(entry.query) for entry in standin.requests.entries("/helix/videos")]
    return [query.get("after", [None])[0] for query in queries]


# --- backfill


async def test_250_videos_over_three_pages_are_250_rows(
    database: Database, standin: Standin, make_service: MakeService
) -> None:
    service = make_service()
    assert await service.backfill(LUMEN) == BackfillResult(new=250, pages=3, complete=True)
    assert rows(database) == discovered(database) == 250
    assert await service.backfill(LUMEN) == BackfillResult(new=0, pages=3, complete=True)
    assert await make_service().backfill(LUMEN) == BackfillResult(new=0, pages=3, complete=True)
    assert rows(database) == discovered(database) == 250
    kept = channel_row(database)
    assert (kept.broadcaster_id, kept.display_name) == (ids.CHANNEL_ID, "Lumen_Plays")
    assert kept.backfill_cursor is None
    assert kept.backfill_done_at is not None
    assert fact(database, "vod_catalog_backfill_seen") is None
    for channel in (LUMEN, ""):
        stamp = fact(database, "job_vod_catalog_last", channel)
        assert stamp is not None
        assert datetime.now(UTC) - datetime.fromisoformat(stamp) < timedelta(minutes=2)


@pytest.mark.parametrize(
    "fault",
    [
        Status(500),
        Status(429, ratelimit_reset_in_s=600),
        Status(401),
        Reset(),
        Truncate(),
        Garbage("html"),
        HelixBody("not_json"),
        HelixBody("nulls"),
        HelixBody("data_null"),
        HelixBody("wrong_types"),
        HelixBody("same_cursor"),
    ],
    ids=repr,
)
async def test_a_failure_on_page_two_loses_nothing_and_the_next_start_goes_on_there(
    database: Database, standin: Standin, make_service: MakeService, fault: AnyFault
) -> None:
    standin.faults.add(fault, path="/helix/videos", after=1)
    with pytest.raises(VodkeepError):
        await make_service().backfill(LUMEN)
    assert rows(database) == discovered(database) == 100
    assert channel_row(database).backfill_done_at is None
    page_two = channel_row(database).backfill_cursor
    assert page_two is not None
    standin.faults.clear()
    standin.requests.clear()
    result = await make_service().backfill(LUMEN)
    assert result == BackfillResult(new=150, pages=2, complete=True)
    assert pages_asked(standin)[0] == page_two
    assert rows(database) == discovered(database) == 250
    assert channel_row(database).backfill_cursor is None


async def test_one_entry_of_nulls_costs_neither_its_page_nor_itself_in_the_end(
    database: Database, standin: Standin, make_service: MakeService
) -> None:
    standin.faults.add(HelixBody("nulls", entry=7), path="/helix/videos", after=1, count=1)
    service = make_service()
    with capture_logs() as lines:
        result = await service.backfill(LUMEN)
    assert result == BackfillResult(new=249, pages=3, complete=True)
    (skipped,) = [line for line in lines if line["event"] == "twitch video entry skipped"]
    assert skipped["video_id"] == str(1_000_000_000 + 250 - 1 - 107)
    assert (await service.backfill(LUMEN)).new == 1
    assert rows(database) == 250


async def test_unknown_fields_change_nothing(database: Database, standin: Standin, make_service: MakeService) -> None:
    standin.faults.add(HelixBody("unknown_fields"), path="/helix/*")
    assert (await make_service().backfill(LUMEN)).new == 250


@pytest.mark.parametrize(
    "cursor", ["no-such-cursor", "eyJiIjpudWxsLCJhIjp7Ik9mZnNldCI6NTAwMH19"], ids=["refused", "empty"]
)
async def test_a_stored_place_that_is_no_longer_good_starts_from_the_top(
    database: Database, standin: Standin, make_service: MakeService, cursor: str
) -> None:
    service = make_service()
    await service.discover(LUMEN)
    with database.unit_of_work() as unit:
        CatalogStore(unit.connection).save_backfill(LUMEN, cursor=cursor, now=datetime.now(UTC))
        KvStore(unit.connection).set("vod_catalog_backfill_seen", "240", datetime.now(UTC), channel=LUMEN)
        unit.commit()
    standin.requests.clear()
    result = await make_service(limits=CatalogLimits(max_vods=260)).backfill(LUMEN)
    assert (result.pages, result.complete) == (3, True)
    assert pages_asked(standin)[:2] == [cursor, None]
    assert rows(database) == 250
    assert channel_row(database).backfill_cursor is None


async def test_rows_and_the_place_in_the_list_are_saved_together_or_not_at_all(
    database: Database, standin: Standin, make_service: MakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that dies between the two must neither skip a page nor forget that it was read."""

    def die(*_: object, **__: object) -> None:
        raise KeyError("dies after the rows and before the commit")

    service = make_service()
    with monkeypatch.context() as patch:
        patch.setattr(KvStore, "set", die)
        with pytest.raises(KeyError):
            await service.backfill(LUMEN)
    assert rows(database) == discovered(database) == 0
    assert channel_row(database).backfill_cursor is None
    assert (await make_service().backfill(LUMEN)).new == 250


async def test_the_newest_so_many_are_kept_also_when_resumed(
    database: Database, standin: Standin, make_service: MakeService
) -> None:
    limits = CatalogLimits(max_vods=120)
    standin.faults.add(Status(500), path="/helix/videos", after=1)
    with pytest.raises(ServerError):
        await make_service(limits=limits).backfill(LUMEN)
    standin.faults.clear()
    result = await make_service(limits=limits).backfill(LUMEN)
    assert (result.new, result.pages, result.complete) == (20, 1, True)
    assert rows(database) == 120
    with database.unit_of_work(write=False) as unit:
        oldest = unit.connection.execute(select(func.min(vods.c.twitch_vod_id))).scalar_one()
    assert oldest == str(1_000_000_000 + 250 - 120)


async def test_older_broadcasts_are_left_alone(
    database: Database, standin: Standin, make_service: MakeService, clock: FakeClock
) -> None:
    limits = CatalogLimits(max_age=timedelta(days=60))
    result = await make_service(clock=clock, limits=limits).backfill(LUMEN)
    cutoff = clock.now() - timedelta(days=60)
    expected = sum(1 for n in range(250) if TEST_ANCHOR - timedelta(hours=20) * n >= cutoff)
    assert 0 < expected < 100
    assert (result.new, result.pages) == (expected, 1)
    assert rows(database) == expected


async def test_what_is_gone_from_twitch_stays(database: Database, standin: Standin, make_service: MakeService) -> None:
    service = make_service()
    await service.backfill(LUMEN)
    list_videos(standin.scenario, SyntheticCatalog(LUMEN, 3, TEST_ANCHOR))
    await service.discover(LUMEN)
    await service.backfill(LUMEN)
    assert rows(database) == 250


async def test_two_processes_at_once_add_every_video_once(
    database: Database, standin: Standin, make_service: MakeService
) -> None:
    async with anyio.create_task_group() as group:
        for _ in range(2):
            service = make_service()
            group.start_soon(service.backfill, LUMEN)
            group.start_soon(service.discover, LUMEN)
    assert rows(database) == discovered(database) == 250


# --- discovery


async def test_discovery_reads_on_while_it_finds_something_new(
    database: Database, standin: Standin, make_service: MakeService
) -> None:
    service = make_service()
    first = await service.discover(LUMEN)
    assert (first.new, len(set(first.new_ids)), first.refreshed) == (250, 250, 0)
    standin.requests.clear()
    assert await service.discover(LUMEN) == DiscoverResult()
    assert [entry.path for entry in standin.requests.entries()] == ["/helix/videos"]
    assert fact(database, "job_vod_discover_last") is not None


async def test_discovery_of_a_huge_channel_is_bounded_and_backfill_does_the_rest(
    database: Database, standin: Standin, make_service: MakeService
) -> None:
    list_videos(standin.scenario, SyntheticCatalog(LUMEN, 720, TEST_ANCHOR))
    service = make_service()
    assert (await service.discover(LUMEN)).new == 500
    assert (await service.backfill(LUMEN)).new == 220
    assert rows(database) == discovered(database) == 720


async def test_a_new_broadcast_is_found_and_known_ones_are_refreshed(
    database: Database, standin: Standin, make_service: MakeService, scenario: Scenario
) -> None:
    known = Video("3000000000", LUMEN, "A title", TEST_ANCHOR + timedelta(hours=1), stream_id="44000000000")
    scenario.put_video(known)
    service = make_service()
    await service.discover(LUMEN)
    fresh = Video("3000000001", LUMEN, "Tonight", TEST_ANCHOR + timedelta(days=1), stream_id="44000000001")
    scenario.put_video(fresh)
    scenario.put_video(replace(known, title="A better title", listed_duration_s=3_661))
    found = await service.discover(LUMEN)
    assert (found.new_ids, found.refreshed) == (("3000000001",), 1)
    with database.unit_of_work(write=False) as unit:
        query = select(vods.c.title, vods.c.duration_seconds, vods.c.stream_id, vods.c.download_state)
        row = unit.connection.execute(query.where(vods.c.twitch_vod_id == known.id)).one()
        assert tuple(row) == ("A better title", 3_661, known.stream_id, "pending")


async def test_discovery_that_fails_below_a_page_of_new_videos_leaves_the_rest_to_backfill(
    database: Database, standin: Standin, make_service: MakeService
) -> None:
    """After weeks away, page one is saved and page two fails; the next discovery sees a known page and stops."""
    service = make_service()
    await service.backfill(LUMEN)
    list_videos(standin.scenario, SyntheticCatalog(LUMEN, 400, TEST_ANCHOR + timedelta(hours=20) * 150))
    assert channel_row(database).backfill_done_at is not None
    standin.faults.add(Status(500), path="/helix/videos", after=1)
    with pytest.raises(ServerError):
        await service.discover(LUMEN)
    assert rows(database) == 350
    standin.faults.clear()
    assert await service.discover(LUMEN) == DiscoverResult()
    assert channel_row(database).backfill_done_at is None
    assert (await service.backfill(LUMEN)).new == 50
    assert rows(database) == discovered(database) == 400


async def test_discovery_honours_the_limits(database: Database, make_service: MakeService) -> None:
    assert (await make_service(limits=CatalogLimits(max_vods=120)).discover(LUMEN)).new == 120
    assert rows(database) == 120


async def test_an_error_is_raised_and_not_an_empty_discovery(standin: Standin, make_service: MakeService) -> None:
    service = make_service()
    await service.discover(LUMEN)
    for fault in (Status(429), Status(500), Reset(), Garbage("empty"), HelixBody("data_null")):
        standin.faults.clear()
        standin.faults.add(fault, path="/helix/videos")
        with pytest.raises((ServerError, NetworkError, VodkeepError)):
            await service.discover(LUMEN)


async def test_a_hostile_title_reaches_the_row_as_it_is(
    database: Database, make_service: MakeService, scenario: Scenario
) -> None:
    title = "🌹 <b>../../etc</b> '; DROP TABLE vods; -- \u202e\x07" + "x" * 300
    scenario.put_video(Video("3000000002", LUMEN, title, TEST_ANCHOR + timedelta(days=2)))
    await make_service().discover(LUMEN)
    with database.unit_of_work(write=False) as unit:
        query = select(vods.c.title).where(vods.c.twitch_vod_id == "3000000002")
        assert unit.connection.execute(query).scalar_one() == title


# --- channels


async def test_an_unknown_channel_is_one_line_one_state_and_a_slow_retry(
    database: Database, standin: Standin, make_service: MakeService, clock: FakeClock, scenario: Scenario
) -> None:
    service = make_service("nobody_here", clock=clock)
    with capture_logs() as lines:
        for _ in range(5):
            assert await service.discover("nobody_here") == DiscoverResult()
            assert not (await service.backfill("nobody_here")).complete
    assert [line["event"] for line in lines if line["log_level"] == "warning"] == ["twitch channel unknown"]
    assert len(standin.requests.entries("/helix/*")) == 1
    (status,) = service.statuses()
    assert status.state is ChannelState.UNKNOWN
    assert status.sentence == "Twitch knows no channel named 'nobody_here'."
    scenario.channels["nobody_here"] = Channel("777", "nobody_here", "Nobody")
    scenario.put_video(Video("3000000003", "nobody_here", "Hello", TEST_ANCHOR))
    await clock.advance(300)
    assert (await service.discover("nobody_here")).new == 1
    (status,) = service.statuses()
    assert (status.state, status.sentence) == (ChannelState.FOUND, "")


async def test_a_text_that_cannot_be_a_login_never_reaches_twitch(standin: Standin, make_service: MakeService) -> None:
    service = make_service("Not A Login!")
    assert await service.discover("Not A Login!") == DiscoverResult()
    assert standin.requests.entries("/helix/*") == []
    assert service.statuses()[0].state is ChannelState.UNKNOWN


async def test_several_channels_each_keep_their_own(
    database: Database, make_service: MakeService, scenario: Scenario
) -> None:
    list_videos(
        scenario, *scenario.sources, SyntheticCatalog(ids.OTHER_CHANNEL, 130, TEST_ANCHOR, first_id=2_000_000_000)
    )
    service = make_service(LUMEN, ids.OTHER_CHANNEL)
    assert (await service.backfill(LUMEN)).new == 250
    assert (await service.backfill(ids.OTHER_CHANNEL)).new == 130
    assert (rows(database), rows(database, ids.OTHER_CHANNEL)) == (250, 130)


def rename(scenario: Scenario, old: str, new: str) -> None:
    scenario.channels[new] = replace(scenario.channels.pop(old), login=new)
    (catalog,) = scenario.sources
    assert isinstance(catalog, SyntheticCatalog)
    list_videos(scenario, replace(catalog, channel=new))


async def test_a_channel_renamed_at_twitch_is_followed_under_its_configured_login(
    database: Database, make_service: MakeService, scenario: Scenario
) -> None:
    service = make_service()
    await service.backfill(LUMEN)
    rename(scenario, LUMEN, "lumen_lives")
    scenario.put_video(Video("3000000004", "lumen_lives", "New name", TEST_ANCHOR + timedelta(days=1)))
    # Somebody else takes the old login.
    scenario.channels[LUMEN] = Channel("666", LUMEN, "Impostor")
    scenario.put_video(Video("3000000005", LUMEN, "Not mine", TEST_ANCHOR + timedelta(days=1)))
    with capture_logs() as lines:
        assert (await service.discover(LUMEN)).new_ids == ("3000000004",)
        for _ in range(2):
            assert (await service.backfill(LUMEN)).complete
    assert rows(database) == discovered(database) == 251
    assert len([line for line in lines if line["event"] == "twitch channel has a new login"]) == 1
    (status,) = service.statuses()
    assert status.state is ChannelState.FOUND
    assert "'lumen_lives'" in status.sentence


async def test_when_the_setting_follows_everything_moves_to_the_new_login(
    database: Database, make_service: MakeService, scenario: Scenario
) -> None:
    await make_service().backfill(LUMEN)
    rename(scenario, LUMEN, "lumen_lives")
    service = make_service("lumen_lives")
    with capture_logs() as lines:
        assert await service.discover("lumen_lives") == DiscoverResult()
    assert (rows(database), rows(database, "lumen_lives")) == (0, 250)
    assert channel_row(database) is None
    assert channel_row(database, "lumen_lives").broadcaster_id == ids.CHANNEL_ID
    assert [line["vods"] for line in lines if line["event"] == "twitch channel renamed"] == [250]
    assert discovered(database) == 250


async def test_one_channel_under_two_logins_is_kept_once(
    database: Database, make_service: MakeService, scenario: Scenario
) -> None:
    await make_service().backfill(LUMEN)
    rename(scenario, LUMEN, "lumen_lives")
    service = make_service(LUMEN, "lumen_lives")
    for _ in range(2):
        await service.discover(LUMEN)
        await service.discover("lumen_lives")
    assert (rows(database), rows(database, "lumen_lives")) == (250, 0)
    kept, double = service.statuses()
    assert (kept.state, double.state) == (ChannelState.FOUND, ChannelState.UNKNOWN)
    assert f"already kept as '{LUMEN}'" in double.sentence


async def test_a_closed_account_keeps_its_rows_and_is_asked_for_slowly(
    database: Database, standin: Standin, make_service: MakeService, scenario: Scenario, clock: FakeClock
) -> None:
    service = make_service(clock=clock)
    await service.backfill(LUMEN)
    gone = scenario.channels.pop(LUMEN)
    assert not (await service.backfill(LUMEN)).complete
    standin.requests.clear()
    await service.discover(LUMEN)
    assert standin.requests.entries() == []
    assert "closed, banned or gone" in service.statuses()[0].sentence
    assert rows(database) == 250
    scenario.channels[LUMEN] = gone
    await clock.advance(300)
    assert (await service.backfill(LUMEN)).complete


# --- the loop


async def test_the_loop_runs_each_interval_and_remembers_it_over_a_restart(
    database: Database, standin: Standin, make_service: MakeService, clock: FakeClock
) -> None:
    async def passes(seconds: float) -> int:
        """Pages read by a fresh process within so many seconds."""
        standin.requests.clear()
        async with anyio.create_task_group() as group:
            group.start_soon(make_service(clock=clock).run_backfill_forever)
            await clock.until_sleeping()
            for _ in range(int(seconds // 60)):
                await clock.advance(60)
                await clock.until_sleeping()
            group.cancel_scope.cancel()
        return len(standin.requests.entries("/helix/videos"))

    assert await passes(0) == 3
    assert await passes(0) == 0
    assert await passes(3600) == 0
    with database.unit_of_work() as unit:
        done_at = clock.now() - timedelta(hours=5, minutes=58)
        unit.connection.execute(update(channels).values(backfill_done_at=done_at))
        unit.commit()
    assert await passes(60) == 0
    assert await passes(60) == 3


async def test_a_channel_that_fails_never_stops_the_others_and_waits_longer_each_time(
    database: Database, standin: Standin, make_service: MakeService, clock: FakeClock, scenario: Scenario
) -> None:
    list_videos(
        scenario, *scenario.sources, SyntheticCatalog(ids.OTHER_CHANNEL, 130, TEST_ANCHOR, first_id=2_000_000_000)
    )
    # The first channel's only try fails, then the second channel's two pages come.
    standin.faults.add(Status(500), path="/helix/videos", count=1)
    service = make_service(LUMEN, "nobody_here", ids.OTHER_CHANNEL, clock=clock)
    with capture_logs() as lines:
        async with anyio.create_task_group() as group:
            group.start_soon(service.run_backfill_forever)
            await clock.until_sleeping()
            assert (rows(database), rows(database, ids.OTHER_CHANNEL)) == (0, 130)
            await clock.advance(60)
            await clock.until_sleeping()
            assert rows(database) == 250
            group.cancel_scope.cancel()
    (failed,) = [line for line in lines if line["event"] == "vod backfill failed"]
    assert (failed["channel"], failed["code"]) == (LUMEN, "server_error")
    assert 15 <= failed["retry_s"] <= 30


async def test_a_bug_in_one_pass_is_logged_and_the_others_go_on(
    database: Database, make_service: MakeService, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = make_service("broken", LUMEN, clock=clock)
    real = service.backfill

    async def backfill(login: str) -> BackfillResult:
        if login == "broken":
            raise ZeroDivisionError
        return await real(login)

    monkeypatch.setattr(service, "backfill", backfill)
    with capture_logs() as lines:
        async with anyio.create_task_group() as group:
            group.start_soon(service.run_backfill_forever)
            await clock.until_sleeping()
            group.cancel_scope.cancel()
    assert rows(database) == 250
    (broke,) = [line for line in lines if line["event"] == "vod backfill broke"]
    assert broke["exc_info"]
