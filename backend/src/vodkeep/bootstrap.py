"""Builds the object graph: settings in, a service out. Nothing else in the program constructs what it uses."""

from __future__ import annotations

import os
import random
import secrets
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import aiohttp
import anyio
import anyio.to_thread
from starlette.types import ASGIApp

from vodkeep import __version__
from vodkeep.accounts.keeper import TokenKeeper
from vodkeep.accounts.setup import build_accounts, build_keeper
from vodkeep.capture.client import TwitchGql
from vodkeep.capture.download import media_pool
from vodkeep.capture.model import Progress
from vodkeep.capture.resolve import Resolver, YtDlpResolver, find_ytdlp
from vodkeep.capture.service import CaptureService, CaptureTools
from vodkeep.capture.space import free_bytes
from vodkeep.capture.tools import find_ffmpeg
from vodkeep.capture.whole import WantedFilm, download_whole
from vodkeep.catalog.app_token import AppCredentials
from vodkeep.catalog.client import HelixClient
from vodkeep.catalog.exchange import open_session
from vodkeep.catalog.limits import CatalogLimits
from vodkeep.catalog.service import CatalogService
from vodkeep.chat.comments import CommentsClient
from vodkeep.chat.connections import Connections
from vodkeep.chat.database import CHAT, chat_database
from vodkeep.chat.indexer import LEASE as CHAT_INDEX
from vodkeep.chat.indexer import Indexer
from vodkeep.chat.reading import ChatReader
from vodkeep.chat.recording import Recording
from vodkeep.chat.vault.addresses import AllowedAddresses
from vodkeep.chat.vault.client import VaultClient, open_vault_client
from vodkeep.chat.vault.files import ImageFiles
from vodkeep.chat.vault.providers import Addresses, Providers
from vodkeep.chat.vault.replay import EmoteReplay
from vodkeep.chat.vault.service import ItemKeeper, Vault
from vodkeep.clock import Clock
from vodkeep.db.engine import Database, UnitOfWork
from vodkeep.db.leases import LeaseStore
from vodkeep.db.wait import prepare_database
from vodkeep.errors import DatabaseUnavailable, SettingsError
from vodkeep.keep.library import Library
from vodkeep.opening import claim_database, prepare_data_dir
from vodkeep.pipeline.actions import Actions
from vodkeep.pipeline.archive import Archivist
from vodkeep.pipeline.breaker import BreakerPolicy
from vodkeep.pipeline.chat_library import ChatLibrary
from vodkeep.pipeline.chat_login import ChatLogin
from vodkeep.pipeline.chat_recorder import ChatRecorder, KeptRecorder, NoRecorder, note_of
from vodkeep.pipeline.chat_runner import ROUNDS, ChatRunner, ChatStage
from vodkeep.pipeline.chat_stage import ChatKeeper
from vodkeep.pipeline.circuits import Circuits
from vodkeep.pipeline.due import UploadLimits
from vodkeep.pipeline.engines import build_engine, slots_of
from vodkeep.pipeline.identity import ArchiveMark
from vodkeep.pipeline.live_watch import LiveWatch, WatchPolicy
from vodkeep.pipeline.metrics import NoMetrics, PipelineMetrics
from vodkeep.pipeline.model import Stage
from vodkeep.pipeline.ownership import ALONE, SHARED, Ownership, new_holder
from vodkeep.pipeline.publication_watch import LEASE as PUBLICATION_WATCH
from vodkeep.pipeline.publication_watch import PublicationWatch
from vodkeep.pipeline.publish_plan import Previewer
from vodkeep.pipeline.publish_runner import PublishRunner
from vodkeep.pipeline.publish_stage import Publisher
from vodkeep.pipeline.queue_watch import watch_queue
from vodkeep.pipeline.reconcile import Reconciler
from vodkeep.pipeline.recorder_note import RecorderNote, RecorderNotes
from vodkeep.pipeline.recorder_plan import Disabled, plan_recorder
from vodkeep.pipeline.retention import LEASE as RETENTION
from vodkeep.pipeline.retention import Retention, build_retention
from vodkeep.pipeline.retry import RECHECK, RetryPolicy
from vodkeep.pipeline.roles import ALL_ROLES, ProcessNote, Role, fingerprint
from vodkeep.pipeline.running import Bell
from vodkeep.pipeline.scrub import LEASE as SCRUB
from vodkeep.pipeline.scrub import Scrubber
from vodkeep.pipeline.service import PipelineService
from vodkeep.pipeline.stages import CaptureRunner
from vodkeep.pipeline.youtubes import YouTubes
from vodkeep.publish.calls import TokenSource
from vodkeep.publish.client import YouTube
from vodkeep.publish.metadata import PublishTemplates
from vodkeep.publish.quota_store import QuotaLedger
from vodkeep.publish.split import Limits
from vodkeep.rate import RateLimiter
from vodkeep.settings import Settings
from vodkeep.telemetry.log import Logger, get_logger
from vodkeep.telemetry.metrics import Metrics
from vodkeep.web.access import bind_address
from vodkeep.web.app import WebDeps, create_app
from vodkeep.web.reading import DatabaseStatusReader, upload_rules_of, why_no_uploads
from vodkeep.web.schema import LiveProgress
from vodkeep.web.server import Listening, serve

