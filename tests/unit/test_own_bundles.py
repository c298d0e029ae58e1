"""Nothing goes to an EHR that the node's builders do not make: a model's code ran in the process that wrote it."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from dicom_node.core.entities import Artifact, ArtifactKind, MediaType
from dicom_node.core.errors import DeliveryRefused, DestinationAway
from dicom_node.deliver.outgoing import Outgoing, Sent
from dicom_node.deliver.senders.fhir import FhirSender
from dicom_node.fhir.builders.bundle import build_bundle
from dicom_node.fhir.json_types import Json
from dicom_node.fhir.options import FhirOptions
from tests.support.results import analysis_examples as examples

#: Nobody listens there: whatever passes the look at the bundle finds the destination away.
NOBODY = "http://127.0.0.1:9/fhir"


def sent(bundle: object, folder: Path) -> Sent:
    """Return what becomes of a stored bundle."""
    path = folder / "bundle.json"
    path.write_text(json.dumps(bundle), encoding="utf-8")
    artifact = Artifact(
        uid="2.25.1", kind=ArtifactKind.FHIR_BUNDLE, media_type=MediaType.FHIR, object_key="a", sha256="", size_bytes=1,
        order=1,
    )  # fmt: skip
    (one,) = FhirSender(NOBODY, None, 5.0).send([Outgoing(artifact, path)])
    return one


@pytest.fixture(scope="module")
def bundle() -> Json:
    options = FhirOptions(patient_system="https://hospital.example/patients")
    return build_bundle(examples.radiograph_analysis(), examples.context(), [], options)


def test_a_bundle_of_the_node_is_sent(bundle: Json, tmp_path: Path) -> None:
    assert isinstance(sent(bundle, tmp_path).error, DestinationAway)


def _entry(bundle: Json, kind: str) -> Json:
    return next(one for one in bundle["entry"] if one["resource"]["resourceType"] == kind)


def _delete(bundle: Json) -> None:
    bundle["entry"].append({"request": {"method": "DELETE", "url": "Patient/1"}})


def _delete_beside_a_resource(bundle: Json) -> None:
    _entry(bundle, "DiagnosticReport")["request"] = {"method": "DELETE", "url": "DiagnosticReport?identifier=a|b"}


def _a_patient(bundle: Json) -> None:
    patient = {"resourceType": "Patient", "active": False}
    bundle["entry"].append({"resource": patient, "request": {"method": "PUT", "url": "Patient?identifier=a|1"}})


def _anybodys_report(bundle: Json) -> None:
    _entry(bundle, "DiagnosticReport")["request"]["url"] = "DiagnosticReport?status=final"


def _a_report_by_its_id(bundle: Json) -> None:
    _entry(bundle, "DiagnosticReport")["request"]["url"] = "DiagnosticReport/17"


def _a_final_report(bundle: Json) -> None:
    _entry(bundle, "DiagnosticReport")["resource"]["status"] = "final"


def _all_of_it_final(bundle: Json) -> None:
    for entry in bundle["entry"]:
        if entry["resource"]["resourceType"] in {"DiagnosticReport", "Observation"}:
            entry["resource"]["status"] = "final"


def _another_place(bundle: Json) -> None:
    _entry(bundle, "Observation")["request"]["url"] = "Patient?identifier=a|1"


def _a_condition(bundle: Json) -> None:
    _entry(bundle, "Device")["request"]["ifMatch"] = 'W/"1"'


def _nothing(bundle: Json) -> None:
    bundle["entry"] = []


@pytest.mark.parametrize(
    "change",
    [
        _delete, _delete_beside_a_resource, _a_patient, _anybodys_report, _a_report_by_its_id, _a_final_report,
        _all_of_it_final,
        _another_place, _a_condition, _nothing,
    ],
)  # fmt: skip
def test_what_asks_for_more_is_refused_before_anybody_is_called(
    change: Callable[[Json], None], bundle: Json, tmp_path: Path
) -> None:
    hostile = copy.deepcopy(bundle)
    change(hostile)

    error = sent(hostile, tmp_path).error

    assert isinstance(error, DeliveryRefused)
    assert "more than a report of the node does" in str(error)
