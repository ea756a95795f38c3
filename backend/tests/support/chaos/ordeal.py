"""Carries a plan out, waits until everything has settled, and collects the evidence."""

from __future__ import annotations

import heapq
import itertools
import json
import os
import shutil
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal

from support.chaos.broadcasts import ENDINGS, Broadcast, Ending, plan_broadcasts, scenario_of
from support.chaos.evidence import Event, Evidence, Fetch, Happened, Packets
from support.chaos.files import packets_of, problem_of, undisturbed
from support.chaos.hands import Operator, Unreachable
from support.chaos.lines import LASTING, LINES, REVOKED
from support.chaos.members import AGENT, Member
from support.chaos.plan import DATABASE, TO_PROCESSES, Deed, Kind, plan_deeds
from support.home import Home
from support.mounts import try_mount
from support.postgres import PostgresServer, find_binaries
from support.slow import SEGMENTS
from support.standin import hosted_standin
from support.warm import run
from vodkeep_standin.faults.latency import Latency
from vodkeep_standin.server import Standin

CONNECTIONS = 3
SLOTS = 2
SETTLE_LIMIT_S = 240.0

# Leases run out after six seconds, tickets of dead processes are found within a few more, and tidying up comes last.
_TIDY_LIMIT_S = 30.0

# Of the time of chaos, if nothing went wrong; what goes wrong takes the rest.
_SHARE_AT_WORK = 0.6

# Far below the patience of a capture with a line that says nothing.
_LONGEST_DELAY_S = 5.0

_DISK_BYTES = 700 << 20
_KEPT_REQUESTS = 500_000
_TICK_S = 0.05
_SCRAPE_EVERY_S = 0.7
_ACTIONS: Mapping[Kind, Literal["cancel", "retry", "reprocess"]] = {
    Kind.CANCEL: "cancel",
    Kind.RETRY: "retry",
    Kind.REPROCESS: "reprocess",
}
_AGAIN_AFTER_S = 0.5
_TAKEN_BACK = 0.6
_SETTLED_STATES = ("done", "parked", "canceled")


@dataclass(frozen=True, slots=True)
class Options:
    """What a run is like."""

    seed: int
    seconds: float = 600.0  # of chaos; settling and judging come on top
    processes: int = 1
    database: str = "sqlite"  # or "postgresql"
    broadcasts: int = 40
    roles: tuple[str, ...] = ()  # per process, such as ("web,watch", "work"); none: every process does everything

    def command(self) -> str:
        """The command that runs it again."""
        roles = f" --roles {' '.join(self.roles)}" if self.roles else ""
        return (
            f'make chaos ARGS="--seed {self.seed} --minutes {self.seconds / 60:g} --processes {self.processes}'
            f' --database {self.database} --broadcasts {self.broadcasts}{roles}"'
        )


def run_ordeal(options: Options, folder: Path, say: Callable[[str], None] = lambda _: None) -> Evidence:
    """Do it all in ``folder``, which is left as it is; ``say`` is told how far it is."""
    with ExitStack() as stack:
        return _Ordeal(options, folder, stack, say).run()


