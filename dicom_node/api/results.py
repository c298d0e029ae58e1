"""What the API says of results: findings, measurements, objects and provenance, each as a type of its own.

The index keeps a summary as it was written, perhaps by another version or by a model's own code. What is told here is
read out of it; a finding that cannot be read is counted, never guessed at.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from datetime import datetime
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Discriminator, Field, TypeAdapter, ValidationError

from dicom_node.api.addresses import V1
from dicom_node.core.entities import ArtifactKind, JobState, Presence, ResultState, ReviewState
from dicom_node.index.views.types import (
    ArtifactView,
    DeletionView,
    DeliveryView,
    HoldView,
    JobView,
    OrderView,
    PatientStudy,
    ResultView,
    SeriesView,
    StatedRequestView,
    StudyLine,
    StudyView,
)

_UID = "1.2.826.0.1.3680043.8.498.101"


class CodedConcept(BaseModel):
    """A coded concept: value, coding scheme designator (SCT, DCM, LN, UCUM …) and meaning."""

    value: str = Field(examples=["118565006"])
    scheme: str = Field(examples=["SCT"])
    meaning: str = Field(examples=["Volume"])


class MeasurementAnswer(BaseModel):
    """A number with its concept and UCUM unit, rounded for reporting; `derivation` says how it came from many."""

    name: CodedConcept
    value: float | None = Field(description="`null` where the model gave no finite number.", examples=[2412.0])
    unit: CodedConcept
    derivation: CodedConcept | None = None
    label: str = Field("", description="What people read.", examples=["Volume"])


class WithheldAnswer(BaseModel):
    """A number that is not reported: `reason` is a code of the table of reasons, `message` a sentence."""

    name: CodedConcept
    reason: str = Field(examples=["LUNGS_TRUNCATED"])
    message: str
    derivation: CodedConcept | None = None
    label: str = ""


class RegionAnswer(BaseModel):
    """A closed polygon on one source image: (column, row) with 0,0 at the outer corner of the first pixel."""

    sop_instance_uid: str = Field(examples=[_UID])
    points_xy_px: list[tuple[float, float]] = Field(examples=[[(10.0, 12.0), (40.0, 12.0), (40.0, 60.0), (10.0, 12.0)]])
    frame_number: int | None = None


class FindingAnswer(BaseModel):
    """One thing the model evaluated, present or not. `key` is stable across runs of the same model.

    `probability` is the model's score, 0..1, compared to `threshold`; `score` names what it is where it is neither a
    probability nor an output of a classifier. `segment_number` and `explanation_key` lead to mask and picture.
    """

    key: str = Field(examples=["left-lung"])
    label: str = Field(examples=["Left lung"])
    code: CodedConcept
    site: CodedConcept
    laterality: CodedConcept | None = None
    presence: Presence | None = None
    probability: float | None = Field(None, examples=[0.87])
    threshold: float | None = Field(None, examples=[0.5])
    score: CodedConcept | None = None
    measurements: list[MeasurementAnswer] = Field(default_factory=list)
    withheld: list[WithheldAnswer] = Field(default_factory=list)
    region: RegionAnswer | None = None
    segment_number: int | None = None
    explanation_key: str | None = None


class ModelAnswer(BaseModel):
    """Which algorithm answered; `digest` is over its weights and configuration, `device_uid` changes with it."""

    name: str = Field("", examples=["ct-lung-density"])
    version: str = Field("", examples=["1.0.0"])
    manufacturer: str = ""
    digest: str = Field("", description="sha256, in hexadecimal.")
    device_uid: str = ""
    parameters: list[str] = Field(default_factory=list, examples=[["emphysema_hu=-950"]])
    intended_use: str = ""
    limits: str = ""
    calibrated: bool = False


class LineAnswer(BaseModel):
    """The model and route under which the reports on a study began: one line of reports, whatever they are called."""

    model: str
    route: str


class Provenance(BaseModel):
    """From what, by what and when: the images, the model, the node's version. `mark` goes with every showing."""

    mark: str = Field("", examples=["AI result - NOT VERIFIED. Decision support only."])
    model: ModelAnswer = Field(default_factory=ModelAnswer)
    node_version: str = ""
    source_sop_instance_uids: list[str] = Field(default_factory=list)
    further_source_sop_instance_uids: list[str] = Field(
        default_factory=list, description="Images of further series that the model read together with the sources."
    )
    finished_at: datetime | None = None
    line: LineAnswer | None = None
    took_s: float | None = Field(None, description="Seconds from the images to the finished objects.")
    notes: list[str] = Field(default_factory=list, description="Sentences: what was used, what limits the answer.")


