"""Which images of a radiograph series a model may see: frontal, for presentation, one frame."""

from __future__ import annotations

from collections.abc import Sequence

from pydicom.dataset import Dataset

from dicom_node.errors import NotAnalysable
from dicom_node.inference.model_run import SourceImage

_LATERAL_POSITIONS = frozenset({"LL", "RL", "LATERAL", "LAT", "LLD", "RLD", "LLO", "RLO"})
#: View codes of lateral projections (CID 4010): SNOMED CT, and the older SRT values still on the wire.
_LATERAL_VIEWS = frozenset({"399067008", "399173006", "399198007", "R-10236", "R-10232", "R-10228"})


def frontal_images(images: Sequence[SourceImage], notes: list[str]) -> list[SourceImage]:
    """Return the frontal images in order of InstanceNumber; notes tell what was left out and why.

    Raises `NotAnalysable` (LATERAL_VIEW_ONLY or NO_IMAGES) when none is left.
    """
    kept: list[SourceImage] = []
    left_out: list[str] = []
    for image in sorted(images, key=_order):
        reason = _left_out_because(image.header)
        if reason:
            left_out.append(reason)
            notes.append(f"Left out: image {image.header.get('InstanceNumber', '?')}, {reason}.")
        else:
            kept.append(image)
    if not kept:
        lateral = any("lateral" in reason for reason in left_out)
        told = "; ".join(sorted(set(left_out))) or "the series is empty"
        raise NotAnalysable("LATERAL_VIEW_ONLY" if lateral else "NO_IMAGES", f"No frontal image is left: {told}.")
    return kept


def _order(image: SourceImage) -> tuple[int, str]:
    number = image.header.get("InstanceNumber")
    return (int(number) if number is not None else 0, str(image.header.get("SOPInstanceUID")))


def _left_out_because(header: Dataset) -> str:
    if "Rows" not in header:
        return "without pixels"
    if int(header.get("NumberOfFrames") or 1) > 1:
        return "with more than one frame"
    if str(header.get("PresentationIntentType", "")) == "FOR PROCESSING":
        return "raw detector data (FOR PROCESSING)"
    position = str(header.get("ViewPosition") or "").upper()
    views = {str(view.get("CodeValue", "")) for view in header.get("ViewCodeSequence") or []}
    return "a lateral view" if position in _LATERAL_POSITIONS or views & _LATERAL_VIEWS else ""
