"""Puts the web application together; everything it uses is handed in."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from vodkeep import __version__
from vodkeep.accounts.service import Accounts
from vodkeep.chat.reading import ChatReader
from vodkeep.chat.search import ChatSearch
from vodkeep.chat.vault.replay import EmoteReplay
from vodkeep.clock import Clock
from vodkeep.db.engine import Database
from vodkeep.pipeline.actions import Actions
from vodkeep.pipeline.chat_library import ChatLibrary
from vodkeep.pipeline.publish_plan import Previewer
from vodkeep.pipeline.retention import Retention
from vodkeep.settings import PipelineSettings, WebSettings
from vodkeep.telemetry.log import Logger, get_logger
from vodkeep.telemetry.metrics import Metrics
from vodkeep.web import problems
from vodkeep.web.access import AccessMiddleware, credentials_of
from vodkeep.web.accounts import account_routes
from vodkeep.web.actions import action_routes, form_routes
from vodkeep.web.chat import chat_routes
from vodkeep.web.chat_export import chat_export_routes
from vodkeep.web.cross_site import CrossSiteMiddleware
from vodkeep.web.emotes import emote_routes
from vodkeep.web.events import feed_routes
from vodkeep.web.exchange import CORRELATION_HEADER, ExchangeMiddleware
from vodkeep.web.feed import Feed
from vodkeep.web.health import ReadinessChecks, health_routes
from vodkeep.web.media import media_routes
from vodkeep.web.pages import load_assets, page_routes
from vodkeep.web.publication_preview import preview_routes
from vodkeep.web.reading import StatusReader
from vodkeep.web.retention import retention_routes
from vodkeep.web.schema import LiveProgress, Work, retry_config_of
from vodkeep.web.status import status_routes
from vodkeep.web.throttle import Throttle
from vodkeep.web.vods import vod_routes


class NoWork:
    """The engine of a process that only serves the web."""

    def progress(self) -> Mapping[str, LiveProgress]:
        """Nothing runs here."""
        return {}


@dataclass(frozen=True, slots=True)
class WebDeps:
    """What the application uses."""

    database: Database
    reader: StatusReader
    metrics: Metrics
    web: WebSettings
    pipeline: PipelineSettings
    clock: Clock
    data_dir: Path
    actions: Actions
    chat: ChatReader
    emotes: EmoteReplay
    chats: ChatLibrary
    accounts: Accounts
    previewer: Previewer
    retention: Retention
    work: Work = field(default_factory=NoWork)
    missing_credentials: Sequence[str] = ()  # names of variables without which the service cannot work
    archive_problem: Callable[[], str | None] = lambda: None  # why DATA_DIR is not the archive; may block
    versions: Mapping[str, str] = field(default_factory=dict)  # of tools: "yt-dlp", "ffmpeg", ...
    log: Logger = field(default_factory=lambda: get_logger("http"))


def create_app(deps: WebDeps) -> FastAPI:
    """The application; it starts nothing and holds nothing open."""
    app = FastAPI(
        title="Vodkeep",
        version=__version__,
        description="Keeps Twitch broadcasts. Errors are problem details (RFC 9457).",
        openapi_url="/openapi.json",
        # Both pages load their scripts from another site.
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    problems.install(app)
    retry = retry_config_of(deps.pipeline)
    checks = ReadinessChecks(deps.database, deps.reader, deps.data_dir, deps.missing_credentials, deps.archive_problem)
    for router in (
        health_routes(deps.database, checks, deps.metrics),
        status_routes(
            deps.reader,
            deps.work,
            deps.accounts,
            retry=retry,
            versions={"vodkeep": __version__, **deps.versions},
            started_at=deps.clock.now(),
            database_kind="sqlite" if deps.database.is_sqlite else "postgresql",
        ),
        vod_routes(deps.reader, deps.work, deps.data_dir),
        feed_routes(Feed(deps.reader, deps.work, deps.accounts.states, deps.clock, retry=retry, version=__version__)),
        chat_routes(deps.reader, deps.chat, ChatSearch(deps.chat), deps.clock),
        emote_routes(deps.reader, deps.emotes, deps.clock),
        chat_export_routes(deps.chats),
        account_routes(deps.accounts),
        preview_routes(deps.previewer),
        action_routes(deps.actions, deps.reader, deps.work),
        form_routes(deps.actions, deps.reader),
        retention_routes(deps.retention, deps.reader),
        media_routes(deps.reader, deps.data_dir, deps.log),
        page_routes(load_assets()),
    ):
        # Not include_router: it analyses every handler a second time, and again at its first request.
        app.router.routes.extend(router.routes)
    # Last added is outermost.
    app.add_middleware(CrossSiteMiddleware)
    app.add_middleware(
        AccessMiddleware, credentials=credentials_of(deps.web), throttle=_throttle(deps.web), clock=deps.clock
    )
    if deps.web.cors_allowed_origins:
        # Outside of the login: a browser asks for permission without credentials.
        app.add_middleware(
            CORSMiddleware,
            allow_origins=deps.web.cors_allowed_origins,
            allow_methods=["GET", "HEAD"],
            allow_headers=[
                "Authorization",
                "X-Admin-Token",
                CORRELATION_HEADER,
                "Range",
                "If-None-Match",
                "Last-Event-ID",
            ],
            expose_headers=[CORRELATION_HEADER, "Content-Range", "ETag"],
        )
    app.add_middleware(ExchangeMiddleware, clock=deps.clock, log=deps.log)
    return app


def _throttle(settings: WebSettings) -> Throttle | None:
    if not settings.rate_limit_enabled:
        return None
    return Throttle(settings.rate_limit_requests_per_ip, settings.rate_limit_window)
