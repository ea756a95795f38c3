"""``/status`` and ``/admin/monitor``: how things stand."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Literal

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from vodkeep.accounts.service import Accounts
from vodkeep.web.answers import answer_json
from vodkeep.web.problems import documented
from vodkeep.web.reading import StatusReader
from vodkeep.web.routing import new_router, readable
from vodkeep.web.schema import (
    Monitor,
    RetryConfig,
    Status,
    Work,
    active_of,
    breaker_of,
    chat_of,
    processes_of,
    status_of,
)


def status_routes(
    reader: StatusReader,
    work: Work,
    accounts: Accounts,
    *,
    retry: RetryConfig,
    versions: Mapping[str, str],
    started_at: datetime,
    database_kind: Literal["sqlite", "postgresql"],
) -> APIRouter:
    """The routes that show how things stand."""
    router = new_router(tags=["status"])

    @readable(router, "/status", response_model=Status, responses=documented(503))
    async def status(request: Request) -> Response:
        """The service at a glance; a database that does not answer is a 503, never zeros."""
        figures = await reader.figures()
        connections = await accounts.states()
        return answer_json(request, status_of(figures, work.progress(), retry, versions["vodkeep"], connections))

    @readable(router, "/admin/monitor", response_model=Monitor, responses=documented(401, 503))
    async def monitor(request: Request) -> Response:
        """Job timestamps, breakers, what is at work, processes, leases, and versions."""
        figures = await reader.figures()
        return answer_json(
            request,
            Monitor(
                versions=dict(versions),
                started_at=started_at,
                database=database_kind,
                jobs=dict(figures.jobs),
                breakers={each.login: breaker_of(each.breaker) for each in figures.channels},
                running=active_of(figures, work.progress()),
                chat=chat_of(figures),
                processes=processes_of(figures),
                leases=dict(await reader.leases()),
            ),
        )

    return router
