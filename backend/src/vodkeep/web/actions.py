"""What a person can do with a broadcast: ``/api/v1/vods/{id}/...`` and the forms below ``/admin/vod``.

Both ways in lead to the same functions of `vodkeep.pipeline.actions`, and so mean the same as the commands.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, Depends, Path
from pydantic import BaseModel, ConfigDict, Field, model_validator
from starlette.responses import Response

from vodkeep.errors import DatabaseUnavailable, UnknownItem
from vodkeep.pipeline.actions import Actions
from vodkeep.pipeline.model import HIGHEST_PRIORITY, Asked, Asker, QueueItem
from vodkeep.publish.metadata import LONGEST_DESCRIPTION
from vodkeep.telemetry.correlation import current_corr
from vodkeep.web.media import is_vod_id
from vodkeep.web.problems import documented
from vodkeep.web.reading import StatusReader
from vodkeep.web.routing import new_router
from vodkeep.web.schema import Vod, Work, vod_of

VodId = Annotated[str, Path(description="The video id at Twitch.")]
NamedId = Annotated[str, Field(description="The video id at Twitch.")]
Priority = Annotated[
    int, Field(ge=-HIGHEST_PRIORITY, le=HIGHEST_PRIORITY, description="Higher goes first; 0 at first.")
]
Login = Annotated[str, Field(pattern=r"^[A-Za-z0-9_]{1,50}$")]

_REFUSALS = documented(401, 403, 404, 409, 413, 415, 422, 503)


class _Request(BaseModel):
    """A body in which a misspelt name is an error, and the number 1 is not "yes"."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Reprocess(_Request):
    """How a broadcast is done again."""

    republish: bool = Field(
        default=False, description="Publish it anew; the video at YouTube stays and is linked no more."
    )
    fresh: bool = Field(
        default=False,
        description="Fetch it anew from Twitch, even if it is whole; what is there stays until the new one is proven.",
    )


class Change(_Request):
    """What is to be different about a broadcast; at least one of them."""

    priority: Priority | None = None
    skip_upload: bool | None = Field(default=None, description="Never publish it.")
    custom_description: str | None = Field(
        default=None,
        max_length=LONGEST_DESCRIPTION,
        description="What YouTube is told instead of Twitch's description; empty: Twitch's again.",
    )
    protected: bool | None = Field(default=None, description="Never let its video go from the disk.")

    @model_validator(mode="after")
    def _says_something(self) -> Change:
        if not self.model_fields_set or all(value is None for value in self.model_dump().values()):
            raise ValueError("give priority, skip_upload, custom_description or protected")
        return self


class Reset(_Request):
    """Which breaker is to be closed."""

    channel: Login | None = Field(default=None, description="By its login; null for all.")


class Closed(BaseModel):
    """The breakers that were closed."""

    closed: list[str] = Field(description="Logins of the channels whose breaker was open.")


class Named(_Request):
    """A form that names a broadcast."""

    vod_id: NamedId


class NamedReprocess(Named, Reprocess):
    """The form of `/admin/vod/reprocess`."""


class NamedPriority(Named):
    """The form of `/admin/vod/priority`."""

    priority: Priority


class NamedSkipUpload(Named):
    """The form of `/admin/vod/skip-upload`."""

    skip_upload: bool


class Done(BaseModel):
    """What a form answers: the broadcast as it is afterwards."""

    status: Literal["ok"] = "ok"
    vod_id: str
    state: str
    priority: int
    skip_upload: bool


