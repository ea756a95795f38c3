"""A capture goes on after whatever ended it: nothing that was proven is fetched again, and the film is the same film.

"The same" means the same packets with the same times. The bytes of the whole file cannot be the same, because segments
lie in it in the order in which they arrived; the index says where each one is.
"""

from __future__ import annotations

import json
import random
import shutil
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import av
import pytest

from support.capture_run import VIDEO_ID, KnownPlaylist, capture, service_of, start_child
from support.edge import Edge, playlist_of, running_edge
from support.mp4_media import make_transport_segments, read_packets
from support.warm import Process
from vodkeep.capture.aside import bring_to_front, find_best
from vodkeep.capture.model import HoleCause, ResolvedVod, Source
from vodkeep.capture.patience import Patience
from vodkeep.errors import DiskFull, Incomplete, PermanentError, ServerError

pytestmark = pytest.mark.anyio

SEGMENT_S = 2
CONNECTIONS = 4
KILLS = 20
KILLS_IN_THE_END = 6


@pytest.fixture(scope="session")
def bodies() -> dict[str, bytes]:
    """A broadcast in two parts, as of an encoder that was started again in the middle; by name."""
    part = make_transport_segments("h264", "aac", seconds=36)
    assert len(part) == 18
    return {f"{number}.ts": body for number, body in enumerate(part + part)}


