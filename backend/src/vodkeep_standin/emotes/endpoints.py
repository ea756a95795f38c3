"""What the providers answer. The shapes are those of their public interfaces, read in November 2026.

Helix: https://dev.twitch.tv/docs/api/reference/#get-global-emotes and the three below it. BTTV:
https://betterttv.com/developers/api. FFZ: https://api.frankerfacez.com/docs. 7TV: https://7tv.io/docs.

On loopback the three others have a prefix each (``/bttv``, ``/ffz``, ``/7tv``), which base addresses carry; on their
own hosts they have none.
"""

from __future__ import annotations

from typing import Any

from vodkeep_standin.emotes.images import MEDIA_TYPES, image
from vodkeep_standin.emotes.model import GLOBAL, Badge, Emote, Form
from vodkeep_standin.helix.gate import guarded
from vodkeep_standin.serving.call import Call, Reply, helix_problem, json_reply, text_reply
from vodkeep_standin.serving.routes import Route, route

CDN_HOST = "static-cdn.jtvnw.net"
SCALES = {"1": 28, "2": 56, "3": 84, "4": 112}
"""Sides in pixels by scale, as 7TV and Twitch have them within a few pixels."""

TEMPLATE = "https://static-cdn.jtvnw.net/emoticons/v2/{{id}}/{{format}}/{{theme_mode}}/{{scale}}"


# Helix ----------------------------------------------------------------------------------------------------


@guarded
async def global_emotes(call: Call) -> Reply:
    """Twitch's own emotes."""
    return json_reply({"data": _emotes(call, GLOBAL), "template": TEMPLATE})


@guarded
async def channel_emotes(call: Call) -> Reply:
    """The emotes of a channel's subscribers and followers."""
    channel_id = call.query.get("broadcaster_id", "")
    if not channel_id.isdecimal():
        return helix_problem(400, "Bad Request", 'The parameter "broadcaster_id" was malformed')
    return json_reply({"data": _emotes(call, channel_id), "template": TEMPLATE})


@guarded
async def global_badges(call: Call) -> Reply:
    """Twitch's own badges."""
    return json_reply({"data": _badges(call, GLOBAL)})


@guarded
async def channel_badges(call: Call) -> Reply:
    """The badges of a channel's subscribers and cheerers."""
    channel_id = call.query.get("broadcaster_id", "")
    if not channel_id.isdecimal():
        return helix_problem(400, "Bad Request", 'The parameter "broadcaster_id" was malformed')
    return json_reply({"data": _badges(call, channel_id)})


def _emotes(call: Call, channel_id: str) -> list[dict[str, Any]]:
    listed = []
    for emote in call.world.scenario.emotes.twitch.get(channel_id, []):
        address = f"{call.world.base_url}/emoticons/v2/{emote.id}"
        form = "animated" if emote.animated else "static"
        urls = {f"url_{scale}x": f"{address}/{form}/light/{scale}.0" for scale in (1, 2)}
        entry: dict[str, Any] = {
            "id": emote.id,
            "name": emote.code,
            "images": {**urls, "url_4x": f"{address}/{form}/light/3.0"},
            "format": ["static", "animated"] if emote.animated else ["static"],
            "scale": ["1.0", "2.0", "3.0"],
            "theme_mode": ["light", "dark"],
        }
        if channel_id != GLOBAL:
            entry |= {"tier": "1000", "emote_type": "subscriptions", "emote_set_id": f"3{channel_id}"}
        listed.append(entry)
    return listed


def _badges(call: Call, channel_id: str) -> list[dict[str, Any]]:
    sets: dict[str, list[Badge]] = {}
    for badge in call.world.scenario.emotes.badges.get(channel_id, []):
        sets.setdefault(badge.set_id, []).append(badge)
    address = f"{call.world.base_url}/badges/v1"
    return [
        {
            "set_id": set_id,
            "versions": [
                {
                    "id": badge.version,
                    "image_url_1x": f"{address}/{badge.image}/1",
                    "image_url_2x": f"{address}/{badge.image}/2",
                    "image_url_4x": f"{address}/{badge.image}/3",
                    "title": badge.title,
                    "description": badge.title,
                    "click_action": None,
                    "click_url": None,
                }
                for badge in badges
            ],
        }
        for set_id, badges in sets.items()
    ]


# Others ---------------------------------------------------------------------------------------------------


async def bttv_global(call: Call) -> Reply:
    """A plain list."""
    return json_reply([_bttv(emote) for emote in call.world.scenario.emotes.bttv.get(GLOBAL, [])])


async def bttv_channel(call: Call) -> Reply:
    """A channel's own and shared emotes; here all are shared but for the first."""
    emotes = call.world.scenario.emotes.bttv.get(call.params["channel"])
    if emotes is None:
        return json_reply({"statusCode": 404, "error": "Not Found", "message": "Not Found"}, 404)
    listed = [_bttv(emote) for emote in emotes]
    return json_reply(
        {"id": "5a" * 12, "bots": [], "avatar": "", "channelEmotes": listed[:1], "sharedEmotes": listed[1:]}
    )


def _bttv(emote: Emote) -> dict[str, Any]:
    kind = MEDIA_TYPES[emote.form].removeprefix("image/")
    return {"id": emote.id, "code": emote.code, "imageType": kind, "animated": emote.animated, "userId": "5a" * 12}


async def ffz_global(call: Call) -> Reply:
    """Sets by number, of which only the default ones hold everywhere."""
    emotes = [_ffz(call, emote) for emote in call.world.scenario.emotes.ffz.get(GLOBAL, [])]
    private = _ffz(call, Emote("999", "OnlyForSome"))
    sets = {"3": {"id": 3, "title": "Global", "emoticons": emotes}, "4": {"id": 4, "emoticons": [private]}}
    return json_reply({"default_sets": [3], "sets": sets, "users": {"4": ["somebody"]}})


