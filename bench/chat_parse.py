"""Reading chat: our tokeniser beside irctokens', in one process, on the same lines.

``python -m bench.chat_parse`` first has both read the same lines, good and mangled, and counts where they differ; then
it measures, in alternated rounds, how many lines each reads in a second of processor time. irctokens is not in the
project's environment: it comes at a fixed version into a folder of its own below the cache.
"""

from __future__ import annotations

import argparse
import importlib
import os
import platform
import random
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType

from bench.capture.tools import install

from support.chat_fuzz import mangled
from vodkeep.chat.irc import Splitter, parse_line
from vodkeep.chat.twitch_lines import message_of
from vodkeep_standin.irc.lines import with_events
from vodkeep_standin.scenario.chat import ChatScript, VideoChat
from vodkeep_standin.scenario.model import Channel

IRCTOKENS = "irctokens==2.0.2"
_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vodkeep-bench"
_STARTED_MS = 1_795_000_000_000


def chat(count: int, seed: int) -> list[bytes]:
    """Lines as they come on a busy evening: the stand-in's, with all tags."""
    channel = Channel("1337", "kai", "Kai")
    script = ChatScript(VideoChat(per_second=10), stream="bench", seed=seed, duration_s=count / 10 + 60)
    lines: list[bytes] = []
    before = None
    for index in range(len(script)):
        line = script.line(index)
        lines += [text.encode() for text in with_events(line, before, channel, _STARTED_MS + line.offset_ms)]
        before = line
        if len(lines) >= count:
            break
    return lines[:count]


def oracle() -> ModuleType | None:
    """irctokens, or nothing if it cannot be installed."""
    folder = install(IRCTOKENS, _CACHE / "tools", _say)
    if folder is None:
        return None
    sys.path += [str(path) for path in sorted(folder.parent.glob("lib/python*/site-packages"))]
    return importlib.import_module("irctokens")


def differences(irctokens: ModuleType, lines: Sequence[bytes]) -> Counter[str]:
    """What both make of the same lines, by outcome. Lines are left out about which the two mean to differ."""
    outcomes: Counter[str] = Counter()
    for raw in lines:
        try:
            text = raw.decode()
        except UnicodeDecodeError:
            outcomes["not UTF-8: only read by us as such"] += 1
            continue
        if not text.strip(" ") or "\0" in text or "\r" in text:
            outcomes["empty, or cut off by irctokens at NUL or CR"] += 1
            continue
        ours = parse_line(raw)
        try:
            theirs = irctokens.tokenise(text)
        except (ValueError, IndexError):
            outcomes["both see no command" if ours is None else "irctokens raises, we read it"] += 1
            continue
        if ours is None:
            outcomes["DIFFERENT: only irctokens sees a command"] += 1
            continue
        tags = {key: value or "" for key, value in (theirs.tags or {}).items() if key}
        same = (ours.tags, ours.source, ours.command, ours.params) == (
            tags,
            theirs.source or "",
            theirs.command,
            list(theirs.params),
        )
        outcomes["the same" if same else "DIFFERENT"] += 1
        if not same and outcomes["DIFFERENT"] <= 3:
            read = (tags, theirs.source, theirs.command, theirs.params)
            _say(f"  {raw[:300]!r}\n    ours   {ours[:4]}\n    theirs {read}")
    return outcomes


def rate(read: Callable[[bytes], object], lines: Sequence[bytes]) -> float:
    """Lines per second of processor time."""
    begun_s = time.process_time()
    for line in lines:
        read(line)
    return len(lines) / (time.process_time() - begun_s)


def split_rate(lines: Sequence[bytes]) -> float:
    """The same of taking chunks of 16 KiB apart."""
    stream = b"".join(line + b"\r\n" for line in lines)
    splitter = Splitter()
    begun_s = time.process_time()
    for start in range(0, len(stream), 16384):
        splitter.feed(stream[start : start + 16384])
    return len(lines) / (time.process_time() - begun_s)


def report(rates: dict[str, list[float]]) -> str:
    """A table of medians; in brackets what is over irctokens."""
    rows = ["| | lines a second and core | from to |", "| --- | ---: | --- |"]
    base = statistics.median(rates["irctokens"]) if "irctokens" in rates else None
    for name, own in rates.items():
        middle = statistics.median(own)
        ratio = f" ({middle / base:.1f}x)" if base else ""
        rows.append(f"| {name} | {middle:,.0f}{ratio} | {min(own):,.0f} to {max(own):,.0f} |")
    return "\n".join(rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare and measure; 1 if the two disagree about a line."""
    parser = argparse.ArgumentParser(prog="python -m bench.chat_parse", description=__doc__)
    parser.add_argument("--lines", type=int, default=20_000, help="how many lines there are")
    parser.add_argument("--rounds", type=int, default=9, help="how often each contender reads them")
    parser.add_argument("--mangled", type=int, default=100_000, help="how many mangled lines are compared before")
    parser.add_argument("--seed", type=int, default=1)
    wanted = parser.parse_args(arguments)
    lines = chat(wanted.lines, wanted.seed)
    _say(f"Python {platform.python_version()}, {platform.machine()}, {os.cpu_count()} cores; {IRCTOKENS}")
    _say(f"{len(lines)} lines of {statistics.fmean(map(len, lines)):.0f} bytes, {wanted.rounds} rounds")
    irctokens = oracle()
    disagree = 0
    if irctokens is not None:
        chance = random.Random(wanted.seed)
        broken = [line for n in range(wanted.mangled) for line in Splitter().feed(mangled(n, chance) + b"\n")]
        for name, compared in (("as it comes", lines), ("mangled", broken)):
            outcomes = differences(irctokens, compared)
            disagree += sum(count for outcome, count in outcomes.items() if outcome.startswith("DIFFERENT"))
            _say(f"{name}: " + ", ".join(f"{count} {outcome}" for outcome, count in outcomes.most_common()))
    contenders: dict[str, Callable[[], float]] = {"tokeniser": lambda: rate(parse_line, lines)}
    if irctokens is not None:
        contenders["irctokens"] = lambda: rate(irctokens.tokenise, lines)
    contenders["splitter"] = lambda: split_rate(lines)
    contenders["line to message"] = lambda: rate(_message, lines)
    rates: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(wanted.rounds):
        for name, contender in contenders.items():
            rates[name].append(contender())
    _say(report(rates))
    return 1 if disagree else 0


def _message(raw: bytes) -> object:
    line = parse_line(raw)
    return message_of(line, _STARTED_MS) if line is not None else None


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
