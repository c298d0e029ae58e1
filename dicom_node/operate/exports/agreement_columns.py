"""The columns of agreement with readers: a row for each group, and a row for each case as a registry takes it.

Assess-AI of the American College of Radiology takes four kinds of data: metadata of the study, the AI result,
demographics, and the radiologist's report (https://acrdsi.org/DSI-Services/Assess-AI/What-Data-is-Used). The names of
its fields stand in its data dictionary, which only participants get: the columns are ordered by those four and named by
what they hold. Of the report the node knows what the reviewer decided, and no text, which may name the patient.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dicom_node.analysis.stored_findings import model_named
from dicom_node.core.assessment.proportions import Proportion
from dicom_node.core.assessment.reader_agreement import AgreementLine, Grouping, verdict_on
from dicom_node.core.assessment.review import ReviewedFinding
from dicom_node.core.csv_lines import Cell, Column
from dicom_node.core.entities import Finding
from dicom_node.index.views.agreement import ReaderCase

_PLACES = 4


# --- groups --------------------------------------------------------------------------------------------------------

_PROPORTIONS = {
    "reviewed": "results that were reviewed, of all that could be",
    "accepted": "reviewed results that were accepted as they were",
    "modified": "reviewed results that were corrected",
    "rejected": "reviewed results that were rejected",
    "missed": "reviewed results in which something had been missed",
    "overcalled": "reviewed results that told of something that is not there",
    "confirmed": "findings called present that the reader confirmed",
    "found": "findings that are there, by the reader, and were called present",
}


def agreement_columns(by: Sequence[Grouping]) -> Iterator[Column[AgreementLine]]:
    """Yield the columns of a table of groups."""
    yield from map(_group, by)
    for name, meaning in _PROPORTIONS.items():
        yield from _proportion(name, meaning)
    yield Column("found_not_told", "Why how much was found is not told.", lambda line: line.found_not_told)


def _group(by: Grouping) -> Column[AgreementLine]:
    return Column(by.value, f"The {by.value} of the group.", lambda line: line.group[by])


def _proportion(name: str, meaning: str) -> Iterator[Column[AgreementLine]]:
    def of(line: AgreementLine) -> Proportion | None:
        found: Proportion | None = getattr(line, name)
        return found

    def number(part: str) -> Column[AgreementLine]:
        return Column(
            f"{name}_{part}", f"{_PART[part]}: {meaning}.",
            lambda line: None if (one := of(line)) is None else _rounded(getattr(one, part)),
        )  # fmt: skip

    yield from map(number, _PART)


_PART = {
    "count": "How many", "total": "Of how many", "share": "Share, 0 to 1", "low": "Lower bound of the 95 % interval",
    "high": "Upper bound of the 95 % interval",
}  # fmt: skip


def _rounded(value: float | None) -> Cell:
    return round(value, _PLACES) if isinstance(value, float) else value


# --- cases ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CaseRow:
    """One reviewed result and one of its findings; `finding` is `None` where the reviewer said nothing of any."""

    case: ReaderCase
    finding: ReviewedFinding | None

    @property
    def said(self) -> Finding | None:
        """What the model had said."""
        return self.finding.said_by_model if self.finding else None

    @property
    def stands(self) -> Finding | None:
        """What holds by the reviewer; nothing of a finding that should not have been reported."""
        return self.finding.finding if self.finding and not self.finding.removed else None

    @property
    def named(self) -> Finding | None:
        """By which it is called."""
        return self.finding.finding if self.finding else None


def case_rows(case: ReaderCase) -> Iterator[CaseRow]:
    """Yield the rows of a reviewed result."""
    findings = case.review.findings if case.review else ()
    yield from (CaseRow(case, one) for one in findings or (None,))


def _of_result(name: str, meaning: str) -> Column[CaseRow]:
    return Column(name, meaning, lambda row: getattr(row.case.origin.result, name))


def _of_images(name: str, attribute: str, meaning: str) -> Column[CaseRow]:
    return Column(name, meaning, lambda row: row.case.origin.attributes.get(attribute, ""))


def _values(finding: Finding | None) -> str:
    """Return measured values with their UCUM units, ``Volume=12.5 ml``, with a semicolon between."""
    measured = finding.measurements if finding else ()
    return "; ".join(f"{one.label}={one.value:g} {one.unit.value}" for one in measured if math.isfinite(one.value))


def _presence(finding: Finding | None) -> str:
    return str(finding.presence or "") if finding else ""


def _decision(row: CaseRow) -> Cell:
    return str(row.case.review.state) if row.case.review else None


def _decided_at(row: CaseRow) -> Cell:
    return row.case.review.decided_at if row.case.review else None


CASE_COLUMNS: tuple[Column[CaseRow], ...] = (
    # metadata of the study
    _of_result("study_instance_uid", "Study Instance UID (0020,000D)."),
    _of_images("accession_number", "accession_number", "Accession Number (0008,0050)."),
    _of_images("study_date", "study_date", "Study Date (0008,0020)."),
    _of_images("modality", "modality", "Modality (0008,0060)."),
    _of_images("body_part_examined", "body_part_examined", "Body Part Examined (0018,0015)."),
    _of_images("manufacturer", "manufacturer", "Manufacturer (0008,0070)."),
    _of_images("scanner", "manufacturer_model_name", "Manufacturer's Model Name (0008,1090)."),
    _of_images("station_name", "station_name", "Station Name (0008,1010)."),
    _of_images("institution_name", "institution_name", "Institution Name (0008,0080)."),
    _of_images("slice_thickness", "slice_thickness", "Slice Thickness (0018,0050), mm."),
    _of_images("convolution_kernel", "convolution_kernel", "Convolution Kernel (0018,1210)."),
    _of_images("kvp", "kvp", "KVP (0018,0060)."),
    # AI result
    _of_result("job_key", "Key of the result."),
    _of_result("model", "Model that answered."),
    Column("model_version", "Version of the model.", lambda row: model_named(row.case.origin.result.summary).version),
    Column(
        "model_manufacturer", "Manufacturer of the model.",
        lambda row: model_named(row.case.origin.result.summary).manufacturer,
    ),
    _of_result("created_at", "When the model's answer was kept, UTC."),
    Column("finding_key", "Key of the finding.", lambda row: row.named.key if row.named else ""),
    Column(
        "finding", "What the model calls the finding; empty for one that the reviewer added.",
        lambda row: row.said.label if row.said else "",
    ),
    Column("finding_code", "Code of the finding.", lambda row: row.named.code.value if row.named else ""),
    Column("finding_scheme", "Its coding scheme.", lambda row: row.named.code.scheme if row.named else ""),
    Column("ai_presence", "What the model said of its presence; empty: nothing.", lambda row: _presence(row.said)),
    Column("ai_probability", "Score of the model, 0 to 1.", lambda row: row.said.probability if row.said else None),
    Column("ai_threshold", "What it was compared to.", lambda row: row.said.threshold if row.said else None),
    Column("ai_values", "What the model measured, with UCUM units.", lambda row: _values(row.said)),
    # demographics
    _of_images("patient_age", "patient_age", "Patient's Age (0010,1010)."),
    _of_images("patient_sex", "patient_sex", "Patient's Sex (0010,0040)."),
    # what the reviewer decided, in the place of the report
    Column("decision", "ACCEPTED, MODIFIED, REJECTED.", _decision),
    Column(
        "reasons", "Codes of the reasons, with a blank between.",
        lambda row: " ".join(row.case.review.reasons) if row.case.review else "",
    ),
    Column("decided_at", "When, UTC.", _decided_at),
    Column(
        "second_reader", "Whether a second person confirmed it.",
        lambda row: row.case.review is not None and row.case.review.second_reader is not None,
    ),
    Column("reader_presence", "What holds by the reviewer; empty: nothing said.", lambda row: _presence(row.stands)),
    Column("reader_values", "What holds of the numbers, with UCUM units.", lambda row: _values(row.stands)),
    Column(
        "verdict", "confirmed, overcalled, missed, ruled_out; empty: it cannot be told.",
        lambda row: verdict_on(row.finding) if row.finding else None,
    ),
)  # fmt: skip
