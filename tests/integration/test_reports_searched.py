"""Reports of people are found at a strict R4 server, by accession number and by study, and nobody else's are."""

from __future__ import annotations

import base64
import logging
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from dicom_node.assist.reports.reading import ReadingOptions, ReportSweep
from dicom_node.assist.reports.searching import ReportSearch, SearchOptions
from dicom_node.assist.texts.reader import TextToRead, read
from dicom_node.core.assessment.concordance import ConcordanceVerdict
from dicom_node.core.entities import PatientNumber, ReportMatch, ReportStatus
from dicom_node.core.errors import DeliveryDeferred
from dicom_node.fhir.builders.bundle import build_bundle
from dicom_node.fhir.client.client import FhirClient
from dicom_node.fhir.client.reports import FoundReport, SoughtStudy
from dicom_node.index.database import Database
from dicom_node.index.received.patients import note_whose
from dicom_node.index.reports.compared import ComparedFilter, compared_findings
from dicom_node.index.reports.searches import SearchTimes
from dicom_node.index.tables import report_searches, reports, results
from tests.peers.fhir_server import FhirServer
from tests.support.results.arrivals import migrated_sqlite, opened_database
from tests.support.results.fhir_examples import (
    CONTEXT,
    OPTIONS,
    PATIENT_ID,
    PATIENT_SYSTEM,
    analysis,
    written_objects,
)
from tests.support.results.seeded import CHEST_CT, CHEST_XR, seed

Json = dict[str, Any]
ANNA = PatientNumber(PATIENT_ID, "HOSP")
ACCESSION = {"system": OPTIONS.accession_system, "value": "ACC1"}
RADIOLOGY = [{"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0074", "code": "RAD"}]}]
STUDY = SoughtStudy(
    study_instance_uid="1.2.840.99.1", patient_system=PATIENT_SYSTEM, patient_number=PATIENT_ID,
    accession_system=OPTIONS.accession_system, accession_number="ACC1",
)  # fmt: skip


@pytest.fixture
def patient(fhir_server: FhirServer) -> str:
    return f"Patient/{fhir_server.add_patient(PATIENT_SYSTEM, PATIENT_ID)}"


def written(server: FhirServer, patient: str, **changes: Any) -> str:
    """Store a report on this patient; return its id."""
    report = {
        "resourceType": "DiagnosticReport", "status": "final", "category": RADIOLOGY, "identifier": [ACCESSION],
        "code": {"text": "Chest radiograph"}, "subject": {"reference": patient}, "conclusion": "No pneumonia.",
        "issued": "2026-11-20T12:00:00Z",
    }  # fmt: skip
    return server.add({name: value for name, value in (report | changes).items() if value is not None})


def found(server: FhirServer, study: SoughtStudy = STUDY) -> list[FoundReport]:
    with FhirClient(server.url) as client:
        return client.reports_on(study)


def attached(text: str, kind: str = "text/plain; charset=utf-8") -> Json:
    return {"contentType": kind, "data": base64.b64encode(text.encode()).decode()}


# --- which are found ------------------------------------------------------------------------------------------------


def test_a_report_with_the_accession_number_is_found_with_its_words(fhir_server: FhirServer, patient: str) -> None:
    number = written(
        fhir_server, patient, presentedForm=[attached("Befund: Kein Erguss."), attached("%PDF", "application/pdf")]
    )
    (one,) = found(fhir_server)
    assert (one.number, one.status) == (number, ReportStatus.FINAL)
    assert one.text == "Befund: Kein Erguss.\n\nIMPRESSION:\nNo pneumonia."


