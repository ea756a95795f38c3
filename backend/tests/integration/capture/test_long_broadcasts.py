"""A broadcast of 47 h 59 min, in 20,000 segments: what is done once per segment stays a matter of moments."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from vodkeep.capture.ledger import completeness, write_ledger
from vodkeep.capture.model import FetchedSegment, Hole, HoleCause, PacketCounts, ResolvedVod
from vodkeep.capture.plan import SavedPlan, load_plan, save_plan
from vodkeep.capture.playlist import muted_alternatives, parse_media_playlist

SEGMENTS = 20_000
LENGTH_MS = (47 * 3600 + 59 * 60) * 1000
SEGMENT_MS = LENGTH_MS // SEGMENTS
ADDRESS = "https://edge.example/chunked/index-muted-QWERTYUIOP.m3u8"
MOST_S = 10.0  # A tenth of that, where nothing else runs; what reads the playlist again and again takes minutes.


def playlist_text() -> str:
    """As Twitch writes it: every tenth segment muted, timestamps anew every thousand."""
    lines = ["#EXTM3U", "#EXT-X-VERSION:3", "#EXT-X-TARGETDURATION:10", "#EXT-X-PLAYLIST-TYPE:EVENT"]
    for number in range(SEGMENTS):
        if number and number % 1000 == 0:
            lines.append("#EXT-X-DISCONTINUITY")
        lines += [f"#EXTINF:{SEGMENT_MS / 1000:.3f},", f"{number}{'-muted' if number % 10 == 0 else ''}.ts"]
    return "\n".join([*lines, "#EXT-X-ENDLIST", ""])


def resolved() -> ResolvedVod:
    """What is known of it."""
    return ResolvedVod(
        "2301",
        "otter",
        "Otter",
        "Two days",
        None,
        LENGTH_MS / 1000,
        False,
        ADDRESS,
        "1080p60",
        6_000_000,
        None,
        (),
        "t",
    )


def test_planning_it_takes_less_than_a_second(tmp_path: Path) -> None:
    text = playlist_text()
    began = time.process_time()

    playlist = parse_media_playlist(text, ADDRESS)
    save_plan(tmp_path, SavedPlan(resolved(), text))
    names = [muted_alternatives(segment) for segment in playlist.segments]
    # The worst ledger there is: no two neighbours are alike.
    fetched = {
        number: FetchedSegment(number, f"{number}.ts", 1_000_000, PacketCounts(518, 405), muted=number % 4 == 0)
        for number in range(0, SEGMENTS, 2)
    }
    holes = {number: Hole(number, HoleCause.GONE, "404") for number in range(1, SEGMENTS, 2)}
    ledger = write_ledger(playlist, fetched, holes)
    share = completeness(ledger)

    assert time.process_time() - began < MOST_S
    assert (len(playlist.segments), playlist.duration_us) == (SEGMENTS, SEGMENTS * SEGMENT_MS * 1000)
    assert (len(names), len(ledger)) == (SEGMENTS, SEGMENTS)
    assert share == pytest.approx(0.5)


def test_taking_it_up_again_takes_less_than_a_second(tmp_path: Path) -> None:
    save_plan(tmp_path, SavedPlan(resolved(), playlist_text()))
    began = time.process_time()

    saved = load_plan(tmp_path)
    assert saved is not None
    playlist = saved.playlist()

    assert time.process_time() - began < MOST_S
    assert playlist.duration_us // 1000 == SEGMENTS * SEGMENT_MS
    assert sum(segment.muted for segment in playlist.segments) == SEGMENTS // 10
