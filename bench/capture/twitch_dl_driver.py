"""Runs twitch-dl's downloader on the address of a media playlist; started with the interpreter twitch-dl is in.

Its command line takes only the number of a VOD and asks Twitch for the playlist. From there on this does what its
``_download_video`` does, in the same order and with the same functions: read the playlist, fetch the segments with so
many workers into its cache folder, join them with ffmpeg, delete the cache.

``python twitch_dl_driver.py PLAYLIST_URL TARGET WORKERS``
"""

from __future__ import annotations

import asyncio
import re
import sys
from pathlib import Path

from twitchdl.cache import Cache  # type: ignore[import-not-found]
from twitchdl.commands.download import _join_vods, http_get  # type: ignore[import-not-found]
from twitchdl.http import download_all  # type: ignore[import-not-found]
from twitchdl.playlists import enumerate_vods, filter_vods, load_m3u8, make_join_playlist  # type: ignore[import-not-found]


def main(url: str, target: Path, workers: int) -> None:
    """Download the broadcast at ``url`` into ``target``."""
    base_uri = re.sub("/[^/]+$", "/", url)
    text = http_get(url)
    playlist = load_m3u8(text)
    vods, crop_start, crop_duration = filter_vods(enumerate_vods(playlist))
    cache = Cache(target.parent / "cache")
    metadata = cache.get_path("metadata.txt")
    metadata.write_text(";FFMETADATA1\ntitle=A broadcast\nencoded_by=twitch-dl\n")
    cache.get_path("playlist.m3u8").write_text(text)
    sources = [base_uri + vod.path for vod in vods]
    targets = [cache.get_path(vod.filename) for vod in vods]
    asyncio.run(download_all(zip(sources, targets, strict=True), workers, count=len(vods)))
    joined = make_join_playlist(playlist, vods, targets)
    joined_path = cache.get_path("playlist_downloaded.m3u8")
    joined.dump(joined_path)
    _join_vods(joined_path, metadata, target, True, crop_start, crop_duration)
    cache.delete()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
