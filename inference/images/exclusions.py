"""Which images no model may take into a volume or classify, told from the header alone, each with a coded reason.

Messages name the rule that fired, never the value it fired on: a name or an identifier stays in the header.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, MRImageStorage
from pydicom.valuerep import PersonName

from dicom_node import DEMONSTRATION_MANUFACTURER
from dicom_node.core.errors import NotAnalysable
from dicom_node.core.series.spectral import Spectral, spectral_of
from dicom_node.decoding.lossy import is_lossy_copy, lossy_history
from dicom_node.headers.sound import first_unreadable
from dicom_node.inference.cards.card import Gate
from dicom_node.inference.images.frames import ENHANCED_CT, ENHANCED_MR

CT_CLASSES = frozenset({CTImageStorage}) | ENHANCED_CT
MR_CLASSES = frozenset({MRImageStorage}) | ENHANCED_MR

_LOCALIZER_TYPES = frozenset({"LOCALIZER", "SCOUT", "TOPOGRAM", "SURVIEW", "REF_SURVIEW"})
#: One such word in a name or an ID is enough.
_PHANTOM_WORDS = frozenset(
    {"PHANTOM", "PHANTOME", "FANTOM", "WATERPHANTOM", "QAPHANTOM", "TESTPHANTOM", "TESTPATIENT", "ZZTEST", "ZZZTEST"}
)
#: These count only where nothing else is said, so that a patient whose family is called Test is a patient.
_TEST_WORDS = frozenset({"TEST", "TESTING", "QA", "QC"})
_BESIDE_TEST = frozenset({"PATIENT", "PAT", "PERSON", "SUBJECT", "SCAN", "DAILY", "WEEKLY", "ACR"})
_TEST_DESCRIPTION = re.compile(r"\b(?:phantome?|fantom|quality (?:assurance|control)|qa|qc)\b", re.IGNORECASE)
#: What scanners call such a CT: ``CTAC``, ``AC_CT``, ``CT WB 5.0 B31f AC``, ``CT Atten Cor``. No attribute says it.
_ATTENUATION_WORDS = re.compile(
    r"(?<![A-Z0-9])(CT[ _-]?AC|AC[ _-]?CT|AC|(CT[ _-]?)?ATT(EN(UATION)?)?[ ._-]*COR[A-Z]*)(?![A-Z0-9])"
)
_WORD = re.compile(r"[^\W\d_]+")
_DESCRIPTIONS = ("StudyDescription", "SeriesDescription", "ProtocolName", "BodyPartExamined")


@dataclass(frozen=True, slots=True)
class Exclusion:
    """Why one image is left out: the code that stands when nothing else is left, and the words for the notes."""

    reason: str
    words: str


LOCALIZER = Exclusion("LOCALIZER_ONLY", "localizer")
WRONG_CLASS = Exclusion("WRONG_SOP_CLASS", "neither a CT nor an MR image")
DERIVED = Exclusion("DERIVED_ONLY", "derived from other images")
MOSAIC = Exclusion("MOSAIC_IMAGES", "a mosaic of many slices in one image")
TOO_LOSSY = Exclusion("LOSSY_COMPRESSION", "compressed with more loss than the model takes, or in another way")
FOR_ATTENUATION = Exclusion("ATTENUATION_CORRECTION", "made to correct the attenuation of PET or SPECT")
BURNED_IN = Exclusion("BURNED_IN_ANNOTATION", "with text burned into its pixels")
QUALITY_CONTROL = Exclusion("TEST_SUBJECT", "a quality control image")
NOT_HOUNSFIELD = Exclusion("NOT_CT_HU", "not in Hounsfield units (RescaleType)")
NOT_MONOCHROME = Exclusion("NOT_MONOCHROME", "not greyscale with bright for high values (PhotometricInterpretation)")
NO_POSITION = Exclusion("NO_POSITION", "without a position in the patient")

MAGNITUDE = "MAGNITUDE"
#: Parts of a complex signal, by what Image Type calls them.
_COMPONENTS = {
    **{"M": MAGNITUDE, "MAGNITUDE": MAGNITUDE, "P": "PHASE", "PHASE": "PHASE", "VELOCITY": "PHASE"},
    **{"R": "REAL", "REAL": "REAL", "I": "IMAGINARY", "IMAGINARY": "IMAGINARY"},
}
_COMPONENT_OF_TYPE = re.compile(r"(PHASE|VELOCITY|REAL|IMAGINARY|[MPRI])(?:_\w+| MAP)?")

#: What the values of an image and its place depend on: where it cannot be read, nothing may stand in for it.
VALUES = (
    "Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "PhotometricInterpretation", "BitsAllocated", "BitsStored",
    "HighBit", "PixelRepresentation", "RescaleSlope", "RescaleIntercept", "RescaleType", "ModalityLUTSequence",
    "PixelPaddingValue", "PixelPaddingRangeLimit",
)  # fmt: skip
PLACE = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")


def check_readable(header: Dataset, needed: Iterable[str]) -> None:
    """Raise `NotAnalysable` (UNREADABLE_ATTRIBUTE) when one of the `needed` attributes is there and cannot be read.

    It costs the study and not the image: what is answered about the other images alone could be another answer.
    """
    keyword = first_unreadable(header, needed)
    if keyword:
        raise NotAnalysable(
            "UNREADABLE_ATTRIBUTE",
            f"{keyword} of image number {header.get('InstanceNumber', '?')} cannot be read, and the answer needs it.",
        )


def volume_exclusion(header: Dataset, gate: Gate) -> Exclusion | None:
    """Return why an image, or a frame of one, cannot be a slice of a volume; `None` when it can."""
    image_type = image_types(header)
    if not _LOCALIZER_TYPES.isdisjoint(image_type):
        return LOCALIZER
    if header.get("SOPClassUID") not in CT_CLASSES | MR_CLASSES:
        return WRONG_CLASS
    if "MOSAIC" in image_type:
        return MOSAIC
    if image_type[:1] == ["DERIVED"] and not gate.derived_allowed and not is_lossy_copy(header):
        return DERIVED
    return shared_exclusion(header, gate) or _value_exclusion(header, gate)


def spectral(header: Dataset) -> Spectral | None:
    """Return what spectral CT computed of a CT image; `None` for a conventional one."""
    characteristics = next(iter(header.get("MultienergyCTCharacteristicsSequence") or []), Dataset())
    energy_kev = header.get("MonoenergeticEnergyEquivalent", characteristics.get("MonoenergeticEnergyEquivalent"))
    description = str(header.get("SeriesDescription") or "")
    kev = float(energy_kev) if isinstance(energy_kev, int | float) else None
    return spectral_of(image_types(header), str(header.get("RescaleType") or ""), description, kev)


def complex_component(header: Dataset) -> str:
    """Return which part of a complex signal an MR image shows (PS3.3 C.8.13.3.1.1), magnitude unless it says otherwise:
    in Complex Image Component, or behind the second value of Image Type, as in ``P`` or ``PHASE MAP``."""
    component = str(header.get("ComplexImageComponent") or "").upper()
    if component in _COMPONENTS.values():
        return component
    found = (_COMPONENT_OF_TYPE.fullmatch(part) for part in image_types(header)[2:])
    return next((_COMPONENTS[one[1]] for one in found if one), MAGNITUDE)


def shared_exclusion(header: Dataset, gate: Gate) -> Exclusion | None:
    """Return why an image of whatever kind is no patient's clean image."""
    if str(header.get("BurnedInAnnotation") or "").upper() == "YES" and not gate.burned_in_allowed:
        return BURNED_IN
    if str(header.get("QualityControlImage") or "").upper() == "YES" and not gate.test_subjects_allowed:
        return QUALITY_CONTROL
    return None


