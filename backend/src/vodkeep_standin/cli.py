"""The command line: serve a scenario until told to stop."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import signal
import sys
from pathlib import Path

from vodkeep_standin.faults.bandwidth import Bandwidth
from vodkeep_standin.faults.rule import Match, Rule
from vodkeep_standin.media.build import MediaBuildError
from vodkeep_standin.media.cache import default_cache_dir
from vodkeep_standin.parent import watch_parent
from vodkeep_standin.scenario.builtin import scenario_named
from vodkeep_standin.scenario.model import Scenario
from vodkeep_standin.server import Standin, running_standin, write_whole


def main(arguments: list[str] | None = None) -> None:
    """Run the stand-in; ends the process with 0 after SIGTERM or SIGINT, 1 when it cannot serve, 2 on bad usage."""
    parser = build_parser()
    chosen = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="stand-in %(levelname)s: %(message)s")
    try:
        scenario = scenario_named(chosen.scenario, seed=chosen.seed)
    except ValueError as error:
        parser.error(str(error))
    if chosen.bandwidth is not None:
        line = Bandwidth(total=chosen.bandwidth) if chosen.bandwidth else None
        scenario.faults = (Rule(fault=line, match=Match(path="/edge/*")),) if line else ()
    try:
        asyncio.run(_serve(chosen, scenario))
    except (MediaBuildError, OSError) as error:
        sys.stderr.write(f"stand-in: {error}\n")
        raise SystemExit(1) from None


def build_parser() -> argparse.ArgumentParser:
    """The options, without reading any."""
    parser = argparse.ArgumentParser(
        prog="vodkeep-standin", description="Twitch on loopback, for development, tests and the demo."
    )
    add = parser.add_argument
    add("--port", type=int, default=0, help="plain HTTP port; 0 takes a free one (default)")
    add("--proxy-port", type=int, default=0, help="proxy port; 0 takes a free one (default)")
    add("--irc-port", type=int, default=0, help="chat's port; 0 takes a free one (default)")
    add("--scenario", default="demo", help="test, demo (default) or catalog:<count>")
    add("--seed", type=int, default=1, help="fixes everything that is left to chance (default 1)")
    add("--speed", type=_positive, default=1.0, help="scenario seconds per real second (default 1)")
    add(
        "--bandwidth",
        type=_rate,
        help="bytes per second of the edge for all clients together; 0 removes the demo's cap",
    )
    add("--cache-dir", type=Path, help=f"where generated media is kept (default {default_cache_dir()})")
    add("--ca-file", type=Path, help="where to write the certificate of the proxy's CA (default: a temporary file)")
    add("--ready-file", type=Path, help="JSON with addresses and environment, written when everything is ready")
    add("--parent-pid", type=int, help="end when this process ends")
    return parser


def _positive(text: str) -> float:
    value = float(text)
    if not value > 0:
        raise argparse.ArgumentTypeError("must be greater than 0")
    return value


def _rate(text: str) -> float:
    value = float(text)
    if not value >= 0:
        raise argparse.ArgumentTypeError("must not be negative")
    return value


async def _serve(chosen: argparse.Namespace, scenario: Scenario) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, stop.set)
    with watch_parent(chosen.parent_pid, stop.set):
        async with running_standin(
            scenario,
            chosen.cache_dir,
            port=chosen.port,
            proxy_port=chosen.proxy_port,
            irc_port=chosen.irc_port,
            ca_path=chosen.ca_file,
            speed=chosen.speed,
        ) as standin:
            ready = json.dumps(describe(standin), indent=2) + "\n"
            if chosen.ready_file is not None:
                write_whole(chosen.ready_file, ready.encode())
            sys.stdout.write(ready)
            sys.stdout.flush()
            try:
                await stop.wait()
            finally:
                if chosen.ready_file is not None:
                    chosen.ready_file.unlink(missing_ok=True)


def describe(standin: Standin) -> dict[str, object]:
    """The contents of the ready file."""
    return {
        "pid": os.getpid(),
        "scenario": standin.scenario.name,
        "http_url": standin.http_url,
        "proxy_url": standin.proxy_url,
        "irc_url": standin.irc.url,
        "ca_file": str(standin.ca_path),
        "control_url": f"{standin.http_url}/control",
        "env": standin.env(),
    }
