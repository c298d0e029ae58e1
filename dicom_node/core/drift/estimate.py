"""How well a model does, estimated from its calibrated scores without labels (CBPE, as NannyML describes it). Pure.

A calibrated score of 0.8 is right in 8 of 10 such cases. So each case called positive counts 0.8 true and 0.2 false
positives, and so on: the sums are the expected table of four. That holds as long as the scores are calibrated for these
images, and says nothing of a model that is wrong in another way than it knows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from dicom_node.core.drift.features import LOOKS_DISTANCE, Features, score_of

#: With fewer cases nothing is estimated.
FEWEST_CASES = 20
_PRESENCE, _PRESENT = "presence.", "PRESENT"


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What scores let expect of one finding; a figure is `None` where there is nothing to divide by."""

    cases: int
    #: Left out: taken unlike what the model knows, where its scores are not calibrated.
    beyond_known: int
    auroc: float | None
    sensitivity: float | None
    specificity: float | None
    #: Share of cases that have the finding.
    prevalence: float


def estimates(rows: Iterable[Features]) -> dict[str, Estimate]:
    """Return the estimate for each finding that has a score in enough of the results."""
    kept = list(rows)
    known = [row for row in kept if not _is_beyond(row)]
    beginning = score_of("")
    names = sorted({name.removeprefix(beginning) for row in known for name in row if name.startswith(beginning)})
    found = ((name, list(_cases(known, name))) for name in names)
    return {name: _estimate(cases, len(kept) - len(known)) for name, cases in found if len(cases) >= FEWEST_CASES}


def _is_beyond(row: Features) -> bool:
    distance = row.get(LOOKS_DISTANCE, 0.0)
    return not isinstance(distance, float) or distance > 1


def _cases(rows: Sequence[Features], name: str) -> Iterator[tuple[float, bool]]:
    """Yield score and whether the model called the finding present."""
    for row in rows:
        score = row.get(score_of(name))
        if isinstance(score, float) and 0 <= score <= 1:
            yield score, row.get(f"{_PRESENCE}{name}") == _PRESENT


def _estimate(cases: Sequence[tuple[float, bool]], beyond_known: int) -> Estimate:
    positive = sum(score for score, _ in cases)
    negative = len(cases) - positive
    hits = sum(score for score, is_called in cases if is_called)
    passed = sum(1 - score for score, is_called in cases if not is_called)
    return Estimate(
        cases=len(cases), beyond_known=beyond_known, auroc=_auroc([score for score, _ in cases]),
        sensitivity=hits / positive if positive else None, specificity=passed / negative if negative else None,
        prevalence=positive / len(cases),
    )  # fmt: skip


def _auroc(scores: Sequence[float]) -> float | None:
    """Return the area under the expected ROC curve; equal scores are one step of it."""
    positive = sum(scores)
    negative = len(scores) - positive
    if not positive or not negative:
        return None
    area = above = 0.0
    for score, same in groupby(sorted(scores, reverse=True)):
        number = sum(1 for _ in same)
        area += number * (1 - score) * (above + number * score / 2)
        above += number * score
    return area / (positive * negative)
