"""What the pipeline remembers in ``kv``: breakers, moving averages and when a job last ran.

The keys are an interface (``docs/operations.md``): an operator deletes the three ``circuit_*`` keys to close every
breaker, so they are read anew each time and never trusted to be there or to make sense.
"""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import Connection, select, text

from vodkeep.db.kv import KvStore
from vodkeep.db.tables import kv
from vodkeep.keep.forecast import DiskSample, keep_sample
from vodkeep.pipeline.averages import next_average
from vodkeep.pipeline.breaker import CLOSED, Breaker, BreakerPhase
from vodkeep.pipeline.due import DiskShortage

STATE = "circuit_state"
FAILURES = "circuit_failures"
OPEN_UNTIL = "circuit_open_until"

AVG_DOWNLOAD_MS = "avg_download_ms"
AVG_UPLOAD_MS = "avg_upload_ms"
AVG_TOTAL_MS = "avg_total_ms"

DISK_SHORTAGE = "disk_shortage"
ARCHIVE_AWAY = "archive_away"
"""Bytes free, bytes needed, since when, and the first that waits; while a capture does not start because of it."""

DISK_SAMPLES = "disk_samples"
"""What was free on the disk of the archive, at some moments of the last days: ``<time>=<bytes>``, spaces between."""

LAST_PROCESS = "job_vod_process_last"


class HealthStore:
    """The pipeline's part of ``kv`` on one connection; the caller's unit of work commits."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._kv = KvStore(connection)

    def load_breakers(self) -> dict[str, Breaker]:
        """The breakers that have ever counted a failure, by channel; all others are closed."""
        rows = self._connection.execute(
            select(kv.c.channel, kv.c.key, kv.c.value).where(kv.c.key.in_([STATE, FAILURES, OPEN_UNTIL]))
        )
        values: dict[str, dict[str, str]] = {}
        for channel, key, value in rows.all():
            values.setdefault(channel, {})[key] = value
        return {channel: _breaker(found) for channel, found in values.items()}

    def load_breaker(self, channel: str) -> Breaker:
        """The channel's breaker as it is; it may change at once."""
        found = {key: self._kv.get(key, channel=channel) for key in (STATE, FAILURES, OPEN_UNTIL)}
        return _breaker({key: value for key, value in found.items() if value is not None})

    def lock_breaker(self, channel: str) -> Breaker:
        """The channel's breaker, which nobody else changes until the transaction ends."""
        self._lock(f"circuit:{channel}")
        return self.load_breaker(channel)

    def save_breaker(self, channel: str, breaker: Breaker, now: datetime) -> None:
        """Write the channel's breaker; a closed one without failures leaves no keys behind."""
        if breaker == CLOSED:
            self._kv.delete(STATE, FAILURES, OPEN_UNTIL, channel=channel)
            return
        self._kv.set(STATE, breaker.phase, now, channel=channel)
        self._kv.set(FAILURES, str(breaker.failures), now, channel=channel)
        if breaker.open_until is None:
            self._kv.delete(OPEN_UNTIL, channel=channel)
        else:
            self._kv.set(OPEN_UNTIL, _written(breaker.open_until), now, channel=channel)

    def reset_breakers(self, channel: str | None = None) -> list[str]:
        """Close the breaker of ``channel``, or all, as the operator's statement does; the logins that were open."""
        logins = sorted(self.load_breakers()) if channel is None else [channel]
        were_open = []
        for login in logins:
            if self.lock_breaker(login).is_open:
                were_open.append(login)
            self._kv.delete(STATE, FAILURES, OPEN_UNTIL, channel=login)
        return were_open

    def average_in(self, key: str, sample_ms: float, now: datetime, *, channel: str) -> None:
        """Let ``sample_ms`` move the average ``key``, of the channel and of the whole service."""
        self._lock("averages")
        for scope in (channel, ""):
            average = _number(self._kv.get(key, channel=scope))
            self._kv.set(key, str(round(next_average(average, sample_ms))), now, channel=scope)

    def load_averages(self) -> dict[str, dict[str, float]]:
        """The moving averages in milliseconds that exist, by channel; those of the whole service under ''."""
        rows = self._connection.execute(
            select(kv.c.channel, kv.c.key, kv.c.value).where(
                kv.c.key.in_([AVG_DOWNLOAD_MS, AVG_UPLOAD_MS, AVG_TOTAL_MS])
            )
        )
        found: dict[str, dict[str, float]] = {}
        for channel, key, value in rows.all():
            number = _number(value)
            if number is not None:
                found.setdefault(channel, {})[key] = number
        return found

    def load_disk_shortage(self) -> DiskShortage | None:
        """Why no capture starts, as it was told last; ``None`` when there is room."""
        return _shortage(self._kv.get(DISK_SHORTAGE))

    def save_disk_shortage(self, shortage: DiskShortage | None, now: datetime) -> None:
        """Tell that no capture starts, or that they go on."""
        if shortage is None:
            self._kv.delete(DISK_SHORTAGE)
        else:
            since = _written(shortage.since or now)
            told = f"{shortage.free_bytes} {shortage.needed_bytes} {since} {shortage.vod_id or ''}"
            self._kv.set(DISK_SHORTAGE, told.rstrip(), now)

    def note_disk(self, sample: DiskSample) -> None:
        """So much is free on the disk of the archive; some such figures tell how fast it fills."""
        before = self.load_disk()
        after = keep_sample(before, sample)
        if after != before:
            self._kv.set(DISK_SAMPLES, " ".join(f"{_written(one.at)}={one.free_bytes}" for one in after), sample.at)

    def load_disk(self) -> list[DiskSample]:
        """What was free on the disk within the last days, oldest first; empty before anybody looked."""
        samples = []
        for word in (self._kv.get(DISK_SAMPLES) or "").split():
            at, _, free = word.partition("=")
            moment = _instant(at)
            if moment is not None and free.isdecimal():
                samples.append(DiskSample(moment, int(free)))
        return samples

    def load_archive_away(self) -> bool:
        """Whether DATA_DIR was not the archive when that was told last."""
        return self._kv.get(ARCHIVE_AWAY) is not None

    def save_archive_away(self, problem: str | None, now: datetime) -> None:
        """Tell that nothing starts because DATA_DIR is not the archive, or that it is there again."""
        if problem is None:
            self._kv.delete(ARCHIVE_AWAY)
        else:
            self._kv.set(ARCHIVE_AWAY, problem, now)

    def note_cycle(self, now: datetime) -> None:
        """A processing cycle ran at ``now``."""
        self._kv.set(LAST_PROCESS, _written(now), now)

    def last_cycle(self) -> datetime | None:
        """When the last processing cycle ran, or ``None`` before the first."""
        return _instant(self._kv.get(LAST_PROCESS))

    def _lock(self, name: str) -> None:
        # A SQLite writer is alone anyway. A row lock would not do on PostgreSQL: the row may not exist yet.
        if self._connection.dialect.name == "postgresql":
            self._connection.execute(
                text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))"), {"name": f"vodkeep:{name}"}
            )


