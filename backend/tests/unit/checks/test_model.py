"""Running checks: side by side, each within its limit, and one that breaks hides no other."""

from __future__ import annotations

from collections.abc import Iterator

import anyio
import pytest

from vodkeep.checks.model import Check, CheckResult, Found, State, run_checks, some
from vodkeep.errors import NetworkError, SettingsError
from vodkeep.telemetry.log import forget_masked_values, get_logger, mask_values

pytestmark = pytest.mark.anyio


@pytest.fixture
def _secret() -> Iterator[None]:
    mask_values(["hunter2-hunter2"])
    yield
    forget_masked_values()


async def fine() -> Found:
    return Found(State.OK, "Fine.")


async def run(*checks: Check) -> list[CheckResult]:
    return await run_checks(checks, get_logger("test"))


async def test_what_hangs_is_given_up_and_the_others_are_told() -> None:
    async def hang() -> Found:
        await anyio.sleep_forever()
        return await fine()

    hanging, good = await run(Check("hangs", hang, 0.05), Check("good", fine))
    assert (hanging.name, hanging.state, hanging.timed_out) == ("hangs", State.FAIL, True)
    assert "no answer within 0.05 s" in hanging.sentence
    assert (good.state, good.timed_out) == (State.OK, False)


async def test_all_run_at_once() -> None:
    first, second = anyio.Event(), anyio.Event()

    async def one() -> Found:
        first.set()
        await second.wait()
        return await fine()

    async def other() -> Found:
        await first.wait()
        second.set()
        return await fine()

    assert [result.state for result in await run(Check("one", one), Check("other", other))] == [State.OK, State.OK]


async def test_our_errors_are_failures_with_their_remedy() -> None:
    async def network() -> Found:
        raise NetworkError("Nobody answers.", remedy="Plug it in.")

    async def settings() -> Found:
        raise SettingsError(["One.", "Two."])

    one, two = await run(Check("one", network), Check("two", settings))
    assert (one.state, one.sentence, one.fix) == (State.FAIL, "Nobody answers.", "Plug it in.")
    assert (two.state, two.sentence) == (State.FAIL, "One. Two.")


async def test_a_bug_in_a_check_is_called_one() -> None:
    async def broken() -> Found:
        raise ZeroDivisionError

    bug, good = await run(Check("broken", broken), Check("good", fine))
    assert bug.state is State.FAIL
    assert "error in Vodkeep" in bug.sentence
    assert good.state is State.OK


@pytest.mark.usefixtures("_secret")
async def test_secrets_are_masked_whatever_a_check_says() -> None:
    async def leaks() -> Found:
        return Found(State.FAIL, "It said hunter2-hunter2.", "Remove hunter2-hunter2.")

    (result,) = await run(Check("leaks", leaks))
    assert "hunter2" not in result.sentence + result.fix


@pytest.mark.parametrize(
    ("names", "words"),
    [(["a"], "a"), (["a", "b", "c"], "a, b, c"), (["a", "b", "c", "d", "e"], "a, b, c and 2 more")],
)
async def test_long_lists_are_cut(names: list[str], words: str) -> None:
    assert some(names) == words
