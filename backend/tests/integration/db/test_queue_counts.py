"""The figures that triggers keep, against a real count, whoever changes the rows."""

from __future__ import annotations

import random
import threading
from typing import Any

import pytest
from sqlalchemy import case, func, insert, select, text

from vodkeep.db.engine import Database
from vodkeep.db.tables import queue_counts, vods
from vodkeep.pipeline.model import DownloadState

Kinds = dict[tuple[Any, ...], int]


def kept(database: Database) -> Kinds:
    with database.unit_of_work(write=False) as unit:
        rows = unit.connection.execute(select(queue_counts)).all()
    assert all(row.n >= 0 for row in rows)
    return {tuple(row[:-1]): row.n for row in rows if row.n}


def counted(database: Database) -> Kinds:
    kind = (
        vods.c.channel,
        vods.c.processed,
        vods.c.download_state,
        case((vods.c.processing_error.is_(None), 0), else_=1),
        case((vods.c.downloaded_path.is_not(None) & (vods.c.completeness < 1), 1), else_=0),
    )
    with database.unit_of_work(write=False) as unit:
        return {
            tuple(row[:-1]): row[-1] for row in unit.connection.execute(select(*kind, func.count()).group_by(*kind))
        }


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
    ("change", "after"),
    [
        ("UPDATE vods SET processed=1, download_state='done' WHERE twitch_vod_id='1'", ("a", 1, "done", 0, 0)),
        ("UPDATE vods SET download_state='parked' WHERE twitch_vod_id='1'", ("a", 0, "parked", 0, 0)),
        ("UPDATE vods SET processing_error='x' WHERE twitch_vod_id='1'", ("a", 0, "pending", 1, 0)),
        ("UPDATE vods SET channel='b' WHERE twitch_vod_id='1'", ("b", 0, "pending", 0, 0)),
        ("UPDATE vods SET downloaded_path='p', completeness=0.5 WHERE twitch_vod_id='1'", ("a", 0, "pending", 0, 1)),
        ("INSERT INTO vods (twitch_vod_id, channel) VALUES ('9', 'c')", ("c", 0, "pending", 0, 0)),
    ],
)
def test_a_statement_by_hand_moves_its_number(database: Database, change: str, after: tuple[Any, ...]) -> None:
    add(database, "1", "2", "3")
    before = kept(database)
    execute(database, change)
    assert kept(database) == counted(database)
    assert kept(database).get(after, 0) == before.get(after, 0) + 1


def test_what_is_deleted_no_longer_counts(database: Database) -> None:
    add(database, "1", "2", "3")
    execute(database, "DELETE FROM vods WHERE twitch_vod_id IN ('1', '2')")
    assert kept(database) == {("a", 0, "pending", 0, 0): 1}
    execute(database, "DELETE FROM vods" if database.is_sqlite else "TRUNCATE vods")
    assert kept(database) == {}


def test_what_is_rolled_back_never_counted(database: Database) -> None:
    add(database, "1")
    with database.unit_of_work() as unit:
        unit.connection.execute(text("UPDATE vods SET processed=1"))
    assert kept(database) == {("a", 0, "pending", 0, 0): 1}


@pytest.mark.parametrize("seed", range(3))
def test_the_figures_are_right_after_any_statements(database: Database, seed: int) -> None:
    """Statements over one row, some, or all, as the service and operators write them."""
    rng = random.Random(seed)
    number = 0
    for _ in range(60):
        channel, state = rng.choice("abc"), rng.choice(list(DownloadState))
        where = rng.choice(["", f"WHERE channel='{channel}'", f"WHERE id % 3 = {rng.randrange(3)}"])
        match rng.randrange(6):
            case 0:
                rows = [str(number + each) for each in range(rng.randint(1, 5))]
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
