"""What changes something: the API and the forms, over real sockets on both databases."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import URL, select

from support.clock import START, FakeClock
from support.web_site import Serve, Site, add_vod, problem
from vodkeep.db.engine import Database
from vodkeep.db.tables import events, vods
from vodkeep.pipeline.actions import Actions
from vodkeep.pipeline.breaker import CLOSED, Breaker, BreakerPhase
from vodkeep.pipeline.health_store import HealthStore
from vodkeep.telemetry.log import get_logger
from vodkeep.web.cross_site import LONGEST_BODY

pytestmark = pytest.mark.anyio

TOKEN = "letmein-0123456789abcdef"
CORR = {"X-Correlation-ID": "request-7"}

# Every way to change something, and a body for it.
ROUTES: list[tuple[str, str, Any]] = [
    ("POST", "/api/v1/vods/7/cancel", None),
    ("POST", "/api/v1/vods/7/retry", None),
    ("POST", "/api/v1/vods/7/reprocess", {"fresh": True}),
    ("PATCH", "/api/v1/vods/7", {"priority": 5}),
    ("POST", "/api/v1/circuit/reset", {"channel": "otter"}),
    ("POST", "/admin/vod/cancel", {"vod_id": "7"}),
    ("POST", "/admin/vod/retry", {"vod_id": "7"}),
    ("POST", "/admin/vod/reprocess", {"vod_id": "7"}),
    ("POST", "/admin/vod/priority", {"vod_id": "7", "priority": 5}),
    ("PUT", "/admin/vod/priority", {"vod_id": "7", "priority": 5}),
    ("POST", "/admin/vod/skip-upload", {"vod_id": "7", "skip_upload": True}),
    ("PUT", "/admin/vod/skip-upload", {"vod_id": "7", "skip_upload": True}),
]


def row(database: Database, vod_id: str = "7") -> Mapping[str, Any]:
    with database.unit_of_work(write=False) as unit:
        return dict(unit.connection.execute(select(vods).where(vods.c.twitch_vod_id == vod_id)).mappings().one())


def asked(database: Database) -> list[tuple[str | None, str | None, str | None]]:
    """Who asked for what under which id, of every event."""
    with database.unit_of_work(write=False) as unit:
        query = select(events.c.code, events.c.asked_by, events.c.corr).order_by(events.c.id)
        return [tuple(found) for found in unit.connection.execute(query)]


async def send(site: Site, method: str, path: str, body: Any = None, *, status: int = 200) -> Any:
    options = {} if body is None else {"json": body}
    async with site.send(method, path, headers=CORR, **options) as answer:
        assert answer.status == status, await answer.text()
        assert answer.headers["Cache-Control"] == "no-store"
        return await answer.json()


# --- what each does --------------------------------------------------------------------------------------------------


async def test_cancel_moves_the_item_and_stops_its_run(serve_site: Serve, database: Database, clock: FakeClock) -> None:
    add_vod(database, "7", download_state="downloading", generation=3, download_bytes=70)
    stopped: list[str] = []
    ended = True

    async def stop(item_id: str) -> bool:
        assert row(database)["download_state"] == "canceled", "first the row, so that the run has nothing to hand back"
        stopped.append(item_id)
        return ended

    actions = Actions(database, clock, get_logger("vod_process"), stop=stop, wake=lambda: None)
    async with serve_site(actions=actions) as site:
        vod = await send(site, "POST", "/api/v1/vods/7/cancel")
        assert (vod["id"], vod["state"], vod["error"]["code"]) == ("7", "canceled", "canceled")
        ended = False
        await send(site, "POST", "/api/v1/vods/7/cancel", status=202)
        detail = await site.json("/api/v1/vods/7")
    assert stopped == ["7", "7"]
    assert (row(database)["generation"], row(database)["download_bytes"]) == (4, 70)
    assert asked(database) == [("canceled", "api", "request-7")], "the second time it was so already"
    assert [(event["to_state"], event["asked_by"]) for event in detail["events"]] == [("canceled", "api")]


async def test_retry_and_reprocess_make_it_due_and_wake_the_planner(
    serve_site: Serve, database: Database, clock: FakeClock
) -> None:
    add_vod(database, "1", download_state="parked", processing_error="x", error_code="deleted", download_retries=5)
    add_vod(database, "2", download_state="done", processed=1, downloaded_path="otter/x/video.mp4")
    woken: list[None] = []

    async def stop(_item_id: str) -> bool:
        raise AssertionError

    actions = Actions(database, clock, get_logger("vod_process"), stop=stop, wake=lambda: woken.append(None))
    async with serve_site(actions=actions) as site:
        vod = await send(site, "POST", "/api/v1/vods/1/retry")
        assert (vod["state"], vod["error"], vod["retries"], vod["not_before"]) == ("pending", None, 0, None)
        vod = await send(site, "POST", "/api/v1/vods/2/reprocess")
        assert (vod["state"], vod["processed"], vod["media"]["video"]) == ("pending", False, "/media/2/video.mp4")
        assert row(database, "2")["fresh"] == 0
        await send(site, "POST", "/api/v1/vods/2/reprocess", {"fresh": True})
        assert row(database, "2")["fresh"] == 1
    assert len(woken) == 3
    assert asked(database) == [("reset", "api", "request-7")] * 3


async def test_a_change_names_what_is_to_be_different_and_leaves_the_rest(
    serve_site: Serve, database: Database
) -> None:
    add_vod(database, "7", priority=3)
    async with serve_site() as site:
        vod = await send(site, "PATCH", "/api/v1/vods/7", {"skip_upload": True})
        assert (vod["priority"], vod["skip_upload"]) == (3, True)
        vod = await send(site, "PATCH", "/api/v1/vods/7", {"priority": -9})
        assert (vod["priority"], vod["skip_upload"]) == (-9, True)
        vod = await send(site, "PATCH", "/api/v1/vods/7", {"priority": 0, "skip_upload": False})
        assert (vod["priority"], vod["skip_upload"]) == (0, False)
        async with site.send(
            "PATCH",
            "/api/v1/vods/7",
            data=b'{"priority": 8}',
            headers={"Content-Type": "application/merge-patch+json"},
        ) as answer:
            assert (await answer.json())["priority"] == 8
    assert [who for _, who, _ in asked(database)] == ["api"] * 5


async def test_the_breakers_are_closed_by_request(serve_site: Serve, database: Database) -> None:
    def breakers() -> dict[str, Breaker]:
        with database.unit_of_work(write=False) as unit:
            return HealthStore(unit.connection).load_breakers()

    with database.unit_of_work() as unit:
        for login in ("otter", "lynx", "seal"):
            phase = BreakerPhase.CLOSED if login == "seal" else BreakerPhase.OPEN
            until = None if login == "seal" else START + timedelta(hours=1)
            HealthStore(unit.connection).save_breaker(login, Breaker(phase, 4, until), START)
        unit.commit()
    async with serve_site() as site:
        assert await send(site, "POST", "/api/v1/circuit/reset", {"channel": "Otter"}) == {"closed": ["otter"]}
        assert set(breakers()) == {"lynx", "seal"}
        assert await send(site, "POST", "/api/v1/circuit/reset") == {"closed": ["lynx"]}
        assert await send(site, "POST", "/api/v1/circuit/reset") == {"closed": []}
        assert (await site.json("/status"))["circuit_state"] == "closed"
    assert breakers().get("seal", CLOSED) == CLOSED
    assert asked(database) == [("reset", "api", "request-7")] * 2


async def test_the_forms_mean_the_same(serve_site: Serve, database: Database) -> None:
    add_vod(database, "7")
    done = {"status": "ok", "vod_id": "7", "state": "pending", "priority": 0, "skip_upload": False}
    async with serve_site() as site:
        for method, priority, skip in (("POST", 50, True), ("PUT", -2, False)):
            answer = await send(site, method, "/admin/vod/priority", {"vod_id": "7", "priority": priority})
            assert answer["priority"] == priority
            answer = await send(site, method, "/admin/vod/skip-upload", {"vod_id": "7", "skip_upload": skip})
            assert answer == {**done, "priority": priority, "skip_upload": skip}
        answer = await send(site, "POST", "/admin/vod/cancel", {"vod_id": "7"})
        assert answer == {**done, "priority": -2, "state": "canceled"}
        assert (await send(site, "POST", "/admin/vod/retry", {"vod_id": "7"}))["state"] == "pending"
        await send(site, "POST", "/admin/vod/reprocess", {"vod_id": "7", "fresh": True})
        assert row(database)["fresh"] == 1
    assert asked(database) == [(None, "admin", "request-7")] * 4 + [
        ("canceled", "admin", "request-7"),
        ("reset", "admin", "request-7"),
        ("reset", "admin", "request-7"),
    ]


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "path", "body"), [route for route in ROUTES if "circuit" not in route[1]])
async def test_what_nobody_knows_is_a_404(serve_site: Serve, method: str, path: str, body: Any) -> None:
    async with serve_site() as site, site.send(method, path, json=body or {}) as answer:
        found = await problem(answer, 404, "unknown_vod")
    assert found["detail"] == "There is no item 7."


@pytest.mark.parametrize("vod_id", ["", "../7", "7 ", "a\x00b", "\ud800", "x" * 65, "'; DROP TABLE vods; --"])
async def test_what_cannot_be_an_id_is_a_404_too(serve_site: Serve, vod_id: str) -> None:
    async with serve_site() as site:
        async with site.send("POST", "/admin/vod/cancel", json={"vod_id": vod_id}) as answer:
            await problem(answer, 404, "unknown_vod")
        for path in ("%00", "%ff", "..%2f7", "7%20"):
            async with site.send("POST", f"/api/v1/vods/{path}/cancel") as answer:
                assert answer.status == 404


@pytest.mark.parametrize(
    ("state", "action", "detail", "remedy"),
    [
        ("done", "cancel", "Item 7 is done; there is nothing to cancel.", ""),
        ("done", "retry", "Item 7 is done.", "Reprocess it to have it looked at again."),
        ("verifying", "retry", "Item 7 is at work (verifying).", "Cancel it first."),
        ("uploading", "reprocess", "Item 7 is at work (uploading).", "Cancel it first."),
    ],
)
@pytest.mark.parametrize("form", [False, True], ids=["api", "form"])
async def test_what_cannot_be_done_is_a_409_with_the_reason(
    serve_site: Serve, database: Database, state: str, action: str, detail: str, remedy: str, form: bool
) -> None:
    add_vod(database, "7", download_state=state, processed=int(state == "done"))
    before = row(database)
    path = f"/admin/vod/{action}" if form else f"/api/v1/vods/7/{action}"
    async with serve_site() as site, site.send("POST", path, json={"vod_id": "7"} if form else None) as answer:
        found = await problem(answer, 409, "not_possible")
    assert (found["detail"], found.get("remedy", "")) == (detail, remedy)
    assert (row(database), asked(database)) == (before, [])


@pytest.mark.parametrize(
    ("method", "path", "body", "where"),
    [
        ("PATCH", "/api/v1/vods/7", {}, "body"),
        ("PATCH", "/api/v1/vods/7", {"priority": None}, "body"),
        ("PATCH", "/api/v1/vods/7", {"priority": "5"}, "body.priority"),
        ("PATCH", "/api/v1/vods/7", {"priority": 5.5}, "body.priority"),
        ("PATCH", "/api/v1/vods/7", {"priority": 1_000_001}, "body.priority"),
        ("PATCH", "/api/v1/vods/7", {"priority": 10**30}, "body.priority"),
        ("PATCH", "/api/v1/vods/7", {"skip_upload": 1}, "body.skip_upload"),
        ("PATCH", "/api/v1/vods/7", {"priority": 1, "state": "done"}, "body.state"),
        ("PATCH", "/api/v1/vods/7", [1], "body"),
        ("PATCH", "/api/v1/vods/7", None, "body"),
        ("POST", "/api/v1/vods/7/reprocess", {"fesh": True}, "body.fesh"),
        ("POST", "/api/v1/vods/7/reprocess", {"fresh": "yes"}, "body.fresh"),
        ("POST", "/api/v1/circuit/reset", {"channel": "../x"}, "body.channel"),
        ("POST", "/admin/vod/cancel", {}, "body.vod_id"),
        ("POST", "/admin/vod/cancel", {"vod_id": 7}, "body.vod_id"),
        ("POST", "/admin/vod/cancel", None, "body"),
        ("POST", "/admin/vod/priority", {"vod_id": "7"}, "body.priority"),
        ("POST", "/admin/vod/skip-upload", {"vod_id": "7"}, "body.skip_upload"),
    ],
)
async def test_a_body_that_is_not_as_it_must_be_is_a_422_and_changes_nothing(
    serve_site: Serve, database: Database, method: str, path: str, body: Any, where: str
) -> None:
    add_vod(database, "7")
    before = row(database)
    async with serve_site() as site:
        options = {} if body is None else {"json": body}
        async with site.send(method, path, **options) as answer:
            found = await problem(answer, 422, "invalid_request")
        assert where in [each["where"] for each in found["errors"]]
        async with site.send(
            method, path, data=b'{"vod_id": "7", ', headers={"Content-Type": "application/json"}
        ) as answer:
            if not path.endswith("/cancel") or "admin" in path:
                await problem(answer, 422, "invalid_request")
    assert row(database) in (before, {**before, "updated_at": row(database)["updated_at"]})


@pytest.mark.parametrize(("method", "path", "body"), ROUTES)
async def test_pages_of_other_sites_change_nothing(
    serve_site: Serve, database: Database, method: str, path: str, body: Any
) -> None:
    add_vod(database, "7", download_state="failed", processing_error="x")
    before = row(database)
    async with serve_site(env={"ADMIN_TOKEN": TOKEN}) as site:
        for headers in (
            {"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"},
            {"Sec-Fetch-Site": "same-site"},
            {"Origin": "https://evil.example"},
            {"Origin": "null"},
        ):
            login = {"X-Admin-Token": TOKEN}
            async with site.send(method, path, json=body, headers={**headers, **login}) as answer:
                await problem(answer, 403, "cross_site")
        # As a form sends it, from a browser too old to say where from.
        for kind in ("application/x-www-form-urlencoded", "text/plain", "multipart/form-data"):
            async with site.send(
                method, path, data=json.dumps(body or {}), headers={"Content-Type": kind, **login}
            ) as answer:
                await problem(answer, 415, "not_json")
        assert (row(database), asked(database)) == (before, [])
        ours = {"Sec-Fetch-Site": "same-origin", "Origin": site.url, **login}
        async with site.send(method, path, json=body, headers=ours) as answer:
            assert answer.status == 200, await answer.text()


@pytest.mark.parametrize(("method", "path", "body"), ROUTES)
async def test_nothing_is_changed_without_credentials_or_under_another_name(
    serve_site: Serve, database: Database, method: str, path: str, body: Any
) -> None:
    add_vod(database, "7", download_state="failed", processing_error="x")
    before = row(database)
    async with serve_site(env={"ADMIN_TOKEN": TOKEN}) as site, site.send(method, path, json=body) as answer:
        await problem(answer, 401, "unauthorized")
    # Another name for this machine, as a page with a name server of its own would use.
    host = {"Host": "rebound.example"}
    async with serve_site() as site, site.send(method, path, json=body, headers=host) as answer:
        await problem(answer, 403, "host_not_allowed")
    assert (row(database), asked(database)) == (before, [])


async def test_a_browser_gets_no_leave_to_write_from_another_site(serve_site: Serve) -> None:
    """Where ``CORS_ALLOWED_ORIGINS`` lets pages read."""
    async with serve_site(env={"CORS_ALLOWED_ORIGINS": "https://friend.example"}) as site:
        ask = {"Origin": "https://friend.example", "Access-Control-Request-Method": "PATCH"}
        async with site.send("OPTIONS", "/api/v1/vods/7", headers=ask) as answer:
            assert answer.status == 400
        async with site.send("POST", "/api/v1/vods/7/cancel", headers={"Origin": "https://friend.example"}) as answer:
            await problem(answer, 403, "cross_site")


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_is_bounded(serve_site: Serve, database: Database, chunked: bool) -> None:
    add_vod(database, "7")

    async def parts() -> Any:
        for _ in range(LONGEST_BODY // 1024 + 1):
            yield b" " * 1024

    body = parts() if chunked else b" " * (LONGEST_BODY + 1)
    async with serve_site() as site:
        async with site.send(
            "PATCH", "/api/v1/vods/7", data=body, headers={"Content-Type": "application/json"}
        ) as answer:
            await problem(answer, 413, "too_long")
        padded = b'{"priority": 4}' + b" " * 60_000
        async with site.send(
            "PATCH", "/api/v1/vods/7", data=padded, headers={"Content-Type": "application/json"}
        ) as answer:
            assert answer.status == 200
    assert row(database)["priority"] == 4


@pytest.mark.parametrize(("method", "path", "body"), ROUTES)
async def test_without_a_database_it_is_a_503(serve_site: Serve, method: str, path: str, body: Any) -> None:
    away = Database(URL.create("postgresql", username="u", password="hidden-password", host="127.0.0.1", port=9))
    try:
        async with serve_site(on=away) as site, site.send(method, path, json=body) as answer:
            found = await problem(answer, 503, "database")
            assert "hidden-password" not in json.dumps(found)
            assert answer.headers["Retry-After"]
    finally:
        away.dispose()


async def test_before_the_migration_it_is_a_503(serve_site: Serve, tmp_path: Any) -> None:
    empty = Database(URL.create("sqlite", database=str(tmp_path / "empty.db")))
    try:
        async with serve_site(on=empty) as site, site.send("POST", "/api/v1/vods/7/cancel") as answer:
            await problem(answer, 503, "migrations")
    finally:
        empty.dispose()
