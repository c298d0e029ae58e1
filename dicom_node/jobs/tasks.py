"""What crosses the border between the node and its worker process: a task in, what was performed out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from dicom_node.analysis.answer import Declined
from dicom_node.analysis.context import AnalysisRequest
from dicom_node.analysis.written import NotMade
from dicom_node.core.entities import ArtifactKind, JobState, ModelIdentity
from dicom_node.core.errors import InferenceError
from dicom_node.core.outputs.artifact_kinds import ARTIFACT_KINDS
from dicom_node.core.uids import is_valid_uid
from dicom_node.fhir.options import FhirOptions
from dicom_node.inference.workers.place import ComputePlace
from dicom_node.storage.digest import is_damaged

#: Why a study is declined whose model failed in every attempt.
GAVE_UP = "ANALYSIS_FAILED"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewedAnswer:
    """What is known of an answer that a person has reviewed, beside the findings: by which model, and its notes."""

    model: ModelIdentity
    notes: tuple[str, ...] = ()
    partial: bool = False
    #: Which of the images were read together with those that results lie on.
    further_uids: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One job for the worker process; crosses the process border by pickle."""

    request: AnalysisRequest
    fhir: FhirOptions
    declined: Declined | None = None
    #: What the study is called in the index, for a notice from nothing but UIDs.
    study_instance_uid: str = ""
    #: Images of the study that the model is not given: they must be of the same patient.
    beside: tuple[Path, ...] = ()
    #: The digest of each of these files, as the index has it; one that is not here is taken as it is.
    sha256_of: Mapping[Path, str] = field(default_factory=dict)
    #: Nothing is wanted but a look at whose images these are.
    only_identity: bool = False
    #: Where the worker that gets it computes.
    place: ComputePlace = field(default_factory=ComputePlace)
    #: Whether it may go to a worker together with other tasks of its model, to share one network call.
    may_share: bool = False
    #: What of the model a process keeps once it has loaded it, by name, as digests: its folder, modules beside the
    #: node. A process that has loaded any of it in another state cannot answer (`workers`).
    code: Mapping[str, str] = field(default_factory=dict)
    #: Whether its model is on a server: nothing of it runs here, and the process that asks needs the network.
    calls_server: bool = False
    #: For which requests it is done (`core.calls.requests`).
    requests: tuple[str, ...] = ()
    #: The answer whose review is to be told (`request.context.review`): no model runs. `None`: the model is asked.
    reviewed: ReviewedAnswer | None = None

    @property
    def asks_model(self) -> bool:
        """Whether a model is to answer, here or on a server; else it is known what is to be said."""
        return self.declined is None and self.reviewed is None and not self.only_identity

    @property
    def is_without_model(self) -> bool:
        """Whether no code of a model runs for it in the worker process: the node's own alone."""
        return self.calls_server or self.reviewed is not None

    def damaged(self, paths: Iterable[Path]) -> tuple[Path, ...]:
        """Return those of the files that hold other bytes than the index says; each is read as a whole."""
        known = self.sha256_of
        return tuple(path for path in paths if path in known and is_damaged(path, known[path]))


@dataclass(frozen=True, slots=True, kw_only=True)
class ProducedFile:
    """One finished object in the task's folder, and its picture if it has one."""

    name: str
    uid: str
    kind: ArtifactKind
    media_type: str
    description: str
    order: int
    sop_class_uid: str = ""
    series_instance_uid: str = ""
    preview_name: str = ""
    output_keys: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Performed:
    """How a task ended and which files it left."""

    state: JobState
    reason: str
    message: str
    summary: Mapping[str, object]
    files: tuple[ProducedFile, ...]
    #: Wanted kinds of object that could not be made.
    not_made: tuple[NotMade, ...] = ()
    #: What is kept of it to see drift, as far as it is sound (`core.drift.features`); empty where no model was asked.
    features: Mapping[str, object] = field(default_factory=dict)


# --- an answer looked at before it is kept: the code of a model may have made it -------------------------------------

_ENDED = frozenset({JobState.DONE, JobState.PARTIAL, JobState.NOT_ANALYSABLE})
#: Of a reason, which is a short code.
REASON_LENGTH = 64
_MOST_FILES = 100_000


def performed_of(answer: object, task: Task) -> Performed:
    """Return the answer to a task. Raises `InferenceError` for one that no task ends with."""
    problem = _problem(answer, task) if isinstance(answer, Performed) else "it is none"
    if problem or not isinstance(answer, Performed):
        raise InferenceError(
            f"The worker process gave an answer that cannot be kept: {problem}. A model whose code does more than "
            "compute may be behind it: look at the code that `dicom-node models verify` lists."
        )
    return answer


def _problem(performed: Performed, task: Task) -> str:
    """Say what is wrong with an answer; "" when nothing is."""
    findings = performed.summary.get("findings")
    if performed.state not in _ENDED or len(performed.reason) > REASON_LENGTH:
        return "its state or reason is none of an answer"
    if not _is_moment(performed.summary.get("finished_at")):
        return "it does not say when it was finished"
    if not isinstance(findings, list) or not all(_is_finding(one) for one in findings):
        return "its findings have no keys"
    uids = [file.uid for file in performed.files]
    if len(set(uids)) != len(uids) or len(uids) > _MOST_FILES:
        return "two of its objects have the same UID"
    known = {one.key for one in task.request.context.output_sets}
    return next((f"its object {file.name!a:.40} is none" for file in performed.files if not _is_sound(file, known)), "")


def _is_moment(text: object) -> bool:
    try:
        return datetime.fromisoformat(str(text)).tzinfo is not None
    except ValueError:
        return False


def _is_finding(one: object) -> bool:
    return isinstance(one, dict) and isinstance(one.get("key"), str) and isinstance(one.get("label"), str)


def _is_sound(file: ProducedFile, output_keys: Set[str]) -> bool:
    about = (file.sop_class_uid, file.series_instance_uid)
    return (
        is_valid_uid(file.uid)
        and all(not uid or is_valid_uid(uid) for uid in about)
        and file.media_type == ARTIFACT_KINDS[file.kind].media_type
        and 0 <= file.order <= _MOST_FILES
        and set(file.output_keys) <= output_keys
    )
