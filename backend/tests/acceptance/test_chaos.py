"""Everything that can go wrong at once, for a short while; `make chaos` does it for long (docs/development.md)."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.chaos.figures import report
from support.chaos.judge import judge
from support.chaos.ordeal import Options, run_ordeal

SEED = 7


@pytest.mark.timeout(420)
@pytest.mark.parametrize(
    "options",
    [
        pytest.param(Options(SEED, seconds=20, broadcasts=12), id="sqlite"),
        pytest.param(
            Options(SEED, seconds=20, broadcasts=12, database="postgresql", processes=3),
            id="postgresql",
            marks=pytest.mark.postgres,
        ),
    ],
)
def test_no_promise_is_broken(options: Options, tmp_path: Path) -> None:
    evidence = run_ordeal(options, tmp_path)
    findings = judge(evidence)
    assert not findings, "\n".join([*findings, report(evidence), f"files: {tmp_path}", f"again: {options.command()}"])