def _breaker(values: dict[str, str]) -> Breaker:
    """The breaker that ``kv`` describes; missing or foreign values count as closed."""
    failures = int(_number(values.get(FAILURES)) or 0)
    try:
        phase = BreakerPhase(values.get(STATE, BreakerPhase.CLOSED))
    except ValueError:
        phase = BreakerPhase.CLOSED
    if phase is BreakerPhase.CLOSED:
        return Breaker(BreakerPhase.CLOSED, failures, None)
    # Without a readable deadline it would hold for ever; it lets a probe through instead.
    return Breaker(phase, failures, _instant(values.get(OPEN_UNTIL)))


def _written(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _instant(value: str | None) -> datetime | None:
    if value is None:
        return None
    try:
        parsed = datetime.fromisoformat(value)
    except ValueError:
        return None
    return parsed if parsed.tzinfo is not None else parsed.replace(tzinfo=UTC)


def _shortage(value: str | None) -> DiskShortage | None:
    free, needed, since, vod_id = [*(value or "").split(" "), "", "", "", ""][:4]
    if not (free.isdecimal() and needed.isdecimal()):
        return None
    return DiskShortage(int(free), int(needed), vod_id or None, _instant(since))


def _number(value: str | None) -> float | None:
    if value is None:
        return None
    try:
        number = float(value)
    except ValueError:
        return None
    return number if 0 <= number < float("inf") else None
