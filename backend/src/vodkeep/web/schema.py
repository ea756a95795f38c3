"""The JSON that the routes answer with, and how it is made from what the database and the engine say.

Times are RFC 3339 in UTC, sizes bytes, rates bytes per second, durations seconds unless the name says ``_ms``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol
from urllib.parse import quote

from pydantic import BaseModel, Field

from vodkeep.accounts.model import ConnectionPhase, ConnectionState, Provider
from vodkeep.db.events import Event
from vodkeep.keep.forecast import forecast
from vodkeep.keep.manifest import Manifest
from vodkeep.pipeline.breaker import CLOSED, Breaker, BreakerPhase
from vodkeep.pipeline.model import RUNNING, DownloadState
from vodkeep.pipeline.recorder_note import RecorderNote
from vodkeep.pipeline.scrub_store import Scrubbed
from vodkeep.pipeline.store import QueueCounts
from vodkeep.publish.publication import Publication, watch_url
from vodkeep.settings import PipelineSettings
from vodkeep.web.reading import ChannelFigures, Figures, LiveProcess, StoredVod


class LiveProgress(Protocol):
    """How far a run of this process is; finer and fresher than the row, which is written once a second."""

    @property
    def phase(self) -> str:
        """`resolving`, `fetching`, `muxing`, `verifying` or `uploading`."""
        ...

    @property
    def fetched_bytes(self) -> int:
        """What is on disk; of an upload, what was sent."""
        ...

    @property
    def total_bytes(self) -> int | None:
        """An estimate until the last segment is there."""
        ...

    @property
    def segments_done(self) -> int:
        """Segments on disk."""
        ...

    @property
    def segments_total(self) -> int:
        """Segments of the playlist; 0 before it is known."""
        ...

    @property
    def rate_bytes_s(self) -> float:
        """The present speed."""
        ...

    @property
    def eta_s(self) -> float | None:
        """The time left, or ``None`` when nobody knows."""
        ...


class Work(Protocol):
    """The engine, as far as the web looks into it."""

    def progress(self) -> Mapping[str, LiveProgress]:
        """Snapshots of the runs of this process, by Twitch video id."""
        ...


class Progress(BaseModel):
    """How far a download or an upload is."""

    phase: str | None = Field(
        description="`resolving`, `fetching`, `muxing`, `verifying`, `uploading`; null in another process."
    )
    bytes: int
    total_bytes: int | None = Field(description="An estimate until everything is fetched.")
    percent: float | None = Field(description="0 to 100, null while the size is unknown.")
    rate_bytes_s: float | None = Field(description="Null when the run belongs to another process.")
    eta_s: float | None
    segments_done: int | None
    segments_total: int | None
    updated_at: datetime | None


class ActiveDownload(BaseModel):
    """A broadcast that is being worked on."""

    id: str
    channel: str
    state: str
    attempt: int = Field(description="Which attempt this is, from 1.")
    progress: Progress


class BreakerStatus(BaseModel):
    """The circuit breaker of a channel."""

    state: str = Field(description="`closed`, `open` or `half_open`.")
    failures: int = Field(description="Systemic failures in a row.")
    open_until: datetime | None


class Averages(BaseModel):
    """Moving averages in milliseconds (alpha 0.2); null before the first sample."""

    avg_download_ms: float | None = None
    avg_upload_ms: float | None = None
    avg_total_ms: float | None = None


class Counts(BaseModel):
    """How many broadcasts there are."""

    pending: int = Field(description="Not processed: queued, waiting for the end of the broadcast, or at work.")
    errored: int = Field(description="Not processed: failed (tried again) or parked (needs a person).")
    canceled: int
    processed: int
    queue_depth: int = Field(description="All that is not processed; the metric `vod_queue_depth`.")
    incomplete: int = Field(description="Kept with holes: what Twitch did not serve. `completeness` says how much.")
    states: dict[str, int]
    placeholders: int = Field(
        description="Known from their live stream only, with its chat, and no part of the other figures."
    )
    unmatched: int = Field(description="Of those: Twitch published no VOD within VOD_RECONCILE_WINDOW.")


class ChannelStatus(Counts, Averages):
    """How things stand with one channel."""

    login: str
    display_name: str | None
    breaker: BreakerStatus


class RetryConfig(BaseModel):
    """The settings that decide when something is tried again."""

    download_max_attempts: int
    download_backoff_base_s: float
    retry_cooldown_s: float
    process_interval_s: float
    max_concurrent_downloads: int
    circuit_failure_threshold: int
    circuit_open_cooldown_s: float


class ProcessStatus(BaseModel):
    """A process of the service that is alive."""

    host: str
    roles: list[str] = Field(description="Of `web`, `watch`, `work`.")
    slots: dict[str, int] = Field(description="Jobs at once, by stage; empty without the role `work`.")


class ProcessDetail(ProcessStatus):
    """The same for administrators."""

    pid: int
    holder: str = Field(description="Its name in `leases`.")


class DiskShortage(BaseModel):
    """Why a capture does not start: what is left is needed by those at work and for the reserve (`DISK_RESERVE`)."""

    free_bytes: int = Field(description="Free on the disk of DATA_DIR when this was looked at.")
    needed_bytes: int = Field(description="What must be free for captures to go on.")
    id: str | None = Field(description="The first broadcast that waits for it.")
    since: datetime | None
    remedy: str


class DiskStatus(BaseModel):
    """The disk of DATA_DIR, and how it fills as things go."""

    measured_at: datetime
    free_bytes: int
    fills_bytes_per_day: int | None = Field(
        description="Over the last 7 days; negative while it empties. Null before half a day is known."
    )
    full_at: datetime | None = Field(description="When nothing is free any more, as things go; null: not to be seen.")


class RetentionStatus(BaseModel):
    """What was let go, and what YouTube says of its copies."""

    trash_items: int = Field(description="Videos in the trash; `vodkeep retention undo` brings one back.")
    trash_bytes: int
    trash_since: datetime | None = Field(description="Since when the oldest is there.")
    publications_in_trouble: int = Field(
        description="Parts of publications that YouTube rejected, lost or changed; nothing of their items goes."
    )


class LiveChat(BaseModel):
    """A stream whose chat is being recorded."""

    channel: str
    id: str | None = Field(description="The broadcast it belongs to; begins with `live-` as long as there is no VOD.")
    stream_id: str | None = Field(description="Null when it is recorded into a VOD that the settings name.")
    started_at: datetime
    messages: int = Field(description="What people said so far.")
    last_message_at: datetime | None


class ChatLoginFailure(BaseModel):
    """Why the account that reads chat cannot be used; meanwhile chat is read anonymously."""

    account: str
    reason: str
    since: datetime
    retry_at: datetime


class ChatStatus(BaseModel):
    """The recording of chat."""

    enabled: bool
    reason: str = Field(description="Why it is not enabled; empty when it is.")
    remedy: str
    connections: int = Field(description="Connections to Twitch's chat that are up.")
    channels: int = Field(description="Channels whose chat a recorder should be in, live or not.")
    joined: int = Field(description="Of those, the ones it is in.")
    refused: dict[str, str] = Field(description="Channels that Twitch does not let us into, and its reason.")
    login_failure: ChatLoginFailure | None
    connection_failure: str | None = Field(description="Why a connection is not up.")
    spool_bytes: int = Field(description="Received and not in the database yet.")
    problem: str | None = Field(description="Why what is said is not stored.")
    live: list[LiveChat] = Field(description="Streams whose chat is being recorded, the longest first.")


class AccountStatus(BaseModel):
    """How things stand with a connected account."""

    provider: str
    state: str = Field(description="`connected`, `failing` (tried again), `refused`, `expired` or `unreadable`.")
    remedy: str = Field(description="What a person can do; empty while nothing is to be done.")


class Status(Counts, Averages):
    """`/status`: the service at a glance."""

    version: str
    circuit_state: str = Field(description="The worst of all channels: `open`, `half_open` or `closed`.")
    last_process_run: datetime | None
    disk_shortage: DiskShortage | None = Field(description="Set while captures wait for disk space.")
    damaged: int = Field(description="Items whose files were not what their checksums say when they were last read.")
    archive_away: bool = Field(description="Whether nothing starts because the disk of DATA_DIR is not mounted.")
    disk: DiskStatus | None = Field(description="Null before anybody looked.")
    retention: RetentionStatus
    uploads: UploadsStatus
    chat: ChatStatus
    accounts: list[AccountStatus] = Field(description="The connected accounts, without their names.")
    active: list[ActiveDownload]
    channels: list[ChannelStatus]
    processes: list[ProcessStatus] = Field(description="The processes that are alive; a dead one is gone in 6 s.")
    retry: RetryConfig


class Monitor(BaseModel):
    """`/admin/monitor`: what is inside."""

    versions: dict[str, str]
    started_at: datetime
    database: str = Field(description="`sqlite` or `postgresql`.")
    jobs: dict[str, str] = Field(description="When each job last ran, by its key in `kv`.")
    breakers: dict[str, BreakerStatus]
    running: list[ActiveDownload]
    chat: ChatStatus
    processes: list[ProcessDetail]
    leases: dict[str, str] = Field(description="What one process at a time does, and which: its `holder`.")


class MediaLinks(BaseModel):
    """Where a kept broadcast can be fetched, relative to the service; null as long as there is nothing."""

    video: str | None = None
    thumbnail: str | None = None
    manifest: str | None = None


class Cause(BaseModel):
    """Why a broadcast is not kept yet."""

    code: str
    sentence: str


class Vod(BaseModel):
    """A broadcast."""

    id: str = Field(description="Its video id at Twitch.")
    channel: str
    title: str
    date: datetime | None
    duration_s: int | None
    state: str
    processed: bool
    error: Cause | None
    retries: int
    not_before: datetime | None = Field(description="It is not tried again before this time.")
    progress: Progress | None
    size_bytes: int | None
    completeness: float | None = Field(description="0 to 1: the share of the timeline that is here.")
    media: MediaLinks
    youtube_url: str | None
    priority: int = Field(description="Higher goes first.")
    skip_upload: bool = Field(description="It is never published.")
    protected: bool = Field(description="Retention never lets its video go.")
    video_let_go_at: datetime | None = Field(
        description="Since when its video is not on the disk, because retention let it go; `youtube_url` may have it."
    )
    updated_at: datetime


class VodList(BaseModel):
    """A page of broadcasts, newest first."""

    items: list[Vod]
    next: str | None = Field(description="Pass it as `after` to get the next page; null on the last one.")


class TimelineEvent(BaseModel):
    """Something that happened to a broadcast."""

    at: datetime
    kind: str
    from_state: str | None
    to_state: str | None
    code: str | None
    sentence: str
    remedy: str
    corr: str | None
    asked_by: str | None = Field(description="Where a person asked for it: `cli`, `api`, `admin`, `sql`.")


class FeedEvent(TimelineEvent):
    """A line of some broadcast's timeline, or of the service's own."""

    vod_id: str | None = Field(description="Of which broadcast; null: of the service.")


class Stretch(BaseModel):
    """A stretch of a broadcast's timeline, from its start."""

    start_ms: int
    end_ms: int
    source: str = Field(description="`vod`, `import` for a recording of another program, or `missing` for a hole.")
    reason: str = Field(description="`muted` for a stretch without its sound; the cause of a hole; else empty.")


