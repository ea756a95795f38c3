"""Health, readiness, status, metrics, the library and the ways in, over real sockets on both databases."""

from __future__ import annotations

import base64
import json
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest
from sqlalchemy import URL, insert, text

from support.clock import START, FakeClock
from support.web_site import RunningWork, Serve, add_vod, keep_vod, moment, problem
from vodkeep.capture.model import Phase, Progress
from vodkeep.db import migrate
from vodkeep.db.engine import Database
from vodkeep.db.events import EventLog
from vodkeep.db.leases import PROCESS_PREFIX, LeaseStore
from vodkeep.db.tables import channels
from vodkeep.keep.manifest import LedgerEntry, Manifest, write_manifest
from vodkeep.pipeline.breaker import CLOSED, Breaker, BreakerPhase
from vodkeep.pipeline.health_store import HealthStore
from vodkeep.pipeline.roles import ProcessNote, Role
from vodkeep.telemetry.log import mask_values
from vodkeep.web.app import create_app
from vodkeep.web.reading import DatabaseStatusReader

pytestmark = pytest.mark.anyio

TOKEN = "letmein-0123456789abcdef"
PASSWORD = "correct-horse-battery"


def unreachable() -> Database:
    """A PostgreSQL that is not there: nothing listens on the discard port."""
    return Database(URL.create("postgresql", username="u", password="hidden-password", host="127.0.0.1", port=9))


# --- health ------------------------------------------------------------------------------------------------------


async def test_healthz_is_ok_while_the_database_answers(serve_site: Serve) -> None:
    async with serve_site() as site:
        assert await site.json("/healthz") == {"status": "ok"}
        async with site.head("/healthz") as answer:
            assert answer.status == 200
            assert await answer.read() == b""


async def test_figures_survive_a_migration_that_ends_between_the_question_and_the_look(tmp_path: Path) -> None:
    database = Database(URL.create("sqlite", database=str(tmp_path / "vodkeep.db")))

    class MigratedMeanwhile(DatabaseStatusReader):
        async def _problem_of(self, database: Database, line: migrate.SchemaLine) -> str | None:
            migrate.upgrade(database, line)
            return await super()._problem_of(database, line)

    try:
        figures = await MigratedMeanwhile(database, ("lumen_plays",)).figures()
    finally:
        database.dispose()
    assert figures.totals.depth == 0
    assert [each.login for each in figures.channels] == ["lumen_plays"]


async def test_without_database_every_answer_is_a_503_and_never_zeros(serve_site: Serve) -> None:
    away = unreachable()
    async with serve_site(on=away) as site:
        for path in ("/healthz", "/status", "/admin/monitor", "/api/v1/vods", "/api/v1/vods/1", "/media/1/video.mp4"):
            async with site.get(path) as answer:
                found = await problem(answer, 503, "database")
                assert int(answer.headers["Retry-After"]) >= 1
                assert "hidden-password" not in json.dumps(found)
        reasons = (await site.json("/readyz", status=503))["reasons"]
        assert [reason["code"] for reason in reasons] == ["database"]
        assert (await site.get("/metrics")).status == 200
    away.dispose()


async def test_a_database_that_stops_and_returns_is_noticed(serve_site: Serve, tmp_path: Path) -> None:
    path = tmp_path / "moving.db"
    database = Database(URL.create("sqlite", database=str(path)))
    migrate.upgrade(database)
    async with serve_site(on=database) as site:
        await site.json("/healthz")
        path.rename(tmp_path / "away.db")
        async with site.get("/healthz") as answer:
            await problem(answer, 503, "database")
        (tmp_path / "away.db").rename(path)
        await site.json("/healthz")
    database.dispose()


async def test_before_the_first_migration_status_says_so(serve_site: Serve, empty_database_url: URL) -> None:
    empty = Database(empty_database_url)
    with empty.unit_of_work() as unit:
        unit.connection.execute(text("CREATE TABLE something_else (id INTEGER)"))
        unit.commit()
    async with serve_site(on=empty) as site:
        async with site.get("/status") as answer:
            found = await problem(answer, 503, "migrations")
            assert migrate.head() in found["detail"]
        async with site.get("/api/v1/accounts") as answer:
            await problem(answer, 503, "migrations")
        reasons = (await site.json("/readyz", status=503))["reasons"]
        assert [reason["code"] for reason in reasons] == ["migrations"]
    empty.dispose()


async def test_readyz_is_ready(serve_site: Serve) -> None:
    async with serve_site() as site:
        assert await site.json("/readyz") == {"status": "ready", "reasons": []}


