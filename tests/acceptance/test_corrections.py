"""Corrected at the source and sent again: the node analyses what came last, and withdraws what it said before."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from tests.acceptance.corrected_studies import (
    FILM,
    RECOMPRESSED,
    REJECTED,
    WORKLIST,
    Hospital,
    is_withdrawal,
    study_in,
    uid_of,
)
from tests.acceptance.test_model_files import command
from tests.peers.fhir_server import FhirServer
from tests.peers.node import Node
from tests.peers.orthanc import running_orthanc
from tests.peers.raw import Raw
from tests.support import needs
from tests.support.results.stored_objects import kept_by
from tests.support.studies.small_images import small_image

pytestmark = pytest.mark.timeout(1200)  # the day is played within the first test

RECEIVER_ONLY = ("--role", "receive")
SUCCESS = 0x0000


@pytest.fixture(scope="module")
def hospital(
    tmp_path_factory: pytest.TempPathFactory, start_fhir_server: Callable[..., FhirServer]
) -> Iterator[Hospital]:
    """The day is played once; every test looks at what it left of one study."""
    folder = tmp_path_factory.mktemp("hospital")
    with running_orthanc(folder) as pacs:
        there = Hospital(folder, pacs, start_fhir_server())
        try:
            there.play()
            yield there
        finally:
            there.node.kill9()


def counted(told: list[str]) -> int:
    """How many images the lines speak of: one line for each batch, not for each image."""
    images = sum(int(line.split()[0]) for line in told)
    assert len(told) < images
    return images


# --- a study that is split -----------------------------------------------------------------------------------------


def test_both_studies_of_a_split_are_judged_anew_and_the_old_result_is_withdrawn_first(hospital: Hospital) -> None:
    """Half of the images come again under another Study Instance UID: splitting in a PACS keeps the SOP Instances."""
    old, new = uid_of(hospital.split), hospital.split_off
    for study, number in ((old, 2), (new, 1)):
        line = hospital.study(study)["study"]
        assert (line["state"], line["instances"], line["revision"]) == ("REPORTED", 32, number)
    assert {series["superseded"] for series in hospital.study(old)["series"]} == {0, 32}
    assert [one["standing"] for one in hospital.study(old)["results"]] == ["CURRENT", "WITHDRAWN"]
    assert hospital.is_in_order(old, 1)
    assert counted(hospital.told(old, "corrected")) == 32
    assert counted(hospital.told(new, "moved-here")) == 32
    assert all("sent by PACS at 127.0.0.1" in line for line in hospital.told(old, "corrected"))
    assert len(hospital.told(old, "withdrawn")) == 1


def test_pacs_and_ehr_have_of_a_split_study_what_each_half_says_and_what_takes_back_the_whole(
    hospital: Hospital,
) -> None:
    old, new = uid_of(hospital.split), hospital.split_off
    halves = [hospital.of_result(old, 1), hospital.of_result(old, 2), hospital.of_result(new, 1)]
    assert all(halves)
    there = [*hospital.objects_of(old), *hospital.objects_of(new)]
    assert len(there) == sum(map(len, halves)) + 1
    assert Counter(map(is_withdrawal, there))[True] == 1
    patient = str(hospital.split[0].PatientID)
    assert hospital.statuses(patient) == {patient: Counter({"preliminary": 2, "entered-in-error": 1})}
    assert hospital.reports_of(patient)[0]["status"] == "entered-in-error"


# --- a study that comes twice --------------------------------------------------------------------------------------


def test_a_study_that_two_sources_send_has_one_result(hospital: Hospital) -> None:
    """Its modality and a router at once, and later an archive that has compressed it without loss."""
    study, patient = uid_of(hospital.twice), str(hospital.twice[0].PatientID)
    now = hospital.study(study)
    assert (now["study"]["revision"], now["study"]["state"], len(now["jobs"])) == (1, "REPORTED", 1)
    assert now["results"] == hospital.first[study]["results"]
    assert [(one["instances"], one["superseded"]) for one in now["series"]] == [(32, 32)]
    assert len(hospital.objects_of(study)) == len(hospital.of_result(study, 1)) > 1
    assert hospital.statuses(patient) == {patient: Counter({"preliminary": 1})}
    assert counted(hospital.told(study, "encoded")) == 32
    assert not hospital.told(study, "corrected")
    assert {line.split()[0] for line in hospital.told(study, "association")} >= {"CT1", "ROUTER"}
    came = [[(one["came"], one["in_use"]) for one in image["versions"]] for image in hospital.versions(study)]
    assert came == 32 * [[("received", True), ("encoded", False)]]
    assert {image["versions"][1]["calling_ae_title"] for image in hospital.versions(study)} == {"ARCHIVE"}


def test_the_same_images_compressed_by_an_archive_change_nothing(hospital: Hospital) -> None:
    study = study_in(needs.real_data(RECOMPRESSED))
    assert counted(hospital.told(study, "encoded")) == 64
    assert hospital.told(study, "corrected") == []
    assert hospital.study(study)["results"] == hospital.first[study]["results"]
    assert len(hospital.objects_of(study)) == len(hospital.of_result(study, 1)) > 1


# --- another patient -----------------------------------------------------------------------------------------------


def test_a_merged_patient_has_the_result_and_the_other_has_what_takes_it_back(hospital: Hospital) -> None:
    """The PACS merges two patients and sends the study again."""
    study, patient = uid_of(hospital.merged), str(hospital.merged[0].PatientID)
    assert [one["standing"] for one in hospital.study(study)["results"]] == ["CURRENT", "WITHDRAWN"]
    assert hospital.is_in_order(study, 1)
    whose = Counter((one["PatientID"], is_withdrawal(one)) for one in hospital.objects_of(study))
    made = [len(hospital.of_result(study, number)) for number in (1, 2)]
    assert whose == {(patient, False): made[0], (patient, True): 1, ("MERGED-INTO", False): made[1]}
    assert hospital.statuses(patient, "MERGED-INTO") == {
        patient: Counter({"entered-in-error": 1}),
        "MERGED-INTO": Counter({"preliminary": 1}),
    }
    assert counted(hospital.told(study, "corrected")) == 32
    assert all("sent by TESTPACS at 127.0.0.1. Changed: PatientID." in one for one in hospital.told(study, "corrected"))


def test_who_sent_which_version_of_a_merged_study_is_shown(hospital: Hospital) -> None:
    study = uid_of(hospital.merged)
    found = hospital.versions(study)
    came = [[(one["came"], one["in_use"], one["changed"]) for one in image["versions"]] for image in found]
    assert came == 32 * [[("received", False, []), ("corrected", True, ["PatientID"])]]
    told = command(hospital.node, "status", study).stdout
    table = [[cell.strip() for cell in line.split("│")] for line in told.splitlines() if "TESTPACS" in line]
    rows = [(row[3], row[6], row[7]) for row in table if row[2] == "32"]
    assert rows == [("received", "kept", ""), ("corrected", "in use", "PatientID")]
    assert "MERGED-INTO" not in told


def test_images_of_another_patient_are_reported_under_the_right_one_after_the_correction(hospital: Hospital) -> None:
    """A worklist entry picked wrongly, seen after the report: the classic of every radiology."""
    study = study_in(needs.real_data(WORKLIST))
    now = hospital.study(study)
    assert now["study"]["state"] == "REPORTED"
    newest = now["results"][0]
    assert newest["job_key"] not in {one["job_key"] for one in hospital.first[study]["results"]}
    assert newest["current"]
    sent = hospital.of_result(study, newest["sequence"])
    assert {one["PatientID"] for one in sent} == {"PAT-NEW"}
    assert not [one for one in sent if "PredecessorDocumentsSequence" in one]
    assert all("Changed: PatientID, PatientName." in line for line in hospital.told(study, "corrected"))
    assert not [line for line in hospital.told(study, "corrected") if "pixels" in line]
    counted_images = [(series["instances"], series["superseded"]) for series in now["series"]]
    assert counted_images == [(64, 32)], "half of them were right from the beginning"


# --- images that are rejected ---------------------------------------------------------------------------------------


def test_the_result_of_a_series_that_the_pacs_rejects_is_taken_back_and_the_other_series_is_analysed(
    hospital: Hospital,
) -> None:
    study, patient = uid_of(hospital.rejected), str(hospital.rejected[0].PatientID)
    now = hospital.study(study)
    assert (now["study"]["state"], now["study"]["revision"], now["study"]["instances"]) == ("REPORTED", 2, 32)
    assert [one["standing"] for one in now["results"]] == ["CURRENT", "WITHDRAWN"]
    assert hospital.is_in_order(study, 1)
    series = {one["series_instance_uid"] for one in now["series"] if one["role"] == "REJECTED"}
    assert series == {now["jobs"][-1]["series_instance_uid"]}
    assert hospital.statuses(patient) == {patient: Counter({"preliminary": 1, "entered-in-error": 1})}
    (line,) = hospital.told(study, "rejected")
    assert line == (
        f"Note {hospital.note.SOPInstanceUID}, Rejected for Patient Safety Reasons (113037), sent by TESTPACS at "
        "127.0.0.1, rejects 32 images: analysed no more."
    )


def test_a_study_of_which_all_images_are_rejected_has_no_result_left(hospital: Hospital) -> None:
    study = study_in(needs.real_data(REJECTED))
    now = hospital.study(study)
    assert (now["study"]["state"], now["study"]["revision"]) == ("NOT_ANALYSED", 2)
    assert now["study"]["reason"] == "No image is left in this study: rejection notes name all of them."
    assert [one["standing"] for one in now["results"]] == ["WITHDRAWN"]
    assert [is_withdrawal(one) for one in hospital.objects_of(study)].count(True) == 1


# --- a correction that is taken back -------------------------------------------------------------------------------


def test_what_a_correction_taken_back_restores_is_a_result_of_its_own_and_the_only_one_that_stands(
    hospital: Hospital,
) -> None:
    study, patient = uid_of(hospital.returned), str(hospital.returned[0].PatientID)
    standing = [(one["sequence"], one["standing"]) for one in hospital.study(study)["results"]]
    assert standing == [(3, "CURRENT"), (2, "WITHDRAWN"), (1, "WITHDRAWN")]
    assert hospital.is_in_order(study, 1)
    assert hospital.is_in_order(study, 2)
    made = [hospital.of_result(study, number) for number in (1, 2, 3)]
    assert len({one["SOPInstanceUID"] for objects in made for one in objects}) == sum(map(len, made))
    assert {one["PatientID"] for one in (*made[0], *made[2])} == {patient}
    assert len(hospital.objects_of(study)) == sum(map(len, made)) + 2
    assert len({one["SeriesInstanceUID"] for objects in made for one in objects if one["Modality"] == "SR"}) == 3
    assert counted(hospital.told(study, "corrected")) == 64
    assert len(hospital.told(study, "withdrawn")) == 2


def test_the_ehr_has_one_report_that_stands_of_a_correction_taken_back(hospital: Hospital) -> None:
    """It was away when the node was killed: what takes back the wrong one came before the right one all the same."""
    patient = str(hospital.returned[0].PatientID)
    assert hospital.statuses(patient, "RETURNED-WRONGLY") == {
        patient: Counter({"entered-in-error": 1, "preliminary": 1}),
        "RETURNED-WRONGLY": Counter({"entered-in-error": 1}),
    }
    (wrong,) = hospital.reports_of("RETURNED-WRONGLY")
    assert wrong["meta"]["lastUpdated"] <= hospital.reports_of(patient)[-1]["meta"]["lastUpdated"]
    assert hospital.reports_of(patient)[-1]["status"] == "preliminary"


def test_a_film_that_lacked_the_age_is_analysed_once_it_has_it(hospital: Hospital) -> None:
    study = study_in(needs.real_data(FILM))
    now = hospital.study(study)
    assert now["jobs"][0]["revision"] == 2
    assert now["jobs"][0]["reason"] or now["study"]["state"] == "REPORTED"
    (line,) = hospital.told(study, "corrected")
    assert line.startswith("1 image came again, corrected, sent by MOD1 at 127.0.0.1. Changed: PatientAge.")


# --- the order of arrival ------------------------------------------------------------------------------------------


def test_killed_after_every_version_the_last_one_is_in_use(node: Callable[..., Node]) -> None:
    """Whatever was filed when the kill came, and whatever settles again: the order of arrival decides."""
    one = node(start=False, route=[], dicom={"journal_mb": 16})
    versions = [small_image("corrected", patient_name=name) for name in (b"First^A", b"Second^B", b"First^A")]
    for version in versions:
        one.start(None, *RECEIVER_ONLY)
        with Raw(one.dicom_port).opened() as peer:
            assert peer.store(version) == SUCCESS
            one.kill9()
    one.start(None, *RECEIVER_ONLY)
    kept = kept_by(one)
    assert [row.data_set for row in kept if row.is_used] == [versions[-1].data_set]
    assert sorted(row.data_set for row in kept) == sorted({version.data_set for version in versions})
