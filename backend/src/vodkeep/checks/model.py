"""What a check is, and running several at once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

import anyio
import anyio.to_thread

from vodkeep.errors import SettingsError, VodkeepError
from vodkeep.telemetry.log import Logger, masked_text

_T = TypeVar("_T")


class State(StrEnum):
    """How a check ended."""

    OK = "ok"
    WARN = "warn"  # works, and a person should know
    FAIL = "fail"  # something the service needs is not there
    SKIPPED = "skipped"  # not set up, or not to be told now


@dataclass(frozen=True, slots=True)
class Found:
    """What a check found."""

    state: State
    sentence: str
    fix: str = ""  # what a person can do; empty when nothing is to be done


@dataclass(frozen=True, slots=True)
class Check:
    """One question; ``look`` answers it and may raise a `VodkeepError` instead of saying FAIL."""

    name: str  # stable, for programs: lower case with underscores
    look: Callable[[], Awaitable[Found]]
    limit_s: float = 20.0


@dataclass(frozen=True, slots=True)
class CheckResult:
    """A check and its answer."""

    name: str
    state: State
    sentence: str
    fix: str
    timed_out: bool = False  # a thread of it may still hang


async def run_checks(checks: Sequence[Check], log: Logger) -> list[CheckResult]:
    """Run all checks at once, each within its limit; the results come in the order of ``checks``, secrets masked."""
    results: list[CheckResult | None] = [None] * len(checks)

    async def run(number: int, check: Check) -> None:
        results[number] = await _run(check, log)

    async with anyio.create_task_group() as tasks:
        for number, check in enumerate(checks):
            tasks.start_soon(run, number, check)
    return [result for result in results if result is not None]


async def _run(check: Check, log: Logger) -> CheckResult:
    found = Found(
        State.FAIL,
        f"There was no answer within {check.limit_s:g} s.",
        "Look for a disk or a network that hangs.",
    )
    timed_out = True
    with anyio.move_on_after(check.limit_s):
        found = await _look(check, log)
        timed_out = False
    return CheckResult(check.name, found.state, masked_text(found.sentence), masked_text(found.fix), timed_out)


async def _look(check: Check, log: Logger) -> Found:
    try:
        return await check.look()
    except SettingsError as error:
        return Found(State.FAIL, " ".join(error.problems))
    except VodkeepError as error:
        return Found(State.FAIL, str(error), error.remedy)
    except Exception:  # One broken check must not hide what the others found.
        log.exception("check failed", check=check.name)
        return Found(State.FAIL, "The check itself failed; this is an error in Vodkeep.", "The log has the traceback.")


async def in_thread(work: Callable[[], _T]) -> _T:
    """Call blocking ``work`` in a thread that a limit does not wait for: a dead disk blocks for ever."""
    return await anyio.to_thread.run_sync(work, abandon_on_cancel=True)


def some(names: Sequence[str], most: int = 3) -> str:
    """A few of ``names`` as words of a sentence."""
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")
