"""``/control/requests``."""

from __future__ import annotations

import msgspec

from vodkeep_standin.serving.call import Call, Reply
from vodkeep_standin.serving.requestlog import RequestLog
from vodkeep_standin.serving.routes import LOOPBACK, Route, route


def request_routes(log: RequestLog) -> list[Route]:
    """Routes to read and clear the request log; ``path``, ``method`` and ``host`` are globs."""

    async def listed(call: Call) -> Reply:
        entries = log.entries(
            call.query.get("path", "*"), method=call.query.get("method", "*"), host=call.query.get("host", "*")
        )
        return Reply(200, msgspec.json.encode({"requests": entries}), {"Content-Type": "application/json"})

    async def cleared(call: Call) -> Reply:
        log.clear()
        return Reply(204)

    return [
        route("GET", LOOPBACK, "/control/requests", listed),
        route("DELETE", LOOPBACK, "/control/requests", cleared),
    ]