def action_routes(actions: Actions, reader: StatusReader, work: Work) -> APIRouter:
    """The routes that change something."""
    router = new_router(prefix="/api/v1", tags=["actions"], dependencies=[schema_fits(reader)])

    async def answer(item_id: str, status: int = 200) -> Response:
        found = await reader.find_vod(item_id)
        if found is None:  # Deleted by hand in this very moment.
            raise UnknownItem(f"There is no item {item_id} any more.")
        return _answer(vod_of(found[0], work.progress().get(item_id)), status)

    @router.post(
        "/vods/{vod_id}/cancel",
        response_model=Vod,
        responses={
            202: {"model": Vod, "description": "Canceled; its run in another process is about to end."},
            **_REFUSALS,
        },
    )
    async def cancel(vod_id: VodId) -> Response:
        """Stop a broadcast until somebody asks for it again; what was fetched is kept. 409 when it is done."""
        canceled = await actions.cancel(_possible(vod_id), _asked(Asker.API))
        return await answer(vod_id, 200 if canceled.ended else 202)

    @router.post("/vods/{vod_id}/retry", response_model=Vod, responses=_REFUSALS)
    async def retry(vod_id: VodId) -> Response:
        """Make a broadcast due at once, its attempts counted anew. 409 when it is at work or done."""
        await actions.retry(_possible(vod_id), _asked(Asker.API))
        return await answer(vod_id)

    @router.post("/vods/{vod_id}/reprocess", response_model=Vod, responses=_REFUSALS)
    async def reprocess(vod_id: VodId, body: Annotated[Reprocess | None, Body()] = None) -> Response:
        """Do a broadcast again, a kept one too; what is whole is verified and not fetched. 409 when it is at work."""
        await actions.reprocess(
            _possible(vod_id),
            _asked(Asker.API),
            fresh=body is not None and body.fresh,
            republish=body is not None and body.republish,
        )
        return await answer(vod_id)

    @router.patch("/vods/{vod_id}", response_model=Vod, responses=_REFUSALS)
    async def change(vod_id: VodId, body: Change) -> Response:
        """Change the priority of a broadcast, whether it is published, or with which words; what is not named stays."""
        """Change the priority of a broadcast, whether it is published or protected; what is not named stays."""
        await actions.adjust(
            _possible(vod_id),
            _asked(Asker.API),
            priority=body.priority,
            skip_upload=body.skip_upload,
            description=body.custom_description,
            protected=body.protected,
        )
        return await answer(vod_id)

    @router.post("/circuit/reset", response_model=Closed, responses=documented(401, 403, 413, 415, 422, 503))
    async def reset(body: Annotated[Reset | None, Body()] = None) -> Response:
        """Close the circuit breaker of a channel, or all, before the cooldown is over."""
        channel = body.channel.lower() if body is not None and body.channel is not None else None
        return _answer(Closed(closed=await actions.reset_circuit(_asked(Asker.API), channel)))

    return router


def form_routes(actions: Actions, reader: StatusReader) -> APIRouter:
    """The forms below ``/admin/vod``, for the scripts that people have written for other archives."""
    router = new_router(prefix="/admin/vod", tags=["forms"], dependencies=[schema_fits(reader)])
    options: dict[str, Any] = {"response_model": Done, "responses": _REFUSALS}

    @router.post("/cancel", **options)
    async def cancel(body: Named) -> Response:
        """As `POST /api/v1/vods/{vod_id}/cancel`."""
        return _done((await actions.cancel(_possible(body.vod_id), _asked(Asker.ADMIN))).item)

    @router.post("/retry", **options)
    async def retry(body: Named) -> Response:
        """As `POST /api/v1/vods/{vod_id}/retry`."""
        return _done(await actions.retry(_possible(body.vod_id), _asked(Asker.ADMIN)))

    @router.post("/reprocess", **options)
    async def reprocess(body: NamedReprocess) -> Response:
        """As `POST /api/v1/vods/{vod_id}/reprocess`."""
        return _done(
            await actions.reprocess(
                _possible(body.vod_id), _asked(Asker.ADMIN), fresh=body.fresh, republish=body.republish
            )
        )

    @router.post("/priority", **options)
    @router.put("/priority", **options)
    async def priority(body: NamedPriority) -> Response:
        """As `PATCH /api/v1/vods/{vod_id}` with `priority`."""
        return _done(await actions.adjust(_possible(body.vod_id), _asked(Asker.ADMIN), priority=body.priority))

    @router.post("/skip-upload", **options)
    @router.put("/skip-upload", **options)
    async def skip_upload(body: NamedSkipUpload) -> Response:
        """As `PATCH /api/v1/vods/{vod_id}` with `skip_upload`."""
        return _done(await actions.adjust(_possible(body.vod_id), _asked(Asker.ADMIN), skip_upload=body.skip_upload))

    return router


def schema_fits(reader: StatusReader) -> Any:
    """A dependency that refuses as long as the database is not migrated; the web answers before that."""

    async def look() -> None:
        problem = await reader.schema_problem()
        if problem is not None:
            raise DatabaseUnavailable(
                problem, code="migrations", remedy="Wait for the migration, or see the log of the start."
            )

    return Depends(look)


def _possible(vod_id: str) -> str:
    """``vod_id`` if the database can be asked for it, else `UnknownItem`."""
    if not is_vod_id(vod_id):
        raise UnknownItem("There is no item with this id.")
    return vod_id


def _asked(by: Asker) -> Asked:
    return Asked(by, current_corr())


def _done(item: QueueItem) -> Response:
    return _answer(
        Done(vod_id=item.twitch_vod_id, state=item.download_state, priority=item.priority, skip_upload=item.skip_upload)
    )


def _answer(content: BaseModel, status: int = 200) -> Response:
    return Response(
        content.model_dump_json(), status, headers={"cache-control": "no-store"}, media_type="application/json"
    )
