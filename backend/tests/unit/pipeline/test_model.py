from __future__ import annotations

import pytest

from vodkeep.pipeline.model import MOVES, RUNNING, SETTLED, DownloadState, IllegalMove, Stage, check_move

S = DownloadState

# The state machine as a picture: one row per state, in the order of the enum, x for a legal move.
#            pend wait dwnl veri dwld uplo done fail park canc
PICTURE = """
pending      .    .    x    .    .    .    .    .    .    x
waiting      x    .    x    .    .    .    .    .    .    x
downloading  x    x    x    x    .    .    .    x    x    x
verifying    x    x    x    .    x    .    .    x    x    x
downloaded   x    .    .    .    x    x    x    .    .    x
uploading    .    .    .    .    x    x    x    x    x    x
done         x    .    x    .    .    .    .    .    .    .
failed       x    .    x    .    x    x    .    .    .    x
parked       x    .    x    .    .    .    .    .    .    x
canceled     x    .    x    .    .    .    .    .    .    .
"""


def _cases() -> list[tuple[DownloadState, DownloadState, bool]]:
    rows = [line.split() for line in PICTURE.strip().splitlines()]
    return [
        (S(row[0]), target, mark == "x") for row in rows for target, mark in zip(DownloadState, row[1:], strict=True)
    ]


@pytest.mark.parametrize(("source", "target", "legal"), _cases(), ids=lambda value: str(value))
@pytest.mark.parametrize("stage", Stage)
def test_only_the_moves_of_the_picture_are_legal(
    source: DownloadState, target: DownloadState, legal: bool, stage: Stage
) -> None:
    after_capture = source is S.FAILED and target in (S.DOWNLOADED, S.UPLOADING)
    of_chat = source is target is S.DOWNLOADED
    if legal and not (after_capture and stage is Stage.CAPTURE) and not (of_chat and stage is not Stage.CHAT):
        check_move(source, target, stage=stage)
    else:
        with pytest.raises(IllegalMove, match=f"never goes from {source} to {target}"):
            check_move(source, target, stage=stage)


def test_every_state_has_its_moves_and_can_be_left() -> None:
    assert set(MOVES) == set(DownloadState)
    assert all(MOVES[state] - {state} for state in DownloadState)


def test_no_item_is_done_without_having_been_verified() -> None:
    """Promise 1: the only ways into ``done`` lead through ``downloaded``, and into that through ``verifying``.

    A failed item goes on from there only if it was an upload that failed.
    """
    assert {source for source in MOVES if S.DONE in MOVES[source]} == {S.DOWNLOADED, S.UPLOADING}
    into_downloaded = {source for source in MOVES if S.DOWNLOADED in MOVES[source]} - {S.DOWNLOADED}
    assert into_downloaded == {S.VERIFYING, S.UPLOADING, S.FAILED}
    assert {source for source in MOVES if S.UPLOADING in MOVES[source]} == {S.DOWNLOADED, S.UPLOADING, S.FAILED}
    for target in (S.DOWNLOADED, S.UPLOADING):
        with pytest.raises(IllegalMove):
            check_move(S.FAILED, target, stage=Stage.CAPTURE)


def test_an_upload_can_be_stopped_fail_and_be_tried_again() -> None:
    assert S.DOWNLOADED in MOVES[S.UPLOADING]
    assert {S.FAILED, S.PARKED} <= MOVES[S.UPLOADING]
    check_move(S.FAILED, S.UPLOADING, stage=Stage.PUBLISH)


def test_a_running_item_can_always_be_stopped() -> None:
    assert all(S.CANCELED in MOVES[state] for state in RUNNING)


def test_a_settled_item_can_always_be_asked_for_again() -> None:
    assert all(S.DOWNLOADING in MOVES[state] for state in SETTLED)
