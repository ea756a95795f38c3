"""Media playlists as Twitch's VOD edge writes them (RFC 8216 plus Twitch's tags; samples read 2026-11)."""

from __future__ import annotations

import math
from datetime import datetime, timedelta
from pathlib import PurePosixPath

from vodkeep_standin.edge.window import Window
from vodkeep_standin.media.model import Rendition
from vodkeep_standin.scenario.model import Muting, Video

RECONNECT_GAP_S = 7
"""Wall-clock seconds between two runs: the time the streamer's encoder was away."""


def render_media_playlist(
    video: Video, rendition: Rendition, window: Window, *, generated_at: datetime, unmuted_names: bool
) -> str:
    """The media playlist of what ``window`` shows; ``unmuted_names`` lists the originals of muted segments."""
    visible = rendition.segments[: window.segments]
    longest = max((segment.duration_s for segment in rendition.segments), default=1.0)
    lines = [
        "#EXTM3U",
        f"#EXT-X-VERSION:{6 if rendition.init_names else 3}",
        f"#EXT-X-TARGETDURATION:{math.ceil(longest - 0.01)}",
        f"#ID3-EQUIV-TDTG:{generated_at:%Y-%m-%dT%H:%M:%S}",
        # Twitch says EVENT for finished VODs too.
        "#EXT-X-PLAYLIST-TYPE:EVENT",
        "#EXT-X-MEDIA-SEQUENCE:0",
        "#EXT-X-TWITCH-ELAPSED-SECS:0.000",
        f"#EXT-X-TWITCH-TOTAL-SECS:{window.duration_s:.3f}",
    ]
    moment = video.created_at
    elapsed_s = 0.0
    run = -1
    for index, segment in enumerate(visible):
        if segment.run != run:
            if run >= 0:
                lines.append("#EXT-X-DISCONTINUITY")
                moment += timedelta(seconds=RECONNECT_GAP_S)
            run = segment.run
            if rendition.init_names:
                lines.append(f'#EXT-X-MAP:URI="{rendition.init_names[run]}"')
        name = served_name(video, index, segment.name, elapsed_s, elapsed_s + segment.duration_s)
        if unmuted_names:
            name = name.replace("-muted.", "-unmuted.")
        lines.append(f"#EXT-X-PROGRAM-DATE-TIME:{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z")
        lines += [f"#EXTINF:{segment.duration_s:.3f},", name]
        moment += timedelta(seconds=segment.duration_s)
        elapsed_s += segment.duration_s
    if window.ended:
        lines.append("#EXT-X-ENDLIST")
    return "\n".join(lines) + "\n"


def served_name(video: Video, index: int, name: str, start_s: float, end_s: float) -> str:
    """The name under which a segment can be fetched: ``7.ts``, or ``7-muted.ts`` inside a muted stretch."""
    if not any(span.overlaps(start_s, end_s) for span in video.recipe.muted):
        return name
    return f"{index}-muted{PurePosixPath(name).suffix}"


def served_names(video: Video, rendition: Rendition) -> dict[str, int]:
    """All names under which segments of a quality can be fetched, with their index."""
    names: dict[str, int] = {}
    elapsed_s = 0.0
    for index, segment in enumerate(rendition.segments):
        end_s = elapsed_s + segment.duration_s
        names[served_name(video, index, segment.name, elapsed_s, end_s)] = index
        elapsed_s = end_s
    return names


def playlist_name(video: Video) -> str:
    """File name of the media playlist that usher hands out."""
    if video.recipe.muted and video.muting is Muting.MUTED_PLAYLIST:
        return f"index-muted-{_letters(video.id)}.m3u8"
    return "index-dvr.m3u8"


def _letters(video_id: str) -> str:
    """Ten capital letters that belong to the video."""
    number = int(video_id) if video_id.isdecimal() else sum(video_id.encode())
    return "".join(chr(ord("A") + (number // 7**place + place * 11) % 26) for place in range(10))
