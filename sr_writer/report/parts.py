"""Parts of the report that are the same for every answer: procedure, image library, remarks, requests."""

from __future__ import annotations

import copy
from collections.abc import Sequence

from highdicom.sr import CodedConcept, ContainerContentItem, ContentSequence, ImageContentItem, TextContentItem
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes as dictionary

from dicom_node import codes
from dicom_node.analysis import whole_objects
from dicom_node.sr_writer.overlays.segmentation import coded
from dicom_node.sr_writer.text import ascii_text

_SOURCE = CodedConcept("260753009", "SCT", "Source")
#: Members of CID 100, which the template names here. Radiography joined it so late that validators do not know it yet.
_PROCEDURE_BY_MODALITY = {
    "CT": CodedConcept("25045-6", "LN", "CT unspecified body region"),
    "MR": CodedConcept("25056-3", "LN", "MRI unspecified body region"),
    "NM": CodedConcept("49118-3", "LN", "NM unspecified body region"),
    "PT": CodedConcept("44136-0", "LN", "PET unspecified body region"),
}
#: TID 1500 row 12: the container for statements about the study as a whole.
_QUALITATIVE_EVALUATIONS = CodedConcept("C0034375", "UMLS", "Qualitative Evaluations")
_TEXT_LIMIT = 1024


def procedure_reported(source: Dataset) -> CodedConcept:
    """Return the imaging procedure: as the source codes it, else what its modality says."""
    for item in source.get("ProcedureCodeSequence") or ():
        value, scheme, meaning = (item.get(k) for k in ("CodeValue", "CodingSchemeDesignator", "CodeMeaning"))
        if value and scheme and meaning and len(meaning) <= 64 and str(meaning).isascii():
            return CodedConcept(value=value, scheme_designator=scheme, meaning=meaning)
    return _PROCEDURE_BY_MODALITY.get(str(source.get("Modality")), coded(codes.IMAGING_PROCEDURE))


def image_library(images: Sequence[Dataset]) -> ContainerContentItem:
    """Return the image library (TID 1600) of references only; descriptors would need attributes many images lack."""
    group = ContainerContentItem(name=dictionary.DCM.ImageLibraryGroup, relationship_type="CONTAINS")
    group.ContentSequence = ContentSequence(
        [
            ImageContentItem(
                name=_SOURCE,
                referenced_sop_class_uid=image.SOPClassUID,
                referenced_sop_instance_uid=image.SOPInstanceUID,
                relationship_type="CONTAINS",
            )
            for image in whole_objects(images)
        ]
    )
    library = ContainerContentItem(name=dictionary.DCM.ImageLibrary, relationship_type="CONTAINS")
    library.ContentSequence = ContentSequence([group])
    return library


def remarks_container(remarks: Sequence[str]) -> ContainerContentItem:
    """Return the notes about the whole study, each as one text item."""
    container = ContainerContentItem(name=_QUALITATIVE_EVALUATIONS, relationship_type="CONTAINS")
    container.ContentSequence = ContentSequence(
        [
            TextContentItem(
                name=dictionary.DCM.Comment, value=ascii_text(remark)[:_TEXT_LIMIT], relationship_type="CONTAINS"
            )
            for remark in remarks
        ]
    )
    return container


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