BACKFILL = "backfill"
"""The lease of the process that reads the channels' whole lists."""

TOKENS = "tokens"
"""The lease of the process that renews tokens ahead of their end."""

EMOTES = "emotes"
"""The lease of the process that keeps emotes and badges."""

# Before the database is waited for again, when it went away right after it had answered.
_DATABASE_WAIT_S = 1.0

USER_AGENT = f"vodkeep/{__version__}"


@dataclass(frozen=True, slots=True)
class Service:
    """The running parts of ``vodkeep run``."""

    settings: Settings
    roles: frozenset[Role]
    mark: ArchiveMark
    database: Database
    chat_database: Database
    ownership: Ownership
    bell: Bell
    catalog: CatalogService
    recorder: KeptRecorder | NoRecorder
    pipeline: PipelineService
    vault: Vault | None  # None: switched off
    retention: Retention
    watch: PublicationWatch
    scrubber: Scrubber
    keeper: TokenKeeper
    app: ASGIApp
    clock: Clock
    log: Logger


@asynccontextmanager
async def open_service(settings: Settings, clock: Clock, roles: frozenset[Role] = ALL_ROLES) -> AsyncIterator[Service]:
    """Everything of one process of the service, connected but not started; closed in reverse at the end of the block.

    Raises `SettingsError` when DATA_DIR cannot be used, another service uses the same SQLite file, or nobody could do
    what this process does not.
    """
    _check_roles(settings, roles)
    prepare_data_dir(settings)
    with claim_database(settings):
        database = Database(settings.database.url())
        chat = chat_database(database)
        try:
            async with (
                open_session() as session,
                open_vault_client(AllowedAddresses(settings.emotes.base_urls)) as outside,
            ):
                yield _build_service(settings, clock, roles, database, chat, session, outside)
        finally:
            chat.dispose()
            database.dispose()


def _check_roles(settings: Settings, roles: frozenset[Role]) -> None:
    if settings.database.url().get_backend_name() == "sqlite" and roles != ALL_ROLES:
        missing = ", ".join(role for role in Role if role not in roles)
        raise SettingsError(
            [
                f"SQLite belongs to one process, and nobody would do the rest ({missing}): leave --roles out, or name a"
                " PostgreSQL database in DB_DSN, which several processes can share."
            ]
        )


