"""One transaction at a time: what is committed lasts, what is not is gone, and nobody's update is lost."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest
from sqlalchemy import insert, select, update
from sqlalchemy.exc import DBAPIError, IntegrityError

from vodkeep.db.engine import Database, UnitOfWork
from vodkeep.db.kv import KvStore
from vodkeep.db.tables import vods
from vodkeep.errors import DatabaseUnavailable

AT = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


def test_leaving_without_commit_rolls_back(database: Database) -> None:
    with database.unit_of_work() as unit:
        KvStore(unit.connection).set("a", "1", AT)

    with database.unit_of_work(write=False) as unit:
        assert KvStore(unit.connection).all() == {}


def test_an_error_rolls_back_and_comes_out_as_it_is(database: Database) -> None:
    def fail_after_writing(unit: UnitOfWork) -> None:
        KvStore(unit.connection).set("a", "1", AT)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), database.unit_of_work() as unit:
        fail_after_writing(unit)

    with database.unit_of_work(write=False) as unit:
        assert KvStore(unit.connection).all() == {}


def test_what_is_committed_lasts_and_what_follows_needs_its_own_commit(database: Database) -> None:
    with database.unit_of_work() as unit:
        store = KvStore(unit.connection)
        store.set("a", "1", AT)
        unit.commit()
        store.set("b", "2", AT)

    with database.unit_of_work(write=False) as unit:
        assert KvStore(unit.connection).all() == {"a": "1"}


def test_a_reading_unit_refuses_to_write(database: Database) -> None:
    with pytest.raises(DBAPIError, match=r"(?i)read.?only"), database.unit_of_work(write=False) as unit:
        KvStore(unit.connection).set("a", "1", AT)

    # The connection goes back to the pool and can write again.
    for _ in range(6):
        with database.unit_of_work() as unit:
            KvStore(unit.connection).set("a", "1", AT)
            unit.commit()


def test_a_violated_constraint_is_left_to_the_store(database: Database) -> None:
    with database.unit_of_work() as unit:
        unit.connection.execute(insert(vods).values(twitch_vod_id="1", channel="c"))
        with pytest.raises(IntegrityError):
            unit.connection.execute(insert(vods).values(twitch_vod_id="1", channel="c"))


def test_readers_do_not_wait_for_an_open_writer(database: Database) -> None:
    with database.unit_of_work() as writer:
        KvStore(writer.connection).set("a", "1", AT)
        with database.unit_of_work(write=False) as reader:
            assert KvStore(reader.connection).get("a") is None
        writer.commit()


def test_writers_in_threads_lose_no_update(database: Database) -> None:
    """Eight threads, each reads a number, adds one and writes it back, 25 times."""
    with database.unit_of_work() as unit:
        unit.connection.execute(insert(vods).values(twitch_vod_id="1", channel="c"))
        unit.commit()
    start = threading.Barrier(8)

    def add_25() -> None:
        start.wait()
        for _ in range(25):
            with database.unit_of_work() as unit:
                query = select(vods.c.generation).where(vods.c.twitch_vod_id == "1").with_for_update()
                seen = unit.connection.execute(query).scalar_one()
                unit.connection.execute(update(vods).values(generation=seen + 1))
                unit.commit()

    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(add_25) for _ in range(8)]:
            done.result()

    with database.unit_of_work(write=False) as unit:
        assert unit.connection.execute(select(vods.c.generation)).scalar_one() == 200


@pytest.mark.anyio
async def test_many_tasks_write_and_read_through_few_threads(database: Database) -> None:
    def write(number: int, unit: UnitOfWork) -> None:
        KvStore(unit.connection).set(f"key {number}", str(number), AT)
        unit.commit()

    async with anyio.create_task_group() as group:
        for number in range(60):
            group.start_soon(database.run, partial(write, number))

    stored = await database.run(lambda unit: KvStore(unit.connection).all(), write=False)
    assert stored == {f"key {number}": str(number) for number in range(60)}


def test_a_database_serves_one_event_loop_after_another(database: Database) -> None:
    """A command line tool runs a loop for each of its steps."""
    for number in range(3):

        async def step(number: int = number) -> dict[str, str]:
            def work(unit: UnitOfWork) -> dict[str, str]:
                store = KvStore(unit.connection)
                store.set(f"{number}", "x", AT)
                unit.commit()
                return store.all()

            await database.ping()
            return await database.run(work)

        assert len(anyio.run(step)) == number + 1


@pytest.mark.anyio
async def test_a_cancellation_waits_for_the_transaction_and_leaves_no_half_one(database: Database) -> None:
    writing, may_end = threading.Event(), threading.Event()

    def work(unit: UnitOfWork) -> None:
        KvStore(unit.connection).set("left", "1", AT)
        writing.set()
        may_end.wait(30)
        KvStore(unit.connection).set("right", "1", AT)
        unit.commit()

    async with anyio.create_task_group() as group:
        group.start_soon(database.run, work)
        await anyio.to_thread.run_sync(writing.wait)
        group.cancel_scope.cancel()
        may_end.set()

    stored = await database.run(lambda unit: KvStore(unit.connection).all(), write=False)
    assert stored == {"left": "1", "right": "1"}


def test_no_free_connection_is_an_unavailable_database(database: Database) -> None:
    small = Database(database.url, pool_size=1, pool_timeout_s=0.05)
    with small.unit_of_work(write=False), small.unit_of_work(write=False), small.unit_of_work(write=False):
        fourth = small.unit_of_work(write=False)
        with pytest.raises(DatabaseUnavailable, match="no connection was free"):
            fourth.__enter__()
    small.dispose()