class PublicationDetail(BaseModel):
    """A part of a broadcast on YouTube, or on its way there."""

    round: int = Field(description="1, and one more each time that a fresh publication was asked for.")
    part: int
    parts: int
    state: str = Field(
        description="`planned`, `uploading`, `uploaded`, `processed`, `rejected`, `vanished`, `superseded`."
    )
    url: str | None = Field(description="Null until YouTube has every byte.")
    committed_bytes: int = Field(description="What YouTube has confirmed.")
    size_bytes: int
    uploaded_at: datetime | None
    processed_at: datetime | None = Field(description="Since when YouTube shows it in its whole length.")
    checked_at: datetime | None
    next_check_at: datetime | None
    reason: str = Field(description="What is wrong with it, as a sentence; else empty.")


class UploadsStatus(BaseModel):
    """Whether broadcasts are published."""

    enabled: bool
    reason: str | None = Field(description="Why nothing is uploaded at the moment, as a sentence; null when it is.")
    held_until: datetime | None = Field(description="When the daily limit lets the next one through; null: now.")


class Fixity(BaseModel):
    """What reading its files again has found at last."""

    checked_at: datetime
    verdict: str = Field(description="`fine`, `damaged` or `missing`.")
    problems: str = Field(description="What is wrong, as a sentence; empty when it is fine.")
    remedy: str = Field(description="What is being done, or a person can do.")


