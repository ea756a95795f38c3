from __future__ import annotations

import anyio
import anyio.to_thread
import pytest

from vodkeep.telemetry.correlation import accept_corr, bind_corr, current_corr, new_corr


def test_there_is_no_id_outside_of_a_block() -> None:
    assert current_corr() is None
    with bind_corr("job-1"):
        assert current_corr() == "job-1"
        with bind_corr() as inner:
            assert current_corr() == inner != "job-1"
        assert current_corr() == "job-1"
    assert current_corr() is None


def test_id_follows_into_tasks_and_worker_threads() -> None:
    seen: dict[str, str | None] = {}

    async def task() -> None:
        seen["task"] = current_corr()
        seen["thread"] = await anyio.to_thread.run_sync(current_corr)

    async def main() -> None:
        with bind_corr("req-7"):
            async with anyio.create_task_group() as group:
                group.start_soon(task)

    anyio.run(main)
    assert seen == {"task": "req-7", "thread": "req-7"}


@pytest.mark.parametrize("offered", ["a", "A-Z_09.x", "x" * 128])
def test_a_harmless_id_is_kept(offered: str) -> None:
    assert accept_corr(offered) == offered


@pytest.mark.parametrize(
    "offered",
    [None, "", "x" * 129, "a b", "a\nb", "a\n", "a;b", "<b>", "ключ", "٣", "a/b", "a\x00"],
)
def test_anything_else_is_replaced_by_a_fresh_one(offered: str | None) -> None:
    got = accept_corr(offered)
    assert got != offered
    assert len(got) == 16


def test_fresh_ids_differ() -> None:
    assert len({new_corr() for _ in range(100)}) == 100