async def test_readyz_names_every_reason_at_once(
    serve_site: Serve, database: Database, data_dir: Path, clock: FakeClock
) -> None:
    with database.unit_of_work() as unit:
        HealthStore(unit.connection).save_breaker(
            "otter", Breaker(BreakerPhase.OPEN, 5, clock.now() + timedelta(minutes=5)), clock.now()
        )
        unit.commit()
    data_dir.rmdir()
    data_dir.write_text("a file where the folder should be")
    async with serve_site(missing_credentials=("TWITCH_CLIENT_ID",)) as site:
        answer = await site.json("/readyz", status=503)
        assert answer["status"] == "not_ready"
        assert [reason["code"] for reason in answer["reasons"]] == ["missing_credentials", "data_dir", "circuit_open"]
        assert "TWITCH_CLIENT_ID" in answer["reasons"][0]["sentence"]
        assert answer["reasons"][2]["channel"] == "otter"
        # Open to everybody, so it does not tell where things are.
        assert str(data_dir) not in json.dumps(answer)


async def test_a_disk_that_is_not_mounted_is_a_reason_that_tells_no_path(serve_site: Serve, data_dir: Path) -> None:
    problem = f'DATA_DIR is "{data_dir}" and is no longer the archive: its mark is not there.'
    async with serve_site(archive_problem=lambda: problem) as site:
        (reason,) = (await site.json("/readyz", status=503))["reasons"]
        assert (reason["code"], reason["sentence"]) == (
            "data_dir",
            "DATA_DIR is no longer the archive: its mark is not there.",
        )


# --- status ------------------------------------------------------------------------------------------------------


async def test_status_of_an_empty_service(serve_site: Serve) -> None:
    async with serve_site(env={"TWITCH_CHANNELS": "rook,otter"}) as site:
        status = await site.json("/status")
    assert (status["pending"], status["errored"], status["processed"], status["queue_depth"]) == (0, 0, 0, 0)
    assert status["circuit_state"] == "closed"
    assert status["last_process_run"] is None
    assert status["avg_download_ms"] is None
    assert status["active"] == []
    assert {channel["login"] for channel in status["channels"]} == {"otter", "rook"}
    assert status["retry"] == {
        "download_max_attempts": 5,
        "download_backoff_base_s": 2.0,
        "retry_cooldown_s": 600.0,
        "process_interval_s": 60.0,
        "max_concurrent_downloads": 1,
        "circuit_failure_threshold": 5,
        "circuit_open_cooldown_s": 300.0,
    }


async def test_each_figure_of_status_follows_the_database(
    serve_site: Serve, database: Database, data_dir: Path, clock: FakeClock
) -> None:
    add_vod(database, "1")
    add_vod(database, "2", download_state="waiting", not_before=moment(1))
    add_vod(database, "3", download_state="failed", processing_error="No answer.", error_code="network")
    add_vod(database, "4", download_state="parked", processing_error="Gone.", error_code="deleted", channel="rook")
    add_vod(database, "5", download_state="canceled", processing_error="Canceled.", error_code="canceled")
    add_vod(database, "6", download_state="verifying", download_bytes=10, download_total=10, download_retries=1)
    keep_vod(database, data_dir, "7")
    # Not yet in the library, so not kept with holes; the other one is.
    add_vod(database, "8", completeness=0.5, download_state="waiting")
    holed: dict[str, Any] = {
        "download_state": "parked",
        "processed": 0,
        "error_code": "incomplete",
        "processing_error": "A hole.",
    }
    keep_vod(database, data_dir, "9", completeness=0.999, **holed)
    with database.unit_of_work() as unit:
        health = HealthStore(unit.connection)
        health.save_breaker("rook", Breaker(BreakerPhase.HALF_OPEN, 6, moment(0.1)), clock.now())
        health.average_in("avg_download_ms", 1000, clock.now(), channel="otter")
        health.average_in("avg_total_ms", 3000, clock.now(), channel="otter")
        health.note_cycle(moment(-0.5))
        unit.connection.execute(insert(channels).values(login="otter", display_name="OTTER ☂"))
        unit.commit()
    async with serve_site() as site:
        status = await site.json("/status")
        monitor = await site.json("/admin/monitor")
    assert (status["pending"], status["errored"], status["canceled"], status["processed"]) == (4, 3, 1, 1)
    assert status["queue_depth"] == 8
    assert status["states"]["waiting"] == 2
    assert status["incomplete"] == 1
    assert [channel["incomplete"] for channel in status["channels"]] == [1, 0]
    assert status["circuit_state"] == "half_open"
    assert (status["avg_download_ms"], status["avg_upload_ms"], status["avg_total_ms"]) == (1000, None, 3000)
    assert status["last_process_run"] == "2026-11-23T11:30:00Z"
    assert [(active["id"], active["attempt"]) for active in status["active"]] == [("6", 2)]
    otter, rook = status["channels"]
    assert (otter["login"], otter["display_name"], otter["queue_depth"]) == ("otter", "OTTER ☂", 7)
    assert otter["breaker"] == {"state": "closed", "failures": 0, "open_until": None}
    assert otter["avg_download_ms"] == 1000
    assert (rook["login"], rook["errored"]) == ("rook", 1)
    assert rook["breaker"] == {"state": "half_open", "failures": 6, "open_until": "2026-11-23T12:06:00Z"}
    assert monitor["jobs"] == {"job_vod_process_last": "2026-11-23T11:30:00.000000Z"}
    assert monitor["breakers"]["rook"]["state"] == "half_open"
    assert [item["id"] for item in monitor["running"]] == ["6"]
    assert monitor["database"] == ("sqlite" if database.is_sqlite else "postgresql")
    assert "vodkeep" in monitor["versions"]


