"""Senders of every make store and echo without a warning, in every transfer syntax, over plain TCP and over TLS."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import openjpeg.utils
import pydicom
import pytest
from pydicom.encaps import encapsulate
from pydicom.uid import ExplicitVRLittleEndian, JPEG2000Lossless
from pynetdicom import AE
from pynetdicom.sop_class import CTImageStorage, Verification  # type: ignore[attr-defined]  # made at import time

from dicom_node.demo.phantoms import chest_radiograph_phantom
from tests.peers import dcmjs_dimse
from tests.peers.certificates import Certificates, make_certificates
from tests.peers.dcmtk import dcmsend, echoscu, run, running_dcmqrscp, storescu
from tests.peers.node import Node
from tests.peers.orthanc import running_orthanc
from tests.peers.process import wait_until
from tests.support.acceptor_state import logged_errors
from tests.support.results.stored_objects import data_set_of, kept_by
from tests.support.studies.small_images import small_image, uid

pytestmark = pytest.mark.timeout(600)

IMAGES = 5


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def listener(tmp_path_factory: pytest.TempPathFactory, certificates: Certificates) -> Iterator[Node]:
    """One node for all senders, plain and TLS."""
    own = certificates.server
    tls = {"port": 0, "certificate": str(own.certificate), "private_key": str(own.private_key)}
    settings = {"route": [], "dicom_tls": {**tls, "ca": str(certificates.ca)}}
    node = Node(tmp_path_factory.mktemp("senders"), settings)
    node.start()
    yield node
    node.kill9()


@pytest.fixture(autouse=True)
def no_warnings(listener: Node) -> Iterator[None]:
    """The node finds nothing to complain about in what well-behaved senders do."""
    seen = len(listener.events())
    yield
    found = [event for event in listener.events()[seen:] if event["level"] not in {"DEBUG", "INFO"}]
    assert found == []
    assert logged_errors(listener) == []


def image_files(folder: Path, name: str) -> list[Path]:
    folder.mkdir(exist_ok=True)
    return [small_image(f"{name}-{number}", name, rows=64).save(folder) for number in range(IMAGES)]


def held(node: Node, name: str) -> int:
    wanted = {uid(f"{name}-{number}") for number in range(IMAGES)}
    return len(wanted & {kept.sop_instance_uid for kept in kept_by(node)})


def assert_nothing_to_complain(said: str) -> None:
    """DCMTK marks warnings, errors and fatal errors by a letter."""
    assert not re.findall(r"^[WEF]: .*$", said, re.MULTILINE), said


# --- DCMTK -----------------------------------------------------------------------------------------------------------


def test_echoscu_is_answered(listener: Node) -> None:
    done = echoscu(listener.dicom_port)
    assert done.returncode == 0
    assert_nothing_to_complain(done.stdout)


@pytest.mark.parametrize("program", [storescu, dcmsend], ids=["storescu", "dcmsend"])
def test_dcmtk_stores(listener: Node, tmp_path: Path, program: Callable[..., Any]) -> None:
    name = program.__name__
    done = program(listener.dicom_port, *image_files(tmp_path, name))
    assert done.returncode == 0, done.stdout
    assert_nothing_to_complain(done.stdout)
    assert held(listener, name) == IMAGES


def test_storescu_with_its_default_proposals_and_the_smallest_pdus_stores(listener: Node, tmp_path: Path) -> None:
    files = image_files(tmp_path, "default")
    options = ["-v", "-aet", "MOD1", "-aec", "AINODE", "-pdu", "4096", "--max-send-pdu", "4096"]
    done = run("storescu", *options, "127.0.0.1", str(listener.dicom_port), *map(str, files))
    assert done.returncode == 0, done.stdout
    assert_nothing_to_complain(done.stdout)
    assert held(listener, "default") == IMAGES


def sixteen_bit(folder: Path, name: str) -> Path:
    return small_image(name, "syntaxes", rows=64).save(folder)


def eight_bit(folder: Path, name: str) -> Path:
    dataset = pydicom.dcmread(sixteen_bit(folder, name))
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit = 7
    dataset.PixelData = dataset.PixelData[::2]
    path = folder / f"{name}-8.dcm"
    dataset.save_as(path, enforce_file_format=True)
    return path


def by_dcmtk(program: str, *options: str, bits: int = 16) -> Callable[[Path, str], Path]:
    def make(folder: Path, name: str) -> Path:
        source = sixteen_bit(folder, name) if bits == 16 else eight_bit(folder, name)
        target = folder / f"{name}-made.dcm"
        done = run(program, *options, str(source), str(target))
        assert done.returncode == 0, done.stdout
        source.unlink()
        if bits == 8:
            (folder / f"{uid(name)}.dcm").unlink()
        return target

    return make


def as_jpeg_2000(folder: Path, name: str) -> Path:
    path = sixteen_bit(folder, name)
    dataset = pydicom.dcmread(path)
    dataset.PixelData = encapsulate([openjpeg.utils.encode(dataset.pixel_array)])
    dataset["PixelData"].VR = "OB"
    dataset.file_meta.TransferSyntaxUID = JPEG2000Lossless
    dataset.save_as(path, enforce_file_format=True)
    return path


#: Name: how such a file is made, and what storescu must be told to propose it.
SYNTAXES: dict[str, tuple[Callable[[Path, str], Path], str]] = {
    "1.2.840.10008.1.2": (by_dcmtk("dcmconv", "+ti"), "-xi"),
    "1.2.840.10008.1.2.1": (sixteen_bit, "-xe"),
    "1.2.840.10008.1.2.2": (by_dcmtk("dcmconv", "+tb"), "-xb"),
    "1.2.840.10008.1.2.5": (by_dcmtk("dcmcrle"), "-xr"),
    "1.2.840.10008.1.2.4.50": (by_dcmtk("dcmcjpeg", "+eb", "+un", bits=8), "-xy"),
    "1.2.840.10008.1.2.4.70": (by_dcmtk("dcmcjpeg", "+e1", "+un"), "-xs"),
    "1.2.840.10008.1.2.4.80": (by_dcmtk("dcmcjpls", "+el", "+un"), "-xt"),
    "1.2.840.10008.1.2.4.90": (as_jpeg_2000, "-xv"),
}


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_every_transfer_syntax_is_kept_as_it_was_sent(listener: Node, tmp_path: Path, syntax: str) -> None:
    make, proposal = SYNTAXES[syntax]
    name = f"syntax-{syntax}"
    path = make(tmp_path, name)
    assert pydicom.dcmread(path).file_meta.TransferSyntaxUID == syntax
    options = ["-v", proposal, "-aet", "MOD1", "-aec", "AINODE"]
    done = run("storescu", *options, "127.0.0.1", str(listener.dicom_port), str(path))
    assert done.returncode == 0, done.stdout
    assert_nothing_to_complain(done.stdout)
    (kept,) = [kept for kept in kept_by(listener) if kept.sop_instance_uid == uid(name)]
    assert kept.data_set == data_set_of(path)


def test_a_deflated_file_is_stored_inflated_by_its_sender(listener: Node, tmp_path: Path) -> None:
    """The node offers no deflated transfer syntax: a small one can unfold to gigabytes."""
    path = by_dcmtk("dcmconv", "+td")(tmp_path, "deflated")
    done = dcmsend(listener.dicom_port, path)
    assert done.returncode == 0, done.stdout
    assert uid("deflated") in {kept.sop_instance_uid for kept in kept_by(listener)}


def test_dcmqrscp_moves_a_study_to_the_node(listener: Node, tmp_path: Path) -> None:
    files = image_files(tmp_path, "moved")
    with running_dcmqrscp(tmp_path / "qr", hosts={"AINODE": listener.dicom_port}) as pacs:
        assert storescu(pacs.port, *files, called=pacs.aet).returncode == 0
        study = str(pydicom.dcmread(files[0]).StudyInstanceUID)
        keys = ["-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={study}"]
        titles = ["-aet", "MOD1", "-aec", pacs.aet, "-aem", "AINODE"]
        done = run("movescu", "-v", "-S", *titles, *keys, "127.0.0.1", str(pacs.port))
        assert done.returncode == 0, done.stdout
        assert_nothing_to_complain(done.stdout)
        assert held(listener, "moved") == IMAGES


# --- Orthanc ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "TLS"])
def test_orthanc_stores_and_echoes(listener: Node, certificates: Certificates, tmp_path: Path, secure: bool) -> None:
    name = f"orthanc-{secure}"
    files = image_files(tmp_path / "images", name)
    own = certificates.modality
    tls = {
        "DicomTlsCertificate": str(own.certificate),
        "DicomTlsPrivateKey": str(own.private_key),
        "DicomTlsTrustedCertificates": str(certificates.ca),
    }
    (tmp_path / "orthanc").mkdir()
    with running_orthanc(tmp_path / "orthanc", **tls) as pacs:
        port = listener.tls_port if secure else listener.dicom_port
        host = "localhost" if secure else "127.0.0.1"
        peer = {"AET": "AINODE", "Host": host, "Port": port, "UseDicomTls": secure}
        pacs.http.put("/modalities/under-test", json=peer).raise_for_status()
        pacs.post("/modalities/under-test/echo", {})
        ids = [stored for path in files for stored in pacs.upload(path)]
        answer = pacs.post("/modalities/under-test/store", {"Resources": ids, "Synchronous": True})
        assert answer["FailedInstancesCount"] == 0
        said = pacs.log().split("Orthanc has started")[1]
        assert not re.findall(r"^[WE]\d+ .*$", said, re.MULTILINE), said
    assert held(listener, name) == IMAGES


# --- others ----------------------------------------------------------------------------------------------------------


def test_dcmjs_dimse_stores_and_echoes(listener: Node, tmp_path: Path) -> None:
    told = dcmjs_dimse.send(listener.dicom_port, *image_files(tmp_path, "dcmjs"))
    assert (told.echo, told.stored, told.errors) == (0, [0] * IMAGES, [])
    assert not re.findall(r"warn|error", told.said, re.IGNORECASE), told.said
    assert held(listener, "dcmjs") == IMAGES


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "TLS"])
def test_pynetdicom_stores_and_echoes(
    listener: Node, certificates: Certificates, tmp_path: Path, caplog: pytest.LogCaptureFixture, secure: bool
) -> None:
    name = f"pynetdicom-{secure}"
    ae = AE("MOD1")
    ae.add_requested_context(Verification)
    ae.add_requested_context(CTImageStorage, ExplicitVRLittleEndian)
    tls = (certificates.client(certificates.modality), "localhost") if secure else None
    port = listener.tls_port if secure else listener.dicom_port
    association = ae.associate("127.0.0.1", port, ae_title="AINODE", tls_args=tls)
    assert association.is_established
    assert association.send_c_echo().Status == 0
    for path in image_files(tmp_path, name):
        assert association.send_c_store(path).Status == 0
    association.release()
    assert association.is_released
    assert [record.message for record in caplog.records if record.levelname != "INFO"] == []
    assert held(listener, name) == IMAGES


def test_a_sender_of_large_pictures_in_several_frames_and_colours_is_served(listener: Node, tmp_path: Path) -> None:
    picture = chest_radiograph_phantom("sent", rows=1024)
    path = tmp_path / "picture.dcm"
    picture.save_as(path, enforce_file_format=True)
    done = storescu(listener.dicom_port, path)
    assert done.returncode == 0, done.stdout
    assert_nothing_to_complain(done.stdout)
    wait_until(lambda: picture.SOPInstanceUID in {k.sop_instance_uid for k in kept_by(listener)}, 60, "the picture")