def _build_service(
    settings: Settings,
    clock: Clock,
    roles: frozenset[Role],
    database: Database,
    chat: Database,
    session: aiohttp.ClientSession,
    outside: VaultClient,
) -> Service:
    rng = random.Random()
    metrics = Metrics()
    channels = settings.twitch.channels
    for channel in channels:
        metrics.expect(channel)
    circuits = Circuits(log=get_logger("vod_process"), metrics=metrics)
    mark = ArchiveMark(settings.storage.data_dir)
    archivist = build_archivist(settings, clock, session, mark)
    helix = build_helix(settings, session, clock, rng)
    vault = build_vault(settings, chat, outside, helix, mark, clock, rng) if settings.emotes.enabled else None
    replay = EmoteReplay(chat, ImageFiles(settings.storage.data_dir), get_logger("chat_emotes"))
    emotes = None if vault is None else ItemKeeper(vault, replay, get_logger("chat_emotes"))
    keeper = build_chat_keeper(settings, clock, database, chat, session, mark, emotes)
    runner = build_runner(settings, clock, database, archivist, keeper, metrics=metrics, circuits=circuits)
    chat_runner = build_chat_runner(
        settings, clock, database, keeper, metrics=metrics, publishes=settings.uploads.enabled
    )
    catalog = CatalogService(
        database,
        helix,
        clock,
        channels=channels,
        limits=CatalogLimits.from_settings(settings.catalog.max_vods, settings.catalog.max_age_days),
        backfill_interval=settings.catalog.backfill_interval,
        rng=rng,
        log=get_logger("vod_catalog"),
    )
    ownership = Ownership(
        database,
        clock,
        get_logger("vod_process"),
        new_holder(),
        note=_note(settings, roles),
        # On SQLite the lock of the file sees to it that nobody else is there.
        pace=ALONE if database.is_sqlite else SHARED,
    )
    bell = Bell()
    tokens = build_keeper(settings, database, clock)
    retention = build_retention(settings.retention, database, settings.storage.data_dir, clock)
    scrubber = Scrubber(
        database=database,
        chat=chat,
        library=settings.storage.data_dir,
        clock=clock,
        log=get_logger("scrub"),
        interval=settings.scrub.interval,
        rate_bytes_s=settings.scrub.rate,
        require_archive=mark.require,
        repairs=settings.scrub.repair,
    )
    youtubes = build_youtubes(settings, clock, database, tokens, session)
    publish_runner = build_publish_runner(settings, clock, database, youtubes, metrics=metrics)
    engine = build_engine(
        settings,
        database,
        {Stage.CAPTURE: runner, Stage.CHAT: chat_runner, Stage.PUBLISH: publish_runner},
        bell,
        clock,
        get_logger("vod_process"),
        holder=ownership.holder,
        works=Role.WORK in roles,
    )

    reconciler = Reconciler(
        database,
        chat,
        helix,
        clock,
        get_logger("chat_recorder"),
        metrics,
        window=settings.chat.reconcile_window,
        wake_planner=bell.ring,
    )
    recorder = build_recorder(settings, clock, database, chat, helix, reconciler, ownership, metrics)

    async def discover(channel: str) -> int:
        found = await catalog.discover(channel)
        await reconciler.catalogued(channel)
        return found.new

    pipeline = PipelineService(
        database=database,
        engine=engine,
        bell=bell,
        circuits=circuits,
        clock=clock,
        log=get_logger("vod_process"),
        metrics=metrics,
        channels=channels,
        discover=discover,
        interval=settings.pipeline.process_interval,
        owner=ownership,
        folders=archivist,
        watches=Role.WATCH in roles,
        publishes=settings.uploads.enabled,
        upload_limits=UploadLimits(settings.uploads.daily_limit, settings.uploads.backfill_daily_limit),
        free_space=partial(free_bytes, settings.storage.data_dir),
        reserve_bytes=settings.storage.disk_reserve,
        archive_problem=mark.problem,
    )
    app = create_app(
        WebDeps(
            database=database,
            reader=DatabaseStatusReader(database, channels, chat, upload_rules_of(settings.uploads, clock)),
            metrics=metrics,
            web=settings.web,
            pipeline=settings.pipeline,
            clock=clock,
            data_dir=settings.storage.data_dir,
            actions=Actions(database, clock, get_logger("vod_process"), stop=engine.cancel, wake=bell.ring),
            chat=ChatReader(chat),
            emotes=replay,
            chats=ChatLibrary(database, chat, settings.storage.data_dir),
            accounts=build_accounts(settings, database, clock),
            previewer=build_previewer(settings, database),
            retention=retention,
            work=_Work(runner, publish_runner),
            missing_credentials=missing_credentials(settings) if Role.WATCH in roles else (),
            archive_problem=mark.problem,
        )
    )
    return Service(
        settings=settings,
        roles=roles,
        mark=mark,
        database=database,
        chat_database=chat,
        ownership=ownership,
        bell=bell,
        catalog=catalog,
        recorder=recorder,
        pipeline=pipeline,
        vault=vault,
        retention=retention,
        watch=build_watch(settings, clock, database, youtubes, retention),
        keeper=tokens,
        scrubber=scrubber,
        app=app,
        clock=clock,
        log=get_logger("service"),
    )


