"""A source with a value of its own in every attribute about patient, study, series and equipment."""

from __future__ import annotations

from typing import Any

from highdicom._standard_utils import get_module_attribute_map
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset

from dicom_node.sr_writer.copied import NEEDED_IN_ITEMS

#: What may stand in a source beside its pixels and its place.
_SOURCE_MODULES = (
    "patient", "clinical-trial-subject", "general-study", "patient-study", "clinical-trial-study", "general-series",
    "clinical-trial-series", "frame-of-reference", "general-equipment", "general-acquisition", "general-image",
    "sop-common",
)  # fmt: skip
#: Not said in the words of this table: pixels, their meaning, and what another attribute depends on.
_LEFT_ALONE = frozenset(
    {
        *("SOPClassUID", "SpecificCharacterSet", "Modality", "PixelPaddingValue", "RealWorldValueMappingSequence"),
        *("IconImageSequence", "PresentationLUTShape", "LossyImageCompression", "BodyPartExamined", "Laterality"),
        *("ImageType", "PatientOrientation", "BurnedInAnnotation", "EncryptedAttributesSequence"),
        *("MACParametersSequence", "DigitalSignaturesSequence", "SmallestPixelValueInSeries"),
        *("LargestPixelValueInSeries", "TimezoneOffsetFromUTC", "FrameOfReferenceUID", "PatientPosition"),
    }
)
_NUMBERS = frozenset({"DS", "IS", "US", "SS", "UL", "SL", "FL", "FD"})


def header_keywords() -> set[str]:
    """Return the attributes of a source beside its pixels and its place."""
    modules = get_module_attribute_map()
    return {one["keyword"] for name in _SOURCE_MODULES for one in modules[name] if not one["path"]}


def crowded(source: Dataset, mark: str, number: int) -> Dataset:
    """Give every attribute of the source modules a value that occurs in no other attribute and no other source."""
    for position, keyword in enumerate(sorted(header_keywords() - _LEFT_ALONE)):
        tag = tag_for_keyword(keyword)
        if tag is None or keyword.endswith("InstanceUID") or keyword in {"PatientName", "InstanceNumber"}:
            continue
        vr = dictionary_VR(tag)
        source[keyword] = DataElement(tag, vr, _value(vr, f"{mark} {position}", 1000 * number + position))
        for needed in NEEDED_IN_ITEMS.get(keyword, ()):
            value = _value(dictionary_VR(needed), f"{mark} {position}", 1000 * number + position)
            setattr(source[keyword].value[0], needed, value)
    source.PatientName, source.TimezoneOffsetFromUTC = f"{mark}^NAME", f"+0{number}00"
    source.LossyImageCompression, source.LossyImageCompressionRatio = "01", [10.0 + number]
    source.LossyImageCompressionMethod = ["ISO_10918_1" if number == 1 else "ISO_15444_1"]
    return source


def _value(vr: str, word: str, number: int) -> Any:
    if vr == "SQ":
        item = Dataset()
        item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = word, "99SITE", word
        return [item]
    simple = {
        "DA": f"{number}0102", "TM": f"{number % 24:02}0102", "DT": f"{number}0102030405", "AS": f"{number % 90:03}Y",
        "UI": f"2.25.{number}", "PN": word.replace(" ", "^"), "CS": word.replace(" ", "_"),
    }  # fmt: skip
    return simple.get(vr, number if vr in _NUMBERS else word)
