"""What the worker process made of one study becomes a folder: looked at as a node looks at it, named for people."""

from __future__ import annotations

import hashlib
import io
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from pydicom import dcmread

from dicom_node.api.results import AnalysisSummary, DeclinedSummary, summary_of
from dicom_node.core.entities import ArtifactKind
from dicom_node.jobs.keeping import contents_of, marked, require_unreviewed
from dicom_node.jobs.tasks import Performed, ProducedFile
from dicom_node.offline.planning import PlannedStudy
from dicom_node.offline.results import FileOfResult, MaskFile, StudyResult
from dicom_node.sandbox.answers import file_left

#: The typed result of a study; a folder that has it is one that a run made.
RESULT_NAME = "result.json"
_NAMES = {
    ArtifactKind.SECONDARY_CAPTURE: "picture",
    ArtifactKind.SEGMENTATION: "segmentation",
    ArtifactKind.STRUCTURED_REPORT: "report",
    ArtifactKind.ENCAPSULATED_PDF: "report-pdf",
    ArtifactKind.FHIR_BUNDLE: "fhir",
}
_PDF = "report.pdf"


def write_study(planned: PlannedStudy, performed: Performed, folder: Path, *, nifti: bool) -> StudyResult:
    """Write the files of a result into an empty folder and return what they tell. Raises `InferenceError`."""
    made = planned.task.request.out_dir
    names = _names(performed.files)
    artifacts = [_write(file, names[file.name], made, folder) for file in performed.files]
    summary = marked(performed.summary, planned.task.request.context)
    told = summary_of(performed.state, summary)
    masks, remarks = _masks(planned, told, artifacts, folder) if nifti else ([], [])
    result = StudyResult(
        **about(planned),
        state=performed.state,
        reason=performed.reason,
        message=performed.message,
        folder=planned.study.study_instance_uid,
        summary=told,
        artifacts=artifacts,
        masks=masks,
        remarks=[*(one.sentence for one in performed.not_made), *remarks],
    )
    (folder / RESULT_NAME).write_text(result.model_dump_json(indent=2) + "\n", encoding="utf-8")
    return result


def about(planned: PlannedStudy) -> dict[str, str]:
    """Return what is known of a study's result before the model has run."""
    return {
        "study_instance_uid": planned.study.study_instance_uid,
        "series_instance_uid": planned.decision.chosen or "",
        "series_choice": planned.decision.reason,
        "model": planned.task.request.model_dir.name,
        "job_key": planned.key,
    }


def _names(files: Sequence[ProducedFile]) -> dict[str, str]:
    """Return a name for people for each file of the worker: numbered where there are several of a kind."""
    total, seen, names = Counter(file.kind for file in files), Counter[ArtifactKind](), {}
    for file in files:
        seen[file.kind] += 1
        stem = _NAMES.get(file.kind, str(file.kind).lower())
        number = f"-{seen[file.kind]}" if total[file.kind] > 1 else ""
        names[file.name] = f"{stem}{number}{Path(file.name).suffix}"
    return names


def _write(file: ProducedFile, name: str, made: Path, folder: Path) -> FileOfResult:
    contents = [file_left(made, left) for left, _ in contents_of(file)]
    require_unreviewed(file, contents[0])
    (folder / name).write_bytes(contents[0])
    preview = f"{Path(name).stem}.png" if len(contents) > 1 else ""
    if preview:
        (folder / preview).write_bytes(contents[1])
    if file.kind is ArtifactKind.ENCAPSULATED_PDF:
        (folder / _PDF).write_bytes(_document(contents[0]))
    return FileOfResult(
        name=name, kind=file.kind, media_type=file.media_type, uid=file.uid, description=file.description,
        sop_class_uid=file.sop_class_uid, series_instance_uid=file.series_instance_uid,
        sha256=hashlib.sha256(contents[0]).hexdigest(), size_bytes=len(contents[0]), preview=preview,
    )  # fmt: skip


def _document(encapsulated: bytes) -> bytes:
    dataset = dcmread(io.BytesIO(encapsulated))
    document = bytes(dataset.EncapsulatedDocument)
    return document[: int(dataset.get("EncapsulatedDocumentLength") or len(document))]


def _masks(
    planned: PlannedStudy,
    told: AnalysisSummary | DeclinedSummary,
    artifacts: Sequence[FileOfResult],
    folder: Path,
) -> tuple[list[MaskFile], list[str]]:
    """Write the masks; return them, or why there are none."""
    from dicom_node.offline.masks import NoGrid, write_masks  # noqa: PLC0415 - nibabel, of the inference extra

    segmentation = next((one for one in artifacts if one.kind is ArtifactKind.SEGMENTATION), None)
    if segmentation is None:
        return [], ["No NIfTI: the answer has no mask."]
    analysed = set(told.source_sop_instance_uids)
    images = [file.path for file in planned.task.request.files if file.sop_instance_uid in analysed]
    try:
        return write_masks(folder / segmentation.name, images, folder), []
    except NoGrid as lack:
        return [], [f"No NIfTI: {lack} The mask is in {segmentation.name}."]