class VodDetail(Vod):
    """A broadcast with its timeline, oldest event first."""

    description: str
    custom_description: str | None = Field(description="What YouTube is told instead; null: nobody wrote anything.")
    created_at: datetime
    rendition: str | None = Field(
        description="The name of what was taken of Twitch's; null as long as there is nothing."
    )
    ledger: list[Stretch] | None = Field(
        description="What the video is made of, from start to end; null as long as there is nothing."
    )
    publications: list[PublicationDetail] = Field(description="What of it is on YouTube, or on its way there.")
    fixity: Fixity | None = Field(description="Null before it was read again for the first time.")
    events: list[TimelineEvent]


_SEVERITY = {BreakerPhase.CLOSED: 0, BreakerPhase.HALF_OPEN: 1, BreakerPhase.OPEN: 2}


def status_of(
    figures: Figures,
    live: Mapping[str, LiveProgress],
    retry: RetryConfig,
    version: str,
    connections: Sequence[ConnectionState] | None = None,
) -> Status:
    """The answer of ``/status``; None for ``connections`` says that they were not looked at."""
    worst = max(
        (each.breaker.phase for each in figures.channels), key=_SEVERITY.__getitem__, default=BreakerPhase.CLOSED
    )
    return Status(
        version=version,
        **_counts(figures.totals),
        **_averages(figures.averages_ms),
        circuit_state=worst,
        last_process_run=figures.last_process_run,
        disk_shortage=_shortage(figures),
        damaged=figures.damaged,
        disk=_disk(figures),
        retention=RetentionStatus(
            trash_items=figures.trash.items,
            trash_bytes=figures.trash.bytes,
            trash_since=figures.trash.oldest,
            publications_in_trouble=figures.troubled,
        ),
        archive_away=figures.archive_away,
        uploads=UploadsStatus(
            enabled=figures.uploads.off is None,
            reason=figures.uploads.off or (None if connections is None else _why_unconnected(connections)),
            held_until=figures.uploads.held_until,
        ),
        chat=chat_of(figures),
        accounts=[
            AccountStatus(provider=str(each.provider), state=str(each.phase), remedy=each.remedy)
            for each in connections or ()
        ],
        active=active_of(figures, live),
        channels=[_channel(each) for each in figures.channels],
        processes=[ProcessStatus(**_process(each)) for each in figures.processes],
        retry=retry,
    )


