"""Captures one broadcast with Vodkeep's engine, from the address of its media playlist.

``python -m bench.capture.ours PLAYLIST_URL FOLDER CONNECTIONS``

What the service does around it (queue, database, Twitch's own interfaces) is not there, as it is not with the others,
who get the same address: this measures the engine, from the playlist to the proven file in its place. Everything the
engine promises is in it: the journal, the checks of each segment, the verification of the file with its checksum, the
thumbnail.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import anyio
from bench.engine_alone import VIDEO_ID, build_capture

from vodkeep.capture.model import Progress
from vodkeep.telemetry.log import configure_logging


async def capture(url: str, target: Path, connections: int) -> None:
    """Capture the broadcast at ``url`` into ``target``, as the service does: capture, place, tidy."""
    service = build_capture(target, url, connections)
    folder = service.work_folder(VIDEO_ID)

    def ignore(_: Progress) -> None:
        pass

    with folder.hold():
        captured = await service.capture(folder, on_progress=ignore)
        if captured.completeness != 1.0:
            raise RuntimeError(f"The capture is not whole: {captured.completeness:.3f}")
        captured.output.rename(target / "kept")
    folder.remove()


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("folder", type=Path)
    parser.add_argument("connections", type=int)
    given = parser.parse_args()
    configure_logging("warning", stream=sys.stderr)
    anyio.run(capture, given.url, given.folder, given.connections)


if __name__ == "__main__":
    main()