class _Ordeal:
    """One run."""

    def __init__(self, options: Options, folder: Path, stack: ExitStack, say: Callable[[str], None]) -> None:
        self._options = options
        self._folder = folder
        self._say = say
        self._planned = plan_broadcasts(options.broadcasts, options.seconds)
        self._evidence = Evidence(options.seed, options.seconds, options.processes, options.database, folder=folder)
        self._evidence.connections, self._evidence.slots = CONNECTIONS, SLOTS
        self._standin: Standin = stack.enter_context(
            hosted_standin(scenario_of(self._planned, options.seed), kept_requests=_KEPT_REQUESTS)
        )
        self._postgres: PostgresServer | None = None
        dsn = None
        if options.database == "postgresql":
            self._postgres = PostgresServer(find_binaries(), keeps_commits=True)
            stack.callback(self._postgres.close)
            self._postgres.start()
            with self._postgres.connect() as connection:
                connection.execute("CREATE DATABASE vodkeep")
            dsn = self._postgres.dsn("vodkeep")
        self._home = Home(folder, self._standin, dsn, stack)
        stack.callback(self._home.end_processes)
        self._mount_disk(stack)
        self._operator = Operator(dsn, self._home.data_dir / "vodkeep.db")
        self._members = [
            Member(number, self._env(), folder, self._arguments(number)) for number in range(options.processes)
        ]
        self._life_numbers = itertools.count(1)
        # What is still to be done: when, a number that keeps the order, and what.
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._began = 0.0
        self._database_is_down = False
        self._undo: dict[int, Callable[[], None]] = {}
        self._rules: set[int] = set()
        self._secrets: dict[str, str] = {}
        self._scraping = threading.Event()

    # Setting up -------------------------------------------------------------------------------------------

    def _env(self) -> dict[str, str]:
        return self._home.env(
            CAPTURE_CONNECTIONS=str(CONNECTIONS),
            MAX_CONCURRENT_DOWNLOADS=str(SLOTS),
            DOWNLOAD_MAX_ATTEMPTS="5",
            DOWNLOAD_BACKOFF_BASE="200ms",
            PROCESSING_RETRY_COOLDOWN="2s",
            CIRCUIT_OPEN_COOLDOWN="2s",
            LOG_LEVEL="debug",
        )

    def _arguments(self, number: int) -> tuple[str, ...]:
        return ("--roles", self._options.roles[number]) if self._options.roles else ()

    def _mount_disk(self, stack: ExitStack) -> None:
        data_dir = self._home.data_dir
        data_dir.mkdir()
        reason = try_mount(data_dir, f"size={_DISK_BYTES}")
        self._own_disk = not reason
        if reason:
            self._evidence.left_out.append(f"full disk: a small file system cannot be mounted here ({reason})")
        else:
            stack.callback(subprocess.run, ["umount", "--lazy", str(data_dir)], check=False)

    # Running ----------------------------------------------------------------------------------------------

    def run(self) -> Evidence:
        """All of it."""
        started = time.monotonic()
        self._say("what an undisturbed capture holds")
        self._evidence.source = self._source_packets()
        self._standin.requests.clear()
        delay_s = self._delay_s()
        self._standin.faults.add(Latency(delay_s * 700, delay_s * 600), path=SEGMENTS)
        scraper = threading.Thread(target=self._scrape, daemon=True)
        scraper.start()
        try:
            self._torment()
            self._calm_down()
            self._settle()
            self._collect_while_it_runs()
        finally:
            self._scraping.set()
            scraper.join()
            self._postgres_is_up()
            for member in self._members:
                member.close()
        self._collect_afterwards()
        self._evidence.duration_s = time.monotonic() - started
        return self._evidence

    def _torment(self) -> None:
        options = self._options
        deeds = plan_deeds(
            options.seed,
            options.seconds,
            lines=LASTING,
            postgres=self._postgres is not None,
            full_disk=self._own_disk,
        )
        self._say(f"{len(deeds)} deeds in {options.seconds:g} s, seed {options.seed}")
        for member in self._members:
            member.start(next(self._life_numbers))
        self._began = time.monotonic()
        for deed in deeds:
            self._at(deed.at_s, lambda deed=deed: self._do(deed))  # type: ignore[misc]
        for one in self._planned:
            if one.appears_s > 0:
                self._at(one.appears_s, lambda one=one: self._standin.put_video(one.video))  # type: ignore[misc]
            if one.vanishes_s is not None:
                self._at(one.vanishes_s, lambda one=one: self._vanish(one))  # type: ignore[misc]
        while self._clock() < options.seconds:
            self._work_off()
            self._supervise()
            threading.Event().wait(_TICK_S)

    def _delay_s(self) -> float:
        """How long a segment should take, so that there is something at work most of the time."""
        segments = sum(len(self._standin.world.media.ensure(one.video.recipe).source.segments) for one in self._planned)
        at_once = self._options.processes * SLOTS * CONNECTIONS
        return min(_LONGEST_DELAY_S, _SHARE_AT_WORK * self._options.seconds * at_once / segments)

    def _vanish(self, one: Broadcast) -> None:
        self._standin.update_video(one.video.id, deleted=True)

    def _clock(self) -> float:
        return time.monotonic() - self._began

    def _at(self, at_s: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._agenda, (at_s, next(self._order), act))

    def _work_off(self) -> None:
        while self._agenda and self._agenda[0][0] <= self._clock():
            heapq.heappop(self._agenda)[2]()

    def _supervise(self) -> None:
        for member in self._members:
            member.supervise()
            if member.back_at is not None and time.monotonic() >= member.back_at:
                member.start(next(self._life_numbers))

    # Deeds ------------------------------------------------------------------------------------------------

    def _do(self, deed: Deed) -> None:
        if deed.kind in TO_PROCESSES:
            self._do_to_process(deed)
        elif deed.kind in DATABASE:
            self._do_to_database(deed)
        elif deed.kind is Kind.FULL_DISK:
            self._fill_disk(deed)
        elif deed.kind is Kind.LINE:
            self._bend_line(deed)
        else:
            self._do_by_hand(deed)

    def _do_to_process(self, deed: Deed) -> None:
        awake = [one for one in self._members if one.is_up and one.life.by is None]
        if deed.kind is not Kind.KILL:
            awake = [one for one in awake if not one.is_frozen]
        if not awake:
            self._later(deed)
            return
        member = awake[int(deed.choice * len(awake))]
        began, life = _now(), member.life
        match deed.kind:
            case Kind.KILL:
                member.kill(deed.lasts_s)
            case Kind.TERMINATE:
                member.terminate(deed.lasts_s)
            case _:
                member.freeze()

                def thaw() -> None:
                    if member.life is life:
                        member.thaw()
                    self._note(deed.kind, began, life=life.number)

                self._until(deed, thaw)
                return
        self._note(deed.kind, began, life=life.number)

    def _do_to_database(self, deed: Deed) -> None:
        assert self._postgres is not None
        began = _now()
        if deed.kind is Kind.DATABASE_CRASH:
            self._postgres.crash()
        else:
            self._postgres.stop()
        self._database_is_down = True

        def start() -> None:
            assert self._postgres is not None
            self._postgres.start()
            self._database_is_down = False
            self._note(deed.kind, began)

        self._until(deed, start)

    def _fill_disk(self, deed: Deed) -> None:
        filler = self._home.data_dir / "filler"
        began = _now()
        _fill(filler)

        def empty() -> None:
            filler.unlink(missing_ok=True)
            self._note(deed.kind, began)

        self._until(deed, empty)

    def _bend_line(self, deed: Deed) -> None:
        began = _now()
        if deed.detail == REVOKED:
            self._remember_tokens()
            self._standin.revoke_tokens()
            self._note(deed.kind, began, deed.detail)
            return
        rules = [self._standin.faults.add_rule(rule) for rule in LINES[deed.detail].rules]

        def straighten() -> None:
            for rule in rules:
                self._standin.faults.remove(rule)
            self._note(deed.kind, began, deed.detail)

        self._until(deed, straighten)

    def _do_by_hand(self, deed: Deed) -> None:
        if self._database_is_down:
            # Everybody would wait for an answer in vain, and so would the deeds that come after this one.
            self._later(deed)
            return
        began = _now()
        try:
            item = self._choose_item(deed)
            if deed.kind is Kind.CLOSE_BREAKERS:
                self._operator.close_breakers()
            elif item is None:
                return
            elif deed.kind is Kind.PRIORITY:
                self._operator.prefer(item, int(deed.choice * 1000) % 5)
            elif not self._ask_for(deed.kind, item, deed.choice):
                return
        except Unreachable:
            # The statement may have counted or not, which the operator remembers.
            self._later(deed)
            return
        self._note(deed.kind, began, item or "")

    def _ask_for(self, kind: Kind, item: str, choice: float) -> bool:
        """Ask for it in one of the ways there are; whether it was not refused."""
        urls = [url for member in self._members if not member.is_frozen and (url := member.url) is not None]
        by_hand = kind is Kind.RESET or (kind is Kind.CANCEL and int(choice * 1000) % 2 == 0)
        if by_hand:
            return self._operator.cancel(item) if kind is Kind.CANCEL else self._operator.reset(item)
        if not urls:
            raise Unreachable("no process serves pages")
        if kind is Kind.REPROCESS:
            self._operator.anew.add(item)
        url = urls[int(choice * len(urls))]
        return self._operator.ask(url, item, _ACTIONS[kind])

    def _choose_item(self, deed: Deed) -> str | None:
        # Most cancels are to be taken back, or a long run would end with nothing but canceled items.
        canceled_ones = f"WHERE download_state {'=' if deed.choice < _TAKEN_BACK else '<>'} 'canceled'"
        where = {
            # What is at work is what a cancel is hard for.
            Kind.CANCEL: "WHERE download_state IN ('downloading', 'verifying')",
            Kind.RETRY: canceled_ones,
            Kind.RESET: canceled_ones,
            Kind.REPROCESS: "WHERE download_state='done'",
        }.get(deed.kind, "")
        query = "SELECT twitch_vod_id FROM vods {} ORDER BY twitch_vod_id"
        rows = self._operator.look(query.format(where)) or self._operator.look(query.format(""))
        return str(rows[int(deed.choice * len(rows))]["twitch_vod_id"]) if rows else None

    def _later(self, deed: Deed) -> None:
        """Do it when it is possible: there was nobody to do it to, or the database was away."""
        self._at(self._clock() + _AGAIN_AFTER_S, lambda: self._do(replace(deed, at_s=self._clock())))

    def _until(self, deed: Deed, undo: Callable[[], None]) -> None:
        """Undo a deed when its time is over, or at the latest when the chaos ends."""
        number = next(self._order)
        self._undo[number] = undo

        def end() -> None:
            if (act := self._undo.pop(number, None)) is not None:
                act()

        self._at(deed.at_s + deed.lasts_s, end)

    def _note(self, kind: Kind, began: datetime, detail: str = "", *, life: int | None = None) -> None:
        self._evidence.happened.append(Happened(kind, began, _now(), detail, life))

    # Settling ---------------------------------------------------------------------------------------------

    def _calm_down(self) -> None:
        """End every fault, and let all processes run."""
        self._say("calm")
        for undo in list(self._undo.values()):
            undo()
        self._undo.clear()
        self._agenda.clear()
        self._evidence.faults_applied = self._count_faults()
        self._standin.faults.clear()
        self._postgres_is_up()
        for one in self._planned:
            if self._standin.scenario.video(one.video.id) is None:
                self._standin.put_video(one.video)
            if one.vanishes_s is not None:
                self._vanish(one)

    def _settle(self) -> None:
        """Wait until no item has anything left to do, and everything is cleared away."""
        for one in self._planned:
            allowed = ENDINGS[one.fate]
            canceled: frozenset[Ending] = frozenset({("canceled", None)})
            if one.video.id in self._operator.unsure:
                allowed |= canceled
            elif one.video.id in self._operator.canceled:
                allowed = canceled
            self._evidence.endings[one.video.id] = allowed
        limit = time.monotonic() + SETTLE_LIMIT_S
        waiting = self._waiting()
        while waiting and time.monotonic() < limit:
            threading.Event().wait(0.3)
            self._supervise()
            waiting = self._waiting()
        self._evidence.unsettled = waiting
        self._say("settled" if not waiting else f"{len(waiting)} items do not settle")
        settled = _now()
        limit = time.monotonic() + _TIDY_LIMIT_S
        while (self._is_untidy() or not self._has_cycled_since(settled)) and time.monotonic() < limit:
            threading.Event().wait(0.3)
            self._supervise()

    def _waiting(self) -> dict[str, str]:
        """What each item that has not settled waits for."""
        if not all(member.is_up for member in self._members):
            return {"the processes": "not all are back"}
        try:
            rows = {str(row["twitch_vod_id"]): row for row in self._operator.look("SELECT * FROM vods")}
        except Unreachable as error:
            return {"the database": str(error)}
        waiting = {one.video.id: "has no row yet" for one in self._planned if one.video.id not in rows}
        for item, row in rows.items():
            if row["download_state"] not in _SETTLED_STATES or _is_reset(row):
                why = f"{row['error_code']}: {row['processing_error']}" if row["processing_error"] else "no error"
                waiting[item] = f"is {row['download_state']} ({why}, not before {row['not_before']})"
        return waiting

    def _is_untidy(self) -> bool:
        try:
            leases, tickets = self._leases(), self._tickets()
        except Unreachable:
            return True
        alive = {member.life.pid for member in self._members}
        kept = {
            str(row["twitch_vod_id"])
            for row in self._operator.look("SELECT twitch_vod_id FROM vods WHERE download_state='done'")
        }
        work = {name.split("/")[0] for name in self._home.leftovers()}
        strangers = set(self._home.processes()) - alive
        return bool(tickets or work & kept or strangers or any(not _is_of(lease, alive) for lease in leases))

    def _has_cycled_since(self, moment: datetime) -> bool:
        """Whether a processing cycle, which sets the gauges, has begun and ended since then."""
        last = self._operator.look("SELECT value FROM kv WHERE key='job_vod_process_last'")
        # The time that is noted is that of the middle of a cycle; one more brings the gauges.
        return bool(last) and _time(last[0]["value"]) > moment + timedelta(seconds=1)

    # Evidence ---------------------------------------------------------------------------------------------

    def _collect_while_it_runs(self) -> None:
        evidence = self._evidence
        with suppress(Unreachable):
            evidence.rows = {str(row["twitch_vod_id"]): row for row in self._operator.look("SELECT * FROM vods")}
            evidence.events = [
                Event(
                    int(row["id"]),
                    str(row["twitch_vod_id"]),
                    _time(row["at"]),
                    row["from_state"],
                    str(row["to_state"]),
                    row["code"],
                )
                for row in self._operator.look("SELECT * FROM events WHERE kind='state' ORDER BY id")
            ]
            evidence.kv = {
                (str(row["channel"]), str(row["key"])): str(row["value"])
                for row in self._operator.look("SELECT * FROM kv")
            }
            alive = {member.life.pid for member in self._members}
            evidence.leases = [lease for lease in self._leases() if not _is_of(lease, alive)]
            evidence.tickets = self._tickets()
        evidence.fetched_anew = set(self._operator.anew)
        evidence.canceled_by_hand = dict(self._operator.cancels)
        for item in self._operator.unsure:
            evidence.canceled_by_hand[item] = evidence.canceled_by_hand.get(item, 0) + 1
        self._read_counters()
        tended = {member.life.pid for member in self._members if member.is_up}
        evidence.processes_left = {pid: command for pid, command in self._home.processes().items() if pid not in tended}

    def _collect_afterwards(self) -> None:
        evidence = self._evidence
        evidence.lives = sorted((life for member in self._members for life in member.lives), key=lambda one: one.number)
        evidence.fetches = self._fetches()
        evidence.requests_forgotten = len(self._standin.requests.entries()) >= _KEPT_REQUESTS
        data_dir = self._home.data_dir
        evidence.files = sorted(
            f"{path.relative_to(data_dir)}{'/' if path.is_dir() else ''}" for path in data_dir.rglob("*")
        )
        for one in self._planned:
            item = one.video.id
            sizes = {segment.name: segment.size_bytes for segment in self._standin.media(item).source.segments}
            evidence.segment_sizes[item] = sizes
            row = evidence.rows.get(item)
            if row is None or not row["downloaded_path"]:
                continue
            with suppress(OSError, ValueError):
                evidence.kept[item] = packets_of(data_dir / str(row["downloaded_path"]))
            try:
                evidence.manifests[item] = problem_of((data_dir / str(row["downloaded_path"])).parent)
            except (OSError, ValueError, KeyError) as error:
                evidence.manifests[item] = f"{type(error).__name__}: {error}"
        self._say("verifying")
        evidence.verified = self._verify()
        if self._own_disk:
            # The disk goes with the test, and whoever looks for a reason needs what was on it.
            shutil.copytree(data_dir, self._folder / "data-at-the-end", symlinks=True)
        self._remember_tokens()
        evidence.secrets = self._known_secrets()
        (self._folder / "logs").mkdir(exist_ok=True)
        for life in evidence.lives:
            (self._folder / "logs" / f"life-{life.number}-of-{life.member}.log").write_text(life.raw)

    def _source_packets(self) -> dict[str, Packets]:
        """What an undisturbed capture of each broadcast holds; media of the same recipe is captured once."""
        done: dict[tuple[str, frozenset[int]], Packets] = {}
        source = {}
        for one in self._planned:
            key = (one.video.recipe.key, one.video.missing_segments)
            if key not in done:
                # Under an id of its own: what the plan says of this one must not matter here.
                twin = replace(one.video, id=f"9{one.video.id}", deleted=False, sub_only=False, recording=None)
                self._standin.put_video(twin)
                done[key] = undisturbed(self._standin, replace(one, video=twin), self._folder / "undisturbed")
                self._standin.scenario.remove_video(twin.id)
            source[one.video.id] = done[key]
        return source

    def _fetches(self) -> list[Fetch]:
        grants = dict(self._standin.world.grants)
        fetches = []
        for entry in self._standin.requests.entries():
            parts = entry.path.split("/")
            grant = grants.get(parts[2]) if len(parts) > 4 and fnmatchcase(entry.path, SEGMENTS) else None
            if grant is None:
                continue
            agent = grant.user_agent
            bent = set(entry.faults) - {"latency", "bandwidth"}
            size = self._size_of(grant.video_id, parts[-1])
            fetches.append(
                Fetch(
                    item=grant.video_id,
                    name=parts[-1],
                    life=int(agent.removeprefix(AGENT)) if agent.startswith(AGENT) else None,
                    grant=grant.serial,
                    at=entry.time,
                    bytes=entry.sent_bytes if entry.status in (200, 206) else 0,
                    whole=not bent and entry.status == 200 and entry.sent_bytes == size,
                    spoiled=bool(bent),
                )
            )
        return fetches

    def _size_of(self, item: str, name: str) -> int | None:
        # A muted segment is served as 7-muted.ts and lies in the cache as 7.ts.
        stem = name.split(".")[0].split("-")[0]
        if self._standin.scenario.video(item) is None:
            return None
        segments = self._standin.media(item).source.segments
        return next((one.size_bytes for one in segments if one.name.split(".")[0] == stem), None)

    def _count_faults(self) -> dict[str, int]:
        counted: Counter[str] = Counter()
        for entry in self._standin.requests.entries():
            counted.update(set(entry.faults) - {"latency"})
            # Every segment comes late here; a line that is slow on purpose comes late twice.
            counted["latency"] += entry.faults.count("latency") > 1
        return dict(counted)

    def _leases(self) -> list[dict[str, Any]]:
        clock = "clock_timestamp()" if self._postgres is not None else "strftime('%Y-%m-%dT%H:%M:%fZ', 'now')"
        return self._look_if_there("leases", f"SELECT * FROM leases WHERE holder<>'' AND expires_at>{clock}")

    def _tickets(self) -> list[dict[str, Any]]:
        return self._look_if_there(
            "procrastinate_jobs",
            "SELECT id, queue_name, task_name, status, args FROM procrastinate_jobs WHERE args::text LIKE '%item_id%'",
        )

    def _look_if_there(self, table: str, query: str) -> list[dict[str, Any]]:
        names = (
            f"SELECT tablename AS name FROM pg_tables WHERE tablename='{table}'"
            if self._postgres is not None
            else f"SELECT name FROM sqlite_master WHERE name='{table}'"
        )
        return self._operator.look(query) if self._operator.look(names) else []

    def _verify(self) -> dict[str, str]:
        arguments = ("verify", "--all", "--deep", "--json")
        done = run("vodkeep", *arguments, env=self._home.env(), cwd=self._folder, timeout_s=300)
        try:
            return {str(one["id"]): str(one["verdict"]) for one in json.loads(done.stdout)["items"]}
        except (ValueError, KeyError):
            return {"vodkeep verify": f"exit code {done.returncode}: {done.stderr[-300:]}"}

    def _remember_tokens(self) -> None:
        for token in list(self._standin.world.app_tokens):
            self._secrets[f"app token {len(self._secrets)}"] = token

    def _known_secrets(self) -> dict[str, str]:
        secrets = {"TWITCH_CLIENT_SECRET": self._standin.scenario.client_secret, **self._secrets}
        if self._postgres is not None:
            secrets["the database's password"] = self._postgres.password
        signatures = {
            part.partition("=")[2]
            for entry in self._standin.requests.entries("/vod/*")
            for part in entry.query.split("&")
            if part.startswith(("sig=", "nauthsig="))
        }
        secrets |= {f"playback signature {number}": one for number, one in enumerate(sorted(signatures)) if one}
        return secrets

    def _postgres_is_up(self) -> None:
        if self._postgres is not None:
            self._postgres.start()

    def _scrape(self) -> None:
        while not self._scraping.wait(_SCRAPE_EVERY_S):
            self._read_counters()

    def _read_counters(self) -> None:
        for member in self._members:
            member.read_counters()


def _fill(path: Path) -> None:
    """Take all the space there is."""
    with path.open("wb", buffering=0) as file, suppress(OSError):
        free = os.statvfs(path.parent)
        os.posix_fallocate(file.fileno(), 0, free.f_bavail * free.f_frsize)
    with path.open("ab", buffering=0) as file, suppress(OSError):
        while True:
            file.write(b"\0" * 4096)


def _is_reset(row: dict[str, Any]) -> bool:
    return not row["processed"] and row["processing_error"] is None


def _is_of(lease: dict[str, Any], pids: set[int]) -> bool:
    """Whether the holder (host:pid:random) is one of these processes."""
    parts = str(lease["holder"]).split(":")
    return len(parts) >= 3 and parts[-2].isdigit() and int(parts[-2]) in pids


def _time(value: object) -> datetime:
    moment = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def _now() -> datetime:
    return datetime.now(UTC)