async def test_the_operators_statement_closes_the_breaker_in_status(
    serve_site: Serve, database: Database, clock: FakeClock
) -> None:
    with database.unit_of_work() as unit:
        HealthStore(unit.connection).save_breaker("otter", Breaker(BreakerPhase.OPEN, 5, moment(1)), clock.now())
        unit.commit()
    async with serve_site() as site:
        assert (await site.json("/status"))["circuit_state"] == "open"
        with database.unit_of_work() as unit:
            unit.connection.execute(
                text("DELETE FROM kv WHERE key IN ('circuit_state','circuit_failures','circuit_open_until');")
            )
            assert HealthStore(unit.connection).load_breakers().get("otter", CLOSED) == CLOSED
            unit.commit()
        assert (await site.json("/status"))["circuit_state"] == "closed"


async def test_status_shows_live_progress_of_this_process(serve_site: Serve, database: Database) -> None:
    add_vod(database, "1", download_state="downloading", download_bytes=10, download_total=100)
    work = RunningWork()
    async with serve_site(work=work) as site:
        (before,) = (await site.json("/status"))["active"]
        work.snapshots["1"] = Progress(Phase.FETCHING, 40, 100, 4, 10, 1234.4, 12.34)
        (during,) = (await site.json("/status"))["active"]
        listed = (await site.json("/api/v1/vods"))["items"][0]["progress"]
    assert (before["progress"]["bytes"], before["progress"]["percent"]) == (10, 10.0)
    assert before["progress"]["rate_bytes_s"] is None
    expected = {"phase": "fetching", "bytes": 40, "percent": 40.0, "rate_bytes_s": 1234.0, "eta_s": 12.3}
    assert {name: during["progress"][name] for name in expected} == expected
    assert {name: listed[name] for name in expected} == expected


async def test_the_processes_that_live_come_and_go(serve_site: Serve, database: Database) -> None:
    note = ProcessNote("attic", 7, (Role.WATCH, Role.WORK), {"capture": 2})
    lifetime = timedelta(minutes=1)
    async with serve_site() as site:
        assert (await site.json("/status"))["processes"] == []
        with database.unit_of_work() as unit:
            store = LeaseStore(unit.connection)
            store.take(f"{PROCESS_PREFIX}attic:7:a", "attic:7:a", lifetime, note.write())
            store.take("planner", "attic:7:a", lifetime)
            store.take("channel:otter", "cellar:8:b", timedelta())
            unit.commit()
        told = {"host": "attic", "roles": ["watch", "work"], "slots": {"capture": 2}}
        assert (await site.json("/status"))["processes"] == [told]
        monitor = await site.json("/admin/monitor")
        assert monitor["processes"] == [{**told, "pid": 7, "holder": "attic:7:a"}]
        assert monitor["leases"] == {"planner": "attic:7:a"}

        with database.unit_of_work() as unit:
            LeaseStore(unit.connection).release("attic:7:a")
            unit.commit()
        assert (await site.json("/status"))["processes"] == []
        assert (await site.json("/admin/monitor"))["leases"] == {}


async def test_a_title_is_not_told_to_everybody(serve_site: Serve, database: Database) -> None:
    add_vod(database, "1", download_state="downloading", title="Very private title", downloaded_path="private/path")
    async with serve_site(env={"ADMIN_TOKEN": TOKEN}) as site:
        for path in ("/status", "/readyz", "/metrics", "/healthz"):
            async with site.get(path) as answer:
                assert b"rivate" not in await answer.read()