def _why_unconnected(connections: Sequence[ConnectionState]) -> str | None:
    """Why no account can be uploaded to; None when one works."""
    own = [each for each in connections if each.provider is Provider.YOUTUBE]
    if any(each.phase is ConnectionPhase.CONNECTED for each in own):
        return None
    if not own:
        return "No YouTube account is connected."
    return " ".join(part for part in (own[0].reason, own[0].remedy) if part) or "The YouTube account does not work."


def chat_of(figures: Figures) -> ChatStatus:
    """How the recording of chat stands, over all processes."""
    enabled = [note for note in figures.recorders if note.enabled]
    silent = next(iter(figures.recorders), _NO_RECORDER)
    failure = next((note.login_failure for note in enabled if note.login_failure is not None), None)
    return ChatStatus(
        enabled=bool(enabled),
        reason="" if enabled else silent.reason,
        remedy="" if enabled else silent.remedy,
        connections=sum(note.connections for note in enabled),
        channels=sum(note.channels for note in enabled),
        joined=sum(note.joined for note in enabled),
        refused={channel: reason for note in enabled for channel, reason in note.refused.items()},
        login_failure=None
        if failure is None
        else ChatLoginFailure(
            account=failure.account, reason=failure.reason, since=failure.since, retry_at=failure.retry_at
        ),
        connection_failure=next((note.connection_failure for note in enabled if note.connection_failure), None),
        spool_bytes=sum(note.spool_bytes for note in enabled),
        problem=next((note.problem for note in enabled if note.problem), None),
        live=[
            LiveChat(
                channel=session.channel,
                id=session.vod_id,
                stream_id=session.stream_id,
                started_at=_instant(session.start_ms),
                messages=session.messages,
                last_message_at=None if session.last_ms is None else _instant(session.last_ms),
            )
            for session in figures.live
        ],
    )


_NO_RECORDER = RecorderNote(
    enabled=False,
    reason="No process that watches channels is alive.",
    remedy="Start the service with the role watch.",
)


def _instant(unix_ms: int) -> datetime:
    return datetime.fromtimestamp(unix_ms / 1000, UTC)


def retry_config_of(settings: PipelineSettings) -> RetryConfig:
    """What `/status` says of the settings."""
    return RetryConfig(
        download_max_attempts=settings.download_max_attempts,
        download_backoff_base_s=settings.download_backoff_base.total_seconds(),
        retry_cooldown_s=settings.retry_cooldown.total_seconds(),
        process_interval_s=settings.process_interval.total_seconds(),
        max_concurrent_downloads=settings.max_concurrent_downloads,
        circuit_failure_threshold=settings.breaker_threshold,
        circuit_open_cooldown_s=settings.breaker_cooldown.total_seconds(),
    )


