"""The routing script in a real Orthanc: each image a modality made goes to the node once, no result goes back."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    ComprehensiveSRStorage,
    CTImageStorage,
    ExplicitVRLittleEndian,
    SecondaryCaptureImageStorage,
)

from tests.peers.dcmtk import Receiver, running_storescp
from tests.peers.orthanc import Orthanc
from tests.peers.process import Process, free_port, wait_until
from tests.support.needs import REPOSITORY, absent, tool

#: Where Debian's packages of Orthanc put their configuration.
DEBIANS = Path("/etc/orthanc")
SERIES, LATER = "1.2.3.4.1", "1.2.3.4.99"
OURS = "DICOM AI Node Project"


def an_image(series_uid: str, number: int, modality: str = "CT", sop_class: str = CTImageStorage) -> Dataset:
    image = Dataset()
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.SOPClassUID, image.SOPInstanceUID = sop_class, f"{series_uid}.{number}"
    image.StudyInstanceUID, image.SeriesInstanceUID = "1.2.3.4", series_uid
    image.PatientID, image.PatientName, image.StudyID = "TEST", "Test^Routing", "1"
    image.Modality, image.Manufacturer = modality, "Scanner Works"
    image.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    image.InstanceNumber = number
    image.Rows = image.Columns = 8
    image.BitsAllocated = image.BitsStored = 16
    image.HighBit, image.PixelRepresentation = 15, 0
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.PixelData = np.full((8, 8), number, dtype="<u2").tobytes()
    return image


def our_capture(series_uid: str) -> Dataset:
    capture = an_image(series_uid, 1, modality="CT", sop_class=SecondaryCaptureImageStorage)
    capture.Manufacturer, capture.ImageType = OURS, ["DERIVED", "SECONDARY"]
    return capture


def our_report(series_uid: str) -> Dataset:
    report = an_image(series_uid, 1, modality="SR", sop_class=ComprehensiveSRStorage)
    report.Manufacturer = OURS
    return report


def an_image_we_contributed_to(series_uid: str) -> Dataset:
    image = an_image(series_uid, 1)
    equipment = Dataset()
    equipment.Manufacturer = OURS
    image.ContributingEquipmentSequence = [equipment]
    return image


def arrivals(receiver: Receiver) -> int:
    """How many C-STOREs were answered; an image sent twice counts twice."""
    return receiver.process.log.read_text(errors="replace").count("Received Store Request")


def noted_as_sent(orthanc: Orthanc) -> int:
    """How many images the script has noted in Orthanc as taken by the node."""
    answers = [orthanc.http.get(f"/series/{id_}/metadata/SentToNode") for id_ in orthanc.get("/series")]
    return sum(len(answer.text.split()) for answer in answers if answer.is_success)


def store(orthanc: Orthanc, *images: Dataset) -> None:
    for image in images:
        orthanc.upload_dataset(image)


def arrived_before_a_later_series(orthanc: Orthanc, receiver: Receiver) -> int:
    """Store an image of another series and wait for it; return how many C-STOREs were answered before its own.

    The script works off Orthanc's journal in order, and a series that is under way before one that became stable later.
    """
    store(orthanc, an_image(LATER, 1))
    wait_until(lambda: LATER in {one.SeriesInstanceUID for one in receiver.datasets()}, 90, "the later series", 0.2)
    return arrivals(receiver) - 1


def test_a_series_is_sent_once_and_a_late_image_alone(orthanc: Orthanc, storescp: Receiver) -> None:
    orthanc.know(storescp.aet, storescp.port)

    store(orthanc, *(an_image(SERIES, number) for number in range(1, 4)))
    storescp.wait_for(3)
    store(orthanc, an_image(SERIES, 4))
    storescp.wait_for(4)
    assert arrived_before_a_later_series(orthanc, storescp) == 4


def test_nothing_is_sent_again_after_a_restart_but_a_late_image_is(orthanc: Orthanc, storescp: Receiver) -> None:
    orthanc.know(storescp.aet, storescp.port)
    store(orthanc, an_image(SERIES, 1), an_image(SERIES, 2))
    storescp.wait_for(2)
    wait_until(lambda: noted_as_sent(orthanc) == 2, 60, "the script to note what the node has taken")

    orthanc.restart()
    orthanc.know(storescp.aet, storescp.port)
    store(orthanc, an_image(SERIES, 3))
    storescp.wait_for(3)
    assert arrived_before_a_later_series(orthanc, storescp) == 3


def test_what_the_page_says_to_change_works_with_the_files_that_debian_installs(tmp_path: Path) -> None:
    if not (DEBIANS / "python.json").exists():
        absent("Debian's packages orthanc, orthanc-dicomweb and orthanc-python")
    for file in DEBIANS.glob("*.json"):
        (tmp_path / file.name).write_text(file.read_text(encoding="utf-8"), encoding="utf-8")
    script = REPOSITORY / "orthanc" / "route_to_node.py"
    page = (REPOSITORY / "orthanc" / "README.md").read_text(encoding="utf-8")
    changes = re.findall(r"^   \| `(\w+)` \| `(\w+\.json)` \| `(.+)` \|$", page, re.MULTILINE)
    for key, name, value in changes:
        change(tmp_path / name, key, value.replace("/etc/orthanc/route_to_node.py", str(script)))
    for key, value in {"StorageDirectory": f'"{tmp_path / "db"}"', "IndexDirectory": f'"{tmp_path / "db"}"',
                       "HttpPort": str(free_port()), "DicomPort": str(free_port())}.items():  # fmt: skip
        change(tmp_path / "orthanc.json", key, value)

    log = tmp_path / "log"
    orthanc = Process([tool("Orthanc", "orthanc"), str(tmp_path)], log)
    try:
        orthanc.wait_until_ready(lambda: b"Orthanc has started" in log.read_bytes())
    finally:
        orthanc.stop()

    assert len(changes) == 3
    assert f'Using Python script "{script.name}"' in log.read_text(encoding="utf-8")


def change(file: Path, key: str, value: str) -> None:
    """Give a key of Orthanc's JSON, which has comments, another value where it stands."""
    text, number = re.subn(rf'^(\s*"{key}"\s*:\s*)("[^"]*"|\d+|\{{[^}}]*\}})', lambda found: found[1] + value,
                           file.read_text(encoding="utf-8"), flags=re.MULTILINE)  # fmt: skip
    assert number == 1, f"{key} stands {number} times in {file.name}"
    file.write_text(text, encoding="utf-8")


def test_no_result_of_the_node_goes_back(orthanc: Orthanc, storescp: Receiver) -> None:
    orthanc.know(storescp.aet, storescp.port)

    store(orthanc, our_capture("1.2.3.4.11"), our_report("1.2.3.4.12"), an_image_we_contributed_to("1.2.3.4.13"))
    store(orthanc, an_image(SERIES, 1))
    assert arrived_before_a_later_series(orthanc, storescp) == 1
    assert {image.SeriesInstanceUID for image in storescp.datasets()} == {SERIES, LATER}


def test_what_came_while_the_node_was_down_and_orthanc_restarted_is_sent(orthanc: Orthanc, tmp_path: Path) -> None:
    port = free_port()
    orthanc.know("STORESCP", port)
    store(orthanc, an_image(SERIES, 1))
    wait_until(lambda: "not sent to" in orthanc.log(), 60, "the first attempt to fail")

    orthanc.kill9()
    orthanc.start()
    orthanc.know("STORESCP", port)
    with running_storescp(tmp_path / "late", port=port) as receiver:
        receiver.wait_for(1, timeout_s=90)
        assert arrived_before_a_later_series(orthanc, receiver) == 1