@pytest.mark.parametrize("path", ["/status", "/api/v1/vods", "/api/v1/vods/1", "/admin/monitor", "/", "/static/app.js"])
async def test_an_unchanged_answer_is_a_304(serve_site: Serve, database: Database, path: str) -> None:
    add_vod(database, "1")
    async with serve_site() as site:
        async with site.get(path) as answer:
            etag = answer.headers["ETag"]
            assert answer.headers["Cache-Control"] == "private, no-cache"
        for offered in (etag, f"W/{etag}", f'"other", {etag}', "*"):
            async with site.get(path, headers={"If-None-Match": offered}) as answer:
                assert answer.status == 304
                assert await answer.read() == b""
                assert answer.headers["ETag"] == etag
        async with site.get(path, headers={"If-None-Match": '"other"'}) as answer:
            assert answer.status == 200


async def test_a_changed_answer_has_another_etag(serve_site: Serve, database: Database) -> None:
    add_vod(database, "1")
    async with serve_site() as site:
        for path in ("/status", "/api/v1/vods"):
            async with site.get(path) as answer:
                etag = answer.headers["ETag"]
            add_vod(database, f"new-{len(path)}")
            async with site.get(path, headers={"If-None-Match": etag}) as answer:
                assert answer.status == 200


async def test_metrics_are_the_prometheus_text_format(serve_site: Serve) -> None:
    async with serve_site() as site:
        site.deps.metrics.downloads_started("otter")
        async with site.get("/metrics") as answer:
            assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
            assert b'vod_downloads_started_total{channel="otter"} 1.0' in await answer.read()


# --- the library -------------------------------------------------------------------------------------------------


async def test_paging_reaches_every_vod_once_newest_first(serve_site: Serve, database: Database) -> None:
    """Same date, no date and dates around: the order is total, so no page skips or repeats."""
    for number in range(7):
        add_vod(database, f"same-{number}", date=moment(-5))
    for number in range(4):
        add_vod(database, f"older-{number}", date=moment(-10 - number))
    add_vod(database, "undated-1", date=None, created_at=moment(-7))
    add_vod(database, "undated-2", date=None, created_at=moment(-7))
    seen: list[dict[str, Any]] = []
    async with serve_site() as site:
        address = "/api/v1/vods?limit=3"
        while True:
            page = await site.json(address)
            assert len(page["items"]) <= 3
            seen += page["items"]
            if len(seen) == 6:
                add_vod(database, "brand-new", date=moment(1))
            if page["next"] is None:
                break
            address = f"/api/v1/vods?limit=3&after={page['next']}"
    assert len({vod["id"] for vod in seen}) == len(seen) == 13
    ids = [vod["id"] for vod in seen]
    assert set(ids[:7]) == {f"same-{number}" for number in range(7)}
    assert set(ids[7:9]) == {"undated-1", "undated-2"}
    assert ids[9:] == [f"older-{number}" for number in range(4)]


async def test_a_page_that_is_exactly_full_is_the_last(serve_site: Serve, database: Database) -> None:
    for number in range(3):
        add_vod(database, str(number))
    async with serve_site() as site:
        assert (await site.json("/api/v1/vods?limit=3"))["next"] is None
        assert (await site.json("/api/v1/vods?limit=2"))["next"] is not None


async def test_filters(serve_site: Serve, database: Database, data_dir: Path) -> None:
    add_vod(database, "1")
    add_vod(database, "2", channel="rook")
    keep_vod(database, data_dir, "3")
    async with serve_site() as site:

        async def ids(query: str) -> set[str]:
            return {vod["id"] for vod in (await site.json(f"/api/v1/vods?{query}"))["items"]}

        assert await ids("channel=rook") == {"2"}
        assert await ids("channel=ROOK") == {"2"}
        assert await ids("state=done") == {"3"}
        assert await ids("state=done&state=pending&channel=otter") == {"1", "3"}
        assert await ids("channel=nobody") == set()


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=201", "limit=x", "limit=99999999999999999999", "after=x", "after=%00", "after=" + "A" * 201,
     "state=nonsense", "channel=a%27b", "channel=%00", "channel="],
)  # fmt: skip
async def test_a_query_that_makes_no_sense_is_a_422(serve_site: Serve, query: str) -> None:
    async with serve_site() as site, site.get(f"/api/v1/vods?{query}") as answer:
        found = json.loads(await answer.read())
        assert answer.status == 422
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert found["code"] in {"invalid_request", "bad_cursor"}