def build_recorder(
    settings: Settings,
    clock: Clock,
    database: Database,
    chat: Database,
    helix: HelixClient,
    reconciler: Reconciler,
    ownership: Ownership,
    metrics: Metrics,
) -> KeptRecorder | NoRecorder:
    """What records chat in this process, or says that it is not recorded."""
    log = get_logger("chat_recorder")
    plan = plan_recorder(settings)
    if isinstance(plan, Disabled):
        note = RecorderNote(enabled=False, reason=plan.reason, remedy=plan.remedy)
        return NoRecorder(plan, RecorderNotes(database, clock, ownership.holder, lambda: note), log)
    token = settings.twitch.oauth_token
    login = ChatLogin(
        build_keeper(settings, database, clock),
        settings.twitch.bot_username,
        None if token is None else token.get_secret_value(),
        log,
    )

    def build() -> ChatRecorder:
        # Each has a journal of its own, in a folder of its own: the name may never come back.
        name = f"{ownership.holder.replace(':', '-')}-{secrets.token_hex(3)}"
        recording = Recording(chat, settings.storage.data_dir, name, clock, log, metrics)
        connections = Connections(recording, settings.twitch.irc_url, login, clock, random.Random(), log)
        watch = LiveWatch(
            database=database,
            chat=chat,
            helix=helix,
            recorder=recording,
            joins=connections,
            reconciler=reconciler,
            owner=ownership,
            clock=clock,
            log=log,
            metrics=metrics,
            channels=plan.channels,
            policy=WatchPolicy(
                settings.chat.auto_poll_interval, settings.chat.reconcile_delay, settings.chat.reconcile_window
            ),
            into_vod=plan.into_vod,
        )
        tell = partial(note_of, connections, recording)
        return ChatRecorder(recording, connections, watch, RecorderNotes(database, clock, ownership.holder, tell))

    return KeptRecorder(build, clock, log)


async def run_service(service: Service) -> None:
    """Serve and work until canceled; then jobs keep what they have and requests end.

    The web answers from the first moment, also while the database is still being waited for.
    """
    _announce(service)
    async with anyio.create_task_group() as tasks:
        if Role.WEB in service.roles:
            address = bind_address(service.settings.web)
            if address.warning:
                service.log.warning(address.warning)
            listening: Listening = await tasks.start(partial(serve, service.app, address.host, address.port))
            service.log.info("listening", url=listening.url)
        database, ownership = service.database, service.ownership
        await _prepare(service)
        async with ownership, anyio.create_task_group() as owned:
            if Role.WATCH in service.roles:
                owned.start_soon(watch_queue, database, service.clock, service.bell)
                owned.start_soon(ownership.keep, BACKFILL, service.catalog.run_backfill_forever)
                indexer = Indexer(service.chat_database, service.clock, get_logger("chat_index"))
                owned.start_soon(ownership.keep, CHAT_INDEX, indexer.run)
                owned.start_soon(ownership.keep, RETENTION, service.retention.run_forever)
                owned.start_soon(ownership.keep, PUBLICATION_WATCH, service.watch.run_forever)
                if service.settings.scrub.interval:
                    owned.start_soon(ownership.keep, SCRUB, service.scrubber.run_forever)
                if service.vault is not None:
                    owned.start_soon(ownership.keep, EMOTES, service.vault.run)
                owned.start_soon(service.recorder.run)
                owned.start_soon(ownership.keep, TOKENS, service.keeper.run)
            service.log.info("started", roles=_spelled(service.roles), holder=ownership.holder)
            await service.pipeline.run()


async def _prepare(service: Service) -> None:
    """Wait for the database, and see to it that it and DATA_DIR are one archive; raises `SettingsError`."""
    database, clock = service.database, service.clock
    while True:
        await prepare_database(database, clock, service.log)
        await prepare_database(service.chat_database, clock, service.log, CHAT)
        try:
            await anyio.to_thread.run_sync(service.mark.claim, database, clock.now())
            if database.is_sqlite:
                await database.run(_release_all)
        except DatabaseUnavailable as error:
            service.log.warning("the database is away", error=str(error), remedy=error.remedy)
            await clock.sleep(_DATABASE_WAIT_S)
        else:
            return