class AnalysisSummary(Provenance):
    """What the model found. `unreadable` counts findings of a form that the node does not know."""

    findings: list[FindingAnswer] = Field(default_factory=list)
    stage_times_s: dict[str, float] = Field(default_factory=dict, description="Seconds by stage.")
    figures: dict[str, float] = Field(default_factory=dict, description="Numbers about the answer itself, by name.")
    unreadable: int = 0


class DeclinedSummary(Provenance):
    """Why nothing was found: no finding is no normal finding."""

    findings: list[FindingAnswer] = Field(default_factory=list, max_length=0, description="None.")
    reason: str = Field("", examples=["GAP_IN_SERIES"])
    message: str = ""


class _Result(BaseModel):
    """What every stored answer has. `current` tells it from those that were withdrawn or replaced."""

    model_config = ConfigDict(from_attributes=True)

    job_key: str = Field(description="Its key.", examples=["3f" * 32])
    study_instance_uid: str = Field(examples=[_UID])
    revision: int
    route: str = Field(examples=["chest-ct"])
    model: str = Field(examples=["ct-lung-density"])
    reason: str = Field(description="Why nothing or not all was analysed: a code of the table of reasons.")
    message: str = Field(description="The same as a sentence.")
    sequence: int = Field(description="Counts the answers of its line, from 1.")
    current: bool
    standing: ResultState
    standing_reason: str
    standing_at: datetime | None
    shadow_of: str = Field(description="The route it shadows and is compared to; nothing of it is delivered.")
    review_state: ReviewState = Field(description="What a named person has said of it.")
    reviewer: str = Field(description="Who decided on it, as reports name them; empty: nobody.")
    reviewed_at: datetime | None = None
    awaits_second_reader: bool = Field(description="Somebody has decided, and another person must confirm it.")
    review_waits: str = Field(description="Why the result that tells the review could not be made yet.")
    review_failed: str = Field(
        description="Why the result that tells the last review cannot be made: it is not reviewed, decide again."
    )
    successor: str = Field(description="Key of the result that tells the review; empty: none, or not yet.")
    review_of: str = Field(description="Key of the result that was reviewed; empty: a model made this one.")
    created_at: datetime
    artifacts: list[ArtifactView] = Field(description="The objects that show it, in the order of sending.")
    links: dict[str, str] = Field(
        description="Where it is exported: `pdf`, `json`, `csv`, and `dicom` where there is a structured report.",
        examples=[{"pdf": f"{V1}/results/{'3f' * 32}.pdf"}],
    )


class AnalysedResult(_Result):
    """One stored answer with findings. AI output, not verified."""

    state: Literal[JobState.DONE, JobState.PARTIAL] = Field(description="PARTIAL: only part of what was wanted.")
    summary: AnalysisSummary


class DeclinedResult(_Result):
    """One stored answer that says why the study was not analysed."""

    state: Literal[JobState.NOT_ANALYSABLE, JobState.FAILED] = Field(description="FAILED: every attempt failed.")
    summary: DeclinedSummary


ResultAnswer = Annotated[AnalysedResult | DeclinedResult, Discriminator("state")]
_ANALYSED = {JobState.DONE, JobState.PARTIAL}


