"""``make bench-capture``: from a playlist to a playable MP4, ours beside everybody else's, on the same machine.

``python -m bench.capture --help`` lists the options; ``bench/README.md`` says what the figures mean.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.capture.contenders import NAMES, Contender, Job, find_contenders
from bench.capture.packets import check_playable, fingerprint
from bench.capture.report import MB, Run, table
from bench.capture.server import PROFILES, Profile, Server, serving
from bench.capture.tools import Tools
from bench.capture.vod import Vod, make_vod, segments_for

ROOT = Path(__file__).resolve().parents[2]
_RESULTS = ROOT / "bench" / "results"
_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vodkeep-bench"
_SUPERVISOR = Path(__file__).with_name("supervise.py")
_SIZE = "1050M"
_RUNS = 5
# The longest wait for one run. On the capped line a program with one or two connections needs minutes for 1 GB,
# whatever it does; that it takes more than this says enough.
_PATIENCE_S = 60.0
_WARM_UP_SEGMENTS = 2
_UNITS = {"K": 1_000, "M": 1_000_000, "G": 1_000_000_000}
# What is never to decide a measurement: settings of the person who runs it.
_INHERITED = ("HOME", "LANG", "LC_ALL", "TZ", "SSL_CERT_FILE", "LD_LIBRARY_PATH")


class Bench:
    """One session of measuring."""

    def __init__(
        self, vod: Vod, server: Server, tools: Tools, work: Path, *, patience_s: float, keep_outputs: bool
    ) -> None:
        self._vod = vod
        self._server = server
        self._tools = tools
        self._work = work
        self._patience_s = patience_s
        self._keep_outputs = keep_outputs

    def run(self, contender: Contender, profile: Profile, number: int) -> Run:
        """Start a contender on an empty folder, measure it, and look at what it made."""
        place = self._work / f"{profile.name}-{contender.name}"
        shutil.rmtree(place, ignore_errors=True)
        output, log = place / "output", place / "log.txt"
        (output / "tmp").mkdir(parents=True)
        # What earlier runs have written does not go to the disk during this one.
        os.sync()
        base = self._server.addresses[profile.name]
        job = Job(base + self._vod.playlist, self._vod.segments, output)
        server_before = self._server.cpu_s()
        measured = self._supervise(contender.command(job), output, log)
        server_s = self._server.cpu_s() - server_before
        run = _run_of(profile, contender, number, measured, server_s)
        if not run.gave_up:
            run = self._judge(run, contender, output, int(measured["exit_code"]), log)
        if not self._keep_outputs:
            shutil.rmtree(output)
        return run

    def warm_up(self, contenders: Sequence[Contender], profile: Profile, beginning: Vod) -> None:
        """Start everybody once with a short broadcast, and read the long one.

        What Python compiles once and the kernel reads once is then done, and the server has all segments in memory.
        """
        short = Bench(beginning, self._server, self._tools, self._work, patience_s=self._patience_s, keep_outputs=False)
        for contender in contenders:
            run = short.run(contender, profile, 0)
            if not run.ok:
                say(f"A first try of {contender.words} failed: {run.problem}")
        for name in self._vod.segments:
            with (self._vod.folder / name).open("rb") as file:
                while file.read(1 << 20):
                    pass

    def _supervise(self, command: Sequence[str], output: Path, log: Path) -> dict[str, Any]:
        spec = {
            "command": list(command),
            "cwd": str(output),
            "env": self._environment(output),
            "watch": str(output),
            "log": str(log),
            "patience_s": self._patience_s,
        }
        # -I -S: without the environment and the packages of the project it is small, which it has to be.
        command_line = [sys.executable, "-I", "-S", str(_SUPERVISOR)]
        with subprocess.Popen(command_line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            try:
                told, _ = process.communicate(json.dumps(spec))
            except BaseException:
                # It ends the contender before itself, which it could not if it were killed.
                process.terminate()
                raise
        if process.returncode:
            raise RuntimeError("The measurement itself failed; it has said why above.")
        measured: dict[str, Any] = json.loads(told)
        return measured

    def _environment(self, output: Path) -> dict[str, str]:
        path = f"{self._tools.bin}:{os.environ.get('PATH', os.defpath)}"
        kept = {name: os.environ[name] for name in _INHERITED if name in os.environ}
        return kept | {
            "PATH": path,
            "TMPDIR": str(output / "tmp"),
            "FFMPEG_PATH": self._tools.ffmpeg,
            "PYTHONPATH": str(ROOT),  # for ours
        }

    def _judge(self, run: Run, contender: Contender, output: Path, exit_code: int, log: Path) -> Run:
        """Whether the output is what was to be made; nothing is measured that is not."""
        if exit_code:
            last = next(iter(log.read_text(errors="replace").strip().splitlines()[-1:]), "no word")
            return replace(run, problem=f"exit code {exit_code}: {last[-300:]}")
        if not contender.makes_mp4:
            files = [output / name for name in self._vod.segments]
            size = sum(file.stat().st_size for file in files if file.exists())
            run = _with_output(run, size, sum(_allocated(file) for file in files if file.exists()))
            if size != self._vod.size_bytes:
                return replace(run, problem=f"{size} bytes instead of {self._vod.size_bytes}")
            return replace(run, ok=True)
        files = sorted(output.rglob("*.mp4"), key=lambda path: path.stat().st_size)
        if not files:
            return replace(run, problem="it made no MP4")
        run = _with_output(run, files[-1].stat().st_size, _allocated(files[-1]))
        playable = check_playable(files[-1], self._vod.duration_s)
        run = replace(run, index=playable.index)
        problem = playable.problem or fingerprint(str(files[-1])).difference(self._vod.packets)
        return replace(run, ok=problem is None, problem=problem)


def _run_of(profile: Profile, contender: Contender, number: int, measured: Mapping[str, Any], server_s: float) -> Run:
    cpu_s = measured["cpu_user_s"] + measured["cpu_system_s"]
    other_s = measured["machine_busy_s"] - cpu_s - server_s - measured["sampler_cpu_s"]
    return Run(
        profile=profile.name,
        contender=contender.name,
        number=number,
        ok=False,
        gave_up=measured["gave_up"],
        problem="not done in time" if measured["gave_up"] else None,
        wall_s=measured["wall_s"],
        cpu_s=cpu_s,
        written_bytes=measured["written_bytes"],
        output_bytes=0,
        disk_extra_bytes=measured["disk_peak_bytes"],
        rss_bytes=measured["rss_peak_bytes"],
        pss_bytes=measured["pss_peak_bytes"],
        server_cpu_s=server_s,
        other_cpu_s=max(0.0, other_s),
        index="",
        sampler_cpu_s=measured["sampler_cpu_s"],
    )


def _with_output(run: Run, size_bytes: int, allocated_bytes: int) -> Run:
    # Until now the field holds the peak of everything in the folder.
    return replace(run, output_bytes=size_bytes, disk_extra_bytes=max(0, run.disk_extra_bytes - allocated_bytes))


def _allocated(path: Path) -> int:
    return path.stat().st_blocks * 512


def measure(bench: Bench, contenders: Sequence[Contender], profile: Profile, rounds: int) -> list[Run]:
    """All runs of one profile, in turn (A B C, A B C, ...), so that what changes on the machine meets everybody."""
    runs: list[Run] = []
    given_up: set[str] = set()
    say(f"\n{profile.words}:")
    for number in range(1, rounds + 1):
        for contender in contenders:
            if contender.name in given_up:
                continue
            run = bench.run(contender, profile, number)
            runs.append(run)
            if run.gave_up:
                # It would be the same again.
                given_up.add(contender.name)
            say(_line(run, contender, rounds))
    return runs


def _line(run: Run, contender: Contender, rounds: int) -> str:
    outcome = "ok" if run.ok else run.problem
    per_byte = run.written_bytes / run.output_bytes if run.output_bytes else 0.0
    return (
        f"  {run.number}/{rounds} {contender.words:30} {run.wall_s:7.2f} s  CPU {run.cpu_s:6.2f} s  "
        f"written {run.written_bytes / MB:6.0f} MB ({per_byte:.2f}x)  extra disk {run.disk_extra_bytes / MB:6.0f} MB  "
        f"memory {run.rss_bytes / MB:5.0f} MB (PSS {run.pss_bytes / MB:.0f})  server {run.server_cpu_s:5.2f} s  "
        f"others {run.other_cpu_s:5.2f} s  {outcome}"
    )


def main() -> int:
    """Measure, print the tables and keep them; 1 when a run of ours failed."""
    given = _arguments()
    # Asked to end, as by `timeout`, the server and what is being measured end too.
    signal.signal(signal.SIGTERM, _leave)
    started = time.monotonic()
    cache: Path = given.work_dir
    cache.mkdir(parents=True, exist_ok=True)
    tools = Tools(cache, os.environ.get("FFMPEG_PATH"), say)
    contenders = find_contenders(tools, given.contenders, given.connections, say)
    profiles = [profile for profile in PROFILES if profile.name in given.profiles]
    vod = make_vod(cache, segments_for(given.size), tools.ffmpeg, say)
    beginning = make_vod(cache, _WARM_UP_SEGMENTS, tools.ffmpeg, say)
    work = cache / f"run-{os.getpid()}"
    work.mkdir()
    try:
        with serving(vod.folder, work, profiles, own=given.own_server) as server:
            head = _head(vod, server, contenders)
            say(head)
            bench = Bench(vod, server, tools, work, patience_s=given.patience, keep_outputs=given.keep_outputs)
            bench.warm_up(contenders, profiles[0], beginning)
            runs = [run for profile in profiles for run in measure(bench, contenders, profile, given.runs)]
    finally:
        if not given.keep_outputs:
            shutil.rmtree(work, ignore_errors=True)
        else:
            say(f"The outputs and logs are in {work}.")
    words = {contender.name: contender.words for contender in contenders}
    sections = [
        f"### {profile.words}\n\n{table([run for run in runs if run.profile == profile.name], words)}"
        for profile in profiles
    ]
    text = "\n\n".join([head, *sections, _LEGEND])
    say("\n" + "\n\n".join(sections) + "\n")
    kept = _keep(given.results, text, vod, server, contenders, runs)
    say(f"{time.monotonic() - started:.0f} s in all. Kept as {kept}.")
    return int(any(not run.ok for run in runs if run.contender == "ours"))


def _leave(*_: object) -> None:
    # Once: a second signal, as from a process group, must not cut off the cleaning up.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit(128 + signal.SIGTERM)


_LEGEND = """\
Medians; behind a figure its ratio to ours. *written / output*: bytes of file pages made dirty, over the size of the
MP4. *extra disk*: the most its folder took at any instant less what it left, over the size of the MP4. *memory*:
resident sets of all its processes added up, sampled every 50 ms; never less than 11 MB, which is the measuring
process's own. *others' CPU*: what everything else on the machine used meanwhile; a run in which that is much says
little. *index*: where the MP4's sample tables are; with an index at the end a player on the network must fetch the
end first.
"""


def _head(vod: Vod, server: Server, contenders: Sequence[Contender]) -> str:
    lines = [
        f"# Capture, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "",
        f"- VOD: {len(vod.segments)} segments, {vod.size_bytes / MB:.0f} MB, {vod.duration_s:.0f} s of H.264 720p60"
        f" and AAC ({vod.packets.video} and {vod.packets.audio} packets)",
        f"- Machine: {os.cpu_count()} cores of {_processor()}, {_memory_gb():.0f} GB, Linux {platform.release()}",
        f"- Server: {server.words}",
        f"- Vodkeep: {_revision()}, Python {platform.python_version()}",
    ]
    lines += [f"- {contender.words}: {contender.version}" for contender in contenders if contender.version]
    return "\n".join(lines)


def _keep(
    folder: Path, text: str, vod: Vod, server: Server, contenders: Sequence[Contender], runs: Sequence[Run]
) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"capture-{datetime.now(UTC):%Y%m%d-%H%M%S}.md"
    path.write_text(text + "\n", "utf-8")
    record = {
        "revision": _revision(),
        "segments": len(vod.segments),
        "vod_bytes": vod.size_bytes,
        "server": server.words,
        "versions": {contender.name: contender.version for contender in contenders},
        "runs": [run.as_dict() for run in runs],
    }
    path.with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n", "utf-8")
    return path


def _processor() -> str:
    found = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1] if found else platform.machine()


def _memory_gb() -> float:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9


def _revision() -> str:
    def git(*arguments: str) -> str:
        command = ["git", "-C", str(ROOT), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()

    changed = git("status", "--porcelain", "--", "backend/src/vodkeep")
    return (git("rev-parse", "--short", "HEAD") or "unknown revision") + (" with changes" if changed else "")


def _arguments() -> argparse.Namespace:
    names = ", ".join(NAMES)
    parser = argparse.ArgumentParser(prog="make bench-capture", description=(__doc__ or "").split("\n\n", 1)[0])
    parser.add_argument(
        "--size", type=_size, default=_SIZE, help=f"of the VOD (default {_SIZE}; 100M for a quick look)"
    )
    parser.add_argument("--runs", type=int, default=_RUNS, help=f"of each contender in each profile (default {_RUNS})")
    parser.add_argument(
        "--profiles", type=_some_of([p.name for p in PROFILES]), default="raw,delay,capped",
        help="; ".join(f"{profile.name}: {profile.words}" for profile in PROFILES),
    )  # fmt: skip
    parser.add_argument("--contenders", type=_some_of(NAMES), default=",".join(NAMES), help=f"of {names}")
    parser.add_argument("--connections", type=int, default=32, help="CAPTURE_CONNECTIONS of ours (default 32)")
    parser.add_argument(
        "--patience", type=float, default=_PATIENCE_S, help=f"seconds for one run (default {_PATIENCE_S:.0f})"
    )
    parser.add_argument("--work-dir", type=Path, default=_CACHE, help="for the VOD, the tools and the outputs")
    parser.add_argument("--results", type=Path, default=_RESULTS, help="folder of the tables")
    parser.add_argument("--own-server", action="store_true", help="serve without nginx")
    parser.add_argument("--keep-outputs", action="store_true", help="do not delete what was made")
    given = parser.parse_args()
    if given.runs < 1:
        parser.error("--runs: at least one")
    return given


def _size(text: str) -> int:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([KMG]?)B?", text.upper())
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size such as 100M or 1.05G")
    return round(float(found[1]) * _UNITS.get(found[2], 1))


def _some_of(names: Sequence[str]) -> Any:
    def parse(text: str) -> list[str]:
        chosen = [name.strip() for name in text.split(",") if name.strip()]
        unknown = [name for name in chosen if name not in names]
        if unknown or not chosen:
            raise argparse.ArgumentTypeError(f"{', '.join(unknown) or 'nothing'}: choose from {', '.join(names)}")
        return chosen

    return parse


def say(line: str) -> None:
    """Tell the person who waits."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
