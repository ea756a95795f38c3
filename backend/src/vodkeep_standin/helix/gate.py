"""What every Helix request must bring: a token, the client id it belongs to, and a point to spend."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from vodkeep_standin.helix.budget import PointBucket
from vodkeep_standin.serving.call import Call, Reply, helix_problem


def guarded(handler: Callable[[Call], Awaitable[Reply]]) -> Callable[[Call], Awaitable[Reply]]:
    """``handler`` behind Helix's checks, with the rate-limit headers on its replies."""

    async def checked(call: Call) -> Reply:
        scheme, _, value = call.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not value:
            return helix_problem(401, "Unauthorized", "OAuth token is missing")
        token = call.world.valid_app_token(value.strip())
        if token is None:
            return helix_problem(401, "Unauthorized", "Invalid OAuth token")
        client_id = call.headers.get("Client-Id")
        if not client_id:
            return helix_problem(400, "Bad Request", "Client-Id header required")
        if client_id != token.client_id:
            return helix_problem(401, "Unauthorized", "Client ID and OAuth token do not match")
        now_s = call.world.epoch_s()
        bucket = call.world.budgets.setdefault(client_id, PointBucket(call.world.scenario.rate_limit_points, now_s))
        if bucket.take(now_s):
            reply = await handler(call)
        else:
            reply = helix_problem(429, "Too Many Requests", "Request limit exceeded")
        reply.headers |= bucket.headers(now_s)
        return reply

    return checked