@pytest.fixture
def edge(bodies: dict[str, bytes]) -> Iterator[Edge]:
    with running_edge() as edge:
        edge.serve(bodies, segment_s=SEGMENT_S, gaps=[len(bodies) // 2])
        yield edge


def proven(data_dir: Path) -> set[str]:
    """The names of the segments whose lines are in the journal."""
    path = data_dir / ".work" / VIDEO_ID / "journal.ndjson"
    names = set()
    for raw in path.read_bytes().split(b"\n")[:-1] if path.exists() else []:
        entry = json.loads(raw)
        if "sn" in entry:
            names.add(entry["name"])
    return names


def film(data_dir: Path) -> Path:
    return data_dir / ".work" / VIDEO_ID / "out" / "video.mp4"


async def uninterrupted(edge: Edge, folder: Path) -> Path:
    """The film of a capture that nothing disturbed."""
    captured = await capture(service_of(folder, KnownPlaylist(edge.playlist_url)))
    assert captured.completeness == 1.0
    return film(folder)


class Killer:
    """Kills a child at the ``nth`` request for a segment from now on, or some time after it."""

    def __init__(self, edge: Edge, child: Process, nth: int, delay_s: float) -> None:
        self._edge = edge
        self._at = len(edge.asked) + nth
        self._child = child
        self._delay_s = delay_s
        self._reached = threading.Event()
        edge.on_segment = self._look

    def _look(self, asked: int) -> None:
        if asked >= self._at:
            self._reached.set()

    def kill(self) -> None:
        assert self._reached.wait(30)
        # Time itself is what is at random here: writing, syncing and the next requests go on meanwhile.
        threading.Event().wait(self._delay_s)
        self._child.kill()
        self._edge.on_segment = lambda _: None


def kill_in_phase(child: Process, phase: str, delay_s: float) -> None:
    """Kill a child some time after it has begun this phase."""
    assert child.stdout is not None
    assert any(line.strip() == phase for line in child.stdout)
    threading.Event().wait(delay_s)
    child.kill()


def end(child: Process) -> None:
    child.wait(30)
    assert child.stdout is not None
    child.stdout.close()


async def test_killed_at_twenty_random_instants(edge: Edge, tmp_path: Path, bodies: dict[str, bytes]) -> None:
    chance = random.Random(20_260_401)
    expected = read_packets(await uninterrupted(edge, tmp_path / "undisturbed"))
    edge.delay_s = 0.02
    data_dir = tmp_path / "killed"
    begun = len(edge.asked)
    proven_before: set[str] = set()
    phases = []
    for number in range(KILLS):
        asked_before = len(edge.asked)
        child = start_child(edge.playlist_url, data_dir, connections=CONNECTIONS)
        try:
            if number < KILLS - KILLS_IN_THE_END and len(proven_before) < len(bodies) - 2 * CONNECTIONS:
                phases.append("fetching")
                Killer(edge, child, chance.randint(1, 4), chance.uniform(0, 0.05)).kill()
            else:
                phases.append(chance.choice(["muxing", "verifying"]))
                kill_in_phase(child, phases[-1], chance.uniform(0, 0.08))
        finally:
            child.kill()
            end(child)
        assert child.returncode == -signal.SIGKILL
        proven_now = proven(data_dir)
        asked = edge.counts(asked_before)
        assert proven_now >= proven_before, "what was proven stays proven"
        assert not set(asked) & proven_before, "what is proven is not asked for again"
        # What the one before had in flight when it was killed may reach the server only now.
        assert asked.total() - len(asked) <= CONNECTIONS, "nothing is asked for twice"
        assert len(set(asked) - proven_now) <= CONNECTIONS, "no more than what was in flight is lost"
        proven_before = proven_now
    assert phases.count("fetching") >= 8

    child = start_child(edge.playlist_url, data_dir, connections=CONNECTIONS)
    assert child.wait(60) == 0
    end(child)

    assert sum(edge.counts(begun).values()) <= len(bodies) + phases.count("fetching") * CONNECTIONS
    assert set(edge.counts(begun)) == set(bodies)
    assert read_packets(film(data_dir)) == expected


# Power cuts and other hands ----------------------------------------------------------------------------------------


async def cut_off(edge: Edge, data_dir: Path, *, kept: int, format_id: str = "chunked") -> None:
    """A capture that ended in the middle: the other segments cannot be had, this time."""
    away = {name: edge.bodies.pop(name) for name in list(edge.bodies)[kept:]}
    hasty = Patience(backoff_base_s=0.01, backoff_cap_s=0.05)
    service = service_of(data_dir, KnownPlaylist(edge.playlist_url, format_id=format_id), patience=hasty)
    if away:
        with pytest.raises((Incomplete, ServerError)):
            await capture(service)
    else:
        await capture(service)
    edge.bodies.update(away)
    assert len(proven(data_dir)) == kept


async def finish(edge: Edge, data_dir: Path, *, asked_for: int | None = None) -> Path:
    """Capture to the end; ``asked_for`` is how many segments that may take."""
    before = len(edge.asked)
    captured = await capture(service_of(data_dir, KnownPlaylist(edge.playlist_url)))
    assert captured.completeness == 1.0
    if asked_for is not None:
        assert len(edge.asked) - before == asked_for
    return film(data_dir)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("media", ["whole", "short", "zeros"])
async def test_power_cut_anywhere(edge: Edge, tmp_path: Path, media: str, seed: int) -> None:
    """The journal ends at any byte; the media is whole, short, or its end never reached the disk."""
    chance = random.Random(f"{media} {seed}")
    expected = read_packets(await uninterrupted(edge, tmp_path / "undisturbed"))
    await cut_off(edge, tmp_path, kept=24)
    work = tmp_path / ".work" / VIDEO_ID
    text = (work / "journal.ndjson").read_bytes()
    text = text[: chance.randrange(len(text) // 4, len(text))]
    with (work / "video.mp4").open("r+b") as video:
        size = video.seek(0, 2)
        lost_from = chance.randrange(size // 4, size)
        if media == "short":
            video.truncate(lost_from)
        elif media == "zeros":  # What stands before a mark was durable before the mark, so there is no mark.
            text = b"".join(line for line in text.splitlines(keepends=True) if b'"synced"' not in line)
            video.seek(lost_from)
            video.write(bytes(size - lost_from))
    (work / "journal.ndjson").write_bytes(text)
    before = len(edge.asked)
    finished = await finish(edge, tmp_path)
    assert read_packets(finished) == expected
    asked = edge.counts(before)
    assert set(asked.values()) == {1}
    assert len(asked) < len(edge.bodies), "something was believed"


async def test_work_folder_moved_to_another_disk(edge: Edge, tmp_path: Path, bodies: dict[str, bytes]) -> None:
    expected = read_packets(await uninterrupted(edge, tmp_path / "undisturbed"))
    old, new = tmp_path / "old", tmp_path / "new"
    await cut_off(edge, old, kept=20)
    shutil.copytree(old / ".work", new / ".work")
    shutil.rmtree(old)
    finished = await finish(edge, new, asked_for=len(bodies) - 20)
    assert read_packets(finished) == expected


@pytest.mark.parametrize("content", [b"", b"{}", b'{"plan":1,"resolved":{},"playlist":7}', b"\0" * 100, None])
async def test_damaged_plan_costs_nothing(
    edge: Edge, tmp_path: Path, bodies: dict[str, bytes], content: bytes | None
) -> None:
    expected = read_packets(await uninterrupted(edge, tmp_path / "undisturbed"))
    await cut_off(edge, tmp_path, kept=20)
    plan = tmp_path / ".work" / VIDEO_ID / "plan.json"
    if content is None:
        plan.unlink()
    else:
        plan.write_bytes(content)
    finished = await finish(edge, tmp_path, asked_for=len(bodies) - 20)
    assert read_packets(finished) == expected


async def test_film_handed_out_but_no_item_made_of_it(edge: Edge, tmp_path: Path) -> None:
    """The film is in ``out`` and nothing else is; the next run proves it again and fetches nothing."""
    finished = await uninterrupted(edge, tmp_path)
    expected = read_packets(finished)
    (finished.parent / "thumbnail.jpg").unlink()
    again = await finish(edge, tmp_path, asked_for=0)
    assert read_packets(again) == expected
    assert (again.parent / "thumbnail.jpg").exists()


async def test_half_of_the_index_written(edge: Edge, tmp_path: Path) -> None:
    finished = await uninterrupted(edge, tmp_path)
    expected = read_packets(finished)
    with finished.open("r+b") as file:
        head = file.read(4096)
        at = head.index(b"moov") + 4
        file.seek(at)
        file.write(b"\xff" * 2000)
    finished.replace(tmp_path / ".work" / VIDEO_ID / "video.mp4")
    again = await finish(edge, tmp_path, asked_for=0)
    assert read_packets(again) == expected


# A playlist that changed meanwhile ---------------------------------------------------------------------------------


GONE = PermanentError("VOD 2301 is gone.", code="deleted")


def in_quality(edge: Edge, format_id: str = "chunked", gone: PermanentError | None = None) -> KnownPlaylist:
    return KnownPlaylist(edge.playlist_url, format_id=format_id, gone=gone)


async def test_another_quality_begins_anew(edge: Edge, tmp_path: Path, bodies: dict[str, bytes]) -> None:
    await cut_off(edge, tmp_path, kept=20)
    before = len(edge.asked)
    captured = await capture(service_of(tmp_path, in_quality(edge, "720p60")))
    assert (captured.completeness, captured.resolved.format_id) == (1.0, "720p60")
    assert edge.counts(before) == dict.fromkeys(bodies, 1)


@pytest.mark.parametrize(
    ("first", "second", "quality", "kept"), [(20, 6, "chunked", 20), (6, 20, "720p60", 20), (9, 9, "720p60", 9)]
)
async def test_what_came_furthest_is_kept_when_the_broadcast_vanishes(
    edge: Edge, tmp_path: Path, first: int, second: int, quality: str, kept: int
) -> None:
    """The setting changed between two attempts, and neither came to its end."""
    await cut_off(edge, tmp_path, kept=first)
    await cut_off(edge, tmp_path, kept=second, format_id="720p60")
    before = len(edge.asked)
    captured = await capture(service_of(tmp_path, in_quality(edge, "720p60", GONE)))
    assert len(edge.asked) == before
    assert captured.cut_short_by is GONE
    assert captured.resolved.format_id == quality
    assert captured.completeness == pytest.approx(kept / 36)
    assert {hole.cause for hole in captured.holes} == {HoleCause.GONE}


async def test_deleted_under_a_capture_it_is_finished_at_once(edge: Edge, tmp_path: Path) -> None:
    """The token runs out, and the resolver learns that there is nothing any more."""

    class Vanishing(KnownPlaylist):
        async def resolve(self, video_id: str, rendition: str | None = None) -> ResolvedVod:
            resolved = await super().resolve(video_id, rendition)
            self._gone = GONE
            return resolved

    edge.refused_after = 10
    captured = await capture(service_of(tmp_path, Vanishing(edge.playlist_url)))
    assert captured.cut_short_by is GONE
    assert captured.completeness == pytest.approx(10 / 36)


async def test_a_missing_tool_ends_nothing(edge: Edge, tmp_path: Path) -> None:
    await cut_off(edge, tmp_path, kept=20)
    missing = PermanentError("There is no yt-dlp.", code="tool_missing")
    with pytest.raises(PermanentError, match="no yt-dlp"):
        await capture(service_of(tmp_path, in_quality(edge, gone=missing)))
    await finish(edge, tmp_path, asked_for=16)


async def test_a_quality_that_comes_back_goes_on_where_it_was(edge: Edge, tmp_path: Path) -> None:
    expected = read_packets(await uninterrupted(edge, tmp_path / "undisturbed"))
    await cut_off(edge, tmp_path, kept=20)
    await cut_off(edge, tmp_path, kept=6, format_id="720p60")
    assert read_packets(await finish(edge, tmp_path, asked_for=16)) == expected


async def test_at_the_last_attempt_the_better_one_is_finished(edge: Edge, tmp_path: Path) -> None:
    await cut_off(edge, tmp_path, kept=36)
    await cut_off(edge, tmp_path, kept=30, format_id="720p60")
    del edge.bodies["35.ts"]
    captured = await capture(service_of(tmp_path, in_quality(edge, "720p60")), accept_holes=True)
    assert (captured.resolved.format_id, captured.completeness) == ("chunked", 1.0)
    assert captured.holes == ()


async def test_at_the_last_attempt_a_lesser_one_is_left_aside(edge: Edge, tmp_path: Path) -> None:
    await cut_off(edge, tmp_path, kept=20)
    del edge.bodies["35.ts"]
    captured = await capture(service_of(tmp_path, in_quality(edge, "720p60")), accept_holes=True)
    assert (captured.resolved.format_id, len(captured.holes)) == ("720p60", 1)


class PowerCut(BaseException):
    """Nothing that handles errors sees it."""


@pytest.mark.parametrize("renames", range(9))
async def test_cut_off_between_two_renames_nothing_is_lost(
    edge: Edge, tmp_path: Path, renames: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Changing places takes eight of them: four to set aside, one and three to bring back."""
    await cut_off(edge, tmp_path, kept=8)
    await cut_off(edge, tmp_path, kept=6, format_id="720p60")
    work = tmp_path / ".work" / VIDEO_ID
    done, rename = 0, Path.rename

    def cut(path: Path, target: Path) -> Path:
        nonlocal done
        if done == renames:
            raise PowerCut
        done += 1
        return rename(path, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", cut)
        if renames < 8:
            with pytest.raises(PowerCut):
                bring_to_front(work, "chunked")
        else:
            bring_to_front(work, "chunked")
    best = find_best(work)
    assert best is not None
    assert best.plan.resolved.format_id == "chunked"
    assert best.share == pytest.approx(8 / 36)
    before = len(edge.asked)
    captured = await capture(service_of(tmp_path, in_quality(edge, "720p60")))
    assert captured.completeness == 1.0
    assert len(edge.asked) - before == 30


async def test_a_full_disk_says_what_is_set_aside(edge: Edge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    await cut_off(edge, tmp_path, kept=20)
    full = shutil.disk_usage(tmp_path)._replace(free=1)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: full)
    with pytest.raises(DiskFull) as raised:
        await capture(service_of(tmp_path, in_quality(edge, "720p60")))
    assert "captured of it in another quality" in raised.value.remedy


async def test_a_quality_that_changes_under_a_capture_is_not_mixed_in(edge: Edge, tmp_path: Path) -> None:
    """The token runs out, and the playlist that comes in its place is another rendition's."""

    class Changing(KnownPlaylist):
        async def resolve(self, video_id: str, rendition: str | None = None) -> ResolvedVod:
            resolved = await super().resolve(video_id, rendition)
            self._format_id = "720p60"
            return resolved

    edge.refused_after = 10
    with pytest.raises(ServerError, match="720p60"):
        await capture(service_of(tmp_path, Changing(edge.playlist_url)))
    assert len(proven(tmp_path)) == 10
    edge.refused_after = None
    await finish(edge, tmp_path, asked_for=len(edge.bodies) - 10)


async def test_what_was_muted_meanwhile_keeps_its_sound(edge: Edge, tmp_path: Path, bodies: dict[str, bytes]) -> None:
    await cut_off(edge, tmp_path, kept=20)
    names = list(bodies)
    edge.bodies.clear()
    renamed = [name.replace(".ts", "-muted.ts") if 10 <= number < 25 else name for number, name in enumerate(names)]
    edge.serve(dict(zip(renamed, bodies.values(), strict=True)), segment_s=SEGMENT_S, gaps=[18])
    before = len(edge.asked)
    captured = await capture(service_of(tmp_path, KnownPlaylist(edge.playlist_url)))
    assert set(edge.counts(before)) == set(renamed[20:])
    assert [(stretch.start_us, stretch.end_us, stretch.reason) for stretch in captured.ledger] == [
        (0, 40_000_000, ""),
        (40_000_000, 50_000_000, "muted"),
        (50_000_000, 72_000_000, ""),
    ]


async def test_sound_that_came_back_is_taken(edge: Edge, tmp_path: Path, bodies: dict[str, bytes]) -> None:
    """A stretch that was fetched muted is fetched again once it has its sound; where that fails, muted is kept."""
    names = list(bodies)
    muted = [name.replace(".ts", "-muted.ts") if number < 3 else name for number, name in enumerate(names)]
    edge.bodies.clear()
    edge.serve(dict(zip(muted, bodies.values(), strict=True)), segment_s=SEGMENT_S, gaps=[18])
    first = await capture(service_of(tmp_path, KnownPlaylist(edge.playlist_url)))
    assert first.ledger[0].reason == "muted"
    edge.bodies.clear()
    edge.serve(bodies, segment_s=SEGMENT_S, gaps=[18])
    del edge.bodies["1.ts"]
    before = len(edge.asked)
    second = await capture(service_of(tmp_path, KnownPlaylist(edge.playlist_url)))
    assert set(edge.counts(before)) == {"0.ts", "1.ts", "2.ts"}
    assert [stretch.reason for stretch in second.ledger] == ["", "muted", ""]
    assert second.completeness == 1.0


@pytest.mark.parametrize("renumbers", [False, True], ids=["numbers go on", "numbered from its own start"])
async def test_a_beginning_that_vanished_stays_in_the_film(
    edge: Edge, tmp_path: Path, bodies: dict[str, bytes], renumbers: bool
) -> None:
    expected = read_packets(await uninterrupted(edge, tmp_path / "undisturbed"))
    await cut_off(edge, tmp_path, kept=20)
    names = list(bodies)
    for name in names[:10]:
        del edge.bodies[name]
    edge.playlist = playlist_of(names[10:], segment_s=SEGMENT_S, first=0 if renumbers else 10, gaps=[8])
    finished = await finish(edge, tmp_path, asked_for=len(names) - 20)
    assert read_packets(finished) == expected


async def test_what_vanished_before_it_was_fetched_is_a_hole(
    edge: Edge, tmp_path: Path, bodies: dict[str, bytes]
) -> None:
    """Once promised, a part that is gone is told, and the rest is captured without asking for it."""
    await cut_off(edge, tmp_path, kept=4)
    names = list(bodies)
    edge.playlist = playlist_of(names[20:], segment_s=SEGMENT_S)
    before = len(edge.asked)
    with pytest.raises(Incomplete, match="16 of 36"):
        await capture(service_of(tmp_path, KnownPlaylist(edge.playlist_url)))
    captured = await capture(service_of(tmp_path, KnownPlaylist(edge.playlist_url)), accept_holes=True)
    assert edge.counts(before) == dict.fromkeys(names[20:], 1)
    assert captured.completeness == pytest.approx(20 / 36)
    assert [(stretch.start_us // 1_000_000, stretch.source) for stretch in captured.ledger] == [
        (0, Source.VOD),
        (8, Source.MISSING),
        (40, Source.VOD),
    ]
    assert length_s(film(tmp_path)) == pytest.approx(72, abs=1)


def length_s(path: Path) -> float:
    """From the first picture to the end of the last."""
    packets = read_packets(path)["video"]
    stamps = [packet.pts for packet in packets if packet.pts is not None]
    with av.open(str(path), mode="r") as container:
        base = container.streams.video[0].time_base
    assert base is not None
    return float((max(stamps) - min(stamps)) * base)


async def test_deleted_half_way_is_finished_with_what_there_is(edge: Edge, tmp_path: Path) -> None:
    await cut_off(edge, tmp_path, kept=20)
    before = len(edge.asked)
    gone = PermanentError("VOD 2301 is gone.", code="deleted")
    captured = await capture(service_of(tmp_path, KnownPlaylist(edge.playlist_url, gone=gone)))
    assert captured.cut_short_by is gone
    assert captured.completeness == pytest.approx(20 / 36)
    assert len(edge.asked) == before
    assert read_packets(film(tmp_path))["video"]
