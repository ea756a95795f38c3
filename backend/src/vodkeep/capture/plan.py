"""What a capture set out to do, kept beside its work: the source as it was seen.

With it a broadcast that vanishes from Twitch half way can still be finished with what was fetched.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from vodkeep.capture.model import Chapter, MediaPlaylist, ResolvedVod
from vodkeep.capture.playlist import PlaylistError, parse_media_playlist
from vodkeep.disk import disk_errors

_NAME = "plan.json"
_VERSION = 1


@dataclass(frozen=True, slots=True)
class SavedPlan:
    """A source and the text of its media playlist."""

    resolved: ResolvedVod
    playlist_text: str

    def playlist(self) -> MediaPlaylist:
        """The playlist; raises `PlaylistError`."""
        return parse_media_playlist(self.playlist_text, self.resolved.playlist_url)


def save_plan(folder: Path, plan: SavedPlan) -> None:
    """Write the plan into ``folder``; it appears whole or not at all."""
    fields = {"plan": _VERSION, "resolved": asdict(plan.resolved), "playlist": plan.playlist_text}
    with disk_errors(folder):
        fresh = folder / f"{_NAME}.new"
        fresh.write_text(json.dumps(fields, default=datetime.isoformat, separators=(",", ":")), "utf-8")
        fresh.replace(folder / _NAME)


def load_plan(folder: Path) -> SavedPlan | None:
    """The plan in ``folder``; None when there is none that can be used."""
    try:
        fields = json.loads((folder / _NAME).read_text("utf-8"))
        if fields["plan"] != _VERSION:
            return None
        resolved = fields["resolved"]
        plan = SavedPlan(
            ResolvedVod(
                **{
                    **resolved,
                    "date": datetime.fromisoformat(resolved["date"]) if resolved["date"] else None,
                    "chapters": tuple(Chapter(**chapter) for chapter in resolved["chapters"]),
                }
            ),
            fields["playlist"],
        )
        plan.playlist()
    except (OSError, ValueError, KeyError, TypeError, AttributeError, PlaylistError):
        return None
    return plan
