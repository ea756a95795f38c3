"""The figures that triggers keep, against a real count, whoever changes the rows."""

from __future__ import annotations

import random
import threading
from collections import Counter
from typing import Any

import pytest
from sqlalchemy import insert, select, text

from vodkeep.db.engine import Database
from vodkeep.db.tables import queue_counts, vods
from vodkeep.pipeline.model import DownloadState

Figures = dict[str, dict[str, int]]


def kept(database: Database) -> Figures:
    with database.unit_of_work(write=False) as unit:
        rows = unit.connection.execute(select(queue_counts)).mappings().all()
    figures = {row["channel"]: {name: number for name, number in row.items() if name != "channel"} for row in rows}
    assert all(number >= 0 for row in figures.values() for number in row.values())
    return {channel: {name: n for name, n in row.items() if n} for channel, row in figures.items() if any(row.values())}


def counted(database: Database) -> Figures:
    """The same by looking at every row."""
    figures: dict[str, Counter[str]] = {}
    with database.unit_of_work(write=False) as unit:
        for row in unit.connection.execute(select(vods)):
            figure = figures.setdefault(row.channel, Counter())
            if row.twitch_vod_id.startswith("live-"):
                figure["placeholders"] += 1
                figure["unmatched"] += row.processing_error is not None
                continue
            figure[f"state_{row.download_state}"] += 1
            stopped = not row.processed and row.processing_error is not None
            figure["processed"] += row.processed
            figure["errored"] += stopped and row.download_state in ("failed", "parked")
            figure["canceled"] += stopped and row.download_state == "canceled"
            figure["incomplete"] += row.downloaded_path is not None and (row.completeness or 1) < 1
    return {channel: {name: n for name, n in figure.items() if n} for channel, figure in figures.items()}


def execute(database: Database, *statements: str) -> None:
    with database.unit_of_work() as unit:
        for statement in statements:
            unit.connection.execute(text(statement))
        unit.commit()


def add(database: Database, *ids: str, **values: Any) -> None:
    with database.unit_of_work() as unit:
        unit.connection.execute(insert(vods), [{"twitch_vod_id": each, "channel": "a", **values} for each in ids])
        unit.commit()


@pytest.mark.parametrize(
    ("change", "figures"),
    [
        *((f"UPDATE vods SET download_state='{state}'", {f"state_{state}": 3}) for state in DownloadState),
        ("UPDATE vods SET processed=1", {"state_pending": 3, "processed": 3}),
        ("UPDATE vods SET download_state='parked', processing_error='x'", {"state_parked": 3, "errored": 3}),
        ("UPDATE vods SET download_state='failed', processing_error='x'", {"state_failed": 3, "errored": 3}),
        ("UPDATE vods SET download_state='canceled', processing_error='x'", {"state_canceled": 3, "canceled": 3}),
        ("UPDATE vods SET downloaded_path='p', completeness=0.5", {"state_pending": 3, "incomplete": 3}),
        ("UPDATE vods SET downloaded_path='p', completeness=1", {"state_pending": 3}),
        ("UPDATE vods SET completeness=0.5", {"state_pending": 3}),
        ("INSERT INTO vods (twitch_vod_id, channel) VALUES ('9', 'a')", {"state_pending": 4}),
        ("DELETE FROM vods WHERE twitch_vod_id='1'", {"state_pending": 2}),
        ("UPDATE vods SET twitch_vod_id='live-' || twitch_vod_id", {"placeholders": 3}),
        (
            "UPDATE vods SET twitch_vod_id='live-' || twitch_vod_id, processing_error='x', processed=1",
            {"placeholders": 3, "unmatched": 3},
        ),
    ],
)
def test_a_statement_by_hand_moves_its_numbers(database: Database, change: str, figures: dict[str, int]) -> None:
    add(database, "1", "2", "3")
    assert kept(database) == {"a": {"state_pending": 3}}
    execute(database, change)
    assert kept(database) == {"a": figures}


