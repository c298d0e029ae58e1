"""A backup taken while modalities send, put back on another path after a kill: nothing acknowledged is missing, and
neither the PACS nor the EHR gets anything twice."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dicom_node.core.uids import new_uid
from dicom_node.demo.phantoms import chest_ct_phantom
from tests.acceptance.sent_phantoms import SentPhantom
from tests.acceptance.site import PATIENT_SYSTEM, Site, open_site
from tests.peers.dcmtk import storescu
from tests.peers.fhir_server import FhirServer
from tests.peers.node import Node
from tests.peers.orthanc import Orthanc
from tests.peers.process import free_port, wait_until
from tests.support.campaign import amount
from tests.support.needs import REPOSITORY

pytestmark = [pytest.mark.campaign, pytest.mark.timeout(900)]

ROUTE = {"name": "chest-ct", "model": "ct-lung-density", "quiet_period_s": 1.0, "when": {"modality": "CT"}}


class Load:
    """Modalities that send images which no route wants, again and again."""

    def __init__(self, folder: Path, port: int) -> None:
        self._folder, self._port = folder, port
        (self._image, *_), _ = chest_ct_phantom("load", slices=2, rows=64, slice_spacing_mm=100.0)
        self._image.Modality = "OT"
        self.acknowledged: list[Path] = []
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Load:
        self._thread.start()
        wait_until(lambda: len(self.acknowledged) >= 2, 60, "the first of the load")
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()

    def _run(self) -> None:
        number = 0
        while not self._is_over.is_set():
            number += 1
            folder = self._folder / f"load-{number}"
            folder.mkdir(parents=True)
            self._image.StudyInstanceUID, self._image.SeriesInstanceUID = new_uid(), new_uid()
            for one in range(4):
                self._image.SOPInstanceUID = self._image.file_meta.MediaStorageSOPInstanceUID = new_uid()
                # What no other image ends with.
                self._image.PixelData = f"{number}-{one} ".encode().ljust(8) * (64 * 64 * 2 // 8)
                self._image.save_as(folder / f"{one}.dcm", enforce_file_format=True)
            if storescu(self._port, folder).returncode == 0:
                self.acknowledged += folder.iterdir()


def command(config: Path, *words: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "dicom_node", *words, *(["--config", str(config)] if words[0] != "restore" else [])],
        cwd=REPOSITORY, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done


#: How both databases are copied and put back is tried in every run by tests/integration/test_backup.py.
DATABASES = amount(["sqlite"], campaign=["sqlite", "postgresql"])


@pytest.fixture(params=DATABASES)
def urls(request: pytest.FixtureRequest) -> Iterator[tuple[str, str]]:
    """The URLs of two databases, of the node and of what is put back; "" is SQLite in the data folder."""
    if request.param == "sqlite":
        yield "", ""
        return
    postgres = request.getfixturevalue("postgres")
    made = postgres.create_database(), postgres.create_database()
    yield made
    for url in made:
        postgres.drop_database(url)


def test_a_backup_under_load_is_put_back_elsewhere_and_nothing_is_lost_or_sent_twice(
    node: Callable[..., Node], orthanc: Orthanc, fhir_server: FhirServer, urls: tuple[str, str], tmp_path: Path
) -> None:
    database = {"url": urls[0]}
    site = open_site(node, orthanc, fhir_server, route=[ROUTE], dicom={"port": free_port()}, database=database)
    delivered, arriving = (SentPhantom.written(tmp_path, name) for name in ("delivered", "arriving"))
    for phantom in (delivered, arriving):
        site.ehr.add_patient(PATIENT_SYSTEM, phantom.patient_id)
    assert storescu(site.node.dicom_port, delivered.folder).returncode == 0
    site.finished(delivered.study_instance_uid)
    command(
        site.node.config, "rules", "suspend", "chest-ct", "--reason", "The second study is analysed after the backup."
    )
    backups = tmp_path / "backups"
    backups.mkdir()
    with Load(tmp_path / "load", site.node.dicom_port) as load:
        assert storescu(site.node.dicom_port, arriving.folder).returncode == 0
        before = list(load.acknowledged)
        made = json.loads(command(site.node.config, "backup", str(backups), "--json").stdout)
    assert made["counts"]["results"] == 1
    assert made["faults"] == []

    # What follows is not in the backup: the second study is analysed, and its results go out.
    command(site.node.config, "rules", "resume", "chest-ct")
    site.finished(arriving.study_instance_uid)
    there, reports = objects_at(orthanc), site.ehr.all("DiagnosticReport")
    site.node.kill9()

    restored = put_back(node, site, backups, urls)
    for phantom in (delivered, arriving):
        wait_until(lambda one=phantom: indexed(restored, one) == 32, 60, "all images to be filed")
        assert len(phantom.kept_by(restored.node.data_dir)) == 32
    kept = {path.read_bytes()[-2048:] for path in (restored.node.data_dir / "spool/objects").rglob("*.dcm")}
    assert {path.read_bytes()[-2048:] for path in before} <= kept

    command(restored.node.config, "rules", "resume", "chest-ct")
    wait_until(lambda: waits_for(restored.node, "pacs") > 0, 120, "results that wait for the PACS", 0.5)
    assert not sent_by(restored.node)
    for name in ("pacs", "ehr"):
        command(restored.node.config, "destinations", "resume", name)
    for phantom in (delivered, arriving):
        assert restored.finished(phantom.study_instance_uid)["study"]["state"] == "REPORTED"
    assert objects_at(orthanc) == there, "the PACS has the same objects, byte by byte"
    assert not sent_by(restored.node)
    assert {one["id"] for one in site.ehr.all("DiagnosticReport")} == {one["id"] for one in reports}
    assert "is at pacs already" in restored.timeline(arriving.study_instance_uid)
    assert json.loads(command(restored.node.config, "audit", "verify", "--json").stdout)["whole"]


def put_back(node: Callable[..., Node], site: Site, backups: Path, urls: tuple[str, str]) -> Site:
    """Restore onto another path, and start a node there with the settings that came with the backup."""
    other = node("elsewhere", start=False)
    options = ("--database", urls[1]) if urls[1] else ()
    command(other.config, "restore", str(backups), "--to", str(other.data_dir), *options)
    came = (other.data_dir / "restored-files" / str(site.node.config).lstrip("/")).read_text()
    for former, present in ((site.node.data_dir, other.data_dir), urls):
        came = came.replace(f'= "{former}"', f'= "{present}"', 1) if former else came
    other.config.write_text(came)
    other.start()
    return Site(other, site.pacs, site.ehr)


def objects_at(pacs: Orthanc) -> dict[str, str]:
    """The digest of every object's file in the PACS."""
    return {
        one: hashlib.sha256(pacs.http.get(f"/instances/{one}/file").content).hexdigest() for one in pacs.instances()
    }


def indexed(site: Site, phantom: SentPhantom) -> int:
    with site.node.api() as api:
        answer = api.get(f"/api/studies/{phantom.study_instance_uid}")
    return 0 if answer.status_code != 200 else sum(one["instances"] for one in answer.json()["series"])


def waits_for(node: Node, name: str) -> int:
    with node.api() as api:
        status = api.get("/api/v1/status").raise_for_status().json()
    assert status["suspended"][name]["by"].startswith("cli:")
    return sum(one["pending"] for one in status["counts"]["destinations"] if one["destination"] == name)


def sent_by(node: Node) -> list[str]:
    """What the node has sent to the PACS since it started."""
    sent = [one for one in node.events() if one["event"] == "object sent"]
    return [one["uid"] for one in sent if one["destination"] == "pacs"]
