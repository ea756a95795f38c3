"""What films hold, packet by packet, and what the pretended Twitch's media comes to without any disturbance."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import anyio
import av
from blake3 import blake3

from support.capture_run import KnownPlaylist, capture, service_of
from support.chaos.broadcasts import Broadcast, Fate
from support.chaos.evidence import Packets
from vodkeep_standin.edge.playlist import playlist_name
from vodkeep_standin.server import Standin
from vodkeep_standin.usher.vod import broadcast_path


def packets_of(film: Path) -> Packets:
    """Every packet of a film, stream by stream in its order: timestamps and the checksum of its bytes.

    How streams lie in each other is left to whoever wrote the file, and depends on the order in which segments came.
    """
    packets = []
    with av.open(str(film), mode="r") as container:
        for packet in container.demux():
            if packet.size:
                words = (packet.stream.type, packet.pts, packet.dts, hashlib.sha1(bytes(packet)).hexdigest())
                packets.append((packet.stream.index, " ".join(map(str, words))))
    # Stable: within a stream the order of the file stays.
    return tuple(words for _, words in sorted(packets, key=lambda one: one[0]))


def problem_of(folder: Path) -> str:
    """What in a folder of the library is not as its manifest says, as a sentence; empty when all is."""
    manifest = json.loads((folder / "manifest.json").read_text("utf-8"))
    names = {path.name for path in folder.iterdir()} - {"manifest.json"}
    if named := names ^ {str(entry["name"]) for entry in manifest["files"]}:
        return f"the manifest and the folder do not agree on {', '.join(sorted(named))}"
    for entry in manifest["files"]:
        body = (folder / entry["name"]).read_bytes()
        if (len(body), f"blake3:{blake3(body).hexdigest()}") != (entry["size_bytes"], entry["checksum"]):
            return f"{entry['name']} has another size or checksum"
    return ""


def undisturbed(standin: Standin, broadcast: Broadcast, folder: Path) -> Packets:
    """What an uninterrupted capture of the broadcast holds; as much of it as there is, for one with a hole."""
    video = broadcast.video
    world = standin.world
    grant = world.issue_grant(video)
    rendition = world.media_of(video).source.name
    url = f"{standin.http_url}/edge/{grant}/{broadcast_path(world, video)}/{rendition}/{playlist_name(video)}"
    with_holes = broadcast.fate is Fate.WITH_A_HOLE
    captured = anyio.run(
        lambda: capture(service_of(folder, KnownPlaylist(url)), video_id=video.id, accept_holes=with_holes)
    )
    return packets_of(captured.output / "video.mp4")
