"""What a report was read to say of the findings that models look for, without a word of its text. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache

from dicom_node.core.codes import table, term_code
from dicom_node.core.entities import Code, Finding, Presence

#: What reports are read for: keys of the table of findings.
READ_FINDINGS = (
    "pneumonia", "consolidation", "infiltrate", "abnormal-opacity", "pleural-effusion", "pneumothorax",
    "pulmonary-edema", "atelectasis", "cardiomegaly", "emphysema", "lung-fibrosis", "lung-nodule", "lung-mass",
    "rib-fracture", "hiatal-hernia", "pleural-thickening", "intracranial-hemorrhage", "pulmonary-embolism",
)  # fmt: skip
#: Whether the images are abnormal at all, as far as these findings tell.
ABNORMAL = "abnormal-image"
#: What models call otherwise than reports are read for.
_SAME = {"nodule": "lung-nodule", "mass": "lung-mass", "unlike-normal": ABNORMAL}
#: From this share of the lung below -950 HU on COPDGene counts emphysema as there (Lowe, Chronic Obstr Pulm Dis
#: 2019;6:384). A model that measures alone says nothing else of it.
EMPHYSEMA_FROM_PERCENT = 5.0
_EMPHYSEMA = "emphysema"
_BOTH_LUNGS = "both-lungs"


class ReportedPresence(StrEnum):
    """What a report says of one finding."""

    PRESENT = "PRESENT"
    ABSENT = "ABSENT"
    #: It is thought possible, or asked about, and nobody has said more.
    UNCERTAIN = "UNCERTAIN"
    #: It is not named, or only as something of the past.
    SILENT = "SILENT"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportReading:
    """What the text says by the name of the finding (`READ_FINDINGS`, `ABNORMAL`); what it is silent on is left out.

    `language` is the one it was read in, `rules` which state of the word lists it was read by.
    """

    language: str
    rules: str
    said: Mapping[str, ReportedPresence]

    def of(self, finding: str) -> ReportedPresence:
        """Return what is said of one finding."""
        return self.said.get(finding, ReportedPresence.SILENT)


def said_by_model(findings: Iterable[Finding]) -> Mapping[str, tuple[str, Presence]]:
    """Return what a model says of everything that reports are read for: key, label for people, presence.

    Of a finding that it has told more than once, such as one for each lung, the one that is there counts.
    """
    said: dict[str, tuple[str, Presence]] = {}
    for key, label, presence in _said(findings):
        if key not in said or presence is Presence.PRESENT:
            said[key] = (label, presence)
    return said


def _said(findings: Iterable[Finding]) -> Iterator[tuple[str, str, Presence]]:
    for finding in findings:
        key = _keys_by_code().get((finding.code.value, finding.code.scheme))
        if key is not None and finding.presence is not None:
            yield key, finding.label, finding.presence
        elif finding.key == _BOTH_LUNGS:
            yield from _measured(finding)


def _measured(finding: Finding) -> Iterator[tuple[str, str, Presence]]:
    share = term_code("measurements", "low-attenuation-area-950")
    for one in finding.measurements:
        if one.name == share:
            is_there = one.value >= EMPHYSEMA_FROM_PERCENT
            label = f"Emphysema (LAA-950 from {EMPHYSEMA_FROM_PERCENT:g} %)"
            yield _EMPHYSEMA, label, Presence.PRESENT if is_there else Presence.ABSENT


@cache
def _keys_by_code() -> Mapping[tuple[str, str], str]:
    known: dict[tuple[str, str], str] = {}
    for key, term in table("findings").items():
        read_as = _SAME.get(key, key)
        if read_as in (*READ_FINDINGS, ABNORMAL):
            codes: tuple[Code, ...] = (term.code, *term.equivalents)
            known |= dict.fromkeys(((code.value, code.scheme) for code in codes), read_as)
    return known