def is_too_lossy(header: Dataset, gate: Gate) -> bool:
    """Tell whether an image lost more than the card allows, or by a method it does not; what nobody knows, it did."""
    history = lossy_history(header)
    if history is None or not history.is_certain:
        return False
    is_far = gate.max_lossy_ratio is not None and (history.ratio or math.inf) > gate.max_lossy_ratio
    other_methods = set(history.methods or ("",)) - set(gate.lossy_methods) if gate.lossy_methods else ()
    return is_far or bool(other_methods)


def check_subject(headers: Iterable[Dataset], gate: Gate) -> None:
    """Raise `NotAnalysable` (TEST_SUBJECT) when the images are of a phantom or of a test patient.

    The rules, in this order: Quality Control Subject is YES (PS3.3 C.7.1.1); a description or the body part speaks of
    a phantom or of quality control; the patient's name or ID has a word such as PHANTOM or TESTPATIENT, or consists of
    words such as TEST, QA and PATIENT alone. The node's own demonstration studies pass.
    """
    if gate.test_subjects_allowed:
        return
    for header in headers:
        rule = _test_subject_rule(header)
        if rule:
            raise NotAnalysable(
                "TEST_SUBJECT",
                f"The images are not of a patient: {rule}. To analyse phantoms and test patients, set "
                "[gate] test_subjects_allowed in the model card.",
            )