def _release_all(unit: UnitOfWork) -> None:
    """Free what an earlier process left; on SQLite this one is the only one alive."""
    LeaseStore(unit.connection).release_all()
    unit.commit()


def _note(settings: Settings, roles: frozenset[Role]) -> str:
    """What this process says about itself to the others."""
    slots = {str(stage): count for stage, count in slots_of(settings).items()} if Role.WORK in roles else {}
    return ProcessNote(
        host=socket.gethostname(),
        pid=os.getpid(),
        roles=tuple(role for role in Role if role in roles),
        slots=slots,
        channels=fingerprint(settings.twitch.channels) if Role.WATCH in roles else "",
    ).write()


def _spelled(roles: frozenset[Role]) -> str:
    return ",".join(role for role in Role if role in roles)


def build_helix(settings: Settings, session: aiohttp.ClientSession, clock: Clock, rng: random.Random) -> HelixClient:
    """The client of Twitch's API."""
    return HelixClient(
        session,
        credentials=app_credentials(settings),
        api_url=settings.twitch.api_url,
        auth_url=settings.twitch.auth_url,
        clock=clock,
        rng=rng,
        log=get_logger("twitch_helix"),
    )


def build_vault(
    settings: Settings,
    chat: Database,
    outside: VaultClient,
    helix: HelixClient,
    mark: ArchiveMark,
    clock: Clock,
    rng: random.Random,
) -> Vault:
    """What keeps emotes and badges; ``outside`` is its way to the providers."""
    emotes = settings.emotes
    addresses = Addresses(
        helix_api=settings.twitch.api_url,
        twitch_cdn=emotes.twitch_cdn_url,
        bttv_api=emotes.bttv_api_url,
        bttv_cdn=emotes.bttv_cdn_url,
        ffz_api=emotes.ffz_api_url,
        seventv_api=emotes.seventv_api_url,
    )
    return Vault(
        chat,
        ImageFiles(settings.storage.data_dir, mark.problem),
        outside,
        Providers(outside, helix, addresses),
        clock,
        rng,
        get_logger("chat_emotes"),
    )


def build_item_keeper(
    settings: Settings,
    clock: Clock,
    chat: Database,
    session: aiohttp.ClientSession,
    outside: VaultClient,
    mark: ArchiveMark,
) -> ItemKeeper | None:
    """What writes an item's emotes, for who keeps a single item; ``None`` when emotes are switched off."""
    if not settings.emotes.enabled:
        return None
    rng, log = random.Random(), get_logger("chat_emotes")
    vault = build_vault(settings, chat, outside, build_helix(settings, session, clock, rng), mark, clock, rng)
    return ItemKeeper(vault, EmoteReplay(chat, ImageFiles(settings.storage.data_dir), log), log)


def build_youtubes(
    settings: Settings, clock: Clock, database: Database, tokens: TokenKeeper, session: aiohttp.ClientSession
) -> YouTubes:
    """The YouTube of each account that is connected; they share one quota and one limit on bytes per second."""
    youtube, uploads = settings.youtube, settings.uploads
    quota = QuotaLedger(
        database,
        project=youtube.client_id or "",
        units=youtube.quota,
        uploads=youtube.upload_quota,
        clock=clock,
    )
    limiter = RateLimiter(uploads.rate_limit)

    def build(source: TokenSource) -> YouTube:
        return YouTube(
            session,
            tokens=source,
            spending=quota,
            api_url=youtube.api_url,
            clock=clock,
            rng=random.Random(),
            limiter=limiter,
            chunk_bytes=uploads.chunk_size,
        )

    return YouTubes(tokens, build)


def build_watch(
    settings: Settings, clock: Clock, database: Database, youtubes: YouTubes, retention: Retention
) -> PublicationWatch:
    """What asks YouTube about the videos that were uploaded."""
    return PublicationWatch(
        database,
        settings.storage.data_dir,
        youtubes.of,
        clock,
        get_logger("publication_watch"),
        proven_after=settings.retention.proven_after,
        restore=retention.restore_unproven,
    )