def test_a_report_is_found_by_its_order_or_by_its_imaging_study(fhir_server: FhirServer, patient: str) -> None:
    order = fhir_server.add({
        "resourceType": "ServiceRequest", "identifier": [ACCESSION], "status": "active", "intent": "order",
        "subject": {"reference": patient},
    })  # fmt: skip
    uid = {"system": "urn:dicom:uid", "value": f"urn:oid:{STUDY.study_instance_uid}"}
    images = fhir_server.add({
        "resourceType": "ImagingStudy", "identifier": [uid], "status": "available", "subject": {"reference": patient},
    })  # fmt: skip
    by_order = written(fhir_server, patient, identifier=None, basedOn=[{"reference": f"ServiceRequest/{order}"}])
    by_study = written(fhir_server, patient, identifier=None, imagingStudy=[{"reference": f"ImagingStudy/{images}"}])
    assert {one.number for one in found(fhir_server)} == {by_order, by_study}


@pytest.mark.parametrize(
    "changes",
    [
        {"identifier": [{**ACCESSION, "value": "ACC2"}]},
        {"identifier": [{**ACCESSION, "system": "urn:elsewhere"}]},
        {"status": "preliminary"},
        {"category": [{"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0074", "code": "LAB"}]}]},
        {"conclusion": None},
    ],
)
def test_what_is_another_study_not_final_or_says_nothing_is_not_found(
    fhir_server: FhirServer, patient: str, changes: Json
) -> None:
    written(fhir_server, patient, **changes)
    assert found(fhir_server) == []


def test_a_report_on_another_patient_is_not_found(fhir_server: FhirServer, patient: str) -> None:
    written(fhir_server, f"Patient/{fhir_server.add_patient(PATIENT_SYSTEM, 'SOMEBODY-ELSE')}")
    assert found(fhir_server) == []


def test_a_report_of_the_node_itself_is_not_a_persons_even_when_one_has_verified_it(
    fhir_server: FhirServer, patient: str
) -> None:
    own = next(
        one["resource"] for one in build_bundle(analysis(), CONTEXT, written_objects(), OPTIONS)["entry"]
        if one["resource"]["resourceType"] == "DiagnosticReport"
    )  # fmt: skip
    written(fhir_server, patient, meta=own["meta"], conclusion=own["conclusion"], category=own["category"])
    assert found(fhir_server) == []
    written(fhir_server, patient, conclusion=own["conclusion"], category=own["category"])
    assert len(found(fhir_server)) == 1


def test_a_cancelled_report_is_found_as_one_without_words(fhir_server: FhirServer, patient: str) -> None:
    written(fhir_server, patient, status="entered-in-error")
    (one,) = found(fhir_server)
    assert (one.status, one.text) == (ReportStatus.CANCELLED, "")


def test_a_number_of_the_patient_is_in_no_address(fhir_server: FhirServer, patient: str) -> None:
    written(fhir_server, patient)
    found(fhir_server)
    asked = [one["url"] for one in fhir_server.log() if "DiagnosticReport" in one["url"]]
    assert asked
    assert not [one for one in fhir_server.log() if one["method"] == "GET" and PATIENT_ID in one["url"]]


# --- how it is asked ------------------------------------------------------------------------------------------------


@pytest.fixture
def analysed(tmp_path: Path) -> Iterator[Database]:
    """A morning's work, whose results are five hours old."""
    file = tmp_path / "node.sqlite"
    file.write_bytes(migrated_sqlite())
    with opened_database(f"sqlite:///{file}") as database:
        with database.write() as connection:
            seed(connection, tmp_path)
            note_whose(connection, {CHEST_XR: ANNA, CHEST_CT: ANNA})
            connection.execute(update(results).values(created_at=datetime.now(UTC) - timedelta(hours=5)))
        yield database


def searching(database: Database, find: Any, **times: timedelta) -> ReportSearch:
    said = {"after": timedelta(hours=4), "within": timedelta(days=14), **times}
    return ReportSearch(database, find, SearchOptions(
        destination="ehr", times=SearchTimes(**said), patient_authority="HOSP", patient_system=PATIENT_SYSTEM,
        issuers={}, accession_system=OPTIONS.accession_system,
    ))  # fmt: skip


