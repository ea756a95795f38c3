"""What stands before every method: the bearer token and the quota."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from vodkeep_standin.serving.call import Call, Reply
from vodkeep_standin.youtube.problems import problem

Handler = Callable[[Call], Awaitable[Reply]]


def signed(handler: Handler, *, units: int = 0, uploads: int = 0) -> Handler:
    """``handler`` for those with a good token; a request is counted against the quota before it is looked at.

    Costs: https://developers.google.com/youtube/v3/determine_quota_cost, read 2026-11: since June 2026 uploads have a
    bucket of their own.
    """

    async def checked(call: Call) -> Reply:
        if account_of(call) is None:
            return problem("authError")
        if not call.world.youtube.quota.take(call.world.clock.now(), units=units, uploads=uploads):
            return problem("dailyUploads" if uploads else "quotaExceeded")
        return await handler(call)

    return checked


def account_of(call: Call) -> str | None:
    """The account behind the request's token; ``None`` without a good one."""
    scheme, _, value = call.headers.get("Authorization", "").partition(" ")
    token = call.world.google_tokens.validate(value.strip())
    return token.account if scheme.lower() == "bearer" and token is not None else None
