"""Lines of Twitch IRC for tests, each with the number of its message."""

from __future__ import annotations

from support.chat_messages import START_MS, message_id


def privmsg(number: int, *, channel: str = "chan", after_ms: int | None = None) -> bytes:
    """The line of message ``number``, sent ``after_ms`` (its number) after the start of ``a_session``'s stream."""
    sent_ms = START_MS + (number if after_ms is None else after_ms)
    person = number % 50
    return (
        f"@badge-info=;badges=subscriber/12;color=#1E90FF;display-name=User{person};emotes=;first-msg=0;flags=;"
        f"id={message_id(number)};mod=0;returning-chatter=0;room-id=1;subscriber=1;tmi-sent-ts={sent_ms};turbo=0;"
        f"user-id={1000 + person};user-type= :user{person}!user{person}@user{person}.tmi.twitch.tv"
        f" PRIVMSG #{channel} :message {number} with a few words"
    ).encode()
