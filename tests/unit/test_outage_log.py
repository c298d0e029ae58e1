"""A door that fails again and again is told once, and how often when it is over."""

from __future__ import annotations

import logging
import tracemalloc

import pytest

from dicom_node.core.calls.outage_log import OutageLog


def told(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str, object]]:
    return [(one.levelname, one.message, vars(one).get("failures", vars(one).get("why"))) for one in caplog.records]


def test_an_outage_is_one_line_for_each_reason_and_one_at_its_end(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    outage = OutageLog(logging.getLogger("dicom_node.door"), "object not stored", "objects are stored again")
    outage.worked()
    for _ in range(1000):
        outage.failed("The database is away.", {"sop_instance": "1.2.3"})
        outage.failed("The disk is full.", {})
    outage.worked()
    outage.worked()
    outage.failed("The database is away.", {})
    assert told(caplog) == [
        ("ERROR", "object not stored", "The database is away."),
        ("ERROR", "object not stored", "The disk is full."),
        ("INFO", "objects are stored again", 2000),
        ("ERROR", "object not stored", "The database is away."),
    ]
    assert vars(caplog.records[0])["sop_instance"] == "1.2.3"


def test_reasons_that_are_never_the_same_are_not_all_told(caplog: pytest.LogCaptureFixture) -> None:
    outage = OutageLog(logging.getLogger("dicom_node.door"), "object not stored", "objects are stored again")
    for number in range(100):
        outage.failed(f"Reason {number}.", {})
    assert len(caplog.records) == 5


def test_a_long_outage_of_ever_new_reasons_needs_no_more_memory_than_a_short_one() -> None:
    outage = OutageLog(logging.getLogger("dicom_node.nobody_listens"), "object not stored", "objects are stored again")
    logging.getLogger("dicom_node.nobody_listens").disabled = True
    tracemalloc.start()
    try:
        for number in range(10_000):
            outage.failed(f"Object {number:0200d} cannot be stored.", {})
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 100_000  # all of them are 2 MB
