"""What a search by DICOMweb asks for (PS3.18 8.3.4), and whether a header matches (PS3.4 C.2.2.2)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydicom.datadict import dictionary_VR, keyword_for_tag, tag_for_keyword

from dicom_node.api.answers.problems import ProblemError
from dicom_node.core.uids import is_valid_uid
from dicom_node.index.views.kept_objects import KeptStudies

#: An element of the DICOM JSON Model, by tag; and all of a header.
Element = Mapping[str, Any]
HeaderJson = Mapping[str, Element]

DEFAULT_LIMIT = 100
MAX_LIMIT = 1000
_MAX_OFFSET = 100_000
_LONGEST_TEXT = 256
#: Each makes comparing dearer, in the database too.
_MOST_WILDCARDS = 8
_MOST_UIDS = 100
_MOST_MODALITIES = 16
_DATE_RANGE = re.compile(r"([0-9]{8})?(-)?([0-9]{8})?")
_UIDS = {
    "StudyInstanceUID": "study_instance_uids",
    "SeriesInstanceUID": "series_instance_uids",
    "SOPInstanceUID": "sop_instance_uids",
}


@dataclass(frozen=True, slots=True)
class Match:
    """One attribute that the header of an object must match."""

    tag: str
    vr: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """What is looked for: by the index, and by the headers of what the index finds; and what the answer holds."""

    studies: KeptStudies
    matches: Sequence[Match] = ()
    included: frozenset[str] = frozenset()
    everything: bool = False
    limit: int = DEFAULT_LIMIT
    offset: int = 0
    remarks: tuple[str, ...] = ()


@dataclass(slots=True)
class _Asked:
    """A search while it is read."""

    uids: dict[str, tuple[str, ...]] = field(default_factory=dict)
    accession_number: str = ""
    modalities: tuple[str, ...] = ()
    patient_id: str = ""
    study_dates: tuple[str, str] | None = None
    matches: list[Match] = field(default_factory=list)
    included: set[str] = field(default_factory=set)
    everything: bool = False
    numbers: dict[str, int] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)


def search_of(parameters: Sequence[tuple[str, str]], named: Mapping[str, str] | None = None) -> Search:
    """Read the parameters of a search; `named` are UIDs that its address names. Raises `ProblemError` 400."""
    asked = _Asked()
    for name, text in parameters:
        _read(asked, name, text.strip())
    for keyword, uid in (named or {}).items():
        asked.uids[keyword] = (uid,)
    numbers = asked.numbers
    if numbers.get("limit", 0) > MAX_LIMIT:
        asked.remarks.append(f"One answer holds {MAX_LIMIT} results at most. Ask for the next with offset.")
    return Search(
        studies=KeptStudies(
            **{_UIDS[keyword]: uids for keyword, uids in asked.uids.items()},
            patient_id=asked.patient_id,
            accession_number=asked.accession_number,
            modalities=asked.modalities,
            study_dates=asked.study_dates,
        ),
        matches=asked.matches,
        included=frozenset(asked.included),
        everything=asked.everything,
        limit=min(numbers.get("limit", DEFAULT_LIMIT), MAX_LIMIT),
        offset=numbers.get("offset", 0),
        remarks=tuple(asked.remarks),
    )


def _read(asked: _Asked, name: str, text: str) -> None:
    if name == "accept":
        return
    if name in {"limit", "offset"}:
        asked.numbers[name] = _number(name, text)
    elif name == "fuzzymatching":
        if text == "true":
            asked.remarks.append(
                "The fuzzymatching parameter is not supported. Only literal matching has been performed."
            )
    elif name == "includefield":
        asked.everything = asked.everything or text == "all"
        asked.included |= {tag_named(one) for one in text.split(",") if one and one != "all"}
    elif text:
        _read_attribute(asked, tag_named(name), text)


def _number(name: str, text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text) or int(text) > _MAX_OFFSET:
        raise ProblemError(400, f"{name} must be a number from 0 to {_MAX_OFFSET}.")
    return int(text)


def tag_named(name: str) -> str:
    """Return the tag of an attribute, as eight digits, by its keyword or tag. Raises `ProblemError` 400."""
    tag = int(name, 16) if re.fullmatch(r"[0-9A-Fa-f]{8}", name) else tag_for_keyword(name)
    if tag is None:
        raise ProblemError(400, "A parameter is the keyword or tag of no attribute; sequences are not searched.")
    return f"{tag:08X}"


def _read_attribute(asked: _Asked, tag: str, text: str) -> None:
    keyword = keyword_for_tag(int(tag, 16))
    if keyword in _UIDS:
        asked.uids[keyword] = _uids(keyword, text)
        return
    if len(text) > _LONGEST_TEXT or len(re.findall(r"[*?]", text)) > _MOST_WILDCARDS or "\0" in text:
        raise ProblemError(400, f"{keyword or tag} is too long, or has more than {_MOST_WILDCARDS} wildcards.")
    if keyword == "AccessionNumber":
        asked.accession_number = text
    elif keyword == "ModalitiesInStudy":
        asked.modalities = tuple(filter(None, re.split(r"[,\\]", text)))[:_MOST_MODALITIES]
    elif keyword == "PatientID":
        asked.patient_id = text
    elif keyword == "StudyDate":
        asked.study_dates = _dates(text)
    else:
        asked.matches.append(Match(tag, _vr(tag), text))


def _vr(tag: str) -> str:
    try:
        vr = dictionary_VR(int(tag, 16))
    except KeyError:
        vr = "LO"  # a private one; its text is compared
    if vr[:2] in {"SQ", "OB", "OW", "OF", "OD", "OL", "OV", "UN"}:
        raise ProblemError(
            400, f"{keyword_for_tag(int(tag, 16))} cannot be searched by: it holds no text and no number."
        )
    return vr


def _uids(keyword: str, text: str) -> tuple[str, ...]:
    uids = tuple(dict.fromkeys(filter(None, re.split(r"[,\\]", text))))
    if len(uids) > _MOST_UIDS or not all(map(is_valid_uid, uids)):
        raise ProblemError(400, f"{keyword} must be UIDs, {_MOST_UIDS} at most, with commas between them.")
    return uids


def _dates(text: str) -> tuple[str, str]:
    found = _DATE_RANGE.fullmatch(text)
    if not found or not (found[1] or found[3]) or (found[1] and found[3] and not found[2]):
        raise ProblemError(400, "StudyDate must be a date as in 20260131, or a range: 20260101-20260131, 20260101-.")
    first, is_range, last = found[1] or "", found[2], found[3] or ""
    return (first, last) if is_range else (first, first)


# --- headers ---------------------------------------------------------------------------------------------------------


def matches(header: HeaderJson, wanted: Sequence[Match]) -> bool:
    """Tell whether a header matches in every attribute."""
    return all(any(_is(text, one) for text in _texts(header.get(one.tag, {}))) for one in wanted)


def _texts(element: Element) -> Iterator[str]:
    for value in element.get("Value", ()):
        if isinstance(value, dict):
            yield from (str(one) for one in value.values())
        elif value is not None:
            yield str(value)


def _is(text: str, wanted: Match) -> bool:
    if wanted.vr in {"DA", "TM", "DT"} and "-" in wanted.text:
        first, _, last = wanted.text.partition("-")
        return (not first or text >= first) and (not last or text[: len(last)] <= last)
    if wanted.vr in {"IS", "DS", "US", "SS", "UL", "SL", "FL", "FD"}:
        return _value(text) == _value(wanted.text) is not None
    if wanted.vr == "PN":
        return is_like(text.casefold(), wanted.text.casefold())
    if wanted.vr == "UI":
        return text in re.split(r"[,\\]", wanted.text)
    return is_like(text, wanted.text)


def _value(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def is_like(text: str, pattern: str) -> bool:
    """Tell whether a text is as a pattern says, in which `*` stands for any characters and `?` for one.

    Takes time in proportion to both lengths at worst, whatever the pattern.
    """
    at, place, star, back = 0, 0, -1, 0
    while at < len(text):
        if place < len(pattern) and pattern[place] == "*":
            star, back, place = place, at, place + 1
        elif place < len(pattern) and pattern[place] in {"?", text[at]}:
            at, place = at + 1, place + 1
        elif star >= 0:
            back += 1
            at, place = back, star + 1
        else:
            return False
    return not pattern[place:].strip("*")
