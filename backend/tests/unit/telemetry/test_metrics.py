from __future__ import annotations

from collections.abc import Callable

import pytest
from prometheus_client.parser import text_string_to_metric_families

from vodkeep.telemetry.metrics import DURATION_BUCKETS_S, Metrics

NAMES = {
    "vod_downloads_started_total",
    "vod_downloads_succeeded_total",
    "vod_downloads_failed_total",
    "vod_uploads_succeeded_total",
    "vod_uploads_failed_total",
    "vod_processing_cycles_total",
    "vod_download_duration_seconds",
    "vod_upload_duration_seconds",
    "vod_processing_total_duration_seconds",
    "vod_queue_depth",
    "vod_circuit_open",
    "vod_circuit_opened_total",
    "chat_recording",
    "chat_streams_began_total",
    "chat_streams_reconciled_total",
    "chat_streams_unmatched_total",
    "chat_messages_stored_total",
    "chat_spool_bytes",
    "chat_flush_seconds",
}


def samples(metrics: Metrics) -> dict[tuple[str, str], float]:
    """(sample name, channel) to value, without histogram buckets."""
    return {
        (sample.name, sample.labels["channel"]): sample.value
        for family in text_string_to_metric_families(metrics.render().decode())
        for sample in family.samples
        if "le" not in sample.labels
    }


def exposed_names(metrics: Metrics) -> set[str]:
    return {line.split()[2] for line in metrics.render().decode().splitlines() if line.startswith("# TYPE")}


def test_exactly_these_names_are_exposed() -> None:
    metrics = Metrics()
    metrics.expect("otter")
    assert exposed_names(metrics) == NAMES
    assert "_created" not in metrics.render().decode()


def test_expect_creates_every_series_at_zero() -> None:
    metrics = Metrics()
    assert samples(metrics) == {}
    metrics.expect("otter")
    values = samples(metrics)
    assert set(values.values()) == {0.0}
    assert {name.removesuffix("_sum").removesuffix("_count") for name, _ in values} == NAMES


@pytest.mark.parametrize(
    ("name", "act", "expected"),
    [
        ("vod_downloads_started_total", lambda m: m.downloads_started("otter"), 1),
        ("vod_downloads_succeeded_total", lambda m: m.downloads_succeeded("otter"), 1),
        ("vod_downloads_failed_total", lambda m: m.downloads_failed("otter"), 1),
        ("vod_uploads_succeeded_total", lambda m: m.uploads_succeeded("otter"), 1),
        ("vod_uploads_failed_total", lambda m: m.uploads_failed("otter"), 1),
        ("vod_processing_cycles_total", lambda m: m.cycle("otter"), 1),
        ("vod_download_duration_seconds_sum", lambda m: m.download_duration("otter", 12.5), 12.5),
        ("vod_upload_duration_seconds_sum", lambda m: m.upload_duration("otter", 3.0), 3),
        ("vod_processing_total_duration_seconds_sum", lambda m: m.total_duration("otter", 90.0), 90),
        ("vod_queue_depth", lambda m: m.queue_depth("otter", 7), 7),
        ("vod_circuit_open", lambda m: m.circuit_open("otter", True), 1),
        ("vod_circuit_opened_total", lambda m: m.circuit_opened("otter"), 1),
        ("chat_recording", lambda m: m.chat_recording("otter", True), 1),
        ("chat_streams_began_total", lambda m: m.chat_stream_began("otter"), 1),
        ("chat_streams_reconciled_total", lambda m: m.chat_stream_reconciled("otter"), 1),
        ("chat_streams_unmatched_total", lambda m: m.chat_stream_unmatched("otter"), 1),
        ("chat_messages_stored_total", lambda m: m.chat_messages_stored("otter", 3), 3),
    ],
)
def test_each_event_moves_its_own_series_and_no_other(
    name: str, act: Callable[[Metrics], None], expected: float
) -> None:
    metrics = Metrics()
    metrics.expect("otter")
    metrics.expect("rook")
    act(metrics)
    moved = {key: value for key, value in samples(metrics).items() if value}
    moved.pop((name.removesuffix("_sum") + "_count", "otter"), None)
    assert moved == {(name, "otter"): expected}


def test_what_is_of_all_channels_together_names_none() -> None:
    metrics = Metrics()
    metrics.chat_spool_bytes(500)
    metrics.chat_flush(0.5)
    assert samples(metrics) == {
        ("chat_spool_bytes", ""): 500,
        ("chat_flush_seconds_sum", ""): 0.5,
        ("chat_flush_seconds_count", ""): 1,
    }
    metrics.chat_spool_bytes(0)
    assert samples(metrics)["chat_spool_bytes", ""] == 0


def test_gauges_go_back() -> None:
    metrics = Metrics()
    metrics.circuit_open("otter", True)
    metrics.circuit_open("otter", False)
    metrics.queue_depth("otter", 3)
    metrics.queue_depth("otter", 0)
    assert samples(metrics) == {("vod_circuit_open", "otter"): 0, ("vod_queue_depth", "otter"): 0}


def test_buckets_tell_a_twelve_hour_download_from_an_eight_hour_one() -> None:
    assert DURATION_BUCKETS_S[0] == 1
    assert DURATION_BUCKETS_S[-1] == 24 * 3600
    assert list(DURATION_BUCKETS_S) == sorted(set(DURATION_BUCKETS_S))

    def bucket(seconds: float) -> int:
        return next(i for i, bound in enumerate(DURATION_BUCKETS_S) if seconds <= bound)

    marks = [1, 5, 30, 60, 300, 1800, 3600, 2 * 3600, 4 * 3600, 8 * 3600, 12 * 3600, 24 * 3600]
    assert len({bucket(mark) for mark in marks}) == len(marks)


def test_two_instances_share_nothing() -> None:
    one, other = Metrics(), Metrics()
    one.downloads_started("otter")
    assert samples(other) == {}


def test_a_hostile_channel_label_is_escaped() -> None:
    metrics = Metrics()
    metrics.queue_depth('a"} 1\nvod_fake 2', 1)
    assert exposed_names(metrics) <= NAMES
    assert list(samples(metrics)) == [("vod_queue_depth", 'a"} 1\nvod_fake 2')]
