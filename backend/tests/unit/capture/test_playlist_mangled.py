"""Mangled playlists: see ``support.playlist_fuzz``, which can do this for as long as one likes."""

from __future__ import annotations

import pytest

from support.playlist_fuzz import LINES, ORIGINALS, hunt, read


@pytest.mark.parametrize("first", range(0, 800, 200))
def test_what_is_read_is_a_timeline_and_the_rest_is_refused(first: int) -> None:
    answers = hunt(range(first, first + 200))
    assert min(answers["refused"], answers["read"], answers["joined"], answers["planned"]) > 20


@pytest.mark.parametrize("name", ["transport stream", "fragments"])
def test_every_place_may_be_cut(name: str) -> None:
    """What has no end is still being recorded; what lost its beginning is refused."""
    text = ORIGINALS[name]
    whole = read(text)
    assert whole is not None
    for place in range(len(text.rstrip())):
        cut = read(text[:place])
        if cut is not None:
            assert not cut.ended
            uris = [segment.uri for segment in cut.segments[:-1]]  # The last one may have lost its end.
            assert uris == [segment.uri for segment in whole.segments[: len(uris)]]
        assert place == 0 or read(text[place:]) is None


@pytest.mark.parametrize("line", LINES, ids=range(len(LINES)))
def test_no_line_is_a_crash_anywhere(line: str) -> None:
    lines = ORIGINALS["fragments"].split("\r\n")
    for at in range(1, len(lines)):
        read("\n".join([*lines[:at], line, *lines[at:]]))
