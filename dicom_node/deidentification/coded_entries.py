"""Coded entries without what somebody typed: codes of known vocabularies stay, with the meanings that these give them.

Table E.1-1 lists few code sequences, and PS3.15 E.3.4 and E.3.5 ask to clean what may identify. A code that a site has
made up may name whoever made it, or a patient, in each of its parts, the name of its scheme included (`DR-MILLER` of
`99MILLER`). Code Meaning is free text in every scheme. So what is not known to be harmless is replaced, and the entry
keeps its place: a sequence that must have an item has one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from pydicom.dataset import Dataset

from dicom_node.core.codes import PRIVATE_SCHEME
from dicom_node.deidentification.harmless_text import harmless_meaning

#: Of which everybody knows what a code means, so that a code tells of nobody.
VOCABULARIES = frozenset({
    "SCT", "SRT", "SNM3", "99SDM", "DCM", "LN", "UCUM", "RADLEX", "RADELEMENT", "FMA", "NCIt", "UMLS", "ICDO3", "I10",
    "ICD10", "ICD11", "BI", "ISO3166_1", "RFC5646", PRIVATE_SCHEME,
})  # fmt: skip
#: Meanings by scheme and value, of codes that stay although nobody else knows their scheme.
OwnCodes = Mapping[tuple[str, str], str]
_URN = "URNCodeValue"
#: In this order: an entry has one of them (PS3.3 8.8).
_VALUES: Mapping[str, str] = {"CodeValue": "REMOVED", "LongCodeValue": "REMOVED", _URN: "https://removed.invalid"}
_REMOVED_SCHEME, _REMOVED_MEANING = "99REMOVED", "REMOVED"
#: What tells of a scheme, but for its name and UID (PS3.3 C.12.1.1.2).
_OF_A_SCHEME = (
    "CodingSchemeRegistry", "CodingSchemeExternalID", "CodingSchemeName", "CodingSchemeVersion",
    "CodingSchemeResponsibleOrganization", "CodingSchemeResourcesSequence",
)  # fmt: skip
#: From which list a code was taken; an entry is whole without (PS3.3 8.8, enhanced encoding mode).
_OF_A_CONTEXT = (
    "ContextIdentifier", "ContextUID", "MappingResource", "MappingResourceUID", "ContextGroupVersion",
    "ContextGroupExtensionFlag", "ContextGroupLocalVersion", "ContextGroupExtensionCreatorUID",
)  # fmt: skip
_OF_THE_STANDARD: Mapping[str, re.Pattern[str]] = {
    "MappingResource": re.compile("DCMR"),
    "ContextIdentifier": re.compile(r"\d{1,6}"),
    "ContextUID": re.compile(r"1\.2\.840\.10008\.6\.1\.\d{1,6}"),
    "MappingResourceUID": re.compile(r"1\.2\.840\.10008\.8\.1\.1"),
}
_VERSION = re.compile(r"\d[\d._/-]*")
#: Sequences that describe schemes and lists once for the whole object; each may be absent (PS3.3 C.12.1).
DESCRIPTIONS = frozenset({
    "CodingSchemeIdentificationSequence", "ContextGroupIdentificationSequence", "MappingResourceIdentificationSequence",
})  # fmt: skip


def forget_what_was_typed(item: Dataset, own: OwnCodes) -> None:
    """Leave of a coded entry what a known vocabulary says, and replace what is of no such; of other items nothing."""
    present = [keyword for keyword in _VALUES if keyword in item]
    if not present and "CodeMeaning" not in item:
        return
    _forget(item, (*present[1:], *(one for one in (*_OF_A_SCHEME, "CodingSchemeUID") if one != "CodingSchemeVersion")))
    scheme = str(item.get("CodingSchemeDesignator", ""))
    value = str(item[present[0]].value) if present else ""
    if (scheme, value) in own:
        item.CodeMeaning = own[scheme, value]
    elif scheme in VOCABULARIES and present[:1] != [_URN]:
        item.CodeMeaning = harmless_meaning(value, scheme, str(item.get("CodeMeaning", ""))) or _REMOVED_MEANING
    else:
        _replace(item, present[:1])
    if not _VERSION.fullmatch(str(item.get("CodingSchemeVersion", ""))):
        _forget(item, ["CodingSchemeVersion"])
    _forget_the_context(item)


def _replace(item: Dataset, values: list[str]) -> None:
    for keyword in values:
        item[keyword].value = _VALUES[keyword]
    if values != [_URN] or "CodingSchemeDesignator" in item:
        item.CodingSchemeDesignator = _REMOVED_SCHEME
    item.CodeMeaning = _REMOVED_MEANING
    _forget(item, ("CodingSchemeVersion", *_OF_A_CONTEXT))


def _forget_the_context(item: Dataset) -> None:
    """Leave a context group that is one of PS3.16, which has a number."""
    _forget(item, ["MappingResourceName"])
    if not all(_is_of_the_standard(item, keyword) for keyword in ("MappingResource", "ContextIdentifier")):
        _forget(item, _OF_A_CONTEXT)
    _forget(item, [one for one in ("ContextUID", "MappingResourceUID") if not _is_of_the_standard(item, one)])


def stays_described(item: Dataset) -> bool:
    """Tell whether an item of `DESCRIPTIONS` is of a known vocabulary or list; leave of it what is no free text."""
    scheme = str(item.get("CodingSchemeDesignator", ""))
    if scheme:
        # Their publishers' names are known to all; the node writes its own.
        _forget(item, () if scheme == PRIVATE_SCHEME else _OF_A_SCHEME)
        return scheme in VOCABULARIES
    _forget(item, ["MappingResourceName"])
    return all(_is_of_the_standard(item, one) for one in _OF_THE_STANDARD if one in item or one == "MappingResource")


def _is_of_the_standard(item: Dataset, keyword: str) -> bool:
    return _OF_THE_STANDARD[keyword].fullmatch(str(item.get(keyword, ""))) is not None


def _forget(item: Dataset, keywords: tuple[str, ...] | list[str]) -> None:
    for keyword in keywords:
        if keyword in item:
            del item[keyword]
