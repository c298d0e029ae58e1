"""BodyPartExamined and Laterality of objects made from images (PS3.3 C.7.3.1: Laterality is type 2C)."""

from __future__ import annotations

import copy

from pydicom.dataset import Dataset

#: Body parts of CID 4031 that come in pairs; only for these does a missing side matter.
PAIRED_PARTS = frozenset(
    {
        *("ANKLE", "ARM", "AXILLA", "BREAST", "CALCANEUS", "CLAVICLE", "EAR", "ELBOW", "EYE", "FEMUR", "FIBULA"),
        *("FINGER", "FOOT", "FOREARM", "HAND", "HIP", "HUMERUS", "KIDNEY", "KNEE", "LEG", "LUNG", "MAXILLA", "ORBIT"),
        *("PATELLA", "RADIUS", "SCAPULA", "SHOULDER", "THIGH", "THUMB", "TIBIA", "TMJOINT", "TOE", "ULNA", "WRIST"),
    }
)


def set_body_part(dataset: Dataset, source: Dataset) -> None:
    """Give `dataset` the body part of the source, and a laterality where that part is paired or unknown.

    What the source does not say stays empty: that is what type 2C asks for, and inventing a side is not an option.
    """
    part = str(source.get("BodyPartExamined") or "")
    if part:
        dataset["BodyPartExamined"] = copy.deepcopy(source["BodyPartExamined"])
    if not part or part.upper() in PAIRED_PARTS:
        dataset.Laterality = _side_of(source)


def _side_of(source: Dataset) -> str:
    for keyword in ("Laterality", "ImageLaterality"):
        side = str(source.get(keyword) or "")
        if side in {"L", "R"}:
            return side
    return ""
