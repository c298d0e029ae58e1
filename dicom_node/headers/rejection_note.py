"""What a Key Object Selection document rejects, read from its header (PS3.3 A.35.4, C.17.2, C.17.3).

The content tree names what is selected; the evidence sequences say to which study each of it belongs.
"""

from __future__ import annotations

from collections.abc import Iterator

from pydicom import Dataset
from pydicom.tag import BaseTag, Tag

from dicom_node.core.received.rejections import TITLES, RejectionNote

_EVIDENCE = ("CurrentRequestedProcedureEvidenceSequence", "PertinentOtherEvidenceSequence")
#: What must be read of a Key Object Selection document beside what is read of every object.
NOTE_TAGS: list[BaseTag | int] = [
    Tag(keyword) for keyword in ("StudyInstanceUID", "ConceptNameCodeSequence", "ContentSequence", *_EVIDENCE)
]


def rejection_of(document: Dataset) -> RejectionNote | None:
    """Return what a document rejects, `None` where its title does not reject. Raises what pydicom raises.

    An image of which single frames are named is named whole; what no evidence sequence lists belongs to the
    document's own study.
    """
    code = next(iter(document.get("ConceptNameCodeSequence") or []), Dataset())
    if str(code.get("CodingSchemeDesignator", "")) != "DCM" or str(code.get("CodeValue", "")) not in TITLES:
        return None
    study_of = dict(_evidence(document))
    named = set(_selected(document)) or set(study_of)
    own_study = str(document.StudyInstanceUID)
    mine = frozenset(uid for uid in named if study_of.get(uid, own_study) == own_study)
    return RejectionNote(str(code.CodeValue), mine, len(named) - len(mine))


def _selected(document: Dataset) -> Iterator[str]:
    for item in document.get("ContentSequence") or []:
        yield from _referenced(item)


def _evidence(document: Dataset) -> Iterator[tuple[str, str]]:
    """Yield each instance listed as evidence with its study."""
    for keyword in _EVIDENCE:
        for study in document.get(keyword) or []:
            for series in study.get("ReferencedSeriesSequence") or []:
                for uid in _referenced(series):
                    yield uid, str(study.StudyInstanceUID)


def _referenced(item: Dataset) -> Iterator[str]:
    for reference in item.get("ReferencedSOPSequence") or []:
        yield str(reference.ReferencedSOPInstanceUID)
