from __future__ import annotations

from datetime import timedelta

from structlog.testing import capture_logs

from support.queue_items import NOW
from vodkeep.pipeline.breaker import CLOSED, Breaker, BreakerPhase
from vodkeep.pipeline.circuits import Circuits
from vodkeep.telemetry.log import get_logger
from vodkeep.telemetry.metrics import Metrics

LATER = NOW + timedelta(minutes=5)
OPEN = Breaker(BreakerPhase.OPEN, 5, LATER)
HALF = Breaker(BreakerPhase.HALF_OPEN, 5, LATER)


def _gauge(metrics: Metrics, channel: str) -> float | None:
    value: float | None = metrics.registry.get_sample_value("vod_circuit_open", {"channel": channel})
    return value


def _openings(metrics: Metrics) -> float | None:
    value: float | None = metrics.registry.get_sample_value("vod_circuit_opened_total", {"channel": "a"})
    return value


def test_an_opening_is_counted_once_by_the_process_whose_attempt_it_was() -> None:
    """Another process sees it in ``kv``; so does this one after a restart."""
    here, there = Metrics(), Metrics()
    log = get_logger("vod_process")
    with capture_logs() as lines:
        ours, theirs = Circuits(log=log, metrics=here), Circuits(log=log, metrics=there)
        ours.attempt_ended("a", CLOSED, Breaker(BreakerPhase.CLOSED, 4), NOW)
        ours.attempt_ended("a", Breaker(BreakerPhase.CLOSED, 4), OPEN, NOW)
        ours.observe({"a": OPEN}, [], mark=ours.mark())
        theirs.observe({"a": OPEN}, [], mark=theirs.mark())
        # An attempt from before the opening ends there, and fails too.
        theirs.attempt_ended("a", OPEN, Breaker(BreakerPhase.OPEN, 6, LATER), NOW)
        assert (_openings(here), _openings(there)) == (1, None)
        assert (_gauge(here, "a"), _gauge(there, "a")) == (1, 1)
        theirs.attempt_ended("a", HALF, Breaker(BreakerPhase.OPEN, 7, LATER), NOW)
        assert (_openings(here), _openings(there)) == (1, 1), "the probe failed"
    assert [(line["event"], line["by"]) for line in lines] == [
        ("circuit opened", "attempt"),
        ("circuit opened", "kv"),
        ("circuit opened", "attempt"),
    ]


def test_opening_and_closing_are_told_once_in_the_runbooks_words() -> None:
    metrics = Metrics()
    with capture_logs() as lines:
        circuits = Circuits(log=get_logger("vod_process"), metrics=metrics)
        circuits.attempt_ended("a", CLOSED, OPEN, NOW)
        circuits.observe({"a": OPEN}, ["a", "b"], mark=circuits.mark())
        circuits.observe({"a": HALF}, ["a", "b"], mark=circuits.mark())
        assert (_gauge(metrics, "a"), _gauge(metrics, "b")) == (1, 0)
        circuits.attempt_ended("a", HALF, CLOSED, NOW)
        circuits.observe({}, ["a", "b"], mark=circuits.mark())
    assert [(line["event"], line["channel"], line["component"]) for line in lines] == [
        ("circuit opened", "a", "vod_process"),
        ("circuit closed", "a", "vod_process"),
    ]
    assert _gauge(metrics, "a") == 0


def test_a_failed_probe_opens_it_again_and_says_so() -> None:
    with capture_logs() as lines:
        circuits = Circuits(log=get_logger("vod_process"), metrics=Metrics())
        circuits.attempt_ended("a", CLOSED, OPEN, NOW)
        circuits.attempt_ended("a", HALF, OPEN, NOW)
        circuits.attempt_ended("a", HALF, Breaker(BreakerPhase.OPEN, 5, NOW), NOW)
    assert [line["event"] for line in lines] == ["circuit opened", "circuit opened"]


def test_what_an_operator_deletes_is_seen_and_told() -> None:
    metrics = Metrics()
    with capture_logs() as lines:
        circuits = Circuits(log=get_logger("vod_process"), metrics=metrics)
        circuits.observe({"a": OPEN}, [], mark=circuits.mark())
        circuits.observe({}, [], mark=circuits.mark())
    assert [line["event"] for line in lines] == ["circuit opened", "circuit closed"]
    assert _gauge(metrics, "a") == 0


def test_what_was_read_before_an_attempt_ended_does_not_undo_it() -> None:
    """The planner reads in a thread; meanwhile an attempt opens or closes the breaker."""
    metrics = Metrics()
    with capture_logs() as lines:
        circuits = Circuits(log=get_logger("vod_process"), metrics=metrics)
        stale = circuits.mark()
        circuits.attempt_ended("a", CLOSED, OPEN, NOW)
        circuits.observe({}, ["a"], mark=stale)
        assert _gauge(metrics, "a") == 1
        stale = circuits.mark()
        circuits.attempt_ended("a", HALF, CLOSED, NOW)
        circuits.observe({"a": HALF}, ["a"], mark=stale)
    assert [line["event"] for line in lines] == ["circuit opened", "circuit closed"]
    assert _gauge(metrics, "a") == 0
