"""Somebody sends back what the node has made: a PACS that names the patient anew, and one who changed what it says."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom import Dataset

from tests.acceptance.sent_phantoms import SentPhantom
from tests.peers.dcmtk import storescu
from tests.peers.node import Node
from tests.peers.process import wait_until

pytestmark = pytest.mark.timeout(600)

ROUTE = {"name": "chest-ct", "model": "ct-lung-density", "when": {"modality": "CT"}, "quiet_period_s": 1}


def test_a_changed_result_is_told_and_one_that_a_pacs_has_named_anew_is_not(
    node: Callable[..., Node], tmp_path: Path
) -> None:
    one = node(route=[ROUTE])
    phantom = SentPhantom.written(tmp_path, "altered")
    assert phantom.send(one)
    made = objects_of(one, phantom.study_instance_uid)
    report, picture = (next(ds for ds in made.values() if ds.Modality == modality) for modality in ("SR", "OT"))

    send(one, tmp_path / "pacs", [named_anew(dataset) for dataset in made.values()])
    assert altered(one, phantom.study_instance_uid) == {}

    forged, painted = deepcopy(report), deepcopy(picture)
    del forged.ContentSequence[-1]
    painted.PixelData = bytes([painted.PixelData[0] ^ 0xFF]) + painted.PixelData[1:]
    send(one, tmp_path / "forger", [forged, painted])
    told = altered(one, phantom.study_instance_uid)
    assert {uid: (entry["changed"], entry["pixels"]) for uid, entry in told.items()} == {
        report.SOPInstanceUID: (["ContentSequence"], "EQUAL"),
        picture.SOPInstanceUID: ([], "CHANGED"),
    }
    with one.api() as api:
        waiting = api.get("/api/v1/waiting").raise_for_status().json()["waiting"]
    problems = [group for group in waiting if group["kind"] == "ALTERED"]
    assert sorted(group["cause"].rpartition("place. ")[2] for group in problems) == [
        "Changed: ContentSequence.", "The pixels changed.",
    ]  # fmt: skip
    assert objects_of(one, phantom.study_instance_uid) == made, "what is shown is what was made"


def objects_of(node: Node, study: str) -> Mapping[str, Dataset]:
    """Return the DICOM objects of a study's result, as the node shows them, by SOP Instance UID."""

    def is_reported() -> bool:
        with node.api() as api:
            answer = api.get(f"/api/v1/studies/{study}")
        return answer.status_code == 200 and answer.json()["study"]["state"] == "REPORTED"

    wait_until(is_reported, 240, "the study to be reported", 0.25)
    with node.api() as api:
        [result] = api.get(f"/api/v1/studies/{study}/results").raise_for_status().json()
        uids = [one["uid"] for one in result["artifacts"] if one["media_type"] == "application/dicom"]
        files = {uid: api.get(f"/api/v1/artifacts/{uid}").raise_for_status().content for uid in uids}
    return {uid: pydicom.dcmread(io.BytesIO(content)) for uid, content in files.items()}


def named_anew(dataset: Dataset) -> Dataset:
    """Return an object as a PACS keeps it that knows the patient and the study by other names."""
    coerced = deepcopy(dataset)
    coerced.PatientName, coerced.PatientID, coerced.AccessionNumber = "Known^Here", "LOCAL-1", "L-1"
    coerced.StudyDescription, coerced.InstitutionName = "CT thorax", "Here"
    before = Dataset()
    before.PatientID = dataset.PatientID
    original = Dataset()
    original.ModifiedAttributesSequence, original.ReasonForTheAttributeModification = [before], "COERCE"
    coerced.OriginalAttributesSequence = [original]
    coerced.RetrieveAETitle, coerced.StorageMediaFileSetUID = "ARCHIVE", "2.25.77"
    coerced.private_block(0x0099, "AN ARCHIVE", create=True).add_new(0x01, "LO", "kept here")
    coerced.file_meta.SourceApplicationEntityTitle = "ARCHIVE"
    return coerced


def send(node: Node, folder: Path, datasets: list[Dataset]) -> None:
    """Send objects with DCMTK, and wait until the node has entered them all."""
    folder.mkdir()
    for dataset in datasets:
        dataset.save_as(folder / f"{dataset.SOPInstanceUID}.dcm", enforce_file_format=True)
    assert storescu(node.dicom_port, folder, calling="ARCHIVE").returncode == 0
    node.wait_until_settled()


def altered(node: Node, study: str) -> Mapping[str, Any]:
    with node.api() as api:
        timeline = api.get(f"/api/v1/studies/{study}/timeline").raise_for_status().json()
    return {one["detail"]["sop_instance_uid"]: one["detail"] for one in timeline if one["kind"] == "result-altered"}
