"""What crosses the border between the node and its worker process: a task in, what was performed out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from dicom_node.analysis.answer import AnalysisRequest, Declined, NotMade
from dicom_node.core.entities import ArtifactKind, JobState
from dicom_node.fhir.options import FhirOptions
from dicom_node.inference.workers.place import ComputePlace
from dicom_node.storage.digest import is_damaged


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
