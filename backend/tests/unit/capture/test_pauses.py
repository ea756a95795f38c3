"""What a playlist's dates say about an encoder that was away."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from vodkeep.capture.model import MediaPlaylist, Segment
from vodkeep.capture.pauses import find_pauses

START = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


def playlist(*dates_s: float | None) -> MediaPlaylist:
    """Segments of ten seconds with these dates, in seconds after the start."""
    segments = tuple(
        Segment(
            index,
            index,
            f"https://edge/{index}.ts",
            index * 10_000_000,
            10_000_000,
            program_date_time=None if date_s is None else START + timedelta(seconds=date_s),
        )
        for index, date_s in enumerate(dates_s)
    )
    return MediaPlaylist(segments, 10, ended=True)


@pytest.mark.parametrize(
    ("dates_s", "pauses"),
    [
        pytest.param((0, 10, 20), (), id="none"),
        pytest.param((0, 10, 27, 37), ((20_000, 27_000),), id="one"),
        pytest.param((0, 17, 27, 97), ((10_000, 17_000), (37_000, 97_000)), id="two"),
        pytest.param((0, None, 27), ((20_000, 27_000),), id="between dates"),
        pytest.param((None, 10, 40), (), id="no date at the start"),
        pytest.param((0, 10.4, 20.8, 31.2), ((30_000, 31_200),), id="what adds up"),
        pytest.param((0, 10, 5, 15), (), id="a clock that was set back"),
        pytest.param((), (), id="nothing"),
    ],
)
def test_pauses(dates_s: tuple[float | None, ...], pauses: tuple[tuple[int, int], ...]) -> None:
    assert find_pauses(playlist(*dates_s)) == pauses
