"""``/control/irc``: what is said in the chat, and what happens to its clients."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from vodkeep_standin.irc.server import IrcServer
from vodkeep_standin.serving.call import Call, Reply, json_reply
from vodkeep_standin.serving.routes import LOOPBACK, Route, route


class _Say(msgspec.Struct, forbid_unknown_fields=True):
    channel: str
    text: str


class _Burst(msgspec.Struct, forbid_unknown_fields=True):
    channel: str
    count: int
    per_second: float | None = None


class _Raw(msgspec.Struct, forbid_unknown_fields=True):
    line: str
    channel: str | None = None


class _Clear(msgspec.Struct, forbid_unknown_fields=True):
    channel: str
    user: int | None = None
    seconds: int | None = None


class ChatFaults(msgspec.Struct, forbid_unknown_fields=True):
    """Faults of the chat; what is not given stays as it is."""

    refuse_logins: str | msgspec.UnsetType | None = msgspec.UNSET
    refuse_tokens: str | msgspec.UnsetType | None = msgspec.UNSET
    joins_allowed: int | msgspec.UnsetType = msgspec.UNSET
    join_delay_s: float | msgspec.UnsetType = msgspec.UNSET
    suspended: set[str] | msgspec.UnsetType = msgspec.UNSET
    piece_bytes: int | msgspec.UnsetType = msgspec.UNSET
    bare_lf: bool | msgspec.UnsetType = msgspec.UNSET
    most_waiting_bytes: int | msgspec.UnsetType = msgspec.UNSET


def irc_routes(irc: Callable[[], IrcServer]) -> list[Route]:
    """Routes over the chat server that will be there when the first request comes."""

    async def shown(call: Call) -> Reply:
        return json_reply(irc().summary())

    async def sent(call: Call) -> Reply:
        wanted = call.query.get("channel")
        found = [entry for entry in irc().sent if wanted is None or entry.channel == wanted]
        return Reply(200, msgspec.json.encode({"sent": found}), {"Content-Type": "application/json"})

    async def changed(call: Call) -> Reply:
        try:
            faults = msgspec.json.decode(call.body, type=ChatFaults)
        except msgspec.DecodeError as error:
            return json_reply({"error": str(error)}, 400)
        for name in faults.__struct_fields__:
            if (value := getattr(faults, name)) is not msgspec.UNSET:
                setattr(irc(), name, value)
        return Reply(204)

    async def acted(call: Call) -> Reply:
        server = irc()
        try:
            match call.params["action"]:
                case "say":
                    say = msgspec.json.decode(call.body, type=_Say)
                    return json_reply({"id": server.say(say.channel, say.text)}, 201)
                case "burst":
                    burst = msgspec.json.decode(call.body, type=_Burst)
                    return json_reply({"ids": server.burst(burst.channel, burst.count, burst.per_second)}, 201)
                case "raw":
                    raw = msgspec.json.decode(call.body, type=_Raw)
                    return json_reply({"receivers": server.event(raw.line, raw.channel)}, 201)
                case "clear":
                    clear = msgspec.json.decode(call.body, type=_Clear)
                    server.clear(clear.channel, clear.user, clear.seconds)
                    return Reply(204)
                case "reconnect" | "cut" | "reset" | "freeze" | "ping" as action:
                    return json_reply({"clients": getattr(server, action)()})
                case _:
                    return json_reply({"error": "no such action"}, 404)
        except (msgspec.DecodeError, KeyError) as error:
            return json_reply({"error": str(error)}, 400)

    return [
        route("GET", LOOPBACK, "/control/irc", shown),
        route("GET", LOOPBACK, "/control/irc/sent", sent),
        route("POST", LOOPBACK, "/control/irc", changed),
        route("POST", LOOPBACK, "/control/irc/{action}", acted),
    ]
