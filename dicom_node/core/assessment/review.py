"""A named person's word on a result: what was decided and why, and what the findings are by that person's judgement."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, tzinfo
from enum import StrEnum
from types import MappingProxyType

from dicom_node.core.entities import Finding, Presence, ReviewState


class ReviewReason(StrEnum):
    """Why a result is corrected or rejected; a code never changes its meaning."""

    FALSE_POSITIVE = "FALSE_POSITIVE"
    FALSE_NEGATIVE = "FALSE_NEGATIVE"
    WRONG_MEASUREMENT = "WRONG_MEASUREMENT"
    WRONG_REGION = "WRONG_REGION"
    WRONG_SIDE = "WRONG_SIDE"
    WRONG_WORDING = "WRONG_WORDING"
    UNSUITABLE_IMAGES = "UNSUITABLE_IMAGES"
    NOT_RELEVANT = "NOT_RELEVANT"
    OTHER = "OTHER"


#: What each reason says to people.
REVIEW_REASONS: Mapping[ReviewReason, str] = MappingProxyType(
    {
        ReviewReason.FALSE_POSITIVE: "Something was reported that is not there.",
        ReviewReason.FALSE_NEGATIVE: "Something that is there was missed.",
        ReviewReason.WRONG_MEASUREMENT: "A number is wrong.",
        ReviewReason.WRONG_REGION: "The place or outline is wrong.",
        ReviewReason.WRONG_SIDE: "The side of the body is wrong.",
        ReviewReason.WRONG_WORDING: "The finding is right and called by the wrong name.",
        ReviewReason.UNSUITABLE_IMAGES: "The images do not allow this judgement.",
        ReviewReason.NOT_RELEVANT: "It is right and of no use for this patient.",
        ReviewReason.OTHER: "Another reason, which the text says.",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reviewer:
    """Who answers for a reviewed result. `name` is a person name as DICOM writes it (``Family^Given``, PS3.5 6.2.1).

    `account` is who signed in, `organization` where they work, `identifier` what the hospital calls them, where it is
    told.
    """

    account: str
    name: str
    organization: str = ""
    identifier: str = ""

    @property
    def readable_name(self) -> str:
        """The name as people write it, ``Dr. Anna Weiss``: of its groups the first; the account where it has none."""
        parts = [" ".join(part.split()) for part in self.name.split("=")[0].split("^")]
        family, given, middle, prefix, suffix = (*parts, "", "", "", "", "")[:5]
        return " ".join(filter(None, (prefix, given, middle, family, suffix))) or self.account


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewedFinding:
    """One finding as it stands after the review.

    `finding` is what holds now; `said_by_model` is what the model had said of it, `None` for one that the reviewer
    added. `removed` is one that the reviewer says should not have been reported at all: it is told as absent.
    """

    finding: Finding
    said_by_model: Finding | None
    text: str = ""
    removed: bool = False

    @property
    def is_added(self) -> bool:
        """Whether a person and not the model says it."""
        return self.said_by_model is None

    @property
    def is_changed(self) -> bool:
        """Whether it is not what the model said."""
        return self.removed or bool(self.text) or self.finding != self.said_by_model

    @property
    def told(self) -> Finding:
        """What the report tells: of what is not the model's word any more neither its score nor its explanation."""
        if self.removed:
            return replace(
                self.finding, presence=Presence.ABSENT, probability=None, threshold=None, score=None, measurements=(),
                withheld=(), region=None, segment_number=None, explanation_key=None,
            )  # fmt: skip
        if self.is_changed:
            return replace(self.finding, probability=None, threshold=None, score=None, explanation_key=None)
        return self.finding


@dataclass(frozen=True, slots=True, kw_only=True)
class Review:
    """A decision that makes a verified result: ACCEPTED, or MODIFIED. What is rejected is withdrawn and has no report.

    `findings` are all that stand, in the order of the report. `second_reader` has confirmed the same decision, where
    the site asks for two. `of_job_key` is the result that was reviewed.
    """

    of_job_key: str
    state: ReviewState
    reviewer: Reviewer
    decided_at: datetime
    findings: tuple[ReviewedFinding, ...]
    reasons: tuple[ReviewReason, ...] = ()
    text: str = ""
    second_reader: Reviewer | None = None
    second_decided_at: datetime | None = None

    @property
    def verified_at(self) -> datetime:
        """When the result was verified: by the second reader, where the site asks for one."""
        return max(self.decided_at, self.second_decided_at or self.decided_at)

    @property
    def readers(self) -> tuple[tuple[Reviewer, datetime], ...]:
        """Who verified it, and when each did."""
        second = (
            () if self.second_reader is None else ((self.second_reader, self.second_decided_at or self.decided_at),)
        )
        return ((self.reviewer, self.decided_at), *second)

    def of(self, finding_key: str) -> ReviewedFinding:
        """Return what the review says of a finding. Raises `KeyError` for one that does not stand in it."""
        return {one.finding.key: one for one in self.findings}[finding_key]

    def sentence(self, zone: tzinfo | None) -> str:
        """Say who verified it and when, by the clock of this zone; `None` is that of the machine."""
        told = (f"by {who.readable_name} on {at.astimezone(zone):%Y-%m-%d}" for who, at in self.readers)
        return f"AI result, reviewed and verified {' and '.join(told)}."
