"""Chat as Twitch writes it on the wire: tags, source, command."""

from __future__ import annotations

import random
import uuid
from collections.abc import Mapping

from vodkeep_standin.scenario.chat import ChatLine, Speaker
from vodkeep_standin.scenario.model import Channel

_ESCAPES = {";": r"\:", " ": r"\s", "\\": r"\\", "\r": r"\r", "\n": r"\n"}


def tagged(tags: Mapping[str, str | int]) -> str:
    """The tags of a line, in the order of their names as Twitch has them."""
    return "@" + ";".join(f"{key}={_escaped(str(tags[key]))}" for key in sorted(tags))


def said(
    line: ChatLine, channel: Channel, sent_ms: int, *, action: bool = False, more: Mapping[str, str | int] | None = None
) -> str:
    """PRIVMSG. ``more`` adds tags: bits, a reply, first words."""
    tags: dict[str, str | int] = {
        **_speaker_tags(line.speaker, channel, sent_ms),
        "emotes": line.emotes,
        "first-msg": 0,
        "id": line.id,
        **(more or {}),
    }
    name = line.speaker.login
    text = f"\x01ACTION {line.text}\x01" if action else line.text
    return f"{tagged(tags)} :{name}!{name}@{name}.tmi.twitch.tv PRIVMSG #{channel.login} :{text}"


def noticed(
    line: ChatLine, channel: Channel, sent_ms: int, kind: str, system: str, params: Mapping[str, str | int]
) -> str:
    """USERNOTICE: what happened, and what the person said with it."""
    tags: dict[str, str | int] = {
        **_speaker_tags(line.speaker, channel, sent_ms),
        "emotes": line.emotes,
        "id": line.id,
        "login": line.speaker.login,
        "msg-id": kind,
        "system-msg": system,
        **{f"msg-param-{key}": value for key, value in params.items()},
    }
    text = f" :{line.text}" if line.text else ""
    return f"{tagged(tags)} :tmi.twitch.tv USERNOTICE #{channel.login}{text}"


def cleared(speaker: Speaker | None, channel: Channel, sent_ms: int, seconds: int | None = None) -> str:
    """CLEARCHAT: of one person for some seconds, for good, or of everybody."""
    tags: dict[str, str | int] = {"room-id": channel.id, "tmi-sent-ts": sent_ms}
    if speaker is None:
        return f"{tagged(tags)} :tmi.twitch.tv CLEARCHAT #{channel.login}"
    tags["target-user-id"] = speaker.id
    if seconds is not None:
        tags["ban-duration"] = seconds
    return f"{tagged(tags)} :tmi.twitch.tv CLEARCHAT #{channel.login} :{speaker.login}"


def deleted(line: ChatLine, channel: Channel, sent_ms: int) -> str:
    """CLEARMSG."""
    tags: dict[str, str | int] = {
        "login": line.speaker.login,
        "room-id": "",
        "target-msg-id": line.id,
        "tmi-sent-ts": sent_ms,
    }
    return f"{tagged(tags)} :tmi.twitch.tv CLEARMSG #{channel.login} :{line.text}"


def room_state(channel: Channel) -> str:
    """ROOMSTATE as it comes after a JOIN."""
    modes: dict[str, str | int] = {"emote-only": 0, "followers-only": -1, "r9k": 0, "slow": 0, "subs-only": 0}
    return f"{tagged({**modes, 'room-id': channel.id})} :tmi.twitch.tv ROOMSTATE #{channel.login}"


def with_events(line: ChatLine, before: ChatLine | None, channel: Channel, sent_ms: int) -> list[str]:
    """The line as chance has it (plain, ``/me``, a reply to the one before, with bits, a subscription ...), and now and
    then what a moderator does about it. The same line always becomes the same.
    """  # fmt: skip
    chance = random.Random(line.id)
    name = line.speaker.display_name
    match chance.randrange(100):
        case 0:
            params: dict[str, str | int] = {"cumulative-months": 14, "sub-plan": "1000", "sub-plan-name": "Tier 1"}
            return [noticed(line, channel, sent_ms, "resub", f"{name} subscribed for 14 months!", params)]
        case 1:
            quiet = ChatLine(line.id, line.offset_ms, line.speaker)
            params = {"displayName": name, "login": line.speaker.login, "viewerCount": 77}
            return [noticed(quiet, channel, sent_ms, "raid", f"77 raiders from {name} have joined!", params)]
        case 2:
            return [noticed(line, channel, sent_ms, "announcement", "", {"color": "PRIMARY"})]
        case 3 | 4:
            return [said(line, channel, sent_ms, action=True)]
        case 5:
            return [said(line, channel, sent_ms, more={"bits": 100})]
        case 6:
            return [said(line, channel, sent_ms, more={"first-msg": 1})]
        case 7:
            return [said(line, channel, sent_ms), deleted(line, channel, sent_ms + 2000)]
        case 8:
            return [said(line, channel, sent_ms), cleared(line.speaker, channel, sent_ms + 1500, seconds=600)]
        case number if number < 16 and before is not None:
            return [said(line, channel, sent_ms, more=_reply_tags(before))]
        case _:
            return [said(line, channel, sent_ms)]


def fresh_id(chance: random.Random) -> str:
    """A message id."""
    return str(uuid.UUID(int=chance.getrandbits(128), version=4))


def _reply_tags(parent: ChatLine) -> dict[str, str | int]:
    return {
        "reply-parent-display-name": parent.speaker.display_name,
        "reply-parent-msg-body": parent.text,
        "reply-parent-msg-id": parent.id,
        "reply-parent-user-id": parent.speaker.id,
        "reply-parent-user-login": parent.speaker.login,
        "reply-thread-parent-msg-id": parent.id,
        "reply-thread-parent-user-login": parent.speaker.login,
    }


def _speaker_tags(speaker: Speaker, channel: Channel, sent_ms: int) -> dict[str, str | int]:
    badges = dict(speaker.badges)
    return {
        "badge-info": f"subscriber/{int(badges['subscriber']) + 1}" if "subscriber" in badges else "",
        "badges": ",".join(f"{name}/{version}" for name, version in speaker.badges),
        "color": speaker.color,
        "display-name": speaker.display_name,
        "flags": "",
        "mod": int("moderator" in badges),
        "returning-chatter": 0,
        "room-id": channel.id,
        "subscriber": int("subscriber" in badges),
        "tmi-sent-ts": sent_ms,
        "turbo": 0,
        "user-id": speaker.id,
        "user-type": "mod" if "moderator" in badges else "",
    }


def _escaped(value: str) -> str:
    return "".join(_ESCAPES.get(character, character) for character in value)
