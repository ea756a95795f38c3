"""``/healthz``, ``/readyz`` and ``/metrics``: what monitoring asks, open to everybody."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Protocol

import anyio.to_thread
from fastapi import APIRouter
from pydantic import BaseModel, Field
from starlette.responses import JSONResponse, Response

from vodkeep.errors import DatabaseUnavailable
from vodkeep.settings import check_data_dir
from vodkeep.web.problems import documented
from vodkeep.web.reading import Figures, StatusReader
from vodkeep.web.routing import new_router, readable

_NO_STORE = {"cache-control": "no-store"}


class Pinged(Protocol):
    """The database, as far as liveness asks."""

    async def ping(self) -> None:
        """Raise ``DatabaseUnavailable`` unless it answers within about two seconds."""
        ...


class Rendered(Protocol):
    """The metrics, as far as the web shows them."""

    content_type: str

    def render(self) -> bytes:
        """What :attr:`content_type` says."""
        ...


class Health(BaseModel):
    """`/healthz`: the process runs and reaches its database."""

    status: str = Field(description="Always `ok`.")


class Unready(BaseModel):
    """One reason why the service cannot do its work now."""

    code: str = Field(description="`database`, `migrations`, `circuit_open`, `missing_credentials` or `data_dir`.")
    sentence: str
    channel: str | None = None


class Readiness(BaseModel):
    """`/readyz`: whether the service can do its work."""

    status: str = Field(description="`ready` or `not_ready`.")
    reasons: list[Unready]


@dataclass(frozen=True, slots=True)
class ReadinessChecks:
    """What readiness looks at."""

    database: Pinged
    reader: StatusReader
    data_dir: Path
    missing_credentials: Sequence[str]  # names of variables that must be set and are not
    archive_problem: Callable[[], str | None]  # why DATA_DIR is not the archive; may block

    async def reasons(self) -> list[Unready]:
        """Every reason at once; empty when ready."""
        found = [
            Unready(code="missing_credentials", sentence=f"{name} is not set.") for name in self.missing_credentials
        ]
        for sentence in await anyio.to_thread.run_sync(self._disk_problems):
            # The sentence names the path, and this address is open to everybody.
            anonymous = re.sub(f'DATA_DIR is "{re.escape(str(self.data_dir))}" (but|and)', "DATA_DIR", sentence)
            found.append(Unready(code="data_dir", sentence=anonymous))
        try:
            # Bounded by itself; without it a dead server would hold every later question for its own time-out.
            await self.database.ping()
            problem = await self.reader.schema_problem()
            if problem is not None:
                found.append(Unready(code="migrations", sentence=problem))
            else:
                found += _open_breakers(await self.reader.figures())
        except DatabaseUnavailable as error:
            code = "migrations" if error.code == "migrations" else "database"
            found.append(Unready(code=code, sentence="The database is not available."))
        return found

    def _disk_problems(self) -> list[str]:
        away = self.archive_problem()
        return check_data_dir(self.data_dir) if away is None else [away]


def health_routes(database: Pinged, checks: ReadinessChecks, metrics: Rendered) -> APIRouter:
    """The routes of monitoring."""
    router = new_router(tags=["health"])

    @readable(router, "/healthz", response_model=Health, responses=documented(503))
    async def healthz() -> Response:
        """Liveness: 200 when the database answers within about two seconds, else 503."""
        await database.ping()
        return JSONResponse(Health(status="ok").model_dump(), headers=_NO_STORE)

    @readable(
        router,
        "/readyz",
        response_model=Readiness,
        responses={503: {"model": Readiness, "description": "Not ready; `reasons` says why."}},
    )
    async def readyz() -> Response:
        """Readiness: 200 when work can be done, else 503 with every reason."""
        reasons = await checks.reasons()
        answer = Readiness(status="not_ready" if reasons else "ready", reasons=reasons)
        status = HTTPStatus.SERVICE_UNAVAILABLE if reasons else HTTPStatus.OK
        return JSONResponse(answer.model_dump(exclude_none=True), status_code=status, headers=_NO_STORE)

    @readable(
        router,
        "/metrics",
        response_class=Response,
        responses={200: {"content": {"text/plain": {}}, "description": "Prometheus text format."}},
    )
    async def prometheus() -> Response:
        """The metrics in the Prometheus text exposition format."""
        return Response(metrics.render(), headers={**_NO_STORE, "content-type": metrics.content_type})

    return router


def _open_breakers(figures: Figures) -> list[Unready]:
    return [
        Unready(
            code="circuit_open",
            sentence=f"The circuit breaker of {each.login} is {each.breaker.phase.replace('_', ' ')}.",
            channel=each.login,
        )
        for each in figures.channels
        if each.breaker.is_open
    ]