async def test_a_vod_with_its_timeline(serve_site: Serve, database: Database, data_dir: Path) -> None:
    keep_vod(database, data_dir, "v1", title="<b>Títle</b> 😀 \u202e../..", description="line\nline")
    with database.unit_of_work() as unit:
        log = EventLog(unit.connection)
        log.append("v1", at=moment(-1), kind="discovered", sentence="Found.", corr="c-1")
        log.append("v1", at=moment(0), kind="state", from_state="pending", to_state="downloading", corr="c-2")
        log.append("other", at=moment(0), kind="state")
        unit.commit()
    async with serve_site() as site:
        vod = await site.json("/api/v1/vods/v1")
    assert vod["title"] == "<b>Títle</b> 😀 \u202e../.."
    assert vod["state"] == "done"
    assert vod["media"]["video"] == "/media/v1/video.mp4"
    assert vod["size_bytes"] == 10
    assert [(event["kind"], event["to_state"], event["corr"]) for event in vod["events"]] == [
        ("discovered", None, "c-1"),
        ("state", "downloading", "c-2"),
    ]


async def test_a_vod_says_what_it_is_made_of(serve_site: Serve, database: Database, data_dir: Path) -> None:
    folder = keep_vod(database, data_dir, "v1", completeness=0.9)
    ledger = (LedgerEntry(0, 9000, "vod", "muted"), LedgerEntry(9000, 10_000, "missing", "gone"))
    manifest = Manifest(
        video_id="v1", stream_id=None, channel="otter", channel_name="Otter", title="", date=None, duration_ms=10_000,
        completeness=0.9, rendition="720p60", tools=(), captured_at=moment(0), files=(), streams=(), ledger=ledger,
        chapters=(),
    )  # fmt: skip
    async with serve_site() as site:
        vod = await site.json("/api/v1/vods/v1")
        assert (vod["completeness"], vod["rendition"], vod["ledger"]) == (0.9, None, None)
        (folder / "manifest.json").write_text(write_manifest(manifest))
        vod = await site.json("/api/v1/vods/v1")
        assert (vod["completeness"], vod["rendition"]) == (0.9, "720p60")
        assert vod["ledger"] == [
            {"start_ms": 0, "end_ms": 9000, "source": "vod", "reason": "muted"},
            {"start_ms": 9000, "end_ms": 10_000, "source": "missing", "reason": "gone"},
        ]
        (listed,) = (await site.json("/api/v1/vods"))["items"]
        assert listed["completeness"] == 0.9
        (folder / "manifest.json").write_text(write_manifest(manifest).replace("9000", '"soon"'))
        assert (await site.json("/api/v1/vods/v1"))["ledger"] is None
        (folder / "manifest.json").unlink()
        (folder / "manifest.json").symlink_to("/etc/passwd")
        assert (await site.json("/api/v1/vods/v1"))["ledger"] is None


