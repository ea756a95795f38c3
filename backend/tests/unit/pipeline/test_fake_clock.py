"""The clock of the tests has to be right before the tests can be."""

from __future__ import annotations

import anyio
import pytest

from support.clock import START, FakeClock

pytestmark = pytest.mark.anyio


async def test_sleepers_wake_at_their_own_instants_in_order(clock: FakeClock) -> None:
    woken: list[tuple[str, float]] = []

    async def sleeper(name: str, *naps_s: float) -> None:
        for nap_s in naps_s:
            await clock.sleep(nap_s)
            woken.append((name, clock.monotonic()))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(sleeper, "a", 3, 3)
        tasks.start_soon(sleeper, "b", 2, 2, 2)
        await clock.until_sleeping(2)
        assert clock.next_wake_s() == 2
        await clock.advance(5)
        assert woken == [("b", 2), ("a", 3), ("b", 4)]
        assert (clock.now() - START).total_seconds() == clock.monotonic() == 5
        await clock.advance(1)
        assert sorted(woken[3:]) == [("a", 6), ("b", 6)]
    assert clock.sleeping == 0


async def test_after_a_jump_everybody_overslept(clock: FakeClock) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(clock.sleep, 1)
        tasks.start_soon(clock.sleep, 2)
        tasks.start_soon(clock.sleep, 9)
        await clock.until_sleeping(3)
        clock.jump(5)
        assert clock.sleeping == 1
        assert clock.next_wake_s() == 4
        tasks.cancel_scope.cancel()


async def test_a_canceled_sleeper_is_forgotten(clock: FakeClock) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(clock.sleep, 1)
        await clock.until_sleeping()
        tasks.cancel_scope.cancel()
    assert clock.sleeping == 0
