"""``/control/faults``."""

from __future__ import annotations

import msgspec

from vodkeep_standin.faults.registry import Faults
from vodkeep_standin.faults.rule import Rule
from vodkeep_standin.serving.call import Call, Reply, json_reply
from vodkeep_standin.serving.routes import LOOPBACK, Route, route


def fault_routes(faults: Faults) -> list[Route]:
    """Routes to list, add and remove faults."""

    async def listed(call: Call) -> Reply:
        return _encoded({"faults": faults.describe()})

    async def added(call: Call) -> Reply:
        try:
            rules = msgspec.json.decode(call.body, type=list[Rule] | Rule)
        except msgspec.DecodeError as error:
            return json_reply({"error": str(error)}, 400)
        ids = [faults.add_rule(rule) for rule in (rules if isinstance(rules, list) else [rules])]
        return json_reply({"ids": ids}, 201)

    async def cleared(call: Call) -> Reply:
        faults.clear()
        return Reply(204)

    async def removed(call: Call) -> Reply:
        return Reply(204) if faults.remove(int(call.params["id"])) else json_reply({"error": "no such fault"}, 404)

    return [
        route("GET", LOOPBACK, "/control/faults", listed),
        route("POST", LOOPBACK, "/control/faults", added),
        route("DELETE", LOOPBACK, "/control/faults", cleared),
        route("DELETE", LOOPBACK, "/control/faults/{id:[0-9]+}", removed),
    ]


def _encoded(document: object) -> Reply:
    return Reply(200, msgspec.json.encode(document), {"Content-Type": "application/json; charset=utf-8"})
