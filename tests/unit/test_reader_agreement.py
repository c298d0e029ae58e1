"""Counts and intervals of agreement, against published intervals and cases counted by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from dicom_node.core import codes
from dicom_node.core.assessment.proportions import Proportion
from dicom_node.core.assessment.reader_agreement import (
    Grouping,
    ReaderVerdict,
    ReviewableResult,
    agreement_by,
    verdict_on,
)
from dicom_node.core.assessment.review import Review, ReviewedFinding, Reviewer, ReviewReason
from dicom_node.core.entities import Code, Finding, Presence, ReviewState

AT = datetime(2026, 3, 14, 9, 30, tzinfo=UTC)
NODULE = Finding(key="nodule", label="Nodule", code=Code("27925004", "SCT", "Nodule"), site=codes.LUNG)
READER = Reviewer(account="reader", name="Reader^Ada")


@pytest.mark.parametrize(
    ("count", "total", "low", "high"),
    [  # Newcombe, Statistics in Medicine 1998;17:857, table I, method 3
        (81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718),
        (20, 20, 1 - 0.1611, 1.0), (0, 0, 0.0, 1.0),
    ],
)  # fmt: skip
def test_intervals_are_the_published_ones(count: int, total: int, low: float, high: float) -> None:
    found = Proportion(count, total)
    assert (round(found.low, 4), round(found.high, 4)) == (pytest.approx(low), pytest.approx(high))
    assert found.share == (count / total if total else None)


def test_more_than_all_is_no_proportion() -> None:
    with pytest.raises(ValueError, match="3 of 2"):
        Proportion(3, 2)


def said(model: Presence | None, reader: Presence | None, *, removed: bool = False) -> ReviewedFinding:
    before = replace(NODULE, presence=model)
    return ReviewedFinding(finding=replace(NODULE, presence=reader), said_by_model=before, removed=removed)


ADDED = ReviewedFinding(finding=replace(NODULE, presence=Presence.PRESENT), said_by_model=None)


@pytest.mark.parametrize(
    ("finding", "verdict"),
    [
        (said(Presence.PRESENT, Presence.PRESENT), ReaderVerdict.CONFIRMED),
        (said(Presence.PRESENT, Presence.ABSENT), ReaderVerdict.OVERCALLED),
        (said(Presence.PRESENT, Presence.PRESENT, removed=True), ReaderVerdict.OVERCALLED),
        (said(Presence.ABSENT, Presence.PRESENT), ReaderVerdict.MISSED),
        (said(Presence.UNDETERMINED, Presence.PRESENT), ReaderVerdict.MISSED),
        (said(Presence.ABSENT, Presence.ABSENT), ReaderVerdict.RULED_OUT),
        (said(None, None), None),
        (said(Presence.PRESENT, Presence.UNDETERMINED), None),
        (ADDED, ReaderVerdict.MISSED),
        (replace(ADDED, finding=NODULE), ReaderVerdict.MISSED),
    ],
)
def test_what_a_reader_says_of_a_finding_judges_what_the_model_said(
    finding: ReviewedFinding, verdict: ReaderVerdict | None
) -> None:
    assert verdict_on(finding) is verdict


def result(
    state: ReviewState | None, findings: Sequence[ReviewedFinding] = (), *reasons: ReviewReason, month: int = 3
) -> ReviewableResult:
    review = state and Review(
        of_job_key="a" * 64, state=state, reviewer=READER, decided_at=AT, findings=tuple(findings), reasons=reasons
    )
    made_at = AT.replace(month=month)
    return ReviewableResult(model="m", version="1", made_at=made_at, station="CT1", review=review)


def test_a_line_counts_results_by_decision_and_findings_by_verdict() -> None:
    hit = said(Presence.PRESENT, Presence.PRESENT)
    [line] = agreement_by(
        [
            result(ReviewState.ACCEPTED, [hit]),
            result(ReviewState.MODIFIED, [hit, ADDED, ADDED]),
            result(ReviewState.MODIFIED, [said(Presence.PRESENT, Presence.ABSENT)], ReviewReason.FALSE_POSITIVE),
            result(ReviewState.REJECTED, (), ReviewReason.FALSE_NEGATIVE),
            result(None),
        ],
        [Grouping.MODEL],
    )
    assert line.group == {"model": "m"}
    assert line.reviewed == Proportion(4, 5)
    assert (line.accepted, line.modified, line.rejected) == (Proportion(1, 4), Proportion(2, 4), Proportion(1, 4))
    assert (line.missed, line.overcalled) == (Proportion(2, 4), Proportion(1, 4)), "a result is counted once"
    assert line.confirmed == Proportion(2, 3)
    assert line.found is None
    assert "reviewed" in line.found_not_told


def test_how_much_was_found_is_told_only_where_nearly_everything_was_read() -> None:
    hits = [result(ReviewState.ACCEPTED, [said(Presence.PRESENT, Presence.PRESENT)]) for _ in range(9)]
    miss = result(ReviewState.MODIFIED, [said(Presence.ABSENT, Presence.PRESENT)])
    [told] = agreement_by([*hits, miss], [])
    assert told.found == Proportion(9, 10)
    assert told.found_not_told == ""
    for more, why in (
        ([result(None)] * 3, "Fewer than 90%"),
        ([result(ReviewState.REJECTED)], "rejected"),
    ):
        [not_told] = agreement_by([*hits, miss, *more], [])
        assert (not_told.found, why in not_told.found_not_told) == (None, True)
    [few] = agreement_by([*hits[:5], miss], [])
    assert (few.found, "10 findings" in few.found_not_told) == (None, True)


def test_lines_are_told_apart_by_what_is_asked_for_and_come_in_order() -> None:
    lines = agreement_by([result(None, month=4), result(None, month=3), result(None, month=3)], list(Grouping)[-1:])
    assert [(line.group, line.reviewed.total) for line in lines] == [
        ({"month": "2026-03"}, 2),
        ({"month": "2026-04"}, 1),
    ]
    assert agreement_by([], [Grouping.MODEL]) == []