def build_publish_runner(
    settings: Settings,
    clock: Clock,
    database: Database,
    youtubes: YouTubes,
    *,
    metrics: PipelineMetrics | None = None,
) -> PublishRunner:
    """The runner of the publish stage."""
    log = get_logger("vod_upload")
    ffmpeg = find_ffmpeg(settings.tools.ffmpeg_path)
    uploads = settings.uploads
    return PublishRunner(
        database=database,
        publish=Publisher(
            database,
            youtubes.of,
            library=settings.storage.data_dir,
            templates=publish_templates(settings),
            limits=part_limits(settings),
            ffmpeg=ffmpeg.path if ffmpeg is not None else "ffmpeg",  # Its absence is told when it is used.
            log=log,
        ),
        clock=clock,
        log=log,
        metrics=metrics or NoMetrics(),
        retry=RetryPolicy(uploads.max_attempts, uploads.backoff_base, settings.pipeline.retry_cooldown),
        rng=random.Random(),
    )


def build_archivist(
    settings: Settings,
    clock: Clock,
    session: aiohttp.ClientSession,
    mark: ArchiveMark,
    wrap_resolver: Callable[[Resolver], Resolver] = lambda resolver: resolver,
) -> Archivist:
    """The capture stage's work: resolver, fetcher, muxer and library."""
    log = get_logger("vod_download")
    find_program = partial(find_ytdlp, settings.tools.ytdlp_path, settings.storage.data_dir)
    resolver = YtDlpResolver(
        program=find_program,
        args=settings.tools.ytdlp_args,
        existence=TwitchGql(session, settings.twitch.gql_url, settings.twitch.gql_client_id or ""),
        log=log,
        qualities=settings.pipeline.qualities,
    )
    ffmpeg = find_ffmpeg(settings.tools.ffmpeg_path)
    ffmpeg_path = ffmpeg.path if ffmpeg is not None else "ffmpeg"  # Its absence is told when it is used.

    connections = settings.pipeline.capture_connections

    async def download_otherwise(wanted: WantedFilm, target: Path, on_progress: Callable[[Progress], None]) -> None:
        await download_whole(
            find_program(),
            settings.tools.ytdlp_args,
            wanted,
            target,
            ffmpeg=ffmpeg_path,
            on_progress=on_progress,
            log=log,
            connections=connections,
            rate_limit=settings.pipeline.download_rate_limit,
        )

    capture = CaptureService(
        settings.storage.data_dir,
        CaptureTools(
            resolver=wrap_resolver(resolver),
            download_whole=download_otherwise,
            pool=media_pool(connections * settings.pipeline.max_concurrent_downloads),
            rate=RateLimiter(settings.pipeline.download_rate_limit),
            connections=connections,
            user_agent=USER_AGENT,
            clock=clock,
            log=log,
            reserve_bytes=settings.storage.disk_reserve,
        ),
    )
    library = Library(settings.storage.data_dir, settings.storage.folder_template)
    return Archivist(
        capture=capture,
        library=library,
        clock=clock,
        log=log,
        require_archive=mark.require,
        media_server_files=settings.storage.media_server_files,
    )


def build_runner(
    settings: Settings,
    clock: Clock,
    database: Database,
    archivist: Archivist,
    chat: ChatStage,
    *,
    metrics: PipelineMetrics | None = None,
    circuits: Circuits | None = None,
    retry: RetryPolicy | None = None,
    heeds_breaker: bool = True,
) -> CaptureRunner:
    """The runner of the capture stage."""
    metrics = metrics or NoMetrics()
    log = get_logger("vod_download")
    return CaptureRunner(
        database=database,
        capture=archivist,
        clock=clock,
        log=log,
        metrics=metrics,
        circuits=circuits or Circuits(log=log, metrics=metrics),
        retry=retry or retry_policy(settings),
        breaker=BreakerPolicy(settings.pipeline.breaker_threshold, settings.pipeline.breaker_cooldown),
        rng=random.Random(),
        chat=chat,
        heeds_breaker=heeds_breaker,
    )


def build_chat_keeper(
    settings: Settings,
    clock: Clock,
    database: Database,
    chat: Database,
    session: aiohttp.ClientSession,
    mark: ArchiveMark,
    emotes: ItemKeeper | None,
) -> ChatKeeper:
    """The chat stage's work; ``chat`` is the database of chat."""
    log = get_logger("vod_chat")
    comments = CommentsClient(
        session,
        gql_url=settings.twitch.gql_url,
        client_id=settings.twitch.gql_client_id or "",
        clock=clock,
        rng=random.Random(),
        log=log,
    )
    return ChatKeeper(
        database,
        chat,
        comments if settings.chat.vod_import else None,
        library=settings.storage.data_dir,
        require_archive=mark.require,
        log=log,
        emotes=emotes,
    )