def test_every_figure_was_moved_by_hand() -> None:
    """The tests above name each column of the table."""
    named = {f"state_{state}" for state in DownloadState} | {"processed", "errored", "canceled", "incomplete"}
    named |= {"placeholders", "unmatched"}
    assert set(queue_counts.c.keys()) == {"channel", *named}


def test_a_renamed_channel_takes_its_numbers_along(database: Database) -> None:
    add(database, "1", "2", "3")
    execute(database, "UPDATE vods SET channel='b' WHERE twitch_vod_id<>'1'")
    assert kept(database) == {"a": {"state_pending": 1}, "b": {"state_pending": 2}}


def test_what_is_deleted_no_longer_counts(database: Database) -> None:
    add(database, "1", "2", "3")
    execute(database, "DELETE FROM vods" if database.is_sqlite else "TRUNCATE vods")
    assert kept(database) == {}


def test_what_is_rolled_back_never_counted(database: Database) -> None:
    add(database, "1")
    with database.unit_of_work() as unit:
        unit.connection.execute(text("UPDATE vods SET processed=1"))
    assert kept(database) == {"a": {"state_pending": 1}}


@pytest.mark.parametrize("seed", range(3))
def test_the_figures_are_right_after_any_statements(database: Database, seed: int) -> None:
    """Statements over one row, some, or all, as the service and operators write them."""
    rng = random.Random(seed)
    number = 0
    for _ in range(60):
        channel, state = rng.choice("abc"), rng.choice(list(DownloadState))
        where = rng.choice(["", f"WHERE channel='{channel}'", f"WHERE id % 3 = {rng.randrange(3)}"])
        match rng.randrange(7):
            case 0:
                rows = [f"{rng.choice(('', 'live-'))}{number + each}" for each in range(rng.randint(1, 5))]
                number += len(rows)
                add(database, *rows, channel=channel, download_state=state, processed=rng.randrange(2))
            case 1:
                execute(database, f"UPDATE vods SET download_state='{state}', processed={rng.randrange(2)} {where}")
            case 2:
                error = rng.choice(["NULL", "'It did not work.'"])
                execute(database, f"UPDATE vods SET processing_error={error}, title=title || 'x' {where}")
            case 3:
                part = rng.choice(["NULL", "0.25", "1.0"])
                path = rng.choice(["NULL", "'a/b.mp4'"])
                execute(database, f"UPDATE vods SET completeness={part}, downloaded_path={path} {where}")
            case 4:
                execute(database, f"UPDATE vods SET channel='{channel}' WHERE id % 5 = {rng.randrange(5)}")
            case 5:
                execute(database, f"UPDATE vods SET twitch_vod_id = 'v' || id WHERE id % 5 = {rng.randrange(5)}")
            case _:
                execute(database, f"DELETE FROM vods WHERE id % 7 = {rng.randrange(7)}")
        assert kept(database) == counted(database)


def test_statements_over_everything_and_over_single_rows_do_not_get_into_each_others_way(database: Database) -> None:
    """Each side takes the rows first and the figures last, so that they can only wait for each other in one order."""
    ids = [str(number) for number in range(40)]
    for item_id in ids:
        add(database, item_id, channel="abcd"[int(item_id) % 4])
    failures: list[Exception] = []
    barrier = threading.Barrier(3)

    def work(statements: list[str]) -> None:
        barrier.wait(20)
        try:
            for statement in statements:
                execute(database, statement)
        except Exception as error:  # noqa: BLE001 - told below
            failures.append(error)

    move = "UPDATE vods SET download_state='{}', processing_error='x' WHERE twitch_vod_id='{}'"
    singles = [
        [move.format(state, each) for state in ("failed", "parked") for each in turn] for turn in (ids, ids[::-1])
    ]
    everything = [f"UPDATE vods SET processed=0, processing_error={error}" for error in ("NULL", "'y'")] * 10
    threads = [threading.Thread(target=work, args=(each,)) for each in (*singles, everything)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failures == []
    assert kept(database) == counted(database)
