"""Rejection notes: which images one names, and why they are not to be used (IHE Imaging Object Change Management).

A note is a Key Object Selection document with one of four titles (PS3.16 CID 7010; IHE RAD TF-2 4.66). It rejects
images of the study that it stands in: for images of several studies, there is a note in each. The index keeps what it
says among the attributes of its instance, as texts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from dicom_node.core.entities import Instance, InstanceRole

KEY_OBJECT_SELECTION = "1.2.840.10008.5.1.4.1.1.88.59"
#: Titles that reject, by code value in the scheme DCM. "Quality Issue" (113010) only marks.
TITLES: Mapping[str, str] = {
    "113001": "Rejected for Quality Reasons",
    "113037": "Rejected for Patient Safety Reasons",
    "113038": "Incorrect Modality Worklist Entry",
    "113039": "Data Retention Policy Expired",
}
_CODE, _NAMED, _ELSEWHERE = "rejection", "rejected_instances", "rejected_elsewhere"


@dataclass(frozen=True, slots=True)
class RejectionNote:
    """What a note says: the code of its title, the instances of its own study that it names, and how many of others."""

    code: str
    named: frozenset[str]
    elsewhere: int = 0

    @property
    def title(self) -> str:
        """Why, as reports and the timeline say it: ``Rejected for Quality Reasons (113001)``."""
        return f"{TITLES[self.code]} ({self.code})"

    def as_attributes(self) -> dict[str, str]:
        """Return it as attributes of the note's instance."""
        return {_CODE: self.code, _NAMED: "\\".join(sorted(self.named)), _ELSEWHERE: str(self.elsewhere)}


def rejection_in(attributes: Mapping[str, str]) -> RejectionNote | None:
    """Return what an instance with these attributes rejects; `None` where it is no rejection note."""
    code = attributes.get(_CODE, "")
    if code not in TITLES:
        return None
    named = frozenset(attributes.get(_NAMED, "").split("\\")) - {""}
    return RejectionNote(code, named, int(attributes.get(_ELSEWHERE, "0")))


def not_rejected(instances: Iterable[Instance]) -> list[Instance]:
    """Return the source images among instances that none of the notes among them names."""
    them = list(instances)
    notes = [(one.study_instance_uid, found) for one in them if (found := rejection_in(one.attributes))]
    named = {(study, uid) for study, note in notes for uid in note.named}
    sources = [one for one in them if one.role is InstanceRole.SOURCE]
    return [one for one in sources if (one.study_instance_uid, one.sop_instance_uid) not in named]