@pytest.mark.parametrize("vod_id", ["nope", "%00", "a%27;--", "x" * 65, "..", "%2e%2e", "%2f", "a%2fb", "%F0%9F%98%80"])
async def test_an_unknown_id_is_a_404(serve_site: Serve, vod_id: str) -> None:
    async with serve_site() as site:
        for path in (f"/api/v1/vods/{vod_id}", f"/media/{vod_id}/video.mp4"):
            raw = await site.raw(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
            assert raw.startswith(b"HTTP/1.1 404"), raw[:80]
            assert b"application/problem+json" in raw


# --- errors ------------------------------------------------------------------------------------------------------


async def test_unknown_addresses_and_methods_are_problems(serve_site: Serve) -> None:
    async with serve_site() as site:
        async with site.get("/nowhere") as answer:
            await problem(answer, 404, "not_found")
        async with site.send("POST", "/status", json={}) as answer:
            await problem(answer, 405, "method_not_allowed")
            assert "GET" in answer.headers["Allow"]
        for path in ("/docs", "/redoc", "/static/../app.py", "/static/%2e%2e%2fapp.py", "/status/", "//status"):
            async with site.get(path) as answer:
                assert answer.status == 404


async def test_a_bug_is_a_500_that_tells_only_the_correlation_id(serve_site: Serve) -> None:
    mask_values(["swordfish-secret"])

    class Broken:
        def progress(self) -> dict[str, Any]:
            raise RuntimeError("boom swordfish-secret")

    async with serve_site(work=Broken()) as site:
        async with site.get("/status", headers={"X-Correlation-ID": "find-me-1"}) as answer:
            body = await answer.read()
            found = await problem(answer, 500, "internal_error")
            assert b"boom" not in body
            assert b"RuntimeError" not in body
            assert found["corr"] == "find-me-1"
            assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        (failure,) = [line for line in site.log_lines if line["msg"] == "request failed"]
        assert failure["corr"] == "find-me-1"
        assert failure["level"] == "error"
        assert "RuntimeError: boom ***" in failure["exception"]
        assert "swordfish" not in site.log.getvalue()
        assert not [line for line in site.log_lines if line["component"] == "uvicorn" and line["level"] == "error"]


async def test_a_failure_in_mid_answer_cuts_the_connection(serve_site: Serve) -> None:
    async with serve_site() as site:
        app = create_app(site.deps)

        @app.get("/torn")
        async def torn() -> Any:
            from starlette.responses import StreamingResponse

            async def parts() -> Any:
                yield b"first part"
                raise RuntimeError("torn")

            return StreamingResponse(parts(), headers={"content-length": "1000"})

        async with serve_site(app=app) as other:
            raw = await other.raw(b"GET /torn HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert raw.endswith(b"first part")
            assert any(line["msg"] == "request failed" for line in other.log_lines)
            access = [line for line in other.log_lines if line["msg"] == "request"][-1]
            assert access["cut_off"] is True


# --- correlation and the access line -----------------------------------------------------------------------------


async def test_a_correlation_id_goes_in_out_and_into_the_log(serve_site: Serve) -> None:
    async with serve_site() as site:
        async with site.get("/status", headers={"X-Correlation-ID": "trace.me_9-A"}) as answer:
            assert answer.headers.getall("X-Correlation-ID") == ["trace.me_9-A"]
        (line,) = [line for line in site.log_lines if line["corr"] == "trace.me_9-A"]
    assert line["component"] == "http"
    assert line["msg"] == "request"
    assert (line["method"], line["path"], line["status"]) == ("GET", "/status", 200)
    assert line["bytes"] > 100
    assert "ms" in line


@pytest.mark.parametrize("offered", ["", "a b", "x" * 129, "é", "a;b", '"><script>', "a%0d%0aSet-Cookie:x"])
async def test_a_doubtful_correlation_id_is_replaced(serve_site: Serve, offered: str) -> None:
    async with serve_site() as site:
        raw = await site.raw(
            b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nX-Correlation-ID: "
            + offered.encode("latin-1")
            + b"\r\n\r\n"
        )
        match = re.search(rb"\r\nx-correlation-id: ([^\r]*)\r\n", raw, re.IGNORECASE)
        assert match is not None
        assert re.fullmatch(rb"[0-9a-f]{16}", match[1])


@pytest.mark.parametrize(("path", "status"), [("/nowhere", 404), ("/api/v1/vods?limit=0", 422), ("/healthz", 200)])
async def test_every_answer_has_an_id_and_the_security_headers(serve_site: Serve, path: str, status: int) -> None:
    async with serve_site() as site, site.get(path) as answer:
        assert answer.status == status
        assert answer.headers["X-Correlation-ID"]
        csp = answer.headers["Content-Security-Policy"]
        assert "default-src 'none'" in csp
        assert "unsafe" not in csp
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["X-Frame-Options"] == "DENY"
        assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert "Server" not in answer.headers


async def test_requests_at_the_same_time_keep_their_own_ids(serve_site: Serve) -> None:
    async with serve_site() as site:
        got: dict[str, str] = {}

        async def ask(corr: str) -> None:
            async with site.get("/status", headers={"X-Correlation-ID": corr}) as answer:
                got[corr] = answer.headers["X-Correlation-ID"]

        async with anyio.create_task_group() as group:
            for number in range(12):
                group.start_soon(ask, f"id-{number}")
        logged = [line["corr"] for line in site.log_lines if line["msg"] == "request"]
    assert got == {f"id-{number}": f"id-{number}" for number in range(12)}
    assert sorted(logged) == sorted(got)


# --- who may come in ---------------------------------------------------------------------------------------------

CLOSED_PATHS = ["/", "/static/app.js", "/api/v1/vods", "/api/v1/vods/1", "/admin/monitor", "/media/1/video.mp4",
                "/media/1/thumbnail.jpg", "/media/1/manifest.json", "/openapi.json", "/docs", "/nowhere"]  # fmt: skip
OPEN_PATHS = ["/healthz", "/readyz", "/status", "/metrics"]


def basic(name: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()}


async def test_with_credentials_only_monitoring_is_open(serve_site: Serve, database: Database, data_dir: Path) -> None:
    keep_vod(database, data_dir, "1")
    env = {"ADMIN_TOKEN": TOKEN, "ADMIN_USERNAME": "anna", "ADMIN_PASSWORD": PASSWORD}
    async with serve_site(env=env) as site:
        for path in OPEN_PATHS:
            async with site.get(path) as answer:
                assert answer.status == 200, path
        for path in CLOSED_PATHS:
            async with site.get(path) as answer:
                await problem(answer, 401, "unauthorized")
                assert answer.headers["WWW-Authenticate"].startswith("Basic ")
            async with site.head(path) as answer:
                assert answer.status == 401
            async with site.get(path, headers=basic("anna", "wrong")) as answer:
                assert answer.status == 401
            good: list[dict[str, str]] = [{"X-Admin-Token": TOKEN}, basic("anna", PASSWORD), basic("token", TOKEN)]
            for headers in good:
                async with site.get(path, headers=headers) as answer:
                    assert answer.status == (404 if path in {"/docs", "/nowhere"} else 200), path
        # Whoever knocks, what was offered is not written down.
        for secret in (TOKEN, PASSWORD, base64.b64encode(f"anna:{PASSWORD}".encode()).decode(), "wrong"):
            assert secret not in site.log.getvalue()


@pytest.mark.parametrize(
    "path", ["/STATUS", "/status/../admin/monitor", "//admin/monitor", "/healthz/../", "/status;/admin/monitor",
     "/%61dmin/monitor"]
)  # fmt: skip
async def test_no_spelling_of_an_address_gets_around_the_login(serve_site: Serve, path: str) -> None:
    async with serve_site(env={"ADMIN_TOKEN": TOKEN}) as site:
        raw = await site.raw(f"GET {path} HTTP/1.1\r\nHost: archive.example\r\nConnection: close\r\n\r\n".encode())
        assert raw.startswith((b"HTTP/1.1 401", b"HTTP/1.1 404")), raw[:60]
        assert b"versions" not in raw


@pytest.mark.parametrize("host", ["localhost", "localhost:8080", "127.0.0.1", "[::1]:80"])
async def test_without_credentials_loopback_names_are_answered(serve_site: Serve, host: str) -> None:
    async with serve_site() as site, site.get("/status", headers={"Host": host}) as answer:
        assert answer.status == 200


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "10.0.0.1", "localhost@evil", "x"])
async def test_without_credentials_another_name_is_refused(serve_site: Serve, host: str) -> None:
    """DNS rebinding: a page at evil.example makes the browser ask 127.0.0.1 under its own name."""
    async with serve_site() as site:
        for path in ("/", "/status", "/healthz", "/api/v1/vods"):
            async with site.get(path, headers={"Host": host}) as answer:
                await problem(answer, 403, "host_not_allowed")


