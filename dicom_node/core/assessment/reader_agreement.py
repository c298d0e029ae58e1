"""How often readers agreed with a model: by version, scanner, site and month, with 95 % intervals. Pure.

What is counted are decisions of people who had seen the model's answer, on the results that somebody chose to review.
So a share is told with the share of results that were reviewed at all, and what only a reading of every image can tell
(how much was found of what is there) is told only where nearly every result was reviewed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from dicom_node.core.assessment.proportions import Proportion
from dicom_node.core.assessment.review import Review, ReviewedFinding, ReviewReason
from dicom_node.core.entities import Presence, ReviewState

#: Of the results of a line so many must have been reviewed, before it is told how much of what is there was found.
LEAST_REVIEWED = 0.9
#: And so many findings must be there.
LEAST_PRESENT = 10


class Grouping(StrEnum):
    """By what agreement is told apart."""

    MODEL = "model"
    VERSION = "version"
    MANUFACTURER = "manufacturer"
    SCANNER = "scanner"
    STATION = "station"
    SITE = "site"
    MONTH = "month"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewableResult:
    """A model's answer that readers could review: who gave it, on images of which scanner and site, and the review,
    `None` where there was none. A rejected one has no findings by the reader."""

    model: str
    version: str
    made_at: datetime
    manufacturer: str = ""
    scanner: str = ""
    station: str = ""
    site: str = ""
    review: Review | None = None

    def named(self, by: Grouping) -> str:
        """Return what it counts under; the month is that in which the answer was given, UTC."""
        return f"{self.made_at:%Y-%m}" if by is Grouping.MONTH else str(getattr(self, by))


class ReaderVerdict(StrEnum):
    """What a reader's word makes of what a model said of one finding."""

    CONFIRMED = "confirmed"
    OVERCALLED = "overcalled"
    MISSED = "missed"
    RULED_OUT = "ruled_out"


@dataclass(slots=True)
class _Tally:
    results: int = 0
    decided: Counter[ReviewState] = field(default_factory=Counter)
    missed: int = 0
    overcalled: int = 0
    findings: Counter[ReaderVerdict] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True, kw_only=True)
class AgreementLine:
    """One group. All proportions but the first are of the reviewed results; the last two are of findings.

    `found` is of the findings that readers hold for present; `None` where too few of the results were reviewed, or too
    few findings are there, which `found_not_told` says.
    """

    group: Mapping[Grouping, str]
    reviewed: Proportion
    accepted: Proportion
    modified: Proportion
    rejected: Proportion
    missed: Proportion
    overcalled: Proportion
    confirmed: Proportion
    found: Proportion | None
    found_not_told: str = ""


def agreement_by(results: Iterable[ReviewableResult], by: Sequence[Grouping]) -> list[AgreementLine]:
    """Return a line for each group of results, in the order of their names; with no grouping, one for all."""
    tallies: dict[tuple[str, ...], _Tally] = {}
    for one in results:
        _count(tallies.setdefault(tuple(map(one.named, by)), _Tally()), one.review)
    return [_line(dict(zip(by, names, strict=True)), tally) for names, tally in sorted(tallies.items())]


def verdict_on(finding: ReviewedFinding) -> ReaderVerdict | None:
    """Return what a reader made of one finding; `None` where the model or the reader left its presence open."""
    said = finding.said_by_model.presence if finding.said_by_model else Presence.ABSENT
    now = Presence.ABSENT if finding.removed else finding.finding.presence
    if finding.is_added and now is None:  # something that is measured is there
        now = Presence.PRESENT
    return _VERDICTS.get((said, now))


_VERDICTS: Mapping[tuple[Presence | None, Presence | None], ReaderVerdict] = {
    (Presence.PRESENT, Presence.PRESENT): ReaderVerdict.CONFIRMED,
    (Presence.PRESENT, Presence.ABSENT): ReaderVerdict.OVERCALLED,
    (Presence.ABSENT, Presence.PRESENT): ReaderVerdict.MISSED,
    (Presence.UNDETERMINED, Presence.PRESENT): ReaderVerdict.MISSED,
    (Presence.ABSENT, Presence.ABSENT): ReaderVerdict.RULED_OUT,
}


def _count(tally: _Tally, review: Review | None) -> None:
    tally.results += 1
    if review is None:
        return
    tally.decided[review.state] += 1
    verdicts = Counter(one for finding in review.findings if (one := verdict_on(finding)) is not None)
    tally.findings += verdicts
    tally.missed += bool(verdicts[ReaderVerdict.MISSED]) or ReviewReason.FALSE_NEGATIVE in review.reasons
    tally.overcalled += bool(verdicts[ReaderVerdict.OVERCALLED]) or ReviewReason.FALSE_POSITIVE in review.reasons


def _line(group: Mapping[Grouping, str], tally: _Tally) -> AgreementLine:
    reviewed = Proportion(tally.decided.total(), tally.results)
    found, why_not = _found(tally, reviewed)
    called = tally.findings[ReaderVerdict.CONFIRMED] + tally.findings[ReaderVerdict.OVERCALLED]

    def of_reviewed(count: int) -> Proportion:
        return Proportion(count, reviewed.count)

    return AgreementLine(
        group=group,
        reviewed=reviewed,
        accepted=of_reviewed(tally.decided[ReviewState.ACCEPTED]),
        modified=of_reviewed(tally.decided[ReviewState.MODIFIED]),
        rejected=of_reviewed(tally.decided[ReviewState.REJECTED]),
        missed=of_reviewed(tally.missed),
        overcalled=of_reviewed(tally.overcalled),
        confirmed=Proportion(tally.findings[ReaderVerdict.CONFIRMED], called),
        found=found,
        found_not_told=why_not,
    )


def _found(tally: _Tally, reviewed: Proportion) -> tuple[Proportion | None, str]:
    there = tally.findings[ReaderVerdict.CONFIRMED] + tally.findings[ReaderVerdict.MISSED]
    if (reviewed.share or 0.0) < LEAST_REVIEWED:
        return None, f"Fewer than {LEAST_REVIEWED:.0%} of the results were reviewed: what was missed is not known."
    if tally.decided[ReviewState.REJECTED]:
        return None, "Of rejected results nobody has said what is there."
    if there < LEAST_PRESENT:
        return None, f"Fewer than {LEAST_PRESENT} findings are there."
    return Proportion(tally.findings[ReaderVerdict.CONFIRMED], there), ""
