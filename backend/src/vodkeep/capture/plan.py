"""What a capture set out to do, kept beside its work: the source as it was seen.

With it a broadcast that vanishes from Twitch half way can still be finished with what was fetched, and so can one of
which parts vanish: what the playlist once promised stays in the plan. A segment is known again by its name, because
Twitch numbers a playlist from its first segment, whichever that is.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path

from vodkeep.capture.model import ByteRange, Chapter, FetchedSegment, MediaPlaylist, ResolvedVod, Segment
from vodkeep.capture.playlist import (
    PlaylistError,
    muted_alternatives,
    parse_media_playlist,
    plain_name,
    write_media_playlist,
)
from vodkeep.disk import disk_errors

_NAME = "plan.json"
_VERSION = 1

_Identity = tuple[str, ByteRange | None]


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


def keep_plan(folder: Path, resolved: ResolvedVod, playlist: MediaPlaylist, text: str) -> MediaPlaylist:
    """Write down what is on offer now, ``playlist`` read from ``text``, together with what an earlier plan saw.

    Returns what is to be captured; see `merge_playlists`.
    """
    saved = _read_plan(folder)
    # Nearly always it is the same text, and long ones take long to read.
    if saved is not None and saved.resolved.format_id == resolved.format_id and saved.playlist_text != text:
        with suppress(PlaylistError):
            merged = merge_playlists(saved.playlist(), playlist)
            if merged is not playlist:
                playlist, text = merged, write_media_playlist(merged)
    save_plan(folder, SavedPlan(resolved, text))
    return playlist


def load_plan(folder: Path) -> SavedPlan | None:
    """The plan in ``folder``; None when there is none that can be used."""
    plan = _read_plan(folder)
    try:
        if plan is not None:
            plan.playlist()
    except PlaylistError:
        return None
    return plan


def _read_plan(folder: Path) -> SavedPlan | None:
    try:
        fields = json.loads((folder / _NAME).read_text("utf-8"))
        if fields["plan"] != _VERSION:
            return None
        resolved = fields["resolved"]
        return SavedPlan(
            ResolvedVod(
                **{
                    **resolved,
                    "date": datetime.fromisoformat(resolved["date"]) if resolved["date"] else None,
                    "other_urls": tuple(resolved.get("other_urls", ())),
                    "chapters": tuple(Chapter(**chapter) for chapter in resolved["chapters"]),
                }
            ),
            str(fields["playlist"]),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def merge_playlists(earlier: MediaPlaylist, now: MediaPlaylist) -> MediaPlaylist:
    """``now``, and at their places, as gaps, the segments that ``earlier`` had and ``now`` has no more.

    A gap is not asked for again; what was fetched of it before stays in the film, and what was not is a hole. Segments
    keep the numbers that ``earlier`` gave them, unless new ones stand between them. Where the two have nothing in
    common or another order, or segments cannot be told apart by name, ``now`` is all there is.
    """
    before, after = _by_identity(earlier.segments), _by_identity(now.segments)
    if before is None or after is None:
        return now
    if before.keys() <= after.keys():
        return now
    shared = [segment for identity, segment in after.items() if identity in before]
    order = [before[_identity(segment)].index for segment in shared]
    kinds = {segment.init is None for segment in (*earlier.segments, *now.segments)}
    if not shared or order != sorted(order) or len(kinds) > 1:
        return now
    joined: list[Segment] = []
    position = 0  # in `earlier`
    for segment in now.segments:
        old = before.get(_identity(segment))
        if old is not None:
            joined += [replace(lost, gap=True) for lost in earlier.segments[position : old.index]]
            position = old.index + 1
            # The first segment of a playlist is never marked as discontinuous; it may not be the first here.
            joined.append(replace(segment, discontinuity=segment.discontinuity or old.discontinuity))
        else:
            joined.append(segment)
    joined += [replace(lost, gap=True) for lost in earlier.segments[position:]]
    return replace(now, segments=_numbered(joined, earlier.segments[0].media_sequence))


def renumbered(now: MediaPlaylist, like: MediaPlaylist) -> MediaPlaylist:
    """The segments of ``now`` that ``like`` has too, with the numbers they have there."""
    known, unique = _by_identity(like.segments), _by_identity(now.segments)
    if known is None or unique is None:
        return now
    segments = [
        replace(segment, media_sequence=known[identity].media_sequence)
        for identity, segment in unique.items()
        if identity in known
    ]
    return replace(now, segments=tuple(segments))


def match_fetched(playlist: MediaPlaylist, fetched: Iterable[FetchedSegment]) -> dict[int, FetchedSegment]:
    """Which of ``fetched`` (in the order in which they came) belong to ``playlist``, by its media sequence.

    They are known by their names; by their numbers too, where names occur more than once. One with sound comes
    before a muted one, and a later one before an earlier one.
    """
    names = [plain_name(segment.name) for segment in playlist.segments]
    unique = len(set(names)) == len(names)
    numbers = {(name, segment.media_sequence) for name, segment in zip(names, playlist.segments, strict=True)}
    by_name = {name: segment.media_sequence for name, segment in zip(names, playlist.segments, strict=True)}
    matched: dict[int, FetchedSegment] = {}
    for item in fetched:
        name = plain_name(item.name)
        if unique:
            number = by_name.get(name)
        else:
            number = item.media_sequence if (name, item.media_sequence) in numbers else None
        if number is None:
            continue
        known = matched.get(number)
        if known is None or known.muted or not item.muted:
            matched[number] = item
    return matched


def is_good_enough(segment: Segment, fetched: FetchedSegment) -> bool:
    """Whether ``fetched`` has its sound, or ``segment`` promises none either."""
    if not fetched.muted:
        return True
    return fetched.name in {uri.split("?", 1)[0].rsplit("/", 1)[-1] for uri in muted_alternatives(segment)}


def _identity(segment: Segment) -> _Identity:
    return plain_name(segment.name), segment.byte_range


def _by_identity(segments: Sequence[Segment]) -> dict[_Identity, Segment] | None:
    """None where two segments cannot be told apart."""
    found = {_identity(segment): segment for segment in segments}
    return found if len(found) == len(segments) else None


def _numbered(segments: Sequence[Segment], first: int) -> tuple[Segment, ...]:
    numbered: list[Segment] = []
    clock_us = 0
    for index, segment in enumerate(segments):
        numbered.append(replace(segment, index=index, media_sequence=first + index, start_us=clock_us))
        clock_us += segment.duration_us
    return tuple(numbered)