class StudyAnswer(BaseModel):
    """Everything known of one study, except its timeline."""

    study: StudyLine
    series: list[SeriesView]
    jobs: list[JobView]
    results: list[ResultAnswer]
    deliveries: list[DeliveryView]
    order: OrderView | None = Field(description="Its order, where the RIS has told one that stands.")
    requests: list[StatedRequestView] = Field(description="What people stated with an upload or a rerun.")
    deletions: list[DeletionView] = Field(description="What was deleted of it here, by which rule, oldest first.")
    hold: HoldView | None = Field(description="Who keeps it from being deleted; none: nobody.")
    links: dict[str, str] = Field(
        description="Where it is exported with its results: `zip`, and `deidentified` without its patient.",
        examples=[{"zip": f"{V1}/studies/{_UID}.zip"}],
    )


class PatientStudyAnswer(BaseModel):
    """One study of a patient, with all that was answered about it, newest first."""

    study: StudyLine
    results: list[ResultAnswer]


def result_answer(view: ResultView) -> AnalysedResult | DeclinedResult:
    """Return what is told of a stored answer."""
    said = {field.name: getattr(view, field.name) for field in fields(view)} | {"links": _links(view)}
    if view.state in _ANALYSED:
        return AnalysedResult.model_validate({**said, "summary": summary_of(view.state, view.summary)})
    return DeclinedResult.model_validate({**said, "summary": summary_of(view.state, view.summary)})


def _links(view: ResultView) -> dict[str, str]:
    has_report = any(one.kind is ArtifactKind.STRUCTURED_REPORT for one in view.artifacts)
    forms = {"pdf": "pdf", "json": "json", "csv": "csv"} | ({"dicom": "dcm"} if has_report else {})
    return {name: f"{V1}/results/{view.job_key}.{suffix}" for name, suffix in forms.items()}


def summary_of(state: JobState, summary: Mapping[str, Any]) -> AnalysisSummary | DeclinedSummary:
    """Return what is told of the summary of an answer, by the state that it ended in."""
    if state in _ANALYSED:
        return _analysis(summary)
    return _read(DeclinedSummary, {**summary, "findings": []})


def result_answers(views: Iterable[ResultView]) -> list[AnalysedResult | DeclinedResult]:
    """Return what is told of stored answers."""
    return [result_answer(view) for view in views]


def study_answer(view: StudyView) -> StudyAnswer:
    """Return what is told of a study."""
    address = f"{V1}/studies/{view.study.study_instance_uid}.zip"
    return StudyAnswer(
        study=view.study,
        series=list(view.series),
        jobs=list(view.jobs),
        results=result_answers(view.results),
        deliveries=list(view.deliveries),
        order=view.order,
        requests=list(view.requests),
        deletions=list(view.deletions),
        hold=view.hold,
        links={"zip": address, "deidentified": f"{address}?deidentified=true"},
    )


def patient_study_answer(view: PatientStudy) -> PatientStudyAnswer:
    """Return what is told of a study in a patient's history."""
    return PatientStudyAnswer(study=view.study, results=result_answers(view.results))


# --- reading what is kept -----------------------------------------------------------------------------------------

_Model = TypeVar("_Model", bound=BaseModel)
_FINDING = TypeAdapter(FindingAnswer)


def _analysis(summary: Mapping[str, Any]) -> AnalysisSummary:
    kept = summary.get("findings")
    given: Sequence[Any] = kept if isinstance(kept, list) else []
    found = list(_findings(given))
    about = _read(AnalysisSummary, {**summary, "findings": [], "unreadable": 0})
    return about.model_copy(update={"findings": found, "unreadable": len(given) - len(found)})


def _findings(given: Iterable[Any]) -> Iterator[FindingAnswer]:
    for one in given:
        try:
            yield _FINDING.validate_python(one)
        except ValidationError:
            continue  # counted by what is missing


def _read(kind: type[_Model], kept: Mapping[str, Any]) -> _Model:
    """Read what can be read: a field that holds something else is told as one that is not there."""
    try:
        return kind.model_validate(kept)
    except ValidationError as error:
        wrong = {place["loc"][0] for place in error.errors()}
        return kind.model_validate({name: value for name, value in kept.items() if name not in wrong})
