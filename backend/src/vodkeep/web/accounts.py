"""``/api/v1/accounts``: which accounts are connected, connecting and disconnecting them.

Consent ends with a page of ours under the redirect address, which the settings fix: nothing in a request decides
where a browser is sent, except to the provider's own page. The cookie that binds a consent to its browser is seen by
these routes only.
"""

from __future__ import annotations

from datetime import datetime
from html import escape
from typing import Annotated, Literal

from fastapi import APIRouter, Body, Path, Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from vodkeep.accounts.model import ConnectionState, Provider
from vodkeep.accounts.service import Accounts, DevicePhase
from vodkeep.errors import DatabaseUnavailable, RequestRefused, VodkeepError
from vodkeep.web.answers import answer_json
from vodkeep.web.problems import documented
from vodkeep.web.routing import new_router, readable

PREFIX = "/api/v1/accounts"
_COOKIE = "vodkeep_consent"
_LONGEST = 4096

Which = Annotated[Literal["twitch", "youtube"], Path(description="`twitch` or `youtube`.")]
ChannelName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_]{0,50}$")]
Word = Annotated[str, Query(max_length=_LONGEST)]


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class ForChannel(_Request):
    """For which channel's broadcasts an account is."""

    channel: ChannelName = Field(default="", description="Its login; empty for all that have no account of their own.")


class Account(BaseModel):
    """A connection; tokens are never shown."""

    provider: str
    channel: str = Field(description="YouTube: the channel it is for, empty for all. Twitch: the account.")
    account: str = Field(description="Whose it is, as far as the provider says.")
    state: str = Field(description="`connected`, `failing` (tried again), `refused`, `expired` or `unreadable`.")
    encrypted: bool
    key: str = Field(description="`current`, `old` (run `vodkeep tokens migrate`), `unknown` or `none`.")
    expires_at: datetime | None = Field(description="When the access token ends.")
    renewed_by_itself: bool
    scopes: list[str]
    reason: str
    remedy: str
    next_try_at: datetime | None
    updated_at: datetime


class ProviderSetup(BaseModel):
    """Whether a provider can be connected on the page."""

    provider: str
    missing: list[str] = Field(description="The variables to be set before it can be.")


class AccountList(BaseModel):
    """The connections, and what could be connected."""

    accounts: list[Account]
    providers: list[ProviderSetup]


class Consent(BaseModel):
    """A consent that was begun; the browser goes on at the address."""

    address: str
    expires_at: datetime


class Device(BaseModel):
    """A code that a person types at the provider."""

    id: str = Field(description="To ask with how it stands; keep it to yourself.")
    user_code: str
    address: str
    interval_s: int
    expires_at: datetime


class DeviceAsked(_Request):
    """Which code is asked about."""

    id: Annotated[str, Field(min_length=20, max_length=100)]


class DeviceAnswer(BaseModel):
    """How it stands with a code."""

    state: DevicePhase
    wait_s: int = Field(description="Ask again after so many seconds.")
    account: str


class Ended(BaseModel):
    """A connection that is gone."""

    warning: str = Field(description="Not empty when the provider could not be told.")
    remedy: str


def account_of(state: ConnectionState) -> Account:
    """A connection as programs get it."""
    return Account(
        provider=str(state.provider),
        channel=state.channel,
        account=state.account,
        state=str(state.phase),
        encrypted=state.encrypted,
        key=state.key,
        expires_at=state.expires_at,
        renewed_by_itself=state.renewed_by_itself,
        scopes=list(state.scopes),
        reason=state.reason,
        remedy=state.remedy,
        next_try_at=state.next_try_at,
        updated_at=state.updated_at,
    )