async def test_with_credentials_the_host_does_not_matter(serve_site: Serve) -> None:
    async with serve_site(env={"ADMIN_TOKEN": TOKEN}) as site:
        async with site.get("/", headers={"Host": "archive.example", "X-Admin-Token": TOKEN}) as answer:
            assert answer.status == 200
        async with site.get("/healthz", headers={"Host": "archive.example"}) as answer:
            assert answer.status == 200


async def test_a_request_without_host_is_refused(serve_site: Serve) -> None:
    async with serve_site() as site:
        assert (await site.raw(b"GET /status HTTP/1.0\r\n\r\n")).startswith(b"HTTP/1.1 403")


# --- the page and the document -----------------------------------------------------------------------------------


async def test_the_page_has_nothing_inline_and_nothing_from_elsewhere(serve_site: Serve) -> None:
    async with serve_site() as site:
        async with site.get("/") as answer:
            assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
            page = await answer.text()
        for address in re.findall(r'(?:href|src)="(/static/[^"]+)"', page):
            async with site.get(address) as answer:
                assert answer.status == 200, address
                assert "charset=utf-8" in answer.headers["Content-Type"] or address.endswith(".svg")
        async with site.get("/static/app.js") as answer:
            script = await answer.text()
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son[a-z]+=|https?://", page)
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|https?://", script)


