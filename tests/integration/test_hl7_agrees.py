"""SR, FHIR and HL7 v2 say the same: every number, code and side of a finding is read back equal from all three."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset

from dicom_node.core import codes
from dicom_node.core.assessment.review import Review, ReviewedFinding
from dicom_node.core.entities import Finding, Measurement, Presence, ReviewState
from dicom_node.core.outputs.artifact_kinds import OutputSet
from dicom_node.core.uids import tracking_uid
from dicom_node.fhir.builders.bundle import build_bundle
from dicom_node.fhir.hl7.grammar import read, unescape, value
from dicom_node.fhir.hl7.message import build_message
from dicom_node.fhir.options import FhirOptions
from dicom_node.sr_writer import write_objects
from tests.peers.fhir_server import PEER, node_environment
from tests.support.needs import tool
from tests.support.results import analysis_examples as examples
from tests.support.results import reviewed_examples as reviewed
from tests.support.results.hl7_grammar import complaints

CONTEXT = examples.context(output_sets=(OutputSet(secondary_capture=False, segmentation="off"),))
OPTIONS = FhirOptions(patient_system="urn:oid:1.2.3.99")
CODES = (examples.PNEUMONIA, examples.PLEURAL_EFFUSION, codes.LUNG)
MEASURES = ((codes.VOLUME, codes.MILLILITER), (codes.ATTENUATION_COEFFICIENT, codes.HOUNSFIELD_UNIT))
_SCORE, _LATERALITY, _FINDING_SITE, _PRESENCE, _TRACKED = "SCORE", "272741003", "363698007", "121052", "112040"


@dataclass(frozen=True)
class Said:
    """What one of the three says of a finding; numbers by (code, unit)."""

    presence: str
    side: str
    numbers: Mapping[tuple[str, str], float]


numbers = st.floats(-1e6, 1e6).map(lambda one: round(one, 3) + 0.0)
measurements = st.lists(
    st.tuples(st.sampled_from(MEASURES), numbers, st.sampled_from([None, codes.MEAN])), max_size=2,
    unique_by=lambda one: one[0][0].value,
)  # fmt: skip


@st.composite
def findings(draw: Any) -> tuple[Finding, ...]:
    found = []
    for place in range(draw(st.integers(1, 3))):
        presence = draw(st.sampled_from([None, *Presence]))
        scored = presence not in {None, Presence.UNDETERMINED}
        found.append(Finding(
            key=f"finding-{place}", label=f"Finding | {place} & ~", code=draw(st.sampled_from(CODES)), site=codes.LUNG,
            laterality=draw(st.sampled_from([None, codes.LEFT, codes.RIGHT])), presence=presence,
            probability=draw(st.floats(0, 1)) if scored else None, threshold=0.5 if scored else None,
            measurements=tuple(Measurement(what[0], amount, what[1], derivation)
                               for what, amount, derivation in draw(measurements)),
        ))  # fmt: skip
    return tuple(found)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(findings())
def test_what_a_model_found_is_read_back_equal_from_all_three(tmp_path: Path, found: tuple[Finding, ...]) -> None:
    answer = examples.radiograph_analysis(findings=found, saliencies=())
    written = list(write_objects(answer, CONTEXT))
    message = build_message(answer, CONTEXT, written, OPTIONS, "2.25.1")
    bundle = build_bundle(answer, CONTEXT, written, OPTIONS)
    for finding in found:
        meant = _meant(finding)
        uid = tracking_uid(CONTEXT.job_key, finding.key)
        assert _in_message(message, finding) == meant
        assert _in_bundle(bundle, uid) == meant
        assert _in_report(written[-1].dataset, uid) == meant
    assert complaints(message, tmp_path) == []


@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(findings(), st.data())
def test_what_a_reader_verified_is_read_back_equal_from_all_three(
    tmp_path: Path, found: tuple[Finding, ...], data: st.DataObject
) -> None:
    answer = examples.radiograph_analysis(findings=found, saliencies=())
    stands = [data.draw(st.sampled_from(["stands", "changed", "removed"])) for _ in found]
    review = Review(
        of_job_key=CONTEXT.job_key, state=ReviewState.MODIFIED, reviewer=reviewed.READER,
        decided_at=reviewed.DECIDED_AT, findings=tuple(map(_judged, found, stands)),
    )  # fmt: skip
    context = replace(CONTEXT, job_key="b2" * 32, review=review)
    written = list(write_objects(answer, context))
    message = build_message(answer, context, written, OPTIONS, "2.25.1")
    bundle = build_bundle(answer, context, written, OPTIONS)
    for one in review.findings:
        meant = _meant(one.told)
        uid = tracking_uid(CONTEXT.job_key, one.finding.key)
        assert _in_message(message, one.told) == meant
        assert _in_bundle(bundle, uid) == meant
        assert _in_report(written[-1].dataset, uid) == meant
    assert complaints(message, tmp_path) == []


def _judged(finding: Finding, what: str) -> ReviewedFinding:
    if what == "stands":
        return ReviewedFinding(finding=finding, said_by_model=finding)
    changed = replace(finding, presence=Presence.PRESENT, measurements=finding.measurements[:1])
    removed = what == "removed"
    return ReviewedFinding(
        finding=finding if removed else changed, said_by_model=finding, removed=removed, text="Größe & | ~",
    )  # fmt: skip


def _meant(finding: Finding) -> Said:
    said = {(_measure(one), one.unit.value): one.value for one in finding.measurements}
    if finding.probability is not None:
        said[_SCORE, "%"] = round(finding.probability * 100, 1)
    presence = codes.PRESENCE_CODES[finding.presence].value if finding.presence else ""
    return Said(presence, finding.laterality.value if finding.laterality else "", said)


def _measure(one: Measurement) -> str:
    return one.name.value if one.derivation is None else f"{one.derivation.value}-{one.name.value}"


def _in_message(message: str, finding: Finding) -> Said:
    rows = [row for row in read(message).segments("OBX") if value(row, 4) == finding.key]
    said = {str(value(row, 3)).split("^")[0]: str(value(row, 5)).split("^")[0] for row in rows}
    named = [str(value(row, 3)).split("^") for row in rows]
    assert all(unescape(one[4]).startswith(finding.label) for one in named if len(one) > 3)
    units = {
        str(value(row, 3)).split("^")[0]: str(value(row, 6)).split("^")[0] for row in rows if value(row, 2) == "NM"
    }
    numbers = {(code, unit): float(said[code]) for code, unit in units.items() if code != "THRESHOLD"}
    assert units.get("THRESHOLD", "%") == "%"
    return Said(said.get(finding.code.value, "") if finding.presence else "", said.get(_LATERALITY, ""), numbers)


def _in_bundle(bundle: Mapping[str, Any], uid: str) -> Said:
    resources = [one["resource"] for one in bundle["entry"]]
    (one,) = (r for r in resources if r["resourceType"] == "Observation" and uid in r["identifier"][0]["value"])
    parts = one.get("component", [])
    presence = one.get("valueCodeableConcept", {}).get("coding", [{}])[0].get("code", "")
    if not presence and "could not determine" in one.get("dataAbsentReason", {}).get("text", ""):
        presence = codes.UNDETERMINED.value
    sides = [part["valueCodeableConcept"]["coding"][0]["code"] for part in parts if "valueCodeableConcept" in part]
    measured = [part for part in parts if "valueQuantity" in part]
    said = {
        (part["code"]["coding"][-1]["code"], part["valueQuantity"]["code"]): part["valueQuantity"]["value"]
        for part in measured
    }
    said.pop(("THRESHOLD", "%"), None)
    return Said(presence, *(sides or [""]), said)


def _in_report(report: Dataset, uid: str) -> Said:
    (group,) = (one for one in _items(report) if uid in [item.get("UID") for item in one.get("ContentSequence", [])])
    presence, side, said = "", "", {}
    for item in group.ContentSequence:
        concept = _code(item.ConceptNameCodeSequence)
        if concept == _PRESENCE:
            presence = _code(item.ConceptCodeSequence)
        elif concept == _FINDING_SITE:
            side = next((_code(one.ConceptCodeSequence) for one in item.get("ContentSequence", [])), "")
        elif item.ValueType == "NUM":
            number = item.MeasuredValueSequence[0]
            derived = [
                _code(one.ConceptCodeSequence) for one in item.get("ContentSequence", []) if one.ValueType == "CODE"
            ]
            name = "-".join([*derived, concept])
            said[name, _code(number.MeasurementUnitsCodeSequence)] = float(number.NumericValue)
    return Said(presence, side, said)


def _items(node: Dataset) -> Iterator[Dataset]:
    for item in node.get("ContentSequence", []):
        yield item
        yield from _items(item)


def _code(sequence: Any) -> str:
    return str(sequence[0].get("CodeValue") or sequence[0].get("LongCodeValue"))


def test_a_parser_of_another_language_reads_the_same_fields(tmp_path: Path) -> None:
    answers = {
        "findings": examples.radiograph_analysis(),
        "lungs": examples.ct_analysis(),
        "no": examples.not_analysed(),
    }
    sent = {name: build_message(one, CONTEXT, (), OPTIONS, "2.25.1") for name, one in answers.items()}
    for name, message in sent.items():
        (tmp_path / name).write_text(message, encoding="utf-8", newline="")
    command = [tool("node", "nodejs"), str(PEER / "hl7.cjs"), *(str(tmp_path / name) for name in sent)]
    done = subprocess.run(command, env=node_environment(), check=True, capture_output=True, text=True)
    for message, segments in zip(sent.values(), json.loads(done.stdout), strict=True):
        ours = [[_repetitions(field) for field in row.split("|")] for row in message.rstrip("\r").split("\r")]
        assert segments[0][2:] == ours[0][2:]
        assert segments[1:] == [*ours[1:], [[[""]]]]


def _repetitions(field: str) -> list[list[str]]:
    return [one.split("^") for one in field.split("~")]
