"""Traces reach a collector, and one that is away, silent or full of faults costs nobody's work anything."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from dicom_node.core.metrics.spans import SPANS, Span, job_key_of, study_key
from dicom_node.operate.traces import Traces
from tests.peers.otlp import Collector, attributes, running_collector
from tests.peers.process import free_port, wait_until

_MANY = 20_000


@pytest.fixture
def collector() -> Iterator[Collector]:
    with running_collector() as one:
        yield one


def told(study: str = "1.2.3", name: str = "job", **more: object) -> Span:
    when = {"began_s": 100.0, "ended_s": 102.5}
    return Span(study_instance_uid=study, name=name, **{**when, **more})  # type: ignore[arg-type]


def tell_many() -> float:
    """Tell of very much; return how long that took."""
    began = time.monotonic()
    for _ in range(_MANY):
        SPANS.tell(told())
    return time.monotonic() - began


def test_what_is_done_for_one_study_is_one_trace_whoever_tells_of_it(collector: Collector) -> None:
    for _ in range(2):  # as two processes, or two starts of one
        traces = Traces(collector.endpoint, "AINODE", "1")
        traces.start()
        SPANS.tell(told(name="study", key=study_key(1)))
        SPANS.tell(told(key=job_key_of("k"), parent=study_key(1), requests=("r1", "r2"), attributes={"model": "m"}))
        SPANS.tell(told("1.2.4", name="study", key=study_key(1)))
        traces.close()

    study, of_other = collector.named("study")[:2]
    first, second = collector.named("job")
    assert study.trace_id == first.trace_id == second.trace_id != of_other.trace_id
    assert first.parent_span_id == study.span_id
    assert first.span_id == second.span_id
    assert not study.parent_span_id
    assert attributes(first) == {"model": "m", "study": "1.2.3", "requests": ["r1", "r2"]}
    assert (first.start_time_unix_nano, first.end_time_unix_nano) == (100_000_000_000, 102_500_000_000)


def test_a_step_that_fails_is_told_as_one(collector: Collector) -> None:
    traces = Traces(collector.endpoint, "AINODE", "1")
    traces.start()
    with pytest.raises(ZeroDivisionError), SPANS.step("1.2.3", "deliver", "", destination="pacs"):
        raise ZeroDivisionError
    traces.close()

    (span,) = collector.spans
    assert span.status.code == 2
    assert not span.events, "an exception's words may name a patient"


def test_nobody_waits_for_a_collector_that_is_silent(collector: Collector) -> None:
    collector.gate.clear()
    traces = Traces(collector.endpoint, "AINODE", "1")
    traces.start()

    took_s = tell_many()
    began = time.monotonic()
    traces.close()
    closed_s = time.monotonic() - began

    assert not collector.spans
    collector.gate.set()
    wait_until(lambda: "traces" not in {one.name for one in threading.enumerate()}, 60, "the end of what was closed")
    assert took_s < 60, "telling waits for nobody"
    assert closed_s < 60, "the end waits for seconds only"


def test_a_collector_that_is_away_is_told_of_once(caplog: pytest.LogCaptureFixture) -> None:
    traces = Traces(f"http://127.0.0.1:{free_port()}/v1/traces", "AINODE", "1")
    traces.start()
    tell_many()
    wait_until(lambda: "traces are not taken" in caplog.messages, 60, "the line of the log")
    traces.close()

    assert caplog.messages.count("traces are not taken") == 1
    assert {record.name for record in caplog.records if record.levelname != "DEBUG"} <= {"dicom_node.operate.traces"}


def test_what_a_listener_says_against_a_span_is_nobody_elses(
    collector: Collector, caplog: pytest.LogCaptureFixture
) -> None:
    traces = Traces(collector.endpoint, "AINODE", "1")
    traces.start()
    SPANS.tell(told(began_s="never"))  # type: ignore[arg-type]
    traces.close()

    assert "a span could not be traced" in caplog.messages
