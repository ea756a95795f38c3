"""Progress lines of yt-dlp 2026.10.26, as it printed them."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vodkeep.capture.model import Phase, Progress
from vodkeep.capture.whole import parse_progress

LINE = (
    'vodkeep-progress {"status": "downloading", "downloaded_bytes": 5023884, '
    '"total_bytes_estimate": 6084387.692307692, "fragment_index": 12, "fragment_count": 15, '
    '"speed": 18354394.316739924}'
)
WITH_ETA = (
    'vodkeep-progress {"status": "downloading", "downloaded_bytes": 1024, "total_bytes_estimate": 15360.0, '
    '"fragment_index": 0, "fragment_count": 15, "speed": null, "eta": 12}'
)
BEYOND = (
    'vodkeep-progress {"status": "downloading", "downloaded_bytes": 700870, "total_bytes_estimate": 710798.1818181818, '
    '"fragment_index": 11, "fragment_count": 10, "speed": 1158036.822087295}'
)
LAST = (
    'vodkeep-progress {"status": "finished", "downloaded_bytes": 700870, "total_bytes": 700870, '
    '"speed": 3314162.169650507}'
)


def test_reads_how_far_a_download_is() -> None:
    assert parse_progress(LINE) == Progress(Phase.FETCHING, 5023884, 6084387, 12, 15, 18354394.316739924, None)


def test_a_beginning_has_no_speed_yet() -> None:
    assert parse_progress(WITH_ETA) == Progress(Phase.FETCHING, 1024, 15360, 0, 15, 0.0, 12.0)


def test_the_init_section_never_makes_more_segments_than_there_are() -> None:
    progress = parse_progress(BEYOND)
    assert progress is not None
    assert progress.fraction == 1.0


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(LAST, id="last word"),
        pytest.param("", id="empty"),
        pytest.param("[hlsnative] Total fragments: 15", id="talk"),
        pytest.param("[download]  12.0% of ~   5.80MiB at   17.50MiB/s ETA 00:01 (frag 1/15)", id="other template"),
        pytest.param("vodkeep-progress NA", id="nothing known"),
        pytest.param("vodkeep-progress []", id="no object"),
        pytest.param('vodkeep-progress {"status": "downl', id="cut"),
    ],
)
def test_other_lines_say_nothing(line: str) -> None:
    assert parse_progress(line) is None


anything = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.lists(st.none(), max_size=1)
)


@given(
    st.dictionaries(st.sampled_from(["downloaded_bytes", "total_bytes", "fragment_index", "speed", "eta"]), anything)
)
def test_wrong_types_never_crash(said: dict[str, object]) -> None:
    line = "vodkeep-progress " + json.dumps({"status": "downloading", **said})
    progress = parse_progress(line)
    assert progress is not None
    assert progress.fetched_bytes >= 0