def build_chat_runner(
    settings: Settings,
    clock: Clock,
    database: Database,
    chat: ChatStage,
    *,
    metrics: PipelineMetrics | None = None,
    retry: RetryPolicy | None = None,
    rounds: int = ROUNDS,
    publishes: bool = False,
) -> ChatRunner:
    """The runner of the chat stage."""
    return ChatRunner(
        database=database,
        chat=chat,
        clock=clock,
        log=get_logger("vod_chat"),
        metrics=metrics or NoMetrics(),
        retry=retry or retry_policy(settings),
        rng=random.Random(),
        rounds=rounds,
        publishes=publishes,
    )


def build_previewer(settings: Settings, database: Database) -> Previewer:
    """What answers how an item would look on YouTube."""
    return Previewer(database, settings.storage.data_dir, publish_templates(settings), part_limits(settings))


def publish_templates(settings: Settings) -> PublishTemplates:
    """What YouTube is told about every broadcast."""
    videos = settings.videos
    return PublishTemplates(
        title=videos.title_template,
        description=videos.description_template,
        tags=videos.tags,
        playlist=videos.playlist,
        privacy=videos.privacy,
        category_id=videos.category,
        made_for_kids=videos.made_for_kids,
        language=videos.language,
        channel_playlists=dict(videos.channel_playlists),
        channel_privacies=dict(videos.channel_privacies),
        channel_categories=dict(videos.channel_categories),
    )


def part_limits(settings: Settings) -> Limits:
    """The most that one video may be."""
    uploads = settings.uploads
    return Limits(round(uploads.part_duration.total_seconds() * 1000), uploads.part_size)


def retry_policy(settings: Settings) -> RetryPolicy:
    """How often and when a download is tried again."""
    pipeline = settings.pipeline
    return RetryPolicy(
        max_attempts=pipeline.download_max_attempts,
        backoff_base=pipeline.download_backoff_base,
        cooldown=pipeline.retry_cooldown,
        # A broadcast ends some time; looking each cycle would only burden Twitch.
        recheck=min(5 * pipeline.process_interval, RECHECK),
    )


class _Work:
    """What runs in this process, of all stages that tell how far they are."""

    def __init__(self, capture: CaptureRunner, publish: PublishRunner) -> None:
        self._capture = capture
        self._publish = publish

    def progress(self) -> Mapping[str, LiveProgress]:
        """An item is in one stage at a time."""
        return {**self._capture.progress(), **self._publish.progress()}


def missing_credentials(settings: Settings) -> tuple[str, ...]:
    """The variables without which new broadcasts cannot be found."""
    needed: Mapping[str, object] = {
        "TWITCH_CHANNEL": settings.twitch.channels,
        "TWITCH_CLIENT_ID": settings.twitch.client_id,
        "TWITCH_CLIENT_SECRET": settings.twitch.client_secret,
    }
    return tuple(name for name, value in needed.items() if not value)


def app_credentials(settings: Settings) -> AppCredentials | None:
    """Our application at Twitch; None when it is not set up."""
    twitch = settings.twitch
    if not twitch.client_id or not twitch.client_secret:
        return None
    return AppCredentials(twitch.client_id, twitch.client_secret.get_secret_value())


def _announce(service: Service) -> None:
    """Say at start what a person should know before looking for it in vain."""
    settings, log = service.settings, service.log
    for warning in settings.warnings:
        log.warning(warning)
    missing = missing_credentials(settings)
    if missing:
        log.warning("no new broadcasts will be found", missing=", ".join(missing))
    log.info(
        "starting",
        version=__version__,
        roles=_spelled(service.roles),
        channels=", ".join(settings.twitch.channels) or "none",
        data_dir=str(settings.storage.data_dir),
        database="sqlite" if service.database.is_sqlite else "postgresql",
    )
    if (reason := why_no_uploads(settings.uploads)) is not None:
        log.info("nothing is uploaded", reason=reason)
