"""The columns of exported lists: what each holds, and where it comes from. The reference is generated from these.

A result becomes a row for each number; a finding without numbers, and a result without findings, becomes one row.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dicom_node.core.csv_lines import Cell, Column
from dicom_node.index.views.exported import OriginatedResult
from dicom_node.index.views.types import StudyLine

_Told = Mapping[str, Any]
_NOTHING: _Told = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultRow:
    """One row: a result, one of its findings, and one number of that; `measured` is a measurement or one withheld."""

    origin: OriginatedResult
    finding: _Told = field(default_factory=dict)
    measured: _Told = field(default_factory=dict)


def rows_of(origin: OriginatedResult) -> Iterator[ResultRow]:
    """Yield the rows of a result; what a summary of another form holds in place of findings is left out."""
    findings = [one for one in _list(origin.result.summary, "findings") if isinstance(one, Mapping)]
    for finding in findings or [_NOTHING]:
        numbers = [*_list(finding, "measurements"), *_list(finding, "withheld")]
        for one in [each for each in numbers if isinstance(each, Mapping)] or [_NOTHING]:
            yield ResultRow(origin=origin, finding=finding, measured=one)


def _list(told: _Told, name: str) -> Sequence[Any]:
    found = told.get(name)
    return found if isinstance(found, list | tuple) else ()


def _said(name: str, meaning: str) -> Column[ResultRow]:
    return Column(name, meaning, lambda row: _cell(getattr(row.origin.result, name)))


def _by_image(name: str, attribute: str, meaning: str) -> Column[ResultRow]:
    return Column(name, f"{meaning} of the first analysed image.", lambda row: row.origin.attributes.get(attribute, ""))


def _of_model(name: str, meaning: str) -> Column[ResultRow]:
    def cell(row: ResultRow) -> Cell:
        return _text(_mapping(row.origin.result.summary, "model").get(name))

    return Column(f"model_{name}", meaning, cell)


def _of_finding(name: str, part: str, meaning: str) -> Column[ResultRow]:
    return Column(name, meaning, lambda row: _cell(row.finding.get(part)))


def _coded(name: str, about: str, part: str, meaning: str) -> Column[ResultRow]:
    return Column(name, meaning, lambda row: _text(_mapping(row.finding, about).get(part)))


def _measured(name: str, about: str, part: str, meaning: str) -> Column[ResultRow]:
    return Column(name, meaning, lambda row: _text(_mapping(row.measured, about).get(part)))


def _mapping(told: _Told, name: str) -> _Told:
    found = told.get(name)
    return found if isinstance(found, Mapping) else _NOTHING


def _cell(told: object) -> Any:
    return told if told is None or isinstance(told, bool | int | float) or hasattr(told, "tzinfo") else str(told)


def _text(told: object) -> str:
    return "" if told is None else str(told)


def _label(row: ResultRow) -> str:
    """Return what people read of a number: how it was derived, and of what."""
    said = (_mapping(row.measured, about).get("meaning") for about in ("derivation", "name"))
    return " ".join(_text(one) for one in said if one)


RESULT_COLUMNS: tuple[Column[ResultRow], ...] = (
    _said("job_key", "Key of the result."),
    _said("study_instance_uid", "Study Instance UID (0020,000D)."),
    _said("revision", "Revision of the study that was analysed, from 1."),
    _said("route", "Route that asked for the analysis."),
    _said("model", "Model that answered."),
    _of_model("version", "Version of the model."),
    _of_model("digest", "sha256 over weights and configuration of the model."),
    _said("created_at", "When the result was kept, UTC."),
    _said("state", "How the analysis ended: DONE, PARTIAL, NOT_ANALYSABLE, FAILED."),
    _said("reason", "Why nothing or not all was analysed: a code of the table of reasons."),
    _said("standing", "Whether the result holds: CURRENT, SUPERSEDED, WITHDRAWN, REJECTED."),
    _said("standing_at", "Since when it does not hold, UTC."),
    _said("shadow_of", "Route that its route shadows; nothing of such a result is delivered."),
    _said("review_state", "What a named person has said of it: UNREVIEWED, ACCEPTED, MODIFIED, REJECTED."),
    _said("reviewed_at", "When, UTC."),
    _said("review_of", "Key of the result that was reviewed, in a result that tells a review."),
    _by_image("modality", "modality", "Modality (0008,0060)"),
    _by_image("study_date", "study_date", "Study Date (0008,0020)"),
    _by_image("manufacturer", "manufacturer", "Manufacturer (0008,0070)"),
    _by_image("scanner", "manufacturer_model_name", "Manufacturer's Model Name (0008,1090)"),
    _by_image("station_name", "station_name", "Station Name (0008,1010)"),
    _by_image("institution_name", "institution_name", "Institution Name (0008,0080)"),
    _of_finding("finding_key", "key", "Key of the finding, the same in every run of the model."),
    _of_finding("finding", "label", "What people call the finding."),
    _coded("finding_code", "code", "value", "Code of the finding."),
    _coded("finding_scheme", "code", "scheme", "Coding scheme of that code, as SCT."),
    _coded("site", "site", "meaning", "Where in the body."),
    _coded("site_code", "site", "value", "Code of the site."),
    _coded("site_scheme", "site", "scheme", "Coding scheme of that code."),
    _coded("laterality", "laterality", "meaning", "Side of the body."),
    _of_finding("presence", "presence", "PRESENT, ABSENT, UNDETERMINED; empty where it only measures."),
    _of_finding("probability", "probability", "Score of the model, 0 to 1."),
    _of_finding("threshold", "threshold", "What the score is compared to, 0 to 1."),
    Column("measurement", "What people call the number.", _label),
    _measured("measurement_code", "name", "value", "Code of what is measured."),
    _measured("measurement_scheme", "name", "scheme", "Coding scheme of that code."),
    _measured("derivation_code", "derivation", "value", "Code of how one number came from many; empty: it did not."),
    Column("value", "The number; empty where there is none.", lambda row: _cell(row.measured.get("value"))),
    _measured("unit", "unit", "meaning", "Unit, as people call it."),
    _measured("unit_ucum", "unit", "value", "Unit as UCUM code."),
    Column("withheld", "Why the number is not reported: a code.", lambda row: _text(row.measured.get("reason"))),
)  # fmt: skip


# --- studies -------------------------------------------------------------------------------------------------------


def _of_study(name: str, meaning: str) -> Column[StudyLine]:
    return Column(name, meaning, lambda study: _cell(getattr(study, name)))


def _deliveries(state: str) -> Column[StudyLine]:
    return Column(
        f"deliveries_{state}", f"How many deliveries of its results are {state.upper()}.",
        lambda study: getattr(study.deliveries, state),
    )  # fmt: skip


STUDY_COLUMNS: tuple[Column[StudyLine], ...] = (
    _of_study("study_instance_uid", "Study Instance UID (0020,000D)."),
    _of_study("revision", "Revision of the study, from 1."),
    _of_study("state", "RECEIVING, COMPLETE, ANALYSING, REPORTED, NOT_ANALYSED, FAILED."),
    _of_study("reason", "Why it is in that state, where there is more to say."),
    _of_study("study_date", "Study Date (0008,0020)."),
    _of_study("description", "Study Description (0008,1030)."),
    Column("modalities", "Modalities of its series, with a blank between.", lambda study: " ".join(study.modalities)),
    _of_study("series", "Number of series."),
    _of_study("instances", "Number of images in use."),
    _of_study("first_received_at", "When the first image of this revision came, UTC."),
    _of_study("last_received_at", "When the latest came, UTC."),
    _of_study("updated_at", "When anything of it changed last, UTC."),
    Column(
        "routes", "How each route ended, ``chest-ct=DONE``, with a blank between.",
        lambda study: " ".join(f"{one.route}={one.state}" for one in study.routes),
    ),
    *map(_deliveries, ("pending", "sent", "committed", "parked", "discarded")),
)  # fmt: skip
