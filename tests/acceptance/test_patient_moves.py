"""A patient is merged by ADT: the EHR has one report that holds, under the surviving number."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset

from dicom_node.demo.phantoms import chest_radiograph_phantom
from tests.acceptance.test_identity_before_sending import ROUTE, reports
from tests.acceptance.test_identity_before_sending import send as store
from tests.peers.fhir_server import FhirServer
from tests.peers.node import Node
from tests.peers.orthanc import Orthanc
from tests.peers.process import wait_until
from tests.support.hl7.messages import merge, message, order, pid
from tests.support.hl7.peers import code, send
from tests.support.validators.objects import assert_valid_dicom

pytestmark = pytest.mark.timeout(900)
SYSTEM = "urn:oid:2.25.4711"
OLD, NEW, LATE = "NUMBER-OLD", "NUMBER-NEW", "NUMBER-LATE"


class Hospital:
    """A PACS, an EHR, a registration, and the node between them."""

    def __init__(self, folder: Path, pacs: Orthanc, ehr: FhirServer, start: Callable[..., Node]) -> None:
        self.folder, self.pacs, self.ehr = folder, pacs, ehr
        there = {"ae_title": pacs.aet, "host": "127.0.0.1", "port": pacs.dicom_port}
        self.node = start(
            hl7={"port": 0, "patient_authority": "HOSP"}, fhir={"patient_system": SYSTEM}, route=[ROUTE],
            destination=[{"name": "pacs", "kind": "dicom", **there}, {"name": "ehr", "kind": "fhir", "url": ehr.url}],
        )  # fmt: skip

    def tell(self, text: str) -> str:
        """Send a message as the registration does; return the code of its answer."""
        return code(send(self.node.ports["hl7"], text))

    def store(self, seed: str, number: str) -> Dataset:
        """Send a radiograph of the patient with this number."""
        image = chest_radiograph_phantom(seed, rows=128)
        image.PatientID, image.AccessionNumber, image.PatientName = number, f"ACC-{seed}", "MUSTER^ERIKA"
        image.PatientBirthDate, image.PatientSex = "19600102", "F"
        path = self.folder / f"{seed}.dcm"
        image.save_as(path, enforce_file_format=True)
        store(self.node, path)
        return image

    def study(self, image: Dataset) -> dict[str, Any]:
        with self.node.api() as api:
            return dict(api.get(f"/api/studies/{image.StudyInstanceUID}").raise_for_status().json())

    def wait(self, image: Dataset, revision: int, **states: str) -> None:
        """Wait until the study has this revision's result, and its deliveries to destinations are in these states."""
        wait_until(partial(self._is_there, image, revision, states), 240, f"{states} of {image.PatientID}", 0.3)

    def _is_there(self, image: Dataset, revision: int, states: dict[str, str]) -> bool:
        try:
            found = self.study(image)
        except Exception:  # noqa: BLE001 - not yet received
            return False
        current = {one["job_key"] for one in found["results"] if one["standing"] == "CURRENT"}
        mine = [one for one in found["deliveries"] if one.get("job_key") in current or not one.get("job_key")]
        told = {name: {one["state"] for one in mine if one["destination"] == name} for name in states}
        settled = found["study"]["revision"] == revision and found["study"]["state"] == "REPORTED"
        return settled and all(states[name] in told[name] and "PENDING" not in told[name] for name in states)

    def told(self, image: Dataset) -> dict[str, Counter[str]]:
        """How many reports of each status the EHR has of a study, by the Patient that they are of."""
        found: dict[str, Counter[str]] = {}
        for report in self.reports(image):
            found.setdefault(report["subject"]["reference"], Counter())[report["status"]] += 1
        return found

    def reports(self, image: Dataset) -> list[dict[str, Any]]:
        accession = str(image.AccessionNumber)
        return [one for one in self.ehr.all("DiagnosticReport") if accession in json.dumps(one.get("basedOn", []))]


@pytest.fixture
def hospital(tmp_path: Path, fhir_server: FhirServer, orthanc: Orthanc, node: Callable[..., Node]) -> Hospital:
    return Hospital(tmp_path, orthanc, fhir_server, node)


def test_results_follow_a_patient_who_is_merged(hospital: Hospital) -> None:
    old, new = (f"Patient/{hospital.ehr.add_patient(SYSTEM, one)}" for one in (OLD, NEW))
    assert hospital.tell(order("ACC-first", f"{OLD}^^^HOSP", placer="PL-1^HIS")) == "AA"
    first = hospital.store("first", OLD)
    hospital.wait(first, 1, pacs="SENT", ehr="SENT")
    assert hospital.told(first) == {old: Counter({"preliminary": 1})}
    (report,) = hospital.reports(first)
    assert [one["identifier"]["value"] for one in report["basedOn"]] == ["ACC-first", "PL-1"]
    assert "Cough for six weeks" in report["text"]["div"]

    merged = merge(f"{OLD}^^^HOSP", f"{NEW}^^^HOSP", name="Muster^Erika", born="19600102", sex="F")
    assert [hospital.tell(merged) for _ in range(2)] == ["AA", "AA"]
    hospital.wait(first, 2, pacs="SENT", ehr="SENT")
    living = [(of, counts["preliminary"]) for of, counts in hospital.told(first).items() if counts["preliminary"]]
    assert living == [(new, 1)]
    assert [one["standing"] for one in hospital.study(first)["results"]] == ["CURRENT", "WITHDRAWN"]
    whose = Counter((str(one.PatientID), "WITHDRAWN" in one.SeriesDescription) for one in reports(hospital.pacs))
    assert set(whose) == {(OLD, False), (OLD, True), (NEW, False)}
    assert whose[OLD, True] == 1

    late = hospital.store("late", OLD)
    hospital.wait(late, 1, pacs="SENT", ehr="SENT")
    assert hospital.told(late) == {new: Counter({"preliminary": 1})}
    made = [one for one in reports(hospital.pacs) if one.StudyInstanceUID == late.StudyInstanceUID]
    assert {str(one.PatientID) for one in made} == {NEW}
    for one in made:
        (kept,) = one.OriginalAttributesSequence
        assert (kept.ModifiedAttributesSequence[0].PatientID, kept.ReasonForTheAttributeModification) == (OLD, "COERCE")
        path = hospital.folder / f"{one.SOPInstanceUID}.dcm"
        one.save_as(path, enforce_file_format=True)
        assert_valid_dicom(path)

    assert hospital.tell(merge(NEW, OLD)) == "AR"
    wanted = hospital.store("wanted", LATE)
    hospital.wait(wanted, 1, pacs="SENT", ehr="PARKED")
    someone = f"Patient/{hospital.ehr.add_patient(SYSTEM, LATE)}"
    assert hospital.tell(message("ADT^A31^ADT_A05", pid(LATE, name="Muster^Erika"))) == "AA"
    hospital.wait(wanted, hospital.study(wanted)["study"]["revision"], pacs="SENT", ehr="SENT")
    living = [(of, counts["preliminary"]) for of, counts in hospital.told(wanted).items() if counts["preliminary"]]
    assert living == [(someone, 1)]
    log = hospital.node.log.read_text(encoding="utf-8")
    assert not [word for word in (OLD, NEW, LATE, "Muster", "MUSTER", "ACC-first", "Cough") if word in log]