def timeline_event_of(event: Event) -> TimelineEvent:
    """A line of a timeline."""
    return TimelineEvent(**_event_fields(event))


def feed_event_of(event: Event) -> FeedEvent:
    """A line of a timeline, with whose it is."""
    return FeedEvent(**_event_fields(event), vod_id=event.twitch_vod_id)


def _event_fields(event: Event) -> dict[str, Any]:
    return {
        "at": event.at,
        "kind": event.kind,
        "from_state": event.from_state,
        "to_state": event.to_state,
        "code": event.code,
        "sentence": event.sentence,
        "remedy": event.remedy,
        "corr": event.corr,
        "asked_by": event.asked_by,
    }


def active_of(figures: Figures, live: Mapping[str, LiveProgress]) -> list[ActiveDownload]:
    """What is at work, with the finest progress there is."""
    return [
        ActiveDownload(
            id=vod.twitch_vod_id,
            channel=vod.channel,
            state=vod.state,
            attempt=vod.retries + 1,
            progress=progress_of(vod, live.get(vod.twitch_vod_id)),
        )
        for vod in figures.active
    ]


def processes_of(figures: Figures) -> list[ProcessDetail]:
    """The live processes with all that is known of them."""
    return [ProcessDetail(**_process(each), pid=each.note.pid, holder=each.holder) for each in figures.processes]


def _process(process: LiveProcess) -> dict[str, Any]:
    note = process.note
    return {"host": note.host, "roles": [str(role) for role in note.roles], "slots": dict(note.slots)}


def breaker_of(breaker: Breaker) -> BreakerStatus:
    """A breaker for people and programs."""
    return BreakerStatus(state=breaker.phase, failures=breaker.failures, open_until=breaker.open_until)


def progress_of(vod: StoredVod, live: LiveProgress | None) -> Progress:
    """How far the item is: from its run when that is in this process, else from its row."""
    if live is None:
        done, total, at = vod.download_bytes, vod.download_total, vod.progress_updated_at
        if vod.state is DownloadState.UPLOADING:
            done, total, at = 0, None, vod.updated_at
            if vod.upload is not None:
                done, total, at = vod.upload.committed_bytes, vod.upload.total_bytes, vod.upload.updated_at
        return Progress(
            phase="uploading" if vod.state is DownloadState.UPLOADING else None,
            bytes=done,
            total_bytes=total,
            percent=_percent(done, total),
            rate_bytes_s=None,
            eta_s=None,
            segments_done=None,
            segments_total=None,
            updated_at=at,
        )
    uploads = live.phase == "uploading"
    return Progress(
        phase=live.phase,
        bytes=live.fetched_bytes,
        total_bytes=live.total_bytes,
        # Segments are counted, bytes only estimated until the end.
        percent=_percent(live.fetched_bytes, live.total_bytes)
        if uploads
        else _percent(live.segments_done, live.segments_total or None),
        rate_bytes_s=round(live.rate_bytes_s),
        eta_s=None if live.eta_s is None else round(live.eta_s, 1),
        segments_done=None if uploads else live.segments_done,
        segments_total=live.segments_total or None,
        updated_at=vod.progress_updated_at,
    )


def vod_of(vod: StoredVod, live: LiveProgress | None) -> Vod:
    """An element of the list."""
    return Vod(**_vod_fields(vod, live))


def vod_detail_of(
    vod: StoredVod,
    events: list[Event],
    live: LiveProgress | None,
    manifest: Manifest | None,
    scrubbed: Scrubbed | None,
    publications: Sequence[Publication] = (),
) -> VodDetail:
    """The answer of ``/api/v1/vods/{id}``; ``manifest`` is that of the item's folder."""
    return VodDetail(
        **_vod_fields(vod, live),
        rendition=manifest.rendition if manifest is not None else None,
        ledger=[
            Stretch(start_ms=entry.start_ms, end_ms=entry.end_ms, source=entry.source, reason=entry.reason)
            for entry in manifest.ledger
        ]
        if manifest is not None
        else None,
        publications=[publication_of(each) for each in publications],
        description=vod.description,
        custom_description=vod.custom_description,
        created_at=vod.created_at,
        fixity=Fixity(
            checked_at=scrubbed.checked_at,
            verdict=str(scrubbed.verdict),
            problems=scrubbed.problems,
            remedy=scrubbed.remedy,
        )
        if scrubbed is not None
        else None,
        events=[timeline_event_of(event) for event in events],
    )