def account_routes(accounts: Accounts) -> APIRouter:
    """The routes over accounts."""
    router = new_router(prefix=PREFIX, tags=["accounts"])
    refusals = documented(401, 403, 409, 413, 415, 422, 503)

    @readable(router, "", response_model=AccountList, responses=documented(401, 503))
    async def listed(request: Request) -> Response:
        """Which accounts are connected, and what is missing to connect one."""
        return answer_json(
            request,
            AccountList(
                accounts=[account_of(state) for state in await accounts.states()],
                providers=[ProviderSetup(provider=each, missing=list(accounts.missing(each))) for each in Provider],
            ),
        )

    @router.post("/{provider}/start", response_model=Consent, responses=refusals)
    async def start(provider: Which, body: Annotated[ForChannel | None, Body()] = None) -> Response:
        """Begin a consent: a cookie for this browser, and the provider's page for it to go to."""
        begun = await accounts.begin(Provider(provider), "" if body is None else body.channel.lower())
        response = _answer(Consent(address=begun.address, expires_at=begun.expires_at))
        response.set_cookie(
            _cookie(provider),
            begun.browser,
            max_age=600,
            path=PREFIX,
            secure=begun.secure,
            httponly=True,
            # Not strict: the browser comes back from the provider's page.
            samesite="lax",
        )
        return response

    @router.get(
        "/{provider}/callback",
        response_class=HTMLResponse,
        responses={400: {"description": "Not connected; the page says why."}, **documented(401, 422)},
    )
    async def callback(
        request: Request, provider: Which, state: Word = "", code: Word = "", error: Word = ""
    ) -> Response:
        """Where the provider sends the browser back to; a page with one sentence."""
        browser = request.cookies.get(_cookie(provider))
        try:
            await accounts.finish(Provider(provider), state=state, code=code, error=error, browser=browser)
        except RequestRefused as refused:
            response = _page(400, str(refused), refused.remedy)
        except DatabaseUnavailable as away:
            response = _page(503, str(away), away.remedy)
        except VodkeepError as failed:
            response = _page(502, f"{Provider(provider).label} was not connected: {failed}", failed.remedy)
        else:
            response = _page(200, f"{Provider(provider).label} is connected.", "")
        response.delete_cookie(_cookie(provider), path=PREFIX, httponly=True, samesite="lax")
        return response

    @router.post("/{provider}/device", response_model=Device, responses=refusals)
    async def device(provider: Which) -> Response:
        """Begin with a code that a person types on any device."""
        begun = await accounts.begin_device(Provider(provider))
        return _answer(
            Device(
                id=begun.name,
                user_code=begun.user_code,
                address=begun.address,
                interval_s=begun.interval_s,
                expires_at=begun.expires_at,
            )
        )

    @router.post("/{provider}/device/poll", response_model=DeviceAnswer, responses=refusals)
    async def poll(provider: Which, body: DeviceAsked) -> Response:
        """Whether the person has typed the code; 409 once it has ended or was denied."""
        stands = await accounts.poll_device(Provider(provider), body.id)
        return _answer(DeviceAnswer(state=stands.phase, wait_s=stands.wait_s, account=stands.account))

    @router.post("/{provider}/disconnect", response_model=Ended, responses=refusals)
    async def disconnect(provider: Which, body: Annotated[ForChannel | None, Body()] = None) -> Response:
        """End a connection at the provider and forget its tokens."""
        ended = await accounts.disconnect(Provider(provider), "" if body is None else body.channel.lower())
        return _answer(Ended(warning=ended.warning, remedy=ended.remedy))

    return router


def _cookie(provider: str) -> str:
    return f"{_COOKIE}_{provider}"


def _answer(content: BaseModel) -> Response:
    return Response(content.model_dump_json(), headers={"cache-control": "no-store"}, media_type="application/json")


def _page(status: int, sentence: str, remedy: str) -> HTMLResponse:
    """A page without anything that was in the request."""
    told = f"<p>{escape(sentence)}</p>" + (f"<p>{escape(remedy)}</p>" if remedy else "")
    return HTMLResponse(
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Vodkeep</title>'
        '<link rel="stylesheet" href="/static/style.css"></head><body><main>'
        f'<h1>Accounts</h1>{told}<p><a href="/">Back to the archive</a></p></main></body></html>',
        status,
        headers={"cache-control": "no-store"},
    )
