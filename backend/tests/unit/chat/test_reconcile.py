from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vodkeep.chat.reconcile import NEAR, Placeholder, Recording, Step, match, next_look, step

START = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
DELAY, WINDOW = timedelta(minutes=1), timedelta(minutes=15)


def at(minutes: float) -> datetime:
    return START + timedelta(minutes=minutes)


def stream(name: str, minutes: float = 0, stream_id: str | None = "", linked_to: str | None = None) -> Placeholder:
    """A placeholder; without a word about it, its stream id is its name."""
    return Placeholder(name, at(minutes), name if stream_id == "" else stream_id, linked_to)


def vod(name: str, minutes: float = 0, stream_id: str | None = None) -> Recording:
    return Recording(name, at(minutes), stream_id)


@pytest.mark.parametrize(
    ("streams", "vods", "taken", "expected"),
    [
        pytest.param([stream("A")], [vod("1", 0.1, "A")], (), {"A": "1"}, id="by the id of the stream"),
        pytest.param([stream("A")], [vod("1", 300, "A")], (), {"A": "1"}, id="however far the starts are apart"),
        pytest.param([stream("A")], [vod("1", 0, "B")], (), {}, id="never another stream's, however close"),
        pytest.param([stream("A")], [], (), {}, id="there is none"),
        pytest.param([stream("A")], [vod("1", 9.9)], (), {"A": "1"}, id="by the start, where the VOD names no stream"),
        pytest.param([stream("A", stream_id=None)], [vod("1", -9.9, "X")], (), {"A": "1"}, id="or where we know none"),
        pytest.param([stream("A")], [vod("1", 10.1)], (), {}, id="too late"),
        pytest.param([stream("A")], [vod("1", -10.1)], (), {}, id="too early"),
        pytest.param([stream("A")], [vod("1", 10)], (), {"A": "1"}, id="ten minutes are near enough"),
        pytest.param([stream("A")], [vod("1", 5), vod("2", -2)], (), {"A": "2"}, id="two in the window: the closest"),
        pytest.param([stream("A")], [vod("1", 3), vod("2", -3)], (), {"A": "2"}, id="equally close: the earlier"),
        pytest.param([stream("A")], [vod("1", 0), vod("2", 8, "A")], (), {"A": "2"}, id="the id beats a closer start"),
        pytest.param(
            [stream("A")],
            [vod("1", 2880, "A"), vod("2", 0, "A")],
            (),
            {"A": "2"},
            id="one stream in two VODs: the first",
        ),
        pytest.param(
            [stream("A", 0), stream("B", 4)], [vod("1", 4, "B")], (), {"B": "1"}, id="the stream before has none"
        ),
        pytest.param(
            [stream("A", 0), stream("B", 4)], [vod("1", 3)], (), {"B": "1"}, id="one VOD between two: the closer one's"
        ),
        pytest.param(
            [stream("A", 0), stream("B", 4)], [vod("1", 3), vod("2", 5)], (), {"A": "1", "B": "2"}, id="two of each"
        ),
        pytest.param(
            [stream("A", 0), stream("B", 4)], [vod("1", 3), vod("2", 6)], (), {"A": "1", "B": "2"}, id="never crosswise"
        ),
        pytest.param([stream("A")], [vod("1", 1)], {"1"}, {}, id="it is another stream's already"),
        pytest.param(
            [stream("A", linked_to="1")], [vod("1", 1), vod("2", 0)], {"1"}, {"A": "1"}, id="what was begun is finished"
        ),
    ],
)
def test_which_vod_belongs_to_which_stream(
    streams: list[Placeholder], vods: list[Recording], taken: set[str], expected: dict[str, str]
) -> None:
    for seed in range(5):  # The order of neither list means anything.
        chance = random.Random(seed)
        found = match(chance.sample(streams, len(streams)), chance.sample(vods, len(vods)), taken=taken)
        assert {name: recording.vod_id for name, recording in found.items()} == expected


STREAM_IDS = st.sampled_from(["A", "B", "C", None])
STREAMS = st.lists(st.tuples(st.integers(0, 60), STREAM_IDS), max_size=6).map(
    lambda each: [stream(f"live-{n}", minutes, name) for n, (minutes, name) in enumerate(each)]
)
VODS = st.lists(st.tuples(st.integers(0, 60), STREAM_IDS), max_size=6).map(
    lambda each: [vod(str(n), minutes, name) for n, (minutes, name) in enumerate(each)]
)


@given(STREAMS, VODS)
def test_no_vod_is_given_to_two_streams_and_none_to_a_stranger(
    streams: list[Placeholder], vods: list[Recording]
) -> None:
    found = match(streams, vods)
    ids = [recording.vod_id for recording in found.values()]
    assert len(set(ids)) == len(ids)
    by_name = {each.item_id: each for each in streams}
    for name, recording in found.items():
        mine = by_name[name]
        if mine.stream_id is not None and recording.stream_id is not None:
            assert mine.stream_id == recording.stream_id
        else:
            assert abs(mine.started_at - recording.started_at) <= NEAR


@given(STREAMS, VODS)
def test_what_could_be_matched_is(streams: list[Placeholder], vods: list[Recording]) -> None:
    found = match(streams, vods)
    left = [each for each in vods if each.vod_id not in {one.vod_id for one in found.values()}]
    for lonely in (each for each in streams if each.item_id not in found):
        assert match([lonely], left) == {}


@given(STREAMS, VODS)
def test_doing_it_again_changes_nothing(streams: list[Placeholder], vods: list[Recording]) -> None:
    """A run that was killed after the chat was given away comes to the same end."""
    found = match(streams, vods)
    begun = [
        Placeholder(each.item_id, each.started_at, each.stream_id, found[each.item_id].vod_id)
        for each in streams
        if each.item_id in found
    ]
    taken = {each.linked_to for each in begun if each.linked_to is not None}
    assert match(begun, vods, taken=taken) == found


@pytest.mark.parametrize(
    ("minutes", "looked", "expected"),
    [
        (0, False, Step.WAIT),
        (0.9, False, Step.WAIT),
        (1, False, Step.LOOK),
        (14.9, True, Step.LOOK),
        (15, True, Step.GIVE_UP),
        (15, False, Step.LOOK),
        (60 * 24 * 30, False, Step.LOOK),
    ],
)
def test_when_a_vod_is_looked_for(minutes: float, looked: bool, expected: Step) -> None:
    assert step(START, at(minutes), delay=DELAY, window=WINDOW, looked=looked) is expected


def test_a_live_stream_is_waited_for() -> None:
    assert step(None, START, delay=DELAY, window=WINDOW, looked=True) is Step.WAIT


def test_a_window_shorter_than_the_delay_still_has_one_look() -> None:
    short = timedelta(seconds=1)
    assert step(START, at(0.5), delay=DELAY, window=short, looked=False) is Step.WAIT
    assert step(START, at(1), delay=DELAY, window=short, looked=False) is Step.LOOK
    assert step(START, at(1), delay=DELAY, window=short, looked=True) is Step.GIVE_UP


def test_the_looks_come_after_the_delay_and_again_until_the_window_closes() -> None:
    moments: list[datetime] = []
    now = START
    for _ in range(60):
        if step(START, now, delay=DELAY, window=WINDOW, looked=bool(moments)) is Step.GIVE_UP:
            break
        if step(START, now, delay=DELAY, window=WINDOW, looked=bool(moments)) is Step.LOOK:
            moments.append(now)
        now = next_look(START, now, delay=DELAY, window=WINDOW)
    assert (moments[0], now) == (START + DELAY, START + WINDOW)
    assert len(moments) == 28