def refused(left_out: Sequence[Exclusion]) -> NotAnalysable:
    """Return the refusal of a series of which every image was left out: the commonest reason is its code."""
    counted = Counter(left_out).most_common()
    told = "; ".join(f"{count} {one.words}" for one, count in counted)
    return NotAnalysable(counted[0][0].reason, f"No image of the series can be used: {told}.")


def image_types(header: Dataset) -> list[str]:
    """Return the values of ImageType in upper case."""
    value = header.get("ImageType") or []
    return [str(part).strip().upper() for part in ([value] if isinstance(value, str) else value)]


def _value_exclusion(header: Dataset, gate: Gate) -> Exclusion | None:
    is_ct = header.SOPClassUID in CT_CLASSES
    if is_ct and not gate.attenuation_correction_allowed and _is_for_attenuation(header):
        return FOR_ATTENUATION
    computed = spectral(header) if is_ct and not gate.spectral_allowed else None
    if computed is not None and not computed.is_like_conventional:
        return Exclusion("SPECTRAL_IMAGE", computed.words)
    if is_ct and str(header.get("RescaleType") or "HU") not in {"HU", "HU_MOD"}:
        return NOT_HOUNSFIELD
    # Hounsfield units have a scale of their own; of an MR image the polarity is all that says what is bright.
    accepted = {"MONOCHROME2", "MONOCHROME1"} if is_ct else {"MONOCHROME2"}
    if str(header.get("PhotometricInterpretation") or "MONOCHROME2") not in accepted:
        return NOT_MONOCHROME
    return None


def _is_for_attenuation(header: Dataset) -> bool:
    texts = (_ascii_text(header, keyword).upper() for keyword in ("SeriesDescription", "ProtocolName"))
    return any(_ATTENUATION_WORDS.search(text) for text in texts)


def _test_subject_rule(header: Dataset) -> str:
    if str(header.get("Manufacturer") or "") == DEMONSTRATION_MANUFACTURER:
        return ""
    if str(header.get("QualityControlSubject") or "").upper() == "YES":
        return "Quality Control Subject says so"
    for keyword in _DESCRIPTIONS:
        if _TEST_DESCRIPTION.search(_ascii_text(header, keyword)):
            return f"{keyword} speaks of a phantom or of quality control"
    for keyword in ("PatientName", "PatientID"):
        if _names_no_patient(_ascii_text(header, keyword)):
            return f"{keyword} is that of a phantom or a test patient"
    return ""


def _ascii_text(header: Dataset, keyword: str) -> str:
    """Return the ASCII letters of a text as it was received; its character set may be one nobody knows."""
    element = header.get_item(keyword)
    value = None if element is None else element.value
    if isinstance(value, PersonName):
        value = value.original_string or str(value)
    return value.decode("ascii", "ignore") if isinstance(value, bytes) else str(value or "")


def _names_no_patient(text: str) -> bool:
    words = {word.upper() for word in _WORD.findall(text)}
    if words & _PHANTOM_WORDS:
        return True
    return bool(words & _TEST_WORDS) and words <= _TEST_WORDS | _BESIDE_TEST
