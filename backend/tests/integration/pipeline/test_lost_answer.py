"""The connection to the database breaks after a commit and before its answer."""

from __future__ import annotations

from collections.abc import Callable

import anyio
import pytest

from support.clock import FakeClock
from support.pipeline_workshop import GOOD, PATIENCE_S, Workshop
from support.queue_rows import Rows
from vodkeep.capture.workfolder import ItemBusyError
from vodkeep.db.engine import Database, UnitOfWork
from vodkeep.errors import DatabaseUnavailable, NetworkError, PermanentError
from vodkeep.pipeline.stages import CapturedItem
from vodkeep.pipeline.store import QueueStore

pytestmark = pytest.mark.anyio

ENDINGS: dict[str, CapturedItem | Exception] = {
    "done": GOOD,
    "failed": NetworkError("The edge is away."),
    "parked": PermanentError("Nobody may see it.", code="sub_only"),
    "pending": ItemBusyError("Another process has the folder."),
}


class Line:
    """Loses the answer of one commit."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._breaks = False
        real = UnitOfWork.commit

        def commit(unit: UnitOfWork) -> None:
            real(unit)
            breaks, self._breaks = self._breaks, False
            if breaks:
                raise DatabaseUnavailable("The connection broke.")

        monkeypatch.setattr(UnitOfWork, "commit", commit)

    def break_after_the_next_commit(self) -> None:
        """It succeeds and looks as if it had not."""
        self._breaks = True


async def _run(shop: Workshop, line: Line, ending: CapturedItem | Exception, meanwhile: Callable[[], object]) -> None:
    with shop.database.unit_of_work(write=False) as unit:
        item = QueueStore(unit.connection).find("1")
    assert item is not None
    with shop.lines.watching(), anyio.fail_after(PATIENCE_S):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(shop.runner.run, item)
            capturing = await shop.capture.nth(1)
            line.break_after_the_next_commit()
            capturing.end(ending)
            await shop.hears("the result is not saved yet")
            await shop.clock.until_sleeping()
            meanwhile()
            shop.clock.jump(1)


@pytest.mark.parametrize("state", ENDINGS)
async def test_its_result_is_saved_once(
    database: Database, clock: FakeClock, rows: Rows, monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    shop, line = Workshop(database, clock), Line(monkeypatch)
    rows.add("1")
    await _run(shop, line, ENDINGS[state], lambda: None)
    assert rows.get("1")["download_state"] == state
    assert [said for said in shop.lines.lines if said["event"] == "claim lost"] == []
    assert shop.counted("vod_downloads_succeeded_total") == (state == "done")
    assert shop.counted("vod_downloads_failed_total") == (state in ("failed", "parked"))
    assert shop.capture.tidied == (["1"] if state == "done" else [])
    assert [to_state for _, to_state, _ in rows.events("1")].count(state) == 1


async def test_somebody_who_took_the_item_meanwhile_keeps_it(
    database: Database, clock: FakeClock, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop, line = Workshop(database, clock), Line(monkeypatch)
    rows.add("1")
    await _run(shop, line, GOOD, lambda: rows.execute("UPDATE vods SET generation=17"))
    assert [said["event"] for said in shop.lines.lines if said["event"] == "claim lost"] == ["claim lost"]
    assert shop.capture.tidied == []
