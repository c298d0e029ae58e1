"""Which action each attribute gets: the basic profile of PS3.15 E.2, and the options of E.3 that a site has chosen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from pydicom.datadict import keyword_for_tag
from pydicom.tag import BaseTag

from dicom_node.core.entities import Code
from dicom_node.core.identifying import ConfidentialAttribute, ProfileOption, confidential_attribute


class Action(StrEnum):
    """What becomes of a value; sequences that stay are always gone through."""

    REMOVE = "X"
    EMPTY = "Z"
    DUMMY = "D"
    UID = "U"
    SHIFT = "date shifted"
    CLEAN = "C"
    KEEP = "K"


#: Of several codes the one that leaves every object valid whose input was: an empty value is none less than none, and a
#: dummy none less than an empty one.
_BASIC: Mapping[str, Action] = {
    "X": Action.REMOVE, "Z": Action.EMPTY, "X/Z": Action.EMPTY, "D": Action.DUMMY, "X/D": Action.DUMMY,
    "Z/D": Action.DUMMY, "X/Z/D": Action.DUMMY, "U": Action.UID, "X/Z/U*": Action.UID,
}  # fmt: skip
#: Where the table has Z, a dummy may stand as well (Table E.1-1a), and viewers want a name.
_PATIENT_NAME = 0x00100010
#: What somebody wrote, wherever a content item stands; and of a reviewed report, who verified it and when.
_WRITTEN = frozenset({"TextValue", "CompletionFlagDescription"})
#: Are told by codes that a site has made up; whoever keeps the one keeps the other.
_IDENTITIES = frozenset({ProfileOption.DEVICE_IDENTITY, ProfileOption.INSTITUTION_IDENTITY})
_DATES = frozenset({"DA", "DT", "TM"})
_FREE_TEXT = frozenset({"LT", "ST", "UT"})
_TEXT = _FREE_TEXT | {"LO", "SH", "UC", "UR"}
#: CID 7050.
_BASIC_METHOD = Code("113100", "DCM", "Basic Application Confidentiality Profile")
_METHODS: Mapping[ProfileOption, Code] = {
    ProfileOption.CLEAN_STRUCTURED_CONTENT: Code("113104", "DCM", "Clean Structured Content Option"),
    ProfileOption.CLEAN_DESCRIPTORS: Code("113105", "DCM", "Clean Descriptors Option"),
    ProfileOption.FULL_DATES: Code("113106", "DCM", "Retain Longitudinal Temporal Information Full Dates Option"),
    ProfileOption.MODIFIED_DATES: Code(
        "113107", "DCM", "Retain Longitudinal Temporal Information Modified Dates Option"
    ),
    ProfileOption.PATIENT_CHARACTERISTICS: Code("113108", "DCM", "Retain Patient Characteristics Option"),
    ProfileOption.DEVICE_IDENTITY: Code("113109", "DCM", "Retain Device Identity Option"),
    ProfileOption.UIDS: Code("113110", "DCM", "Retain UIDs Option"),
    ProfileOption.SAFE_PRIVATE: Code("113111", "DCM", "Retain Safe Private Option"),
    ProfileOption.INSTITUTION_IDENTITY: Code("113112", "DCM", "Retain Institution Identity Option"),
}


@dataclass(frozen=True, slots=True)
class SafePrivate:
    """A private attribute that a site has found to be safe: its creator, group, and element within the block."""

    creator: str
    group: int
    element: int


@dataclass(frozen=True, slots=True)
class DeidentificationProfile:
    """The basic profile with options. `keep_burned_in`: objects that may show the patient in their pixels stay in;
    `own_codes` stay, although nobody else knows their scheme: those that the cards of models declare."""

    name: str
    options: frozenset[ProfileOption] = frozenset()
    safe_private: frozenset[SafePrivate] = frozenset()
    keep_burned_in: bool = False
    own_codes: frozenset[Code] = frozenset()

    def action(self, tag: BaseTag, vr: str) -> Action:
        """Return the action for a standard attribute of this VR."""
        row = confidential_attribute(tag)
        if row is None:
            return self._unlisted(tag, vr)
        says = {option: row.options[option] for option in self.options if option in row.options}
        if "K" in says.values():
            return Action.KEEP
        if ProfileOption.MODIFIED_DATES in says:
            return Action.SHIFT
        return Action.CLEAN if says else self._basic(row, tag, vr)

    def _basic(self, row: ConfidentialAttribute, tag: BaseTag, vr: str) -> Action:
        if tag == _PATIENT_NAME:
            return Action.DUMMY
        action = _BASIC[row.basic]
        if vr == "UI" and action is Action.DUMMY:
            return Action.UID
        return Action.KEEP if action is Action.UID and vr == "SQ" else action

    def _unlisted(self, tag: BaseTag, vr: str) -> Action:
        """Return what the kind of value asks for: the table is a list of known attributes, and new ones come."""
        if not keyword_for_tag(tag) or vr == "UN":
            return Action.REMOVE
        if vr == "PN" or keyword_for_tag(tag) in _WRITTEN:
            return Action.DUMMY
        if vr in _DATES:
            return self.dates
        if vr == "UI":
            return Action.KEEP if ProfileOption.UIDS in self.options else Action.UID
        return Action.KEEP

    def keeps_codes_of(self, tag: BaseTag) -> bool:
        """Tell whether the codes of a sequence name the device or institution that the site chose to keep."""
        row = confidential_attribute(tag)
        return row is not None and any(row.options.get(one) == "K" for one in _IDENTITIES & self.options)

    def within_a_dummy(self, tag: BaseTag, vr: str) -> Action:
        """Return the action inside a sequence of which nothing but a dummy is to stay: all text goes, codes, too."""
        action = self.action(tag, vr)
        return Action.DUMMY if action is Action.KEEP and vr in _TEXT else action

    def within_content(self, tag: BaseTag, vr: str) -> Action:
        """Return the action inside the content of a report: codes and numbers stay, what somebody wrote goes."""
        action = self.action(tag, vr)
        return Action.DUMMY if action is Action.KEEP and vr in _FREE_TEXT else action

    @property
    def dates(self) -> Action:
        """What becomes of dates and times."""
        if ProfileOption.FULL_DATES in self.options:
            return Action.KEEP
        return Action.SHIFT if ProfileOption.MODIFIED_DATES in self.options else Action.DUMMY

    @property
    def longitudinal_information(self) -> str:
        """The value of Longitudinal Temporal Information Modified (0028,0303)."""
        return {Action.KEEP: "UNMODIFIED", Action.SHIFT: "MODIFIED"}.get(self.dates, "REMOVED")

    @property
    def methods(self) -> tuple[Code, ...]:
        """What De-identification Method Code Sequence (0012,0064) says, from CID 7050."""
        in_order = (_METHODS[option] for option in ProfileOption if option in self.options and option in _METHODS)
        return (_BASIC_METHOD, *in_order)


#: Without any option.
BASIC = DeidentificationProfile("basic")
