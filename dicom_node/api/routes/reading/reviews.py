"""Reviews: who is reviewing a result, what a named person decides on it, and what has been decided."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from dicom_node.api.access import CurrentPrincipal, Reads, Reviews
from dicom_node.api.addresses import V1
from dicom_node.api.answers.paging import PAGED, ListPages, TextPageQuery
from dicom_node.api.answers.problems import described
from dicom_node.api.audited import audited
from dicom_node.api.parts import ApiParts, InstanceUid, JobKey, Parts, parts_of
from dicom_node.api.results import FindingAnswer
from dicom_node.core.assessment.review import REVIEW_REASONS, ReviewReason
from dicom_node.core.audit import AuditedAct
from dicom_node.core.codes import table
from dicom_node.core.entities import Code, DecisionState, Presence, Region, ReviewState
from dicom_node.core.errors import ReviewRefused
from dicom_node.core.principal import Principal
from dicom_node.headers.image_size import image_size
from dicom_node.index.decided.reviews import review_numbered
from dicom_node.index.views.reviews import review_view, reviews_shown
from dicom_node.index.views.study import result
from dicom_node.index.views.types import ReviewView
from dicom_node.people.review import reviews as domain
from dicom_node.people.review.changes import (
    LARGEST,
    MOST_ADDED,
    MOST_POINTS,
    AddedFinding,
    ChangedFinding,
    ChangedMeasurement,
)

router = APIRouter(prefix=V1, tags=["reviews"], responses=described(401, 403, 422, 429, 503))
_Text = Annotated[str, Field(max_length=2000)]
_Short = Annotated[str, Field(max_length=500)]
_Coordinate = Annotated[float, Field(allow_inf_nan=False, ge=0, le=1e6)]


def reviews_at(request: Request) -> domain.Reviews:
    """Return the reviews of the node."""
    parts: ApiParts = parts_of(request)
    rules = domain.ReviewRules.of(parts.settings.review, parts.settings.node.institution)
    return domain.Reviews(parts.database, rules, lambda key: image_size(parts.open_object(key)))


CurrentReviews = Annotated[domain.Reviews, Depends(reviews_at)]


# --- what is asked -------------------------------------------------------------------------------------------------


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class CodeGiven(_Strict):
    """One coded concept."""

    value: str = Field(min_length=1, max_length=64, examples=["36118008"])
    scheme: str = Field(min_length=1, max_length=16, examples=["SCT"])
    meaning: str = Field(min_length=1, max_length=64, examples=["Pneumothorax"])

    def code(self) -> Code:
        """Return it as the node has it."""
        return Code(self.value, self.scheme, self.meaning)


class RegionGiven(_Strict):
    """A polygon on one source image: (column, row) with 0,0 at the outer corner of the first pixel. It is closed."""

    sop_instance_uid: InstanceUid
    points_xy_px: list[tuple[_Coordinate, _Coordinate]] = Field(
        min_length=3, max_length=MOST_POINTS, examples=[[(10.0, 12.0), (40.0, 12.0), (40.0, 60.0)]]
    )
    frame_number: int | None = Field(None, ge=1, le=2**31, description="From 1; where the image has many frames.")

    def region(self) -> Region:
        """Return it as the node has it."""
        points = tuple(self.points_xy_px)
        return Region(
            sop_instance_uid=self.sop_instance_uid, points_xy_px=points, frame_number=self.frame_number
        )  # fmt: skip


class MeasurementGiven(_Strict):
    """A corrected number, in the unit that it had."""

    place: int = Field(ge=0, le=1000, description="Which of the finding's measurements, from 0.")
    value: float = Field(allow_inf_nan=False, ge=-LARGEST, le=LARGEST, examples=[2300.0])
    unit: str = Field(max_length=64, description="UCUM code, unchanged.", examples=["mL"])


class FindingGiven(_Strict):
    """What changes of one finding; what is left out stays as the model said it."""

    key: str = Field(max_length=256, examples=["left-lung"])
    presence: Presence | None = None
    measurements: list[MeasurementGiven] = Field(default_factory=list, max_length=200)
    text: _Short = ""
    region: RegionGiven | None = Field(None, description="Drawn or moved; `null`: there is none any more.")
    removed: bool = Field(False, description="It should not have been reported at all.")

    def change(self) -> ChangedFinding:
        """Return it as the node has it."""
        return ChangedFinding(
            key=self.key, presence=self.presence, text=self.text.strip(), removed=self.removed,
            measurements=tuple(ChangedMeasurement(**one.model_dump()) for one in self.measurements),
            region=self.region.region() if self.region else None, has_region="region" in self.model_fields_set,
        )  # fmt: skip


class FindingAdded(_Strict):
    """A finding that the model has not: by its key in the list of findings, or coded by the reviewer."""

    finding: str = Field("", max_length=64, description="Key in `/review-codes`.", examples=["pneumothorax"])
    code: CodeGiven | None = Field(None, description="Where the list does not have it.")
    site: CodeGiven = Field(description="Which part of the body.")
    laterality: CodeGiven | None = None
    label: str = Field("", max_length=64, description="What people read; empty: the meaning of the code.")
    presence: Presence = Presence.PRESENT
    text: _Short = ""
    region: RegionGiven | None = None

    def added(self) -> AddedFinding:
        """Return it as the node has it. Raises `ReviewRefused`."""
        return AddedFinding(
            code=domain.code_of(self.finding, self.code.code() if self.code else None), site=self.site.code(),
            laterality=self.laterality.code() if self.laterality else None, label=self.label.strip(),
            presence=self.presence, text=self.text.strip(), region=self.region.region() if self.region else None,
        )  # fmt: skip


class DecisionGiven(_Strict):
    """What somebody decides on a result. `CONFIRMED` and `OBJECTED` are the second reader's, where the site has one."""

    decision: Literal["ACCEPTED", "MODIFIED", "REJECTED", "CONFIRMED", "OBJECTED"]
    reasons: list[ReviewReason] = Field(default_factory=list, max_length=len(ReviewReason),
                                        description="Needed to modify and to reject.")  # fmt: skip
    text: _Text = Field("", description="Free text; needed to object, and for the reason OTHER.")
    findings: list[FindingGiven] = Field(default_factory=list, max_length=500, description="What changes of them.")
    added: list[FindingAdded] = Field(default_factory=list, max_length=MOST_ADDED)

    def asked(self) -> domain.AskedDecision:
        """Return a first reader's decision as the node has it. Raises `ReviewRefused`."""
        return domain.AskedDecision(
            state=ReviewState(self.decision), reasons=tuple(dict.fromkeys(self.reasons)), text=self.text.strip(),
            changes=tuple(one.change() for one in self.findings), added=tuple(one.added() for one in self.added),
        )  # fmt: skip

    def decided(self, reviews: domain.Reviews, job_key: str, principal: Principal) -> int:
        """Decide it and return the number of the review. Raises what `Reviews` does."""
        if self.decision in {"CONFIRMED", "OBJECTED"}:
            self._require_no_changes()
        if self.decision == "CONFIRMED":
            return reviews.confirm(job_key, principal)
        if self.decision == "OBJECTED":
            return reviews.object_to(job_key, self.text, principal)
        return reviews.decide(job_key, self.asked(), principal)

    def _require_no_changes(self) -> None:
        if self.findings or self.added or self.reasons or (self.text.strip() and self.decision == "CONFIRMED"):
            raise ReviewRefused(
                "A second reader confirms or objects, and changes nothing. To have it otherwise, object and say why."
            )


