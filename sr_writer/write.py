"""From an answer to the DICOM objects that carry it, in the order in which they must be sent."""

from __future__ import annotations

from collections.abc import Sequence

from pydicom.dataset import Dataset

from dicom_node.analysis import Analysis, NotAnalysed, Picture, ReportContext, WrittenObject
from dicom_node.model import ArtifactKind
from dicom_node.sr_writer.identity import identity_of
from dicom_node.sr_writer.pictures import pictures_of
from dicom_node.sr_writer.report_groups import ReportSources
from dicom_node.sr_writer.secondary_capture import preview_png, secondary_capture
from dicom_node.sr_writer.segmentation import segmentation
from dicom_node.sr_writer.structured_report import not_analysed_report, structured_report


def write_objects(answer: Analysis | NotAnalysed, context: ReportContext) -> tuple[WrittenObject, ...]:
    """Return pictures, then the segmentation, then the report that refers to them; equal inputs give equal objects.

    Raises `NotAnalysable` (``PATIENT_MISMATCH``, ``STUDY_MISMATCH``) when the images belong to more than one patient
    or study: then nothing may be written, not even a refusal.
    """
    identity = identity_of(answer, context)
    pictures = pictures_of(answer, context)
    captures = {
        picture.key: secondary_capture(picture, answer.sources, identity, n)
        for n, picture in enumerate(pictures, start=1)
    }
    if isinstance(answer, NotAnalysed):
        report = not_analysed_report(answer, list(captures.values()), identity)
        return _in_order(pictures, captures, None, report)
    seg = segmentation(answer, identity)
    sources = ReportSources(analysis=answer, segmentation=seg, pictures=captures)
    return _in_order(pictures, captures, seg, structured_report(sources, identity))


def _in_order(
    pictures: Sequence[Picture], captures: dict[str, Dataset], seg: Dataset | None, report: Dataset
) -> tuple[WrittenObject, ...]:
    written = [
        WrittenObject(
            kind=ArtifactKind.SECONDARY_CAPTURE,
            dataset=captures[picture.key],
            order=order,
            description=picture.description,
            preview_png=preview_png(picture),
            picture_key=picture.key,
        )
        for order, picture in enumerate(pictures, start=1)
    ]
    rest = [(ArtifactKind.SEGMENTATION, seg, "Segmentation"), (ArtifactKind.STRUCTURED_REPORT, report, "AI report")]
    for kind, dataset, description in rest:
        if dataset is not None:
            written.append(WrittenObject(kind=kind, dataset=dataset, order=len(written) + 1, description=description))
    return tuple(written)
