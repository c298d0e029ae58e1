"""Results that are taken back, at a real PACS and a real EHR: before anything new goes out, once, whatever happens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydicom import dcmread
from pydicom.dataset import Dataset

from dicom_node.index import actions
from dicom_node.index.tables import results
from tests.integration.step_by_step_node import Site, site
from tests.peers.fhir_server import FhirServer
from tests.peers.orthanc import Orthanc
from tests.support.results.rows import SOMEBODY
from tests.support.studies.data_factories import small_chest_ct
from tests.support.validators.objects import assert_readable_sr, assert_valid_dicom

WHY = "Analysed under the wrong protocol."
KOS = "1.2.840.10008.5.1.4.1.1.88.59"


def pacs(orthanc: Orthanc, **changes: Any) -> dict[str, Any]:
    there = {"ae_title": orthanc.aet, "host": orthanc.host, "port": orthanc.dicom_port}
    return {"name": "pacs", "kind": "dicom"} | there | changes


def ehr(server: FhirServer) -> dict[str, Any]:
    return {"name": "ehr", "kind": "fhir", "url": server.url, "patient": "logical"}


def files(path: Path, **changes: Any) -> dict[str, Any]:
    return {"name": "files", "kind": "folder", "path": str(path)} | changes


def withdraw(one: Site, study: str, why: str = WHY, route: str | None = None) -> list[str]:
    with one.database.write() as connection:
        return actions.withdraw_study(connection, study, (why, route), SOMEBODY, datetime.now(UTC))


def rerun(one: Site, study: str) -> None:
    with one.database.write() as connection:
        actions.rerun_study(connection, study, None, SOMEBODY, datetime.now(UTC))


def standings(one: Site) -> list[str]:
    return [row.standing for row in sorted(one.rows(results), key=lambda row: row.sequence)]


def study_of(images: Sequence[Dataset]) -> str:
    return str(images[0].StudyInstanceUID)


def texts(report: Dataset) -> str:
    return " ".join(str(item.get("TextValue", "")) for item in report.ContentSequence)


def written(folder: Path) -> list[Dataset]:
    return [dcmread(path) for path in sorted(folder.glob("*.dcm"))]


# --- at the PACS ---


def test_a_withdrawn_result_is_followed_at_the_pacs_by_a_report_that_says_so(orthanc: Orthanc, tmp_path: Path) -> None:
    images = small_chest_ct()[0]
    with site(tmp_path / "node", [pacs(orthanc)]) as one:
        one.run(images)
        (first,) = orthanc.datasets("SR")
        assert len(withdraw(one, study_of(images))) == 1
        one.deliver()
        assert standings(one) == ["WITHDRAWN"]

    (report,) = (sr for sr in orthanc.datasets("SR") if sr.SOPInstanceUID != first.SOPInstanceUID)
    (named,) = report.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence
    assert named.ReferencedSOPInstanceUID == first.SOPInstanceUID
    assert "WITHDRAWN" in texts(report)
    assert WHY in texts(report)
    assert (report.PatientID, report.PatientName) == (first.PatientID, first.PatientName)
    assert (report.SeriesInstanceUID, report.InstanceNumber) == (first.SeriesInstanceUID, first.InstanceNumber + 1)
    assert report.SOPClassUID == first.SOPClassUID
    assert not orthanc.datasets("KO")


def test_what_takes_back_is_valid_and_names_every_object(tmp_path: Path) -> None:
    there = tmp_path / "files"
    with site(tmp_path / "node", [files(there, outputs={"rejection_note": True, "key_objects": True})]) as one:
        one.run(images := small_chest_ct()[0])
        before = {one.SOPInstanceUID for one in written(there)}
        withdraw(one, study_of(images))
        one.deliver()

    new = {path: dcmread(path) for path in there.glob("*.dcm")}
    new = {path: ds for path, ds in new.items() if ds.SOPInstanceUID not in before}
    assert sorted(ds.Modality for ds in new.values()) == ["KO", "SR"]
    (note,) = (ds for ds in new.values() if ds.Modality == "KO")
    assert note.ConceptNameCodeSequence[0].CodeValue == "113037"
    series = note.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
    assert {item.ReferencedSOPInstanceUID for one in series for item in one.ReferencedSOPSequence} == before
    for path in new:
        assert_valid_dicom(path)
        assert_readable_sr(path)


# --- at the EHR ---


def test_a_withdrawn_report_is_entered_in_error_at_the_ehr(fhir_server: FhirServer, tmp_path: Path) -> None:
    images = small_chest_ct()[0]
    with site(tmp_path / "node", [ehr(fhir_server)]) as one:
        one.run(images)
        (before,) = fhir_server.all("DiagnosticReport")
        withdraw(one, study_of(images))
        one.deliver()
        told = one.told("sent")

    (report,) = fhir_server.all("DiagnosticReport")
    assert report["status"] == "entered-in-error"
    assert WHY in report["conclusion"]
    assert "presentedForm" not in report
    assert _values(report) == _values(before)
    assert {one["status"] for one in fhir_server.all("Observation")} == {"entered-in-error"}
    assert [one["status"] for one in fhir_server.all("ImagingStudy")] == ["entered-in-error"]
    assert told[-1] == "Withdrawal (FHIR) sent to ehr."


def _values(resource: Mapping[str, Any]) -> list[str]:
    return [one["value"] for one in resource["identifier"]]
