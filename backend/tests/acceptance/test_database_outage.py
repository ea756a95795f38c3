"""The database comes and goes; the service stays."""

from __future__ import annotations

import json

import pytest

from support.home import HomeOf, check_kept
from support.postgres import PostgresServer
from support.service import wait_until
from support.slow import slow_segments
from vodkeep_standin.scenario import ids

pytestmark = pytest.mark.postgres


def test_it_starts_before_the_database(home_of: HomeOf, postgres_server: PostgresServer, postgres_dsn: str) -> None:
    home = home_of(ids.PLAIN, dsn=postgres_dsn)
    postgres_server.stop()
    service = home.start()
    waiting = service.wait_for("waiting for the database")
    assert (waiting["level"], waiting["port"]) == ("warning", postgres_server.port)
    for path in ("/healthz", "/readyz", "/status", "/api/v1/vods"):
        status, body, _ = service.get(path)
        assert status == 503, (path, body)
        assert "traceback" not in body.decode().lower()
    assert "database" in {reason["code"] for reason in json.loads(service.get("/readyz")[1])["reasons"]}
    assert service.get("/metrics")[0] == 200
    # It keeps asking, ever more slowly.
    service.wait_for("waiting for the database", count=3)
    assert service.is_running()

    postgres_server.start()
    service.wait_for("vod processed", vod_id=ids.PLAIN)
    assert (service.get("/healthz")[0], service.get("/readyz")[0]) == (200, 200)
    check_kept(home, ids.PLAIN)


def test_it_is_restarted_in_the_middle_of_a_download(
    home_of: HomeOf, postgres_server: PostgresServer, postgres_dsn: str
) -> None:
    home = home_of(ids.PLAIN, dsn=postgres_dsn)
    slow_segments(home.standin, 300)
    service = home.start(CAPTURE_CONNECTIONS="2")
    wait_until(lambda: len(home.journal(ids.PLAIN)) >= 3, "segments are proven")
    postgres_server.stop()
    service.wait_for(lambda line: line["msg"] in ("progress is not saved", "the database is away"))
    assert service.get("/healthz")[0] == 503
    fetched = len(home.journal(ids.PLAIN))
    wait_until(lambda: len(home.journal(ids.PLAIN)) > fetched, "the download goes on meanwhile")
    postgres_server.start()
    service.wait_for("vod processed", vod_id=ids.PLAIN)
    check_kept(home, ids.PLAIN)
    # One attempt, and not a segment twice.
    assert len(service.lines("download started")) == 1
    assert set(home.segment_requests(ids.PLAIN).values()) == {1}
    wait_until(lambda: service.get("/healthz")[0] == 200, "it is healthy again")


def test_the_result_waits_for_the_database(home_of: HomeOf, postgres_server: PostgresServer, postgres_dsn: str) -> None:
    home = home_of(ids.PLAIN, dsn=postgres_dsn)
    slow_segments(home.standin, 100)
    service = home.start(CAPTURE_CONNECTIONS="2")
    wait_until(lambda: len(home.journal(ids.PLAIN)) >= 3, "segments are proven")
    postgres_server.stop()
    service.wait_for("the library waits for the database", vod_id=ids.PLAIN)
    assert home.folders() == []
    postgres_server.start()
    service.wait_for("vod processed", vod_id=ids.PLAIN)
    check_kept(home, ids.PLAIN)
    assert len(service.lines("download started")) == 1
