"""The rejection note that takes back what a new result replaces (IHE RAD TF-3 4.66, Rejection Note Stored).

A Key Object Selection whose title says why, and which names every object that is taken back and no other. An archive
that knows Imaging Object Change Management hides these objects; any other keeps it as a note of what is outdated.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from pydicom.sr.codedict import codes as dictionary
from pydicom.uid import ParametricMapStorage, SecondaryCaptureImageStorage, SegmentationStorage

from dicom_node.analysis import WithdrawnObject, WrittenObject
from dicom_node.model import ArtifactKind
from dicom_node.outputs import OutputSet
from dicom_node.sr_writer.documents.selection import Selected, Selection, key_object_selection
from dicom_node.sr_writer.writing import Writing

SERIES_NUMBER = 9908
#: Label Map Segmentation Storage (PS3.4 B.5), younger than pydicom's dictionary.
_LABEL_MAP = "1.2.840.10008.5.1.4.1.1.66.7"
#: What the node makes that is an image; reports, documents and presentation states are composite objects.
_IMAGES = frozenset({SecondaryCaptureImageStorage, SegmentationStorage, _LABEL_MAP, ParametricMapStorage})


def rejection_notes(writing: Writing, wanted: OutputSet, made_uids: Collection[str]) -> Iterator[WrittenObject]:
    """Make the one note for the readers of an output set, if they hold anything that is outdated.

    `made_uids` are what this result itself makes: the same inputs give the same objects, and those stay valid.
    """
    withdrawn = [
        one
        for one in writing.identity.context.withdrawn
        if wanted.key in one.output_keys and one.sop_instance_uid not in made_uids
    ]
    if not withdrawn:
        return
    selection = Selection(
        role=("rejection-note", wanted.key),
        title=dictionary.DCM.RejectedForQualityReasons,
        description=f"Replaced by a newer AI result about the same study: {len(withdrawn)} outdated objects.",
        series_description=f"replaced results {writing.identity.model.name}",
        series_number=SERIES_NUMBER,
        selected=[_selected(one) for one in withdrawn],
    )
    yield WrittenObject(
        kind=ArtifactKind.REJECTION_NOTE,
        dataset=key_object_selection(selection, writing.identity),
        order=1,
        description=f"Rejection note: {len(withdrawn)} replaced objects",
    )


def _selected(withdrawn: WithdrawnObject) -> Selected:
    return Selected(
        sop_class_uid=withdrawn.sop_class_uid,
        sop_instance_uid=withdrawn.sop_instance_uid,
        series_instance_uid=withdrawn.series_instance_uid,
        is_image=withdrawn.sop_class_uid in _IMAGES,
    )
