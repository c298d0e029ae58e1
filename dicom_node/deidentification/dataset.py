"""One object becomes one that tells of no patient: every attribute, however deep, gets the action of the profile."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pydicom._uid_dict import UID_dictionary
from pydicom.datadict import keyword_for_tag
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag
from pydicom.uid import UID

from dicom_node import __version__
from dicom_node.core.entities import Code
from dicom_node.core.identifying import confidential_attribute
from dicom_node.core.uids import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME, is_valid_uid
from dicom_node.deidentification.coded_entries import DESCRIPTIONS, forget_what_was_typed, stays_described
from dicom_node.deidentification.harmless_text import cleaned
from dicom_node.deidentification.pixels import clean_pixel_data
from dicom_node.deidentification.profile import Action, DeidentificationProfile
from dicom_node.deidentification.pseudonyms import Pseudonyms
from dicom_node.headers.sound import READ_ERRORS

_REMOVED = "REMOVED"
_DUMMIES: Mapping[str, object] = {
    "AE": _REMOVED, "AS": "000Y", "CS": _REMOVED, "DA": "19000101", "DT": "19000101000000", "DS": "0", "IS": "0",
    "LO": _REMOVED, "LT": _REMOVED, "PN": _REMOVED, "SH": _REMOVED, "ST": _REMOVED, "TM": "000000", "UC": _REMOVED,
    "UR": "https://removed.invalid", "UT": _REMOVED, "FD": 0.0, "FL": 0.0, "SL": 0, "SS": 0, "SV": 0, "UL": 0, "US": 0,
    "UV": 0, "OB": b"\0\0", "OW": b"\0\0", "OF": bytes(4), "OL": bytes(4), "OD": bytes(8), "OV": bytes(8),
}  # fmt: skip
#: Attributes whose UIDs are of vocabularies and of software, never of a patient.
_OF_NOBODY = frozenset({"CodingSchemeUID", "ContextUID", "MappingResourceUID"})
_OF_KINDS = ("ClassUID", "TransferSyntaxUID")
_BY_IDENTIFIER = frozenset({"PatientID", "PatientName"})
#: Overlays and curves; what is left of one whose data is gone describes nothing.
_REPEATED_GROUPS = (0x6000, 0x5000)
#: The safe harbour of HIPAA (45 CFR 164.514 b 2 i C): older than this is all the same.
_OLDEST = 90


def patient_of(dataset: Dataset) -> tuple[str, ...]:
    """Return by what the patient of an object is told apart: number and issuer, or the study where it has no number."""
    number, issuer = (str(dataset.get(keyword) or "").strip() for keyword in ("PatientID", "IssuerOfPatientID"))
    return (number, issuer) if number else (str(dataset.get("StudyInstanceUID", "")),)


def deidentify(dataset: Dataset, profile: DeidentificationProfile, key: bytes) -> None:
    """Change an object that was read with its file meta information into one without its patient, in place.

    What a value is replaced by is the same for the same value under the same key. What cannot be read goes. Raises
    `CannotClean` where its pixel data may hold text.
    """
    syntax = UID(dataset.file_meta.TransferSyntaxUID)
    clean_pixel_data(dataset)
    _Deidentifier(profile, Pseudonyms(key, patient_of(dataset))).treat(dataset, profile.action)
    _say_so(dataset, profile)
    dataset.file_meta = _file_meta(dataset, syntax)
    dataset.preamble = bytes(128)


class _Deidentifier:
    def __init__(self, profile: DeidentificationProfile, pseudonyms: Pseudonyms) -> None:
        self._profile = profile
        self._pseudonyms = pseudonyms
        self._own_codes = {(code.scheme, code.value): code.meaning for code in profile.own_codes}

    def treat(self, dataset: Dataset, action_of: Callable[[BaseTag, str], Action], *, codes_stay: bool = False) -> None:
        """Go through one dataset and what lies below it; `codes_stay` where the site has chosen to keep them."""
        safe = self._safe_private_in(dataset)
        for tag in list(dataset.keys()):
            goes = tag.is_private or tag.element == 0 or tag.group & 0xFF00 in _REPEATED_GROUPS
            try:
                keep = tag in safe or (not goes and self._treated(dataset, tag, action_of, codes_stay))
            except READ_ERRORS:
                keep = False
            if not keep:
                del dataset[tag]
        if not codes_stay:
            forget_what_was_typed(dataset, self._own_codes)

    def _treated(
        self, dataset: Dataset, tag: BaseTag, action_of: Callable[[BaseTag, str], Action], codes_stay: bool
    ) -> bool:
        """Give one attribute its new value; return whether it stays."""
        element = dataset[tag]
        action = action_of(tag, element.VR)
        if action is Action.REMOVE:
            return False
        if action is Action.EMPTY:
            dataset[tag] = DataElement(tag, element.VR, Sequence() if element.VR == "SQ" else None)
        elif element.VR == "SQ":
            if keyword_for_tag(tag) in DESCRIPTIONS:
                element.value = [item for item in element.value if stays_described(item)]
                if not element.value:
                    return False
            below = {Action.DUMMY: self._profile.within_a_dummy, Action.CLEAN: self._profile.within_content}
            chosen = codes_stay or self._profile.keeps_codes_of(tag)
            for item in element.value:
                self.treat(item, below.get(action, action_of), codes_stay=chosen)
        elif not element.is_empty:
            self._replace(element, action)
        return True

    def _replace(self, element: DataElement, action: Action) -> None:
        keyword = keyword_for_tag(element.tag)
        if action is Action.UID:
            of_somebody = confidential_attribute(element.tag) or not (
                keyword in _OF_NOBODY or keyword.endswith(_OF_KINDS)
            )
            element.value = _each(element.value, self._uid if of_somebody else self._uid_of_kind)
        elif action is Action.SHIFT and element.VR != "TM":
            element.value = _each(element.value, self._pseudonyms.shifted) or _dummy(element.VR)
        elif action is Action.CLEAN:
            element.value = _each(element.value, cleaned) or _dummy(element.VR)
        elif action is Action.DUMMY:
            element.value = self._pseudonyms.identifier if keyword in _BY_IDENTIFIER else _dummy(element.VR)
        elif keyword == "PatientAge":
            element.value = _rounded_age(str(element.value))

    def _uid(self, uid: str) -> str:
        return uid if uid in UID_dictionary else self._pseudonyms.uid(uid)

    def _uid_of_kind(self, uid: str) -> str:
        """Return the UID of a kind of objects, or of a vocabulary, also one of a vendor; what is none may be a name."""
        return uid if is_valid_uid(uid) else self._pseudonyms.uid(uid)

    def _safe_private_in(self, dataset: Dataset) -> frozenset[BaseTag]:
        """Return the private attributes that stay, and the creators of their blocks."""
        safe: set[BaseTag] = set()
        for one in self._profile.safe_private:
            try:
                block = dataset.private_block(one.group, one.creator)
            except (KeyError, *READ_ERRORS):
                continue
            tag = block.get_tag(one.element)
            if tag in dataset and dataset[tag].VR not in ("SQ", "UN"):
                safe |= {tag, BaseTag(one.group << 16 | block.block_start >> 8)}
        return frozenset(safe)


def _each(value: object, change: Callable[[str], str]) -> object:
    """Return a value, or each of several, changed; those of which nothing is left are left out."""
    if isinstance(value, MultiValue):
        return [new for one in value if (new := change(str(one)))]
    return change(str(value))


def _dummy(vr: str) -> object:
    """Return the value that stands for any other of this VR. Raises `LookupError` where there is none."""
    return _DUMMIES[vr]


def _rounded_age(age: str) -> str:
    is_years = age.endswith("Y") and age[:-1].isdigit()
    return f"{_OLDEST:03d}Y" if is_years and int(age[:-1]) > _OLDEST else age


# --- what the object says of it ------------------------------------------------------------------------------------


def _say_so(dataset: Dataset, profile: DeidentificationProfile) -> None:
    """Patient Identity Removed and what belongs to it (PS3.3 C.7.1.1)."""
    dataset.PatientID = dataset.get("PatientID") or ""
    dataset.PatientIdentityRemoved = "YES"
    dataset.DeidentificationMethod = [f"dicom-node {__version__}", f"PS3.15 E.1, profile {profile.name}"[:64]]
    dataset.DeidentificationMethodCodeSequence = [_item(code) for code in profile.methods]
    dataset.LongitudinalTemporalInformationModified = profile.longitudinal_information


def _item(code: Code) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = code.value, code.scheme, code.meaning
    return item


def _file_meta(dataset: Dataset, syntax: UID) -> FileMetaDataset:
    """Return file meta information that names no application, station or sender of before."""
    meta = FileMetaDataset()
    meta.FileMetaInformationVersion = b"\0\1"
    meta.MediaStorageSOPClassUID = UID(dataset.SOPClassUID)
    meta.MediaStorageSOPInstanceUID = UID(dataset.SOPInstanceUID)
    meta.TransferSyntaxUID = syntax
    meta.ImplementationClassUID = UID(IMPLEMENTATION_CLASS_UID)
    meta.ImplementationVersionName = IMPLEMENTATION_VERSION_NAME
    return meta
