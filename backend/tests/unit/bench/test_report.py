"""Medians and ratios."""

from __future__ import annotations

from bench.capture.report import Run, table


def run(contender: str, wall_s: float, *, ok: bool = True, gave_up: bool = False, written: int = 1_000) -> Run:
    return Run(
        profile="raw",
        contender=contender,
        number=1,
        ok=ok,
        gave_up=gave_up,
        problem=None if ok else "other video packets",
        wall_s=wall_s,
        cpu_s=2.0,
        written_bytes=written,
        output_bytes=1_000,
        disk_extra_bytes=50,
        rss_bytes=100_000_000,
        pss_bytes=90_000_000,
        server_cpu_s=0.1,
        other_cpu_s=0.0,
        index="front",
        sampler_cpu_s=0.0,
    )


def rows(*runs: Run) -> dict[str, list[str]]:
    text = table(runs, {"ours": "Ours", "other": "Other"})
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]
    return {row[0]: row[1:] for row in cells[2:]}


def test_a_row_has_medians_and_ratios_to_ours() -> None:
    found = rows(*(run("ours", s) for s in (2.0, 9.0, 1.0)), *(run("other", s, written=3_000) for s in (8.0, 5.0, 6.0)))

    assert found["Ours"] == ["2.00", "2.00", "1.00", "5%", "100", "0.10", "0.00", "1.00 to 9.00", "front", "3"]
    assert found["Other"][:3] == ["6.00 (3.00x)", "2.00 (1.00x)", "3.00 (3.00x)"]


def test_a_run_whose_file_was_not_right_counts_for_nothing() -> None:
    found = rows(run("ours", 2.0), run("other", 4.0), run("other", 0.1, ok=False))

    assert found["Other"][0] == "4.00 (2.00x)"
    assert found["Other"][-1] == "1 of 2: other video packets"


def test_who_never_made_the_file_has_no_figures() -> None:
    found = rows(run("ours", 2.0), run("other", 0.1, ok=False))

    assert found["Other"] == ["", "", "", "", "", "", "", "", "", "0 of 1: other video packets"]


def test_who_was_given_up_on_is_only_known_to_take_longer() -> None:
    found = rows(run("ours", 2.0), run("other", 60.0, ok=False, gave_up=True))

    assert found["Other"][0] == "> 60.00 (> 30.00x)"
    assert found["Other"][1:7] == [""] * 6
    assert found["Other"][-1] == "given up"


def test_nobody_is_compared_with_an_unfinished_reference() -> None:
    found = rows(run("ours", 60.0, ok=False, gave_up=True), run("other", 30.0))

    assert found["Ours"][0] == "> 60.00"
    assert found["Other"][0] == "30.00"