async def ffz_room(call: Call) -> Reply:
    """A room and its set."""
    channel_id = call.params["channel"]
    emotes = call.world.scenario.emotes.ffz.get(channel_id)
    if emotes is None:
        return json_reply({"status": 404, "error": "Not Found", "message": "No such room"}, 404)
    listed = [_ffz(call, emote) for emote in emotes]
    room = {"_id": int(channel_id), "twitch_id": int(channel_id), "set": 609613}
    return json_reply({"room": room, "sets": {"609613": {"id": 609613, "emoticons": listed}}})


def _ffz(call: Call, emote: Emote) -> dict[str, Any]:
    address = f"{call.world.base_url}/ffz/emote/{emote.id}"
    entry: dict[str, Any] = {
        "id": int(emote.id),
        "name": emote.code,
        "width": 32,
        "height": 32,
        "hidden": False,
        "modifier": False,
        "urls": {scale: f"{address}/{scale}" for scale in ("1", "2", "4")},
    }
    if emote.animated:
        entry["animated"] = {scale: f"{address}/animated/{scale}" for scale in ("1", "2", "4")}
    return entry


async def seventv_global(call: Call) -> Reply:
    """One set."""
    return json_reply(_seventv_set(call, GLOBAL))


async def seventv_user(call: Call) -> Reply:
    """A connected account and the set it uses."""
    channel_id = call.params["channel"]
    if channel_id not in call.world.scenario.emotes.seventv:
        return json_reply({"status": "Not Found", "status_code": 404, "error": "user not found"}, 404)
    return json_reply({"id": channel_id, "platform": "TWITCH", "emote_set": _seventv_set(call, channel_id)})


def _seventv_set(call: Call, channel_id: str) -> dict[str, Any]:
    emotes = call.world.scenario.emotes.seventv.get(channel_id, [])
    return {"id": "01HM4P9W", "name": "emotes", "flags": 0, "emotes": [_seventv(call, emote) for emote in emotes]}


def _seventv(call: Call, emote: Emote) -> dict[str, Any]:
    host = call.world.base_url.partition(":")[2] + f"/7tv/emote/{emote.id}"
    extension = MEDIA_TYPES[emote.form].removeprefix("image/")
    files = [
        {"name": f"{scale}x.{extension}", "width": side, "height": side, "format": extension.upper()}
        for scale, side in SCALES.items()
    ]
    return {
        "id": emote.id,
        "name": emote.code,
        "flags": 1 if emote.zero_width else 0,
        "data": {
            "id": emote.id,
            "name": emote.code,
            "flags": 256 if emote.zero_width else 0,
            "animated": emote.animated,
            "host": {"url": host, "files": files},
        },
    }


# Images ---------------------------------------------------------------------------------------------------


async def emote_image(call: Call) -> Reply:
    """The image of an emote, in the form its set says."""
    emote_id = call.params["emote"]
    return _image(call, call.world.scenario.emotes.form_of(emote_id), emote_id)


async def badge_image(call: Call) -> Reply:
    """The image of a badge."""
    return _image(call, "png", call.params["image"])


def _image(call: Call, form: Form, name: str) -> Reply:
    if name in call.world.scenario.emotes.gone:
        return text_reply("not found\n", status=404)
    return Reply(200, image(form, name, SCALES[call.params["scale"]]), {"Content-Type": MEDIA_TYPES[form]})


_SCALE = "{scale:[1-4]}"
ROUTES: list[Route] = [
    route("GET", "api.twitch.tv", "/helix/chat/emotes/global", global_emotes),
    route("GET", "api.twitch.tv", "/helix/chat/emotes", channel_emotes),
    route("GET", "api.twitch.tv", "/helix/chat/badges/global", global_badges),
    route("GET", "api.twitch.tv", "/helix/chat/badges", channel_badges),
    route("GET", CDN_HOST, f"/emoticons/v2/{{emote}}/{{form}}/{{theme}}/{_SCALE}.0", emote_image),
    route("GET", CDN_HOST, f"/badges/v1/{{image}}/{_SCALE}", badge_image),
    route("GET", "api.betterttv.net", "{prefix:(?:/bttv)?}/3/cached/emotes/global", bttv_global),
    route("GET", "api.betterttv.net", "{prefix:(?:/bttv)?}/3/cached/users/twitch/{channel}", bttv_channel),
    route("GET", "cdn.betterttv.net", f"{{prefix:(?:/bttv)?}}/emote/{{emote}}/{_SCALE}x", emote_image),
    route("GET", "api.frankerfacez.com", "{prefix:(?:/ffz)?}/v1/set/global", ffz_global),
    route("GET", "api.frankerfacez.com", "{prefix:(?:/ffz)?}/v1/room/id/{channel:[0-9]+}", ffz_room),
    route("GET", "cdn.frankerfacez.com", f"{{prefix:(?:/ffz)?}}/emote/{{emote}}/{_SCALE}", emote_image),
    route("GET", "cdn.frankerfacez.com", f"{{prefix:(?:/ffz)?}}/emote/{{emote}}/animated/{_SCALE}", emote_image),
    route("GET", "7tv.io", "{prefix:(?:/7tv)?}/v3/emote-sets/global", seventv_global),
    route("GET", "7tv.io", "{prefix:(?:/7tv)?}/v3/users/twitch/{channel}", seventv_user),
    route("GET", "cdn.7tv.app", f"{{prefix:(?:/7tv)?}}/emote/{{emote}}/{_SCALE}x.{{extension:[a-z]+}}", emote_image),
]
