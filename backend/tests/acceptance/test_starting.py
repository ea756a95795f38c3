"""How a service starts, or why it does not: one sentence and exit code 2."""

from __future__ import annotations

import threading

import pytest

from support.commands import vodkeep
from support.home import HomeOf, check_kept
from support.service import ServiceProcess
from support.slow import slow_segments
from vodkeep_standin.scenario import ids

pytestmark = pytest.mark.cold_start


def refused(service: ServiceProcess) -> list[str]:
    """The sentences with which a service refused to start."""
    assert service.wait_for_exit() == 2, service.output()
    assert "Traceback" not in service.output()
    return service.output().splitlines()


def test_a_second_service_on_the_same_file_is_refused(home_of: HomeOf) -> None:
    home = home_of(ids.PLAIN)
    slow_segments(home.standin, 200)
    first = home.start()
    first.wait_for("download started")
    (sentence,) = refused(home.spawn())
    assert str(home.data_dir / "vodkeep.db") in sentence
    assert "in use by another vodkeep service" in sentence
    assert str(first.pid) in sentence
    first.wait_for("vod processed", vod_id=ids.PLAIN)
    check_kept(home, ids.PLAIN)


@pytest.mark.postgres
def test_two_services_start_together_on_an_empty_postgresql(home_of: HomeOf, postgres_dsn: str) -> None:
    home = home_of(dsn=postgres_dsn)
    together = threading.Barrier(2)
    started: list[ServiceProcess] = []

    def start() -> None:
        together.wait()
        started.append(home.spawn())

    threads = [threading.Thread(target=start) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for service in started:
        service.wait_until_listening()
        service.wait_for("started")
        assert service.get("/readyz")[0] == 200, service.get("/readyz")
    assert len(home.sql("SELECT version_num FROM alembic_version")) == 1
    for service in started:
        assert service.terminate() == 0
        assert service.lines(lambda line: line.get("level") in ("error", "critical")) == []


def test_every_wrong_setting_is_told_at_once(home_of: HomeOf) -> None:
    home = home_of()
    wrong = {"LOG_LEVEL": "loud", "VOD_PROCESS_INTERVAL": "5 minutes", "DOWNLOAD_MAX_ATTEMPTS": "-1", "HTTP_ADDR": ":x"}
    sentences = refused(home.spawn(**wrong))
    assert len(sentences) == len(wrong)
    for name, value in wrong.items():
        assert any(name in sentence and value in sentence for sentence in sentences), sentences


def test_without_credentials_it_serves_and_says_what_is_missing(home_of: HomeOf) -> None:
    home = home_of(ids.PLAIN)
    service = home.start(TWITCH_CLIENT_ID="", TWITCH_CLIENT_SECRET="")
    said = service.wait_for("no new broadcasts will be found")
    assert "TWITCH_CLIENT_ID" in said["missing"]
    assert service.get("/healthz")[0] == 200
    status, body, _ = service.get("/readyz")
    assert status == 503
    assert b"missing_credentials" in body


def test_a_database_of_a_newer_version_is_refused(home_of: HomeOf, dsn: str | None) -> None:
    home = home_of(dsn=dsn)
    service = home.start()
    service.wait_for("started")
    assert service.terminate() == 0
    home.sql("UPDATE alembic_version SET version_num = '9999'")
    sentences = [sentence for sentence in refused(home.spawn()) if not sentence.startswith("{")]
    assert len(sentences) == 1
    assert "was last used by a newer version of vodkeep (schema 9999" in sentences[0]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--roles", "web,sleep"), "there is no role 'sleep'"),
        (("--roles", ""), "there is no role ''"),
        (("--roles", "web"), "nobody would do the rest (watch, work)"),
        (("--roles", "watch,work"), "nobody would do the rest (web)"),
        (("--roles", "web,watch", "--workers", "2"), "this process has no role work"),
        (("--workers", "0"), "--workers takes a number from 1 to 64"),
    ],
)
def test_a_process_that_cannot_be_is_refused(home_of: HomeOf, arguments: tuple[str, ...], words: str) -> None:
    home = home_of()
    told = vodkeep(home, "run", *arguments)
    assert told.returncode == 2
    assert words in " ".join(told.stderr.split())
    assert not home.data_dir.exists(), "nothing was begun"