def test_a_report_at_the_ehr_is_held_against_the_model(
    analysed: Database, fhir_server: FhirServer, patient: str
) -> None:
    uid = {"system": "urn:dicom:uid", "value": f"urn:oid:{CHEST_XR}"}
    written(fhir_server, patient, identifier=None, imagingStudy=[{"identifier": uid, "type": "ImagingStudy"}])
    searching(analysed, lambda study: found(fhir_server, study)).run()
    ReportSweep(analysed, lambda text: read(TextToRead(text)), ReadingOptions(patient_authority="HOSP")).run()
    with analysed.read() as connection:
        (kept,) = connection.execute(select(reports.c.source, reports.c.match, reports.c.text))
    assert tuple(kept) == ("ehr", ReportMatch.MATCHED, "")
    (one,) = compared_findings(analysed, ComparedFilter())
    assert (one.study_instance_uid, one.verdict) == (CHEST_XR, ConcordanceVerdict.MODEL_ONLY)


def test_a_study_is_asked_for_when_its_time_has_come_and_ever_less_often(analysed: Database) -> None:
    asked: list[str] = []

    def find(study: SoughtStudy) -> list[FoundReport]:
        asked.append(study.study_instance_uid)
        return []

    searching(analysed, find, after=timedelta(hours=6)).run()
    assert asked == []
    search = searching(analysed, find)
    search.run()
    search.run()
    assert sorted(asked) == [CHEST_CT, CHEST_XR]
    pauses = []
    for _ in range(3):
        with analysed.write() as connection:
            next_at = connection.execute(select(report_searches.c.next_search_at)).scalars().first()
            assert next_at is not None
            pauses.append(next_at - datetime.now(UTC))
            connection.execute(update(report_searches).values(next_search_at=datetime.now(UTC)))
        search.run()
    assert pauses[0] < pauses[1] < pauses[2] <= timedelta(days=2)
    searching(analysed, find, within=timedelta(hours=4, minutes=30)).run()
    assert len(asked) == 8


def test_the_same_state_of_a_report_is_read_once_and_a_correction_anew(analysed: Database) -> None:
    stated = [
        FoundReport(
            number="1", status=ReportStatus.FINAL, stated_at=datetime(2026, 11, 20, tzinfo=UTC), text="Pneumonia."
        )
    ]
    texts: list[str] = []

    def look() -> None:
        with analysed.write() as connection:
            connection.execute(update(report_searches).values(next_search_at=datetime.now(UTC)))
        searching(analysed, lambda study: stated if study.study_instance_uid == CHEST_XR else []).run()
        sweep = ReportSweep(analysed, lambda text: texts.append(text) or read(TextToRead(text)),  # type: ignore[func-returns-value]
                            ReadingOptions(patient_authority="HOSP"))  # fmt: skip
        sweep.run()

    look()
    look()
    assert texts == ["Pneumonia."]
    later = datetime(2026, 11, 21, tzinfo=UTC)
    stated = [FoundReport(number="1", status=ReportStatus.CORRECTED, stated_at=later, text="No pneumonia.")]
    look()
    assert texts == ["Pneumonia.", "No pneumonia."]


def test_an_ehr_that_is_away_is_left_alone_and_no_search_is_lost(
    analysed: Database, caplog: pytest.LogCaptureFixture
) -> None:
    asked: list[str] = []

    def find(study: SoughtStudy) -> list[FoundReport]:
        asked.append(study.study_instance_uid)
        raise DeliveryDeferred("The FHIR server ehr.local cannot be reached.")

    search = searching(analysed, find)
    with caplog.at_level(logging.DEBUG):
        search.run()
        search.run()
    assert len(asked) == 1
    assert PATIENT_ID not in caplog.text
    searching(analysed, lambda study: asked.append(study.study_instance_uid) or []).run()
    assert set(asked) == {CHEST_CT, CHEST_XR}
