"""Which mammograms a model of whole breasts may see: one breast, CC or MLO, as it was exposed, without an implant.

Everything is told from the header (PS3.3 A.26 and C.8.11.7): a mammogram says its view and side in codes, and one that
does not is none that a number may be reported of.
"""

from __future__ import annotations

import re

from pydicom.dataset import Dataset
from pydicom.uid import (
    BreastProjectionXRayImageStorageForPresentation,
    BreastProjectionXRayImageStorageForProcessing,
    BreastTomosynthesisImageStorage,
    DigitalMammographyXRayImageStorageForPresentation,
)

from dicom_node.inference.images.exclusions import Exclusion, image_types

NOT_A_MAMMOGRAM = Exclusion("NOT_MAMMOGRAM", "not a digital mammogram for presentation")
SPECIMEN = Exclusion("NOT_MAMMOGRAM", "of a specimen or a biopsy, not of a breast")
TOMOSYNTHESIS = Exclusion("TOMOSYNTHESIS_ONLY", "of breast tomosynthesis, or computed from it")
OTHER_VIEW = Exclusion("NOT_CC_OR_MLO", "neither a CC nor an MLO view of the whole breast")
NO_VIEW = Exclusion("NOT_CC_OR_MLO", "without a view (ViewCodeSequence, ViewPosition)")
NO_SIDE = Exclusion("BREAST_SIDE_UNKNOWN", "of no breast that is told, of both, or of two at once (ImageLaterality)")
IMPLANT = Exclusion("BREAST_IMPLANT", "with a breast implant")
PARTIAL = Exclusion("NOT_CC_OR_MLO", "of a part of the breast (PartialView)")

_TOMOSYNTHESIS_CLASSES = frozenset(
    {
        BreastTomosynthesisImageStorage,
        BreastProjectionXRayImageStorageForPresentation,
        BreastProjectionXRayImageStorageForProcessing,
    }
)
#: How Image Type tells a picture that was computed from tomosynthesis (PS3.3 C.8.31.1 and what vendors write).
_TOMOSYNTHESIS_TYPES = frozenset({"TOMO", "TOMOSYNTHESIS", "GENERATED_2D", "TOMO_PROJ", "TOMO_2D", "SYNTHESIZED_2D"})
#: CID 4014, View for Mammography: SNOMED CT, and the older SRT values still on the wire.
_WHOLE_VIEWS = {"399162004": "CC", "R-10242": "CC", "399368009": "MLO", "R-10226": "MLO"}
_SPECIMEN_VIEWS = frozenset({"127457009", "G-8310"})
#: CID 4015, View Modifier for Mammography: those that leave the breast whole, and the one that moves an implant.
_HARMLESS_MODIFIERS = frozenset({"442581004", "R-40AB3", "442580003", "R-40AB2", "442593008", "R-40ABE"})
_IMPLANT_MODIFIERS = frozenset({"399209000", "R-102D5"})
_IMPLANT_WORDS = re.compile(r"\b(?:implants?|implantat[es]?|prothes[ei]s?|protes[ei]s?|eklund)\b", re.IGNORECASE)
_DESCRIPTIONS = ("SeriesDescription", "ProtocolName", "AcquisitionDeviceProcessingDescription")
#: A contact view is enlarged by the breast's own thickness alone; magnification views begin at 1.5.
_LARGEST_CONTACT_FACTOR = 1.2


def is_of_tomosynthesis(header: Dataset) -> bool:
    """Tell whether an image is a frame stack of tomosynthesis, or a picture computed from one."""
    return header.get("SOPClassUID") in _TOMOSYNTHESIS_CLASSES or not _TOMOSYNTHESIS_TYPES.isdisjoint(
        image_types(header)
    )


def mammogram_exclusion(header: Dataset) -> Exclusion | None:
    """Return why an image is no standard mammogram; `None` for a CC or MLO view of one whole breast."""
    if header.get("SOPClassUID") != DigitalMammographyXRayImageStorageForPresentation:
        return NOT_A_MAMMOGRAM
    views, modifiers = _codes(header, "ViewCodeSequence"), _view_modifiers(header)
    if views & _SPECIMEN_VIEWS or header.get("SpecimenDescriptionSequence"):
        return SPECIMEN
    if _has_implant(header, modifiers):
        return IMPLANT
    if breast_side(header) is None:
        return NO_SIDE
    if str(header.get("PartialView") or "").upper() == "YES":
        return PARTIAL
    return _view_exclusion(header, modifiers)


def breast_side(header: Dataset) -> str | None:
    """Return ``left`` or ``right``; `None` where Image Laterality says neither or another attribute contradicts it."""
    told = {str(header.get(keyword) or "").strip().upper() for keyword in ("ImageLaterality", "Laterality")} - {""}
    return {"L": "left", "R": "right"}.get(told.pop()) if len(told) == 1 else None


def mammogram_view(header: Dataset) -> str | None:
    """Return ``CC`` or ``MLO``; `None` for every other view, none, or one that its code and its word disagree about."""
    coded = {_WHOLE_VIEWS.get(code, "other") for code in _codes(header, "ViewCodeSequence")}
    word = str(header.get("ViewPosition") or "").strip().upper()
    told = coded | ({word} if word else set())
    view = told.pop() if len(told) == 1 else None
    return view if view in _WHOLE_VIEWS.values() else None


def _view_exclusion(header: Dataset, modifiers: set[str]) -> Exclusion | None:
    if not _codes(header, "ViewCodeSequence") and not header.get("ViewPosition"):
        return NO_VIEW
    factor = header.get("EstimatedRadiographicMagnificationFactor")
    is_enlarged = factor is not None and float(factor) > _LARGEST_CONTACT_FACTOR
    is_whole = mammogram_view(header) is not None and modifiers <= _HARMLESS_MODIFIERS and not is_enlarged
    return None if is_whole else OTHER_VIEW


def _has_implant(header: Dataset, modifiers: set[str]) -> bool:
    is_said = str(header.get("BreastImplantPresent") or "").upper() == "YES"
    by_words = any(_IMPLANT_WORDS.search(str(header.get(keyword) or "")) for keyword in _DESCRIPTIONS)
    return is_said or by_words or bool(modifiers & _IMPLANT_MODIFIERS)


def _view_modifiers(header: Dataset) -> set[str]:
    """Return the codes of the modifiers, which stand inside the item of the view, or beside it on older devices."""
    items = [header, *(header.get("ViewCodeSequence") or [])]
    return {code for item in items for code in _codes(item, "ViewModifierCodeSequence")}


def _codes(item: Dataset, keyword: str) -> set[str]:
    return {str(code.get("CodeValue") or "").strip() for code in item.get(keyword) or []} - {""}
