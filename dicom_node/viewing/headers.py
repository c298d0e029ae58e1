"""The header of a stored object by the DICOM JSON Model (PS3.18 F). Runs in a process with limits."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset

from dicom_node.headers.sound import READ_ERRORS

#: Longer values are not told, but where they can be asked for.
LONGEST_VALUE_BYTES = 1024
_BINARY = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "UN"})
_PIXELS = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})
_SPECIFIC_CHARACTER_SET = 0x00080005
_Json = dict[str, Any]


def header_json(dataset: Dataset, pixels: str = "") -> str:
    """Return the elements of a data set as JSON text.

    What cannot be told in JSON (a number that is none) is left out. `pixels` is the tag of pixel data that the data set
    has in its file, as eight digits; "" for none.
    """
    told = _elements(dataset, "bulkdata/")
    if pixels:
        told[pixels] = {"vr": _pixel_vr(dataset, pixels), "BulkDataURI": f"bulkdata/{pixels}"}
    if "00080005" in told:  # JSON is UTF-8, whatever the object was written in (PS3.18 F.2)
        told["00080005"] = {"vr": "CS", "Value": ["ISO_IR 192"]}
    text = json.dumps(told, ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "replace").decode("utf-8")


def _pixel_vr(dataset: Dataset, pixels: str) -> str:
    named = {"7FE00008": "OF", "7FE00009": "OD"}
    return named.get(pixels) or ("OW" if dataset.get("BitsAllocated") != 8 else "OB")


def _elements(dataset: Dataset, place: str) -> _Json:
    return dict(_told(dataset, place))


def _told(dataset: Dataset, place: str) -> Iterator[tuple[str, _Json]]:
    for tag in sorted(dataset.keys()):
        name = f"{int(tag):08X}"
        if int(tag) & 0xFFFF == 0 or int(tag) in _PIXELS:  # group lengths say nothing; pixels are asked for
            continue
        try:
            yield name, _element(dataset[tag], f"{place}{name}")
        except READ_ERRORS:
            continue


def _element(element: DataElement, place: str) -> _Json:
    if element.VR == "SQ":
        items = [_elements(item, f"{place}/{number}/") for number, item in enumerate(element.value or [])]
        return {"vr": "SQ", "Value": items} if items else {"vr": "SQ"}
    value = element.value
    if element.VR in _BINARY and isinstance(value, bytes) and len(value) > LONGEST_VALUE_BYTES:
        return {"vr": element.VR, "BulkDataURI": place}
    told: _Json = element.to_json_dict(None, 0)
    json.dumps(told, allow_nan=False)
    return told
