"""Whether models and radiologists' reports say the same of a finding: by model, finding and scanner, with kappa. Pure.

A report is no truth: it says what one person held for worth writing. So both ways of differing are counted by
themselves, who is unsure belongs to neither, and silence, which mostly means that nothing is there, is told apart.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from dicom_node.core.assessment.proportions import Proportion
from dicom_node.core.assessment.report_reading import ReportedPresence
from dicom_node.core.entities import Presence

#: With fewer pairs kappa says nothing.
LEAST_PAIRS = 10
_Z = 1.959963984540054


class ConcordanceGroup(StrEnum):
    """By what concordance is told apart."""

    MODEL = "model"
    VERSION = "version"
    FINDING = "finding"
    MANUFACTURER = "manufacturer"
    SCANNER = "scanner"
    STATION = "station"
    SITE = "site"
    MONTH = "month"


class ConcordanceVerdict(StrEnum):
    """What a model and a report make of a finding together."""

    AGREE = "agree"
    MODEL_ONLY = "model_only"
    REPORT_ONLY = "report_only"
    UNSURE = "unsure"


#: Where model and report say the opposite: what a person should look at.
DISCORDANT = (ConcordanceVerdict.MODEL_ONLY, ConcordanceVerdict.REPORT_ONLY)


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedFinding:
    """What a model and a report say of one finding in one study. `finding` is the label that people read."""

    study_instance_uid: str
    job_key: str
    model: str
    version: str
    finding: str
    made_at: datetime
    model_says: Presence
    report_says: ReportedPresence
    manufacturer: str = ""
    scanner: str = ""
    station: str = ""
    site: str = ""

    @property
    def verdict(self) -> ConcordanceVerdict:
        """What both make of it; a report that is silent says that nothing is there."""
        if self.model_says is Presence.UNDETERMINED or self.report_says is ReportedPresence.UNCERTAIN:
            return ConcordanceVerdict.UNSURE
        model, report = self.model_says is Presence.PRESENT, self.report_says is ReportedPresence.PRESENT
        if model == report:
            return ConcordanceVerdict.AGREE
        return ConcordanceVerdict.MODEL_ONLY if model else ConcordanceVerdict.REPORT_ONLY

    def named(self, by: ConcordanceGroup) -> str:
        """Return what it counts under; the month is that in which the model answered, UTC."""
        return f"{self.made_at:%Y-%m}" if by is ConcordanceGroup.MONTH else str(getattr(self, by))


@dataclass(frozen=True, slots=True)
class Kappa:
    """Cohen's kappa, and between which bounds it lies with 95 %."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ConcordanceLine:
    """One group. `compared` are all findings, `agree` those of the sure ones; `silent`: of how many the report says
    nothing. `kappa` is `None` where `kappa_not_told` says why."""

    group: Mapping[ConcordanceGroup, str]
    compared: int
    agree: Proportion
    both_present: int
    both_absent: int
    model_only: int
    report_only: int
    unsure: int
    silent: int
    kappa: Kappa | None
    kappa_not_told: str = ""


def concordance_by(found: Iterable[ComparedFinding], by: Sequence[ConcordanceGroup]) -> list[ConcordanceLine]:
    """Return a line for each group, in the order of their names; with no grouping, one for all."""
    groups: dict[tuple[str, ...], Counter[tuple[ConcordanceVerdict, bool, bool]]] = {}
    for one in found:
        is_silent = one.report_says is ReportedPresence.SILENT
        kind = (one.verdict, one.model_says is Presence.PRESENT, is_silent)
        groups.setdefault(tuple(map(one.named, by)), Counter())[kind] += 1
    return [_line(dict(zip(by, names, strict=True)), counted) for names, counted in sorted(groups.items())]


def most_recent(
    found: Iterable[ComparedFinding], verdicts: Collection[ConcordanceVerdict], limit: int
) -> list[ComparedFinding]:
    """Return the latest findings with one of these verdicts, for people to look at again; the newest first."""
    wanted = (one for one in found if one.verdict in verdicts)
    return heapq.nlargest(limit, wanted, key=lambda one: (one.made_at, one.job_key, one.finding))


def _line(
    group: Mapping[ConcordanceGroup, str], counted: Counter[tuple[ConcordanceVerdict, bool, bool]]
) -> ConcordanceLine:
    def number(verdict: ConcordanceVerdict, *, present: bool | None = None) -> int:
        return sum(
            count for (one, is_present, _), count in counted.items() if one is verdict and present in (None, is_present)
        )

    both, neither = number(ConcordanceVerdict.AGREE, present=True), number(ConcordanceVerdict.AGREE, present=False)
    model_only, report_only = number(ConcordanceVerdict.MODEL_ONLY), number(ConcordanceVerdict.REPORT_ONLY)
    kappa, why_not = kappa_of(both, model_only, report_only, neither)
    return ConcordanceLine(
        group=group,
        compared=counted.total(),
        agree=Proportion(both + neither, both + neither + model_only + report_only),
        both_present=both,
        both_absent=neither,
        model_only=model_only,
        report_only=report_only,
        unsure=number(ConcordanceVerdict.UNSURE),
        silent=sum(count for (_, _, is_silent), count in counted.items() if is_silent),
        kappa=kappa,
        kappa_not_told=why_not,
    )


def kappa_of(both: int, first_only: int, second_only: int, neither: int) -> tuple[Kappa | None, str]:
    """Return Cohen's kappa of two who judge the same, or why there is none.

    The interval is that of Fleiss, Cohen and Everitt (Psychological Bulletin 1969;72:323, equation 13), which holds
    for many pairs; it is cut at -1 and 1.

    >>> kappa, _ = kappa_of(20, 5, 10, 15)
    >>> round(kappa.value, 2), round(kappa.low, 3), round(kappa.high, 3)
    (0.4, 0.15, 0.65)
    """
    total = both + first_only + second_only + neither
    if total < LEAST_PAIRS:
        return None, f"Fewer than {LEAST_PAIRS} findings were compared."
    cells = [[both / total, first_only / total], [second_only / total, neither / total]]
    rows = [sum(row) for row in cells]
    columns = [cells[0][place] + cells[1][place] for place in (0, 1)]
    observed = cells[0][0] + cells[1][1]
    expected = rows[0] * columns[0] + rows[1] * columns[1]
    if 1 - expected < 1e-12:
        return None, "All of them say the same of every study: chance alone would."
    value = (observed - expected) / (1 - expected)
    agreed = sum(cells[one][one] * (1 - (rows[one] + columns[one]) * (1 - value)) ** 2 for one in (0, 1))
    differed = sum(cells[one][1 - one] * (columns[one] + rows[1 - one]) ** 2 for one in (0, 1)) * (1 - value) ** 2
    spread = max(0.0, agreed + differed - (value - expected * (1 - value)) ** 2)
    half = _Z * math.sqrt(spread / total) / (1 - expected)
    return Kappa(value, max(-1.0, value - half), min(1.0, value + half)), ""
