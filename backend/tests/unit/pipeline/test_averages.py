from __future__ import annotations

import pytest

from vodkeep.pipeline.averages import next_average


def test_the_first_sample_is_the_average() -> None:
    assert next_average(None, 1500) == 1500


def test_each_sample_weighs_a_fifth() -> None:
    assert next_average(1000, 2000) == pytest.approx(1200)
    assert next_average(next_average(1000, 2000), 0) == pytest.approx(960)