# --- what is answered -----------------------------------------------------------------------------------------------


class ReviewedFindingAnswer(BaseModel):
    """One finding as it stands after a review; `said_by_model` is `null` for one that the reviewer added."""

    finding: FindingAnswer
    said_by_model: FindingAnswer | None
    text: str
    removed: bool


class ReviewAnswer(BaseModel):
    """One decision on a result. `state` says where it stands, `result` is the key of the result that tells it."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    job_key: str = Field(description="Key of the result that was reviewed.", examples=["3f" * 32])
    decision: ReviewState
    state: DecisionState
    reasons: list[str]
    text: str
    findings: list[ReviewedFindingAnswer]
    reviewer: str = Field(description="As reports name them.")
    reviewer_account: str
    decided_at: datetime
    second_reader: str
    second_account: str
    second_decided_at: datetime | None
    note: str = Field(description="Why it fell or failed, or why its result could not be made yet.")
    result: str = Field(description="Empty: none, or not yet.")


@dataclass(frozen=True, slots=True, kw_only=True)
class LockAnswer:
    """Who is reviewing a result, and until when nobody else decides on it."""

    account: str
    name: str
    until: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ReasonOffered:
    """One reason, and what it says to people."""

    code: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TermOffered:
    """One coded word, by its key."""

    key: str
    value: str
    scheme: str
    meaning: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewCodes:
    """What reviews are coded with: reasons, findings to add, parts of the body; and whether two must agree."""

    reasons: Sequence[ReasonOffered]
    findings: Sequence[TermOffered]
    sites: Sequence[TermOffered]
    second_reader: bool


def _answer(view: ReviewView) -> ReviewAnswer:
    return ReviewAnswer.model_validate(view)


def _terms(name: str) -> list[TermOffered]:
    return [
        TermOffered(key=one.key, value=one.code.value, scheme=one.code.scheme, meaning=one.code.meaning)
        for one in table(name).values()
    ]


# --- routes ---------------------------------------------------------------------------------------------------------


@router.get("/review-codes", summary="What reviews are coded with", dependencies=[Reads])
def get_review_codes(parts: Parts) -> ReviewCodes:
    """Reasons, findings that a reviewer can add, parts of the body. Equal codes mean the same on every node."""
    return ReviewCodes(
        reasons=[ReasonOffered(code=one.value, text=text) for one, text in REVIEW_REASONS.items()],
        findings=_terms("findings"), sites=_terms("anatomy"), second_reader=parts.settings.review.second_reader,
    )  # fmt: skip


@router.get(
    "/results/{job_key}/reviews",
    summary="What was decided on a result",
    responses={**PAGED, **described(404)},
    dependencies=[Reads, audited(AuditedAct.RESULT_READ)],
)
def get_reviews(
    parts: Parts, pages: Annotated[ListPages, Depends()], job_key: JobKey, asked: Annotated[TextPageQuery, Query()]
) -> list[ReviewAnswer]:
    """All decisions on a result, oldest first, those that fell too; of a reviewed result the one that it tells."""
    with parts.database.read() as connection:
        result(connection, job_key)
        found = [_answer(one) for one in reviews_shown(connection, job_key)]
    return list(pages.cut_whole(found, asked.limit, asked.cursor, lambda one: str(one.id)))


@router.post(
    "/results/{job_key}/review",
    summary="Decide on a result",
    dependencies=[Reviews, audited(AuditedAct.REVIEW)],
    responses=described(404, 409),
)
def decide_on_result(
    parts: Parts, reviews: CurrentReviews, principal: CurrentPrincipal, job_key: JobKey, decision: DecisionGiven
) -> ReviewAnswer:
    """Accept, modify or reject a result, or confirm as second reader what another has decided.

    What is accepted or modified is told by a new result, verified in the name of the reviewer; what the model said
    stays beside it. What is rejected is taken back everywhere. The same decision again answers the same.
    """
    number = decision.decided(reviews, job_key, principal)
    parts.wake()
    with parts.database.read() as connection:
        return _answer(review_view(review_numbered(connection, number)))


@router.post(
    "/results/{job_key}/review/lock",
    summary="Say that one reviews a result",
    dependencies=[Reviews, audited(AuditedAct.REVIEW)],
    responses=described(404, 409),
)
def lock_result(reviews: CurrentReviews, principal: CurrentPrincipal, job_key: JobKey) -> LockAnswer:
    """Keep others from deciding while one reviews; asked again it is renewed. It ends by itself or with a decision."""
    lock = reviews.lock(job_key, principal)
    return LockAnswer(account=lock.account, name=lock.name, until=lock.until)


@router.delete(
    "/results/{job_key}/review/lock",
    status_code=204,
    summary="Let go of a result",
    dependencies=[Reviews, audited(AuditedAct.REVIEW)],
    responses=described(404),
)
def unlock_result(reviews: CurrentReviews, principal: CurrentPrincipal, job_key: JobKey) -> Response:
    """Let others decide on a result; the lock of another stays."""
    reviews.release(job_key, principal)
    return Response(status_code=204)
