"""Results that are taken back, at a real PACS and a real EHR: before anything new goes out, once, whatever happens."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from dicom_node.core.errors import IllegalTransition, NotFound
from dicom_node.deliver.withdrawals import tell_out_of_reach
from dicom_node.index.decided import actions
from dicom_node.index.outbox.deliveries import Claimant, claim_batch, mark_deferred, mark_sent
from dicom_node.index.tables import artifacts, deliveries, events, results
from tests.integration.step_by_step_node import Site, site
from tests.peers.fhir_server import FhirServer
from tests.peers.orthanc import Orthanc
from tests.support.results.folders import objects_in
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


def test_what_is_analysed_after_a_withdrawal_is_a_new_report_beside_the_one_in_error(
    fhir_server: FhirServer, tmp_path: Path
) -> None:
    images = small_chest_ct()[0]
    with site(tmp_path / "node", [ehr(fhir_server)]) as one:
        one.run(images)
        withdraw(one, study_of(images))
        rerun(one, study_of(images))
        one.settle()
        assert standings(one) == ["WITHDRAWN", "CURRENT"]
        assert [row.state for row in one.rows(deliveries)] == ["SENT", "SENT", "SENT"]

    reports = {report["status"]: report for report in fhir_server.all("DiagnosticReport")}
    assert sorted(reports) == ["entered-in-error", "preliminary"]
    assert reports["entered-in-error"]["identifier"][0] == {**reports["preliminary"]["identifier"][0], "use": "old"}
    studies = {study["status"]: f"ImagingStudy/{study['id']}" for study in fhir_server.all("ImagingStudy")}
    assert sorted(studies) == ["available", "entered-in-error"]
    assert reports["preliminary"]["imagingStudy"][0]["reference"] == studies["available"]


def test_the_report_of_another_patient_is_a_resource_of_its_own(fhir_server: FhirServer, tmp_path: Path) -> None:
    """A correction moved the study: nothing is left with the wrong patient but what says that it was an error."""
    wrong, right = small_chest_ct()[0], small_chest_ct()[0]
    for image in right:
        image.PatientID = "OTHER-7"
    with site(tmp_path / "first", [ehr(fhir_server)]) as one:
        one.run(wrong)
        withdraw(one, study_of(wrong))
        one.deliver()
    with site(tmp_path / "second", [ehr(fhir_server)]) as one:
        one.run(right)

    by_number: dict[str, set[str]] = {}
    for kind in ("DiagnosticReport", "ImagingStudy", "Observation"):
        for resource in fhir_server.all(kind):
            number = resource["subject"]["identifier"]["value"]
            by_number.setdefault(number, set()).add(resource["status"])
    assert by_number == {
        str(wrong[0].PatientID): {"entered-in-error"},
        "OTHER-7": {"preliminary", "available"},
    }


def test_a_report_that_a_physician_made_final_is_left_and_its_withdrawal_parked(
    fhir_server: FhirServer, tmp_path: Path
) -> None:
    images = small_chest_ct()[0]
    with site(tmp_path / "node", [ehr(fhir_server)]) as one:
        one.run(images)
        (report,) = fhir_server.all("DiagnosticReport")
        fhir_server.replace({**report, "status": "final"})
        withdraw(one, study_of(images))
        one.deliver()
        told = one.told("parked")

    assert fhir_server.all("DiagnosticReport")[0]["status"] == "final"
    assert {one["status"] for one in fhir_server.all("Observation")} == {"preliminary"}
    assert "physician" in told[-1]


def test_the_image_study_of_a_pacs_is_not_the_nodes_to_take_back(fhir_server: FhirServer, tmp_path: Path) -> None:
    images = small_chest_ct()[0]
    number = {"system": "urn:dicom:uid", "value": f"urn:oid:{study_of(images)}"}
    subject = {"display": "the patient"}
    fhir_server.add({"resourceType": "ImagingStudy", "identifier": [number], "status": "available", "subject": subject})
    with site(tmp_path / "node", [ehr(fhir_server)]) as one:
        one.run(images)
        withdraw(one, study_of(images))
        one.deliver()

    assert [study["status"] for study in fhir_server.all("ImagingStudy")] == ["available"]
    assert [report["status"] for report in fhir_server.all("DiagnosticReport")] == ["entered-in-error"]


# --- where nobody is told ---


def test_a_former_destination_that_shows_what_is_withdrawn_is_named_once_until_it_is_one_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    images, former = small_chest_ct()[0], files(tmp_path / "files")
    with site(tmp_path / "node", [former]) as one:
        one.run(images)
        one.configure([files(tmp_path / "new", name="renamed")])
        tell_out_of_reach(one.database, ["renamed"])
        assert one.told("out-of-reach") == []
        withdraw(one, study_of(images))
        for _ in range(2):
            one.deliver()
            tell_out_of_reach(one.database, ["renamed"])
        one.configure([former])
        one.deliver()
        tell_out_of_reach(one.database, ["files"])
        (told,) = one.told("out-of-reach")
        assert [row.state for row in one.rows(deliveries) if row.is_withdrawal] == ["SENT", "SENT"]

    assert told.startswith("files shows 6 objects of a withdrawn result and is no destination any more")
    assert [record.getMessage() for record in caplog.records].count("withdrawal impossible") == 1


# --- order, and what is on its way ---


def test_nothing_new_of_a_study_goes_out_before_its_withdrawal_has_arrived(tmp_path: Path) -> None:
    images, folder = small_chest_ct()[0], tmp_path / "files"
    with site(tmp_path / "node", [files(folder)]) as one:
        one.run(images)
        before = {path.name for path in objects_in(folder)}
        aside = folder.rename(tmp_path / "away")
        folder.write_text("no folder")
        withdraw(one, study_of(images))
        rerun(one, study_of(images))
        one.analyse()
        one.deliver()
        waiting = {(row.is_withdrawal, bool(row.note)) for row in one.rows(deliveries) if row.state == "PENDING"}
        folder.unlink()
        aside.rename(folder)
        one.deliver()
        sent = sorted((row for row in one.rows(deliveries) if row.sent_at), key=lambda row: row.sent_at)
        order = [row.is_withdrawal for row in sent[len(before) :]]
        chains = [(row.sequence, row.standing) for row in one.rows(results)]

    assert waiting == {(True, True), (False, False)}
    assert order == sorted(order, reverse=True)
    assert sorted(chains) == [(1, "WITHDRAWN"), (2, "CURRENT")]
    reports = {report.SOPInstanceUID: report for report in written(folder) if report.Modality == "SR"}
    assert len(reports) == 3
    assert len({report.SeriesInstanceUID for report in reports.values()}) == 2


def test_a_parked_withdrawal_does_not_hold_up_what_is_new(tmp_path: Path) -> None:
    images, folder = small_chest_ct()[0], tmp_path / "files"
    with site(tmp_path / "node", [files(folder)]) as one:
        one.run(images)
        withdraw(one, study_of(images))
        for worker in one._outbox:
            worker.plan_withdrawals()
        rerun(one, study_of(images))
        one.analyse()
        lost = {row.artifact_uid for row in one.rows(deliveries) if row.is_withdrawal}
        for row in one.rows(artifacts):
            if row.uid in lost:
                one.spool.path(row.object_key).unlink()
        one.deliver()
        states = {(row.is_withdrawal, row.state) for row in one.rows(deliveries)}

    assert states == {(True, "PARKED"), (False, "SENT")}


def test_a_withdrawal_that_the_disk_does_not_take_holds_up_its_own_study_alone_and_is_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    images, others, folder = small_chest_ct()[0], small_chest_ct("other")[0], files(tmp_path / "files")
    with site(tmp_path / "node", [folder]) as one:
        one.run(images)
        one.receive(others)
        withdraw(one, study_of(images))
        rerun(one, study_of(images))
        one.analyse()
        incoming = one.spool.folder / "incoming"
        aside = incoming.rename(tmp_path / "aside")
        incoming.write_text("no folder")
        one.deliver()
        one.deliver()
        waiting = {row.job_key for row in one.rows(deliveries) if row.state == "PENDING"}
        waiting_for = {row.study_instance_uid for row in one.rows(results) if row.job_key in waiting}
        incoming.unlink()
        aside.rename(incoming)
        one.configure([folder])
        one.deliver()
        states = {(row.is_withdrawal, row.state) for row in one.rows(deliveries)}

    assert waiting_for == {study_of(images)}
    (told,) = [record for record in caplog.records if record.getMessage() == "withdrawal not made"]
    assert told.__dict__["study"] == study_of(images)
    assert states == {(False, "SENT"), (True, "SENT")}


def test_what_never_went_out_is_cancelled_and_nobody_is_told(tmp_path: Path) -> None:
    images, folder = small_chest_ct()[0], tmp_path / "files"
    with site(tmp_path / "node", [files(folder)]) as one:
        one.receive(images)
        one.analyse()
        withdraw(one, study_of(images))
        one.deliver()

        assert one.rows(deliveries) == []
    assert not folder.exists()


def test_what_arrives_after_the_withdrawal_is_taken_back_too(tmp_path: Path) -> None:
    images, folder = small_chest_ct()[0], tmp_path / "files"
    with site(tmp_path / "node", [files(folder)]) as one:
        one.receive(images)
        one.analyse()
        claimant, now = Claimant("host:1", 600.0), datetime.now(UTC)
        with one.database.write() as connection:
            batch = claim_batch(connection, "files", claimant, now)
        assert batch is not None
        withdraw(one, study_of(images))
        one.deliver()
        assert not any(row.is_withdrawal for row in one.rows(deliveries))
        with one.database.write() as connection:
            for item in batch.items[:-1]:
                mark_sent(connection, batch, item, ("", None), now)
            mark_deferred(connection, batch, batch.items[-1], "broken off", (now, now))
        one.deliver()
        given_up = [row for row in one.rows(deliveries) if row.may_have_arrived]
        states = {(row.is_withdrawal, row.state) for row in one.rows(deliveries)}

    assert [row.artifact_uid for row in given_up] == [batch.items[-1].artifact.uid]
    assert states == {(False, "SENT"), (False, "DISCARDED"), (True, "SENT")}


def test_what_a_setting_of_before_says_again_follows_what_it_said_in_between(
    fhir_server: FhirServer, orthanc: Orthanc, tmp_path: Path
) -> None:
    """A setting that shapes the result is changed, and changed back: the reports are one chain, and its end holds."""
    images, to = small_chest_ct()[0], [pacs(orthanc), ehr(fhir_server)]
    with site(tmp_path / "node", to) as one:
        for name in ("East", "West", "East"):
            one.configure(to, node={"institution": name})
            if not one.rows(results):
                one.receive(images)
            else:
                rerun(one, study_of(images))
            one.settle()
        assert standings(one) == ["SUPERSEDED", "SUPERSEDED", "CURRENT"]

    chain = sorted(orthanc.datasets("SR"), key=lambda report: int(report.InstanceNumber))
    assert [(report.InstanceNumber, report.InstitutionName) for report in chain] == [
        (1, "East"), (2, "West"), (3, "East"),
    ]  # fmt: skip
    (named,) = chain[2].PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence
    assert named.ReferencedSOPInstanceUID == chain[1].SOPInstanceUID
    assert [report["status"] for report in fhir_server.all("DiagnosticReport")] == ["preliminary"]


# --- what a person may do, and how often ---


def test_withdrawing_twice_tells_once_and_wrong_wishes_are_refused(tmp_path: Path) -> None:
    images, folder = small_chest_ct()[0], tmp_path / "files"
    with site(tmp_path / "node", [files(folder)]) as one:
        one.run(images)
        with pytest.raises(IllegalTransition, match="reason"):
            withdraw(one, study_of(images), " ")
        with pytest.raises(NotFound, match="nothing to withdraw"):
            withdraw(one, study_of(images), route="another")
        with pytest.raises(NotFound, match="No study"):
            withdraw(one, "1.2.3")
        assert withdraw(one, study_of(images))
        one.deliver()
        made = {path.name for path in folder.iterdir()}
        assert withdraw(one, study_of(images)) == []
        one.deliver()
        told = [row for row in one.rows(events) if row.kind == "withdrawn"]

    assert {path.name for path in folder.iterdir()} == made
    assert [(row.actor, row.text) for row in told] == [(SOMEBODY.name, f"The result was withdrawn: {WHY}")]


def test_a_withdrawn_result_is_never_sent_again(tmp_path: Path) -> None:
    images, folder = small_chest_ct()[0], tmp_path / "files"
    with site(tmp_path / "node", [files(folder)]) as one:
        one.run(images)
        withdraw(one, study_of(images))
        one.deliver()
        own = [row for row in one.rows(deliveries) if not row.is_withdrawal]
        now = datetime.now(UTC)
        with one.database.write() as connection, pytest.raises(IllegalTransition, match="withdrawn"):
            actions.retry_delivery(connection, own[0].id, SOMEBODY, now)
        with one.database.write() as connection:
            assert actions.retry_study(connection, study_of(images), SOMEBODY, now) == []
            assert actions.retry_destination(connection, "files", SOMEBODY, now) == []


def test_a_delivery_that_waits_is_discarded_by_a_named_person(tmp_path: Path) -> None:
    images, blocked = small_chest_ct()[0], tmp_path / "files"
    blocked.write_text("no folder")
    with site(tmp_path / "node", [files(blocked)]) as one:
        one.run(images)
        first, *others = one.rows(deliveries)
        for _ in range(2):
            with one.database.write() as connection:
                actions.discard_delivery(connection, first.id, "Not wanted.", SOMEBODY, datetime.now(UTC))
        blocked.unlink()
        one.deliver()
        states = {row.id: row.state for row in one.rows(deliveries)}
        told = [row for row in one.rows(events) if row.kind == "operator"]
        with one.database.write() as connection, pytest.raises(IllegalTransition, match="withdraw STUDY"):
            actions.discard_delivery(connection, others[0].id, "Not wanted.", SOMEBODY, datetime.now(UTC))

    assert states.pop(first.id) == "DISCARDED"
    assert set(states.values()) == {"SENT"}
    assert [(row.actor, row.text.partition(": ")[2]) for row in told] == [(SOMEBODY.name, "Not wanted.")]


# --- at a folder ---


def test_the_sidecars_of_a_folder_tell_which_object_holds_after_a_late_image_and_after_a_withdrawal(
    tmp_path: Path,
) -> None:
    there, images = tmp_path / "files", small_chest_ct()[0]
    with site(tmp_path / "node", [files(there)]) as one:
        one.run(images[:-1])
        first = set(there.glob("*.dcm.json"))
        one.run(images[-1:])
        second = set(there.glob("*.dcm.json")) - first
        assert {_told(path)["standing"] for path in first} == {"SUPERSEDED"}
        assert {_told(path)["standing"] for path in second} == {"CURRENT"}
        assert {name["file"] for path in second for name in _told(path)["replaces"]} == {one.stem for one in first}

        withdraw(one, study_of(images))
        one.deliver()
    notes = set(there.glob("*.dcm.json")) - first - second
    assert {_told(path)["standing"] for path in first | second} == {"WITHDRAWN"}
    assert [(_told(path)["kind"], _told(path)["standing"]) for path in notes] == [("SR", "CURRENT")]
    assert {path.stem for path in there.glob("*.dcm.json")} == {path.name for path in there.glob("*.dcm")}
    for path in first | second | notes:
        told = _told(path)
        assert told["sha256"] == hashlib.sha256((there / told["file"]).read_bytes()).hexdigest()
        assert told["study_instance_uid"] == study_of(images)
        said = path.read_text(encoding="utf-8")
        assert not any(str(images[0].get(word, "") or "?") in said for word in ("PatientID", "PatientName"))


def _told(path: Path) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return told
