"""What came back from a worker: looked at, and its files kept in the object store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Protocol

from dicom_node.analysis.context import ReportContext
from dicom_node.analysis.written import mark_of
from dicom_node.core.entities import Artifact, MediaType
from dicom_node.core.errors import InferenceError, ReportInvalid, SourceDamaged
from dicom_node.fhir import own as own_bundles
from dicom_node.fhir.hl7 import own as own_messages
from dicom_node.headers import own
from dicom_node.index.database import Database
from dicom_node.index.lineage import LINE
from dicom_node.index.results import taken_uids
from dicom_node.jobs.tasks import Performed, ProducedFile, Task, performed_of
from dicom_node.sandbox.answers import file_left
from dicom_node.storage.spool import Spool


class Worker(Protocol):
    """What does the work in another process; `workers.Workers` in production."""

    def run(self, task: Task, /) -> object: ...


def performed_by(worker: Worker, task: Task) -> Performed:
    """Have a worker perform a task. Raises what `Workers.run` raises.

    Nothing is taken at its word: the code of a model may say what it likes.
    """
    try:
        return performed_of(worker.run(task), task)
    except SourceDamaged as damage:
        named = {path.name for path in damage.paths}  # in the worker's own folder, perhaps
        damaged = task.damaged(path for path in task.sha256_of if path.name in named)
        if not damaged:
            raise InferenceError("The worker process called images damaged that are whole.") from damage
        raise SourceDamaged(damaged) from damage


def require_own(database: Database, job_key: str, performed: Performed) -> None:
    """Raise `InferenceError` where an object has the UID of one of another result."""
    with database.read() as connection:
        taken = taken_uids(connection, job_key, [file.uid for file in performed.files])
    if taken:
        raise InferenceError(f"The model gave an object the UID of another result ({taken[0]}); nothing was kept.")


def kept(spool: Spool, performed: Performed, task: Task) -> tuple[Artifact, ...]:
    """Keep the files that a task left in its folder; return what is to be entered of them.

    Raises `InferenceError` where the task tells of no review and a file says that a person answers for it.
    """
    return tuple(_kept(spool, file, task) for file in performed.files)


def _kept(spool: Spool, file: ProducedFile, task: Task) -> Artifact:
    contents = [(file_left(task.request.out_dir, name), suffix) for name, suffix in contents_of(file)]
    if task.reviewed is None or task.request.context.review is None:
        require_unreviewed(file, contents[0][0])
    stored, *pictures = (spool.put([content], suffix) for content, suffix in contents)
    return Artifact(
        uid=file.uid, kind=file.kind, media_type=file.media_type, object_key=stored.key, sha256=stored.sha256,
        size_bytes=stored.size_bytes, order=file.order, description=file.description,
        sop_class_uid=file.sop_class_uid, series_instance_uid=file.series_instance_uid,
        preview_key=pictures[0].key if pictures else "", output_keys=file.output_keys,
    )  # fmt: skip


def require_unreviewed(file: ProducedFile, content: bytes) -> None:
    """Look at the very bytes that are kept: what no person has reviewed leaves the node as that and nothing else."""
    try:
        match file.media_type:
            case MediaType.DICOM:
                own.require_unverified(content, file.sop_class_uid, file.uid)
            case MediaType.FHIR:
                own_bundles.require_unreviewed(content)
            case MediaType.HL7:
                own_messages.require_unreviewed(content, file.uid)
    except ReportInvalid as error:
        raise InferenceError(
            f"The worker process made a {file.kind} that cannot be kept: {error} A model whose code does more than "
            "compute may be behind it: look at the code that `dicom-node models verify` lists."
        ) from error


def contents_of(file: ProducedFile) -> list[tuple[str, str]]:
    """Return the files of a produced object, each with the suffix under which it is kept: itself, then its picture."""
    suffix = Path(file.name).suffix if file.media_type != "application/dicom" else ".result"
    return [(file.name, suffix), *([(file.preview_name, ".png")] if file.preview_name else [])]


def marked(summary: Mapping[str, object], context: ReportContext) -> Mapping[str, object]:
    """Return the summary of a result with the line that it goes on in, and whether a person has reviewed it: of both
    only the node's own word counts."""
    told = {name: value for name, value in summary.items() if name != LINE}
    line = {LINE: asdict(context.line)} if context.line else {}
    return {**told, **line, "mark": mark_of(context.review)}
