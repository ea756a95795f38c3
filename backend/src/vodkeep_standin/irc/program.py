"""When the lines of live channels are said: along the scenario's clock, about one in seven a little late."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from datetime import timedelta

from vodkeep_standin.irc.lines import with_events
from vodkeep_standin.scenario.chat import ChatLine, ChatScript, VideoChat
from vodkeep_standin.scenario.model import Channel, Stream
from vodkeep_standin.world import World

LATE_MS = 900
"""How much later than its own timestamp a late line is sent."""

_LONGEST_STREAM_S = 12 * 3600
_MS = timedelta(milliseconds=1)


class Program:
    """What a live channel's chat says next. What is said while nobody is in the channel, nobody is told later."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._reached: dict[str, tuple[str, int]] = {}
        self._late: dict[str, list[ChatLine]] = {}
        self._scripts: dict[str, ChatScript] = {}

    def due(self, logins: Collection[str]) -> Iterator[tuple[Channel, list[str], str]]:
        """Channel, the lines as they are on the wire and the message's id, of all that is due by now in ``logins``."""
        for login in self._reached.keys() - set(logins):
            del self._reached[login]
            self._late.pop(login, None)
        for login in sorted(logins):
            channel = self._world.scenario.channels.get(login)
            stream = self._world.stream_of(channel) if channel is not None else None
            if channel is not None and stream is not None:
                yield from self._due_of(channel, stream)

    def _due_of(self, channel: Channel, stream: Stream) -> Iterator[tuple[Channel, list[str], str]]:
        now_ms = (self._world.clock.now() - stream.started_at) // _MS
        known_as, reached_ms = self._reached.setdefault(channel.login, (stream.id, now_ms))
        if known_as != stream.id:
            reached_ms = 0
            self._late.pop(channel.login, None)
        elif now_ms <= reached_ms:
            return
        self._reached[channel.login] = (stream.id, now_ms)
        fresh: list[tuple[int, ChatLine]] = []
        late = self._late.pop(channel.login, [])
        still_late = []
        for line in [*late, *self._script_of(channel, stream).between(reached_ms + 1, now_ms + 1)]:
            goes_ms = line.offset_ms + (LATE_MS if int(line.id[:8], 16) % 7 == 0 else 0)
            if goes_ms <= now_ms:
                fresh.append((goes_ms, line))
            else:
                still_late.append(line)
        self._late[channel.login] = still_late
        started_ms = int(stream.started_at.timestamp() * 1000)
        before: ChatLine | None = None
        for _, line in sorted(fresh, key=lambda each: each[0]):
            yield channel, with_events(line, before, channel, started_ms + line.offset_ms), line.id
            before = line

    def _script_of(self, channel: Channel, stream: Stream) -> ChatScript:
        script = self._scripts.get(stream.id)
        if script is None:
            # By the same name and seed the comments of the video, if there is one, say the same.
            video = self._world.live_video(channel)
            chat = video.chat if video is not None else VideoChat()
            seed = self._world.scenario.seed
            script = ChatScript(chat, stream=stream.id, seed=seed, duration_s=_LONGEST_STREAM_S)
            self._scripts[stream.id] = script
        return script
