"""Parts of the report that come from the source alone, whatever the answer: procedure, requests."""

from __future__ import annotations

import copy

from highdicom.sr import CodedConcept
from pydicom.dataset import Dataset

from dicom_node import codes
from dicom_node.sr_writer.overlays.segmentation import coded


def procedure_reported(source: Dataset) -> CodedConcept:
    """Return the imaging procedure: as the source codes it, else what its modality says."""
    for item in source.get("ProcedureCodeSequence") or ():
        value, scheme, meaning = (item.get(k) for k in ("CodeValue", "CodingSchemeDesignator", "CodeMeaning"))
        if value and scheme and meaning and len(meaning) <= 64 and str(meaning).isascii():
            return CodedConcept(value=value, scheme_designator=scheme, meaning=meaning)
    return coded(codes.PROCEDURES.get(str(source.get("Modality")), codes.IMAGING_PROCEDURE))


def referenced_requests(source: Dataset) -> list[Dataset]:
    """Return one item per request the source fulfils (PS3.3 C.17.2: all of these are type 1 or 2)."""
    return [_request_item(attributes, source) for attributes in source.get("RequestAttributesSequence") or ()]


def _request_item(attributes: Dataset, source: Dataset) -> Dataset:
    item = Dataset()
    item.StudyInstanceUID = attributes.get("StudyInstanceUID") or source.StudyInstanceUID
    item.ReferencedStudySequence = copy.deepcopy(attributes.get("ReferencedStudySequence") or [])
    item.AccessionNumber = attributes.get("AccessionNumber") or source.get("AccessionNumber") or ""
    item.RequestedProcedureCodeSequence = copy.deepcopy(attributes.get("RequestedProcedureCodeSequence") or [])
    for keyword in (
        "PlacerOrderNumberImagingServiceRequest",
        "FillerOrderNumberImagingServiceRequest",
        "RequestedProcedureID",
        "RequestedProcedureDescription",
    ):
        setattr(item, keyword, attributes.get(keyword) or source.get(keyword) or "")
    return item
