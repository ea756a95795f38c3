"""Moving averages of durations: exponential, alpha 0.2 (``docs/operations.md``)."""

from __future__ import annotations

ALPHA = 0.2


def next_average(average_ms: float | None, sample_ms: float) -> float:
    """The average in milliseconds after ``sample_ms``; the first sample is the average."""
    return sample_ms if average_ms is None else ALPHA * sample_ms + (1 - ALPHA) * average_ms