async def test_the_openapi_document_describes_every_route(serve_site: Serve) -> None:
    async with serve_site() as site:
        document = await site.json("/openapi.json")
    assert set(document["paths"]) == {
        "/healthz",
        "/readyz",
        "/status",
        "/metrics",
        "/admin/monitor",
        "/api/v1/vods",
        "/api/v1/vods/{vod_id}",
        "/api/v1/vods/{vod_id}/chat",
        "/api/v1/vods/{vod_id}/chat/histogram",
        "/api/v1/vods/{vod_id}/chat/segments/{number}",
        "/api/v1/vods/{vod_id}/chat/replay",
        "/api/v1/vods/{vod_id}/undo-retention",
        "/api/v1/retention/plan",
        "/api/v1/retention",
        "/api/v1/events",
        "/api/v1/vods/{vod_id}/chat/users/{login}",
        "/api/v1/vods/{vod_id}/chat/search",
        "/api/v1/chat/search",
        "/api/v1/vods/{vod_id}/chat/emotes",
        "/api/v1/vods/{vod_id}/publication/preview",
        "/api/v1/vods/{vod_id}/chat/export",
        "/api/v1/emotes/{image_hash}",
        "/api/v1/vods/{vod_id}/cancel",
        "/api/v1/vods/{vod_id}/retry",
        "/api/v1/vods/{vod_id}/reprocess",
        "/api/v1/circuit/reset",
        "/admin/vod/cancel",
        "/admin/vod/retry",
        "/api/v1/accounts",
        "/api/v1/accounts/{provider}/start",
        "/api/v1/accounts/{provider}/callback",
        "/api/v1/accounts/{provider}/device",
        "/api/v1/accounts/{provider}/device/poll",
        "/api/v1/accounts/{provider}/disconnect",
        "/admin/vod/reprocess",
        "/admin/vod/priority",
        "/admin/vod/skip-upload",
        "/media/{vod_id}/video.mp4",
        "/media/{vod_id}/thumbnail.jpg",
        "/media/{vod_id}/manifest.json",
    }
    assert "Problem" in document["components"]["schemas"]
    assert "HTTPValidationError" not in json.dumps(document)
    references = set(re.findall(r"#/components/schemas/(\w+)", json.dumps(document)))
    assert references <= set(document["components"]["schemas"])
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            assert operation.get("description") or operation.get("summary"), (method, path)
            assert method == "get" or {"401", "403", "413", "415", "422", "503"} < set(operation["responses"]), path


async def test_start_time_is_the_clocks(serve_site: Serve) -> None:
    async with serve_site() as site:
        assert (await site.json("/admin/monitor"))["started_at"] == START.isoformat().replace("+00:00", "Z")


async def test_a_flood_is_stopped_before_the_password_is_checked(serve_site: Serve, clock: FakeClock) -> None:
    env = {"ADMIN_TOKEN": TOKEN, "RATE_LIMIT_REQUESTS_PER_IP": "3", "RATE_LIMIT_WINDOW": "1m"}
    async with serve_site(env=env) as site:
        for _ in range(3):
            async with site.get("/api/v1/vods", headers={"X-Admin-Token": "guess"}) as answer:
                assert answer.status == 401
        async with site.get("/api/v1/vods", headers={"X-Admin-Token": TOKEN}) as answer:
            await problem(answer, 429, "too_many_requests")
            assert answer.headers["Retry-After"] == "60"
        # Monitoring goes on.
        await site.json("/status")
        await clock.advance(60)
        await site.json("/api/v1/vods", headers={"X-Admin-Token": TOKEN})


@pytest.mark.parametrize(
    "env", [{"ADMIN_TOKEN": TOKEN, "RATE_LIMIT_ENABLED": "0"}, {}], ids=["switched off", "loopback"]
)
async def test_no_limit_where_none_is_wanted(serve_site: Serve, env: dict[str, str]) -> None:
    async with serve_site(env={"RATE_LIMIT_REQUESTS_PER_IP": "1", **env}) as site:
        for _ in range(4):
            await site.json("/api/v1/vods", headers={"X-Admin-Token": TOKEN})


async def test_another_site_may_call_the_api_only_when_it_is_allowed(serve_site: Serve) -> None:
    env = {"ADMIN_TOKEN": TOKEN, "CORS_ALLOWED_ORIGINS": "https://dash.example"}
    async with serve_site(env=env) as site:
        preflight = {"Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "X-Admin-Token"}
        for origin, allowed in (("https://dash.example", "https://dash.example"), ("https://evil.example", None)):
            async with site.http.options(site.url + "/api/v1/vods", headers={"Origin": origin, **preflight}) as answer:
                assert answer.headers.get("Access-Control-Allow-Origin") == allowed
                assert answer.status == (200 if allowed else 400)
            headers = {"Origin": origin, "X-Admin-Token": TOKEN}
            async with site.get("/api/v1/vods", headers=headers) as answer:
                assert answer.status == 200
                assert answer.headers.get("Access-Control-Allow-Origin") == allowed
                assert "Access-Control-Allow-Credentials" not in answer.headers


async def test_by_default_no_other_site_may(serve_site: Serve) -> None:
    async with serve_site() as site, site.get("/status", headers={"Origin": "https://dash.example"}) as answer:
        assert answer.status == 200
        assert "Access-Control-Allow-Origin" not in answer.headers
