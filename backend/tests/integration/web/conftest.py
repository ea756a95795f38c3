"""A served application: the real one, over real sockets, on either database."""

from __future__ import annotations

import io
import logging
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import anyio
import pytest
import structlog

from support.clock import FakeClock
from support.web_site import Serve, Site
from vodkeep.accounts.setup import build_accounts
from vodkeep.bootstrap import build_previewer
from vodkeep.chat.database import chat_database
from vodkeep.chat.reading import ChatReader
from vodkeep.chat.vault.files import ImageFiles
from vodkeep.chat.vault.replay import EmoteReplay
from vodkeep.db.engine import Database
from vodkeep.pipeline.actions import Actions
from vodkeep.pipeline.chat_library import ChatLibrary
from vodkeep.pipeline.retention import build_retention
from vodkeep.settings import load_settings
from vodkeep.telemetry.log import configure_logging, forget_masked_values, get_logger
from vodkeep.telemetry.metrics import Metrics
from vodkeep.web.app import WebDeps, create_app
from vodkeep.web.reading import DatabaseStatusReader, upload_rules_of
from vodkeep.web.server import serve


@pytest.fixture
def log_stream() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    stream = io.StringIO()
    configure_logging("debug", "json", stream)
    yield stream
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()
    forget_masked_values()


async def _nothing_runs(_item_id: str) -> bool:
    return True


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    path = tmp_path / "archive"
    path.mkdir()
    return path


@pytest.fixture
def serve_site(database: Database, data_dir: Path, clock: FakeClock, log_stream: io.StringIO) -> Iterator[Serve]:
    """Make a site: ``async with serve_site(env={...}, work=...) as site``."""

    @asynccontextmanager
    async def running(
        *, env: Mapping[str, str] | None = None, on: Database | None = None, app: Any = None, **changes: Any
    ) -> AsyncIterator[Site]:
        settings = load_settings({"DATA_DIR": str(data_dir), "TWITCH_CHANNEL": "otter", **(env or {})}, None)
        used = on or database
        deps = replace(
            WebDeps(
                database=used,
                reader=DatabaseStatusReader(
                    used, settings.twitch.channels, uploads=upload_rules_of(settings.uploads, clock)
                ),
                metrics=Metrics(),
                web=settings.web,
                pipeline=settings.pipeline,
                clock=clock,
                data_dir=data_dir,
                actions=Actions(used, clock, get_logger("vod_process"), stop=_nothing_runs, wake=lambda: None),
                chat=ChatReader(chat_database(used)),
                chats=ChatLibrary(used, chat_database(used), data_dir),
                previewer=build_previewer(settings, used),
                retention=build_retention(settings.retention, used, data_dir, clock),
                accounts=build_accounts(settings, used, clock),
                emotes=EmoteReplay(chat_database(used), ImageFiles(data_dir), get_logger("chat_emotes")),
            ),
            **changes,
        )
        async with anyio.create_task_group() as group, aiohttp.ClientSession(auto_decompress=False) as http:
            listening = await group.start(serve, app or create_app(deps), "127.0.0.1", 0)
            yield Site(http, listening, deps, log_stream)
            group.cancel_scope.cancel()

    yield running
    database.dispose()