def publication_of(publication: Publication) -> PublicationDetail:
    """A publication without the address of its session, which is as secret as a password."""
    return PublicationDetail(
        round=publication.round,
        part=publication.part,
        parts=publication.parts,
        state=publication.state,
        url=None if publication.youtube_id is None else watch_url(publication.youtube_id),
        committed_bytes=publication.committed_bytes,
        size_bytes=publication.size_bytes,
        uploaded_at=publication.uploaded_at,
        processed_at=publication.processed_at,
        checked_at=publication.checked_at,
        next_check_at=publication.next_check_at,
        reason=publication.reason,
    )


def _vod_fields(vod: StoredVod, live: LiveProgress | None) -> dict[str, Any]:
    here = vod.downloaded_path is not None
    base = f"/media/{quote(vod.twitch_vod_id, safe='')}"
    running = vod.state in RUNNING and not vod.processed
    fetching = running and vod.state is not DownloadState.UPLOADING
    return {
        "id": vod.twitch_vod_id,
        "channel": vod.channel,
        "title": vod.title,
        "date": vod.date,
        "duration_s": vod.duration_seconds,
        "state": vod.state,
        "processed": vod.processed,
        "error": _cause(vod),
        "retries": vod.retries,
        "not_before": vod.not_before,
        "progress": progress_of(vod, live) if running else None,
        # While it is fetched again the column counts the new run's bytes.
        "size_bytes": vod.download_bytes if here and not fetching and vod.let_go_at is None else None,
        "completeness": vod.completeness,
        "media": MediaLinks(
            video=f"{base}/video.mp4" if vod.let_go_at is None else None,
            thumbnail=f"{base}/thumbnail.jpg",
            manifest=f"{base}/manifest.json",
        )
        if here
        else MediaLinks(),
        "youtube_url": vod.youtube_url,
        "priority": vod.priority,
        "skip_upload": vod.skip_upload,
        "protected": vod.protected,
        "video_let_go_at": vod.let_go_at,
        "updated_at": vod.updated_at,
    }


def _cause(vod: StoredVod) -> Cause | None:
    if vod.processing_error is None and vod.error_code is None:
        return None
    code = vod.error_code or "error"
    return Cause(code=code, sentence=vod.processing_error or code)


def _shortage(figures: Figures) -> DiskShortage | None:
    found = figures.disk_shortage
    if found is None:
        return None
    missing = (found.needed_bytes - found.free_bytes) / 1e9
    return DiskShortage(
        free_bytes=found.free_bytes,
        needed_bytes=found.needed_bytes,
        id=found.vod_id,
        since=found.since,
        remedy=f"Free {missing:.1f} GB on the disk of DATA_DIR; captures then go on by themselves.",
    )


def _disk(figures: Figures) -> DiskStatus | None:
    if not figures.disk:
        return None
    last, trend = figures.disk[-1], forecast(figures.disk)
    return DiskStatus(
        measured_at=last.at,
        free_bytes=last.free_bytes,
        fills_bytes_per_day=None if trend is None else trend.bytes_per_day,
        full_at=None if trend is None else trend.full_at,
    )


# What nearly all of a thousand channels have; it is not made a thousand times.
_CLOSED = breaker_of(CLOSED)


def _channel(figures: ChannelFigures) -> ChannelStatus:
    return ChannelStatus(
        login=figures.login,
        display_name=figures.display_name,
        breaker=_CLOSED if figures.breaker == CLOSED else breaker_of(figures.breaker),
        **_counts(figures.counts),
        **_averages(figures.averages_ms),
    )


def _counts(counts: QueueCounts) -> dict[str, Any]:
    return {
        "pending": counts.pending,
        "errored": counts.errored,
        "canceled": counts.canceled,
        "processed": counts.processed,
        "queue_depth": counts.depth,
        "incomplete": counts.incomplete,
        "placeholders": counts.placeholders,
        "unmatched": counts.unmatched,
        "states": dict(counts.by_state),
    }


def _averages(averages_ms: Mapping[str, float]) -> dict[str, Any]:
    return {name: averages_ms.get(name) for name in Averages.model_fields}


def _percent(part: int, whole: int | None) -> float | None:
    if not whole:
        return None
    return round(min(100.0, 100.0 * part / whole), 1)
