"""Run the chaos test: ``python -m support.chaos --seed 7 --minutes 10 --processes 3 --database postgresql``."""

from __future__ import annotations

import argparse
import logging
import random
import shutil
import sys
import tempfile
from pathlib import Path

import structlog

from support.chaos.figures import report
from support.chaos.judge import judge
from support.chaos.ordeal import Options, run_ordeal


def main() -> int:
    """Run it; 0 when every promise was kept."""
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=None, help="what happens when; without it a new one")
    parser.add_argument("--minutes", type=float, default=10.0, help="how long things go wrong")
    parser.add_argument("--processes", type=int, default=None, help="default: 3 on PostgreSQL, 1 on SQLite")
    parser.add_argument("--database", choices=["postgresql", "sqlite"], default="postgresql")
    parser.add_argument("--broadcasts", type=int, default=40)
    parser.add_argument(
        "--roles", nargs="+", default=(), help="per process, such as: web,watch work work; without it each does all"
    )
    parser.add_argument("--keep", action="store_true", help="keep the folder with logs and files in any case")
    chosen = parser.parse_args()
    # What the harness's own parts say is no news: connections that break are what it is about.
    logging.disable(logging.ERROR)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    if chosen.processes is None:
        chosen.processes = len(chosen.roles) or (3 if chosen.database == "postgresql" else 1)
    if chosen.roles and len(chosen.roles) != chosen.processes:
        parser.error(f"--roles names {len(chosen.roles)} processes, and --processes asks for {chosen.processes}")
    if chosen.database == "sqlite" and chosen.processes != 1:
        parser.error("on SQLite one process does everything")
    options = Options(
        seed=random.randrange(1_000_000) if chosen.seed is None else chosen.seed,
        seconds=chosen.minutes * 60,
        processes=chosen.processes,
        database=chosen.database,
        broadcasts=chosen.broadcasts,
        roles=tuple(chosen.roles),
    )
    folder = Path(tempfile.mkdtemp(prefix="vodkeep-chaos-"))
    evidence = run_ordeal(options, folder, say=_say)
    findings = judge(evidence)
    _say(report(evidence))
    if not findings:
        _say("every promise was kept")
        if chosen.keep:
            _say(f"logs and files are in {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
        return 0
    for finding in findings:
        _say(f"- {finding}")
    _say(f"{len(findings)} findings; logs and files are in {folder}")
    _say(f"again: {options.command()}")
    return 1


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
