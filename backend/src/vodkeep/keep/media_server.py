"""Files for media servers: what an item is, as Jellyfin and Kodi read it, and pictures under the names they look for.

The description is ``<video>.nfo``, which Kodi recommends (kodi.wiki/view/NFO_files/Movies) and Jellyfin reads beside
``movie.nfo``; its tags are those that both know (jellyfin.org/docs/general/server/metadata/nfo). Names of pictures:
jellyfin.org/docs/general/server/media/movies, "Metadata Images". All read in November 2026.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from xml.etree import ElementTree as ET

from blake3 import blake3

from vodkeep.keep.additions import put_file
from vodkeep.keep.manifest import Manifest, StreamEntry, load_manifest

NFO_NAME = "video.nfo"
POSTER_NAME = "poster.jpg"
LANDSCAPE_NAME = "landscape.jpg"
ARTWORK_NAMES = (POSTER_NAME, LANDSCAPE_NAME)
_THUMBNAIL_NAME = "thumbnail.jpg"
_VOD_URL = "https://www.twitch.tv/videos/"
# What XML 1.0 can hold (section 2.2); everything else ends a reader, however it is escaped.
_NOT_XML = re.compile("[^\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def _agree() -> None:
    """Nobody else could have taken the item."""


def write_media_server_files(folder: Path, *, confirm: Callable[[], None] = _agree) -> tuple[str, ...]:
    """Bring the files for media servers up to date; returns the names of those that were written. Blocking.

    They are entered in the manifest. ``confirm`` as in `put_file`, whose errors this raises too.
    """
    manifest = load_manifest(folder)
    if manifest is None:
        raise FileNotFoundError(f"{folder} has no manifest")
    written = []
    for name, content in wanted_files(folder, manifest).items():
        entry = manifest.file(name)
        is_there = entry is not None and entry.checksum == f"blake3:{blake3(content).hexdigest()}"
        if not is_there or not (folder / name).exists():
            put_file(folder, name, [content], confirm=confirm)
            written.append(name)
    return tuple(written)


def wanted_files(folder: Path, manifest: Manifest) -> Mapping[str, bytes]:
    """The files for media servers that the item should have, with their content. Blocking."""
    files = {NFO_NAME: write_nfo(manifest)}
    if manifest.file(_THUMBNAIL_NAME) is not None:
        picture = (folder / _THUMBNAIL_NAME).read_bytes()
        files |= dict.fromkeys(ARTWORK_NAMES, picture)
    return files


def write_nfo(manifest: Manifest) -> bytes:
    """The description of the item as XML, whatever is in its title."""
    movie = ET.Element("movie")
    _add(movie, "title", _line(manifest.title) or manifest.video_id)
    _add(movie, "originaltitle", _line(manifest.title))
    _add(movie, "plot", _plot(manifest))
    _add(movie, "runtime", str(max(1, round(manifest.duration_ms / 60_000))))
    if manifest.date is not None:
        _add(movie, "premiered", manifest.date.date().isoformat())
        _add(movie, "year", f"{manifest.date.year:04}")
    _add(movie, "dateadded", f"{manifest.captured_at:%Y-%m-%d %H:%M:%S}")
    _add(movie, "studio", "Twitch")
    for title in dict.fromkeys(_line(chapter.title) for chapter in manifest.chapters):
        _add(movie, "tag", title)
    unique = ET.SubElement(movie, "uniqueid", {"type": "twitch", "default": "true"})
    unique.text = manifest.video_id
    actor = ET.SubElement(movie, "actor")
    _add(actor, "name", _line(manifest.channel_name) or manifest.channel)
    _add(actor, "role", "Broadcaster")
    _add_streams(movie, manifest)
    # Else a server looks for a film of this name on the net, and finds one.
    _add(movie, "lockdata", "true")
    ET.indent(movie)
    body = ET.tostring(movie, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n{body}\n'.encode()


def _plot(manifest: Manifest) -> str:
    address = f"{_VOD_URL}{manifest.video_id}" if manifest.video_id.isdigit() else ""
    lines = [
        manifest.description.strip(),
        f"Broadcast on Twitch by {manifest.channel_name or manifest.channel}. {address}",
    ]
    if manifest.completeness < 1:
        lines.append("Parts of it are missing.")
    return "\n\n".join(line.strip() for line in lines if line)


def _add_streams(movie: ET.Element, manifest: Manifest) -> None:
    details = ET.SubElement(ET.SubElement(movie, "fileinfo"), "streamdetails")
    for stream in manifest.streams:
        element = ET.SubElement(details, "video" if stream.kind == "video" else "audio")
        _add(element, "codec", stream.codec)
        if stream.kind == "video":
            _add_size(element, stream)
            _add(element, "durationinseconds", str(manifest.duration_ms // 1000))


def _add_size(element: ET.Element, stream: StreamEntry) -> None:
    if stream.width is not None and stream.height is not None:
        _add(element, "width", str(stream.width))
        _add(element, "height", str(stream.height))


def _add(parent: ET.Element, name: str, text: str) -> None:
    if text:
        ET.SubElement(parent, name).text = _NOT_XML.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))


def _line(text: str) -> str:
    return " ".join(_NOT_XML.sub(" ", text).split())
