"""Every error answer of the service, as RFC 9457 problem details, made in this one place.

Besides the members of the RFC a problem carries ``code`` (stable, for programs), ``remedy`` (for people, when
there is one) and ``corr`` (the correlation id, to find the log lines).
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import psycopg
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from sqlalchemy.exc import DBAPIError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from vodkeep.errors import DatabaseUnavailable, RateLimited, RequestRefused, TransientError, UnknownItem, VodkeepError
from vodkeep.telemetry.correlation import current_corr

MEDIA_TYPE = "application/problem+json"

# A database that was away is usually back within seconds; clients that poll should not wait longer.
_RETRY_AFTER_S = 5


class FieldProblem(BaseModel):
    """One part of a request that is not as it must be."""

    where: str = Field(description="The place in the request, such as `query.limit`.")
    problem: str


class Problem(BaseModel):
    """An error answer (RFC 9457, `application/problem+json`)."""

    type: str = Field(description="`urn:vodkeep:problem:` and the code.")
    title: str
    status: int
    detail: str = ""
    code: str
    remedy: str = ""
    corr: str = Field(description="The correlation id of the request, to find it in the log.")
    errors: list[FieldProblem] = Field(default_factory=list)


class ProblemError(Exception):
    """Raised by a route to answer with a problem."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        remedy: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status, self.code, self.detail, self.remedy = status, code, detail, remedy
        self.headers = dict(headers or {})


def problem_response(
    status: int,
    code: str,
    detail: str,
    *,
    remedy: str = "",
    headers: Mapping[str, str] | None = None,
    errors: list[FieldProblem] | None = None,
) -> Response:
    """An answer with ``status``; empty members are left out."""
    problem = Problem(
        type=f"urn:vodkeep:problem:{code}",
        title=HTTPStatus(status).phrase,
        status=status,
        detail=detail,
        code=code,
        remedy=remedy,
        corr=current_corr() or "",
        errors=errors or [],
    )
    content = {name: value for name, value in problem.model_dump().items() if value not in ("", [])}
    merged = {"cache-control": "no-store", **(headers or {})}
    return JSONResponse(content, status_code=status, headers=merged, media_type=MEDIA_TYPE)


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The ``responses`` of a route for OpenAPI: these statuses answer with a problem."""
    return {
        str(status): {
            "description": HTTPStatus(status).phrase,
            "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
        for status in statuses
    }


def install(app: FastAPI) -> None:
    """Answer our errors, the framework's and those of validation with problems."""
    app.add_exception_handler(ProblemError, _on_problem)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(RequestValidationError, _on_invalid_request)
    app.add_exception_handler(VodkeepError, _on_our_error)
    app.add_exception_handler(DBAPIError, _on_database_error)
    framework_document = app.openapi

    def document() -> dict[str, Any]:
        return _with_problems(framework_document())

    app.openapi = document  # type: ignore[method-assign]  # The way that FastAPI's documentation shows.


def _with_problems(document: dict[str, Any]) -> dict[str, Any]:
    """The OpenAPI document with our schema of errors in place of the framework's; changing it twice is harmless."""
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    problem = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas |= problem.pop("$defs")
    schemas["Problem"] = problem
    for operations in document["paths"].values():
        for operation in operations.values():
            if "HTTPValidationError" in str(operation["responses"].get("422")):
                operation["responses"] |= documented(422)
    for theirs in ("HTTPValidationError", "ValidationError"):
        schemas.pop(theirs, None)
    return document


async def _on_problem(_request: Request, error: Exception) -> Response:
    assert isinstance(error, ProblemError)
    return problem_response(error.status, error.code, error.detail, remedy=error.remedy, headers=error.headers)


async def _on_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = HTTPStatus(error.status_code).phrase.lower().replace(" ", "_").replace("-", "_")
    match error.status_code:
        case HTTPStatus.NOT_FOUND:
            detail = "There is nothing at this address."
        case HTTPStatus.METHOD_NOT_ALLOWED:
            detail = f"This address does not answer to {request.method}."
        case _:
            detail = str(error.detail)
    return problem_response(error.status_code, code, detail, headers=error.headers)


async def _on_invalid_request(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    # What was sent is not repeated: it may be long, hostile or secret.
    fields = [
        FieldProblem(where=".".join(str(part) for part in each["loc"]), problem=str(each["msg"]))
        for each in error.errors()
    ]
    return problem_response(422, "invalid_request", "The request is not as it must be.", errors=fields)


async def _on_our_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, VodkeepError)
    return response_for(error)


async def _on_database_error(_request: Request, error: Exception) -> Response:
    """A table that is not there yet is no bug: between the first request and the end of the migration it may be so."""
    cause = getattr(error, "orig", None)
    missing = isinstance(cause, psycopg.errors.UndefinedTable | psycopg.errors.UndefinedColumn)
    if not missing and not str(cause).startswith(("no such table", "no such column")):
        raise error
    return response_for(
        DatabaseUnavailable(
            "The schema of the database is not up to date yet.",
            code="migrations",
            remedy="Wait for the migration, or see the log of the start.",
        )
    )


def response_for(error: VodkeepError) -> Response:
    """The answer to one of our own errors: a person's request that cannot be done, what is done to us, or a bug."""
    headers: dict[str, str] = {}
    match error:
        case UnknownItem():
            status = HTTPStatus.NOT_FOUND
        case RequestRefused():
            status = HTTPStatus.CONFLICT
        case DatabaseUnavailable():
            status = HTTPStatus.SERVICE_UNAVAILABLE
        case RateLimited():
            status = HTTPStatus.TOO_MANY_REQUESTS
        case TransientError():
            status = HTTPStatus.SERVICE_UNAVAILABLE
        case _:
            status = HTTPStatus.INTERNAL_SERVER_ERROR
    if isinstance(error, TransientError):
        wait_s = _RETRY_AFTER_S if error.delay_s is None else max(1, round(error.delay_s))
        headers["retry-after"] = str(wait_s)
    return problem_response(status, error.code, str(error), remedy=error.remedy, headers=headers)
