"""A node between DCMTK's senders and Orthanc that has met every stage: what came, what was refused, runs of every
outcome, deliveries that arrive and that do not. A Prometheus has watched it from its start, and a
collector of traces has listened."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import psutil
from pydicom import Dataset

from dicom_node.demo.phantoms import chest_ct_phantom
from dicom_node.index.retention.disk import keep_sample
from tests.peers import dcmtk
from tests.peers.certificates import make_certificates
from tests.peers.node import Node
from tests.peers.orthanc import Orthanc, running_orthanc
from tests.peers.otlp import Collector, running_collector
from tests.peers.process import free_port, wait_until
from tests.peers.prometheus import Prometheus, running_prometheus
from tests.peers.time_server import time_server
from tests.support.hl7.messages import message, order
from tests.support.hl7.peers import code, send
from tests.support.models.model_folders import write_card
from tests.support.needs import REPOSITORY
from tests.support.results.arrivals import opened_database

LIMIT_S = 120.0
_SAMPLE = re.compile(r"^([a-z0-9_]+)(?:\{(.*)\})? (\S+)$")
_LABEL = re.compile(r'([a-z_]+)="([^"]*)"')

Labels = frozenset[tuple[str, str]]


@dataclass
class MeasuredSite:
    """The node, who watches it, and the port where its second destination would listen."""

    node: Node
    prometheus: Prometheus
    collector: Collector
    away_port: int
    folder: Path
    studies: dict[str, str] = field(default_factory=dict)

    @property
    def metrics_url(self) -> str:
        return f"http://127.0.0.1:{self.node.ports['metrics']}/metrics"

    def text(self, accept: str = "") -> httpx.Response:
        return httpx.get(self.metrics_url, headers={"Accept": accept}, timeout=60, trust_env=False)

    def samples(self) -> dict[str, dict[Labels, float]]:
        """Every value by the name of its series and its labels."""
        return parsed(self.text().raise_for_status().text)

    def value(self, name: str, **labels: str) -> float:
        """The sum of the series of this name with these labels."""
        wanted = frozenset(labels.items())
        return sum(value for have, value in self.samples().get(name, {}).items() if wanted <= have)

    def send(self, doing: str, slices: int = 2) -> None:
        """Send a study whose model is to do this, by DCMTK."""
        images, _ = chest_ct_phantom(doing, slices=slices, rows=32)
        for image in images:
            image.StudyDescription = f"CT Thorax {doing}"
            if doing == "declines":
                image.Manufacturer, image.QualityControlSubject = "ACME", "YES"
        if doing == "confuses":
            images[-1].PatientID = "ANOTHER"
        self.studies[doing] = str(images[0].StudyInstanceUID)
        done = dcmtk.storescu(self.node.dicom_port, saved(images, self.folder / doing), calling="CT1")
        assert done.returncode == 0, done.stdout


def parsed(text: str) -> dict[str, dict[Labels, float]]:
    found: dict[str, dict[Labels, float]] = {}
    for line in text.splitlines():
        if not line.startswith("#"):
            match = _SAMPLE.match(line)
            assert match, line
            found.setdefault(match[1], {})[frozenset(_LABEL.findall(match[2] or ""))] = float(match[3])
    return found


def saved(images: list[Dataset], folder: Path) -> Path:
    folder.mkdir()
    for number, image in enumerate(images):
        image.save_as(folder / f"{number}.dcm", enforce_file_format=True)
    return folder


def settings(folder: Path, pacs: Orthanc, away_port: int, time_port: int) -> Mapping[str, object]:
    certificates = make_certificates(folder / "tls")
    there = {"kind": "dicom", "host": "127.0.0.1", "verify": "none"}
    return {
        "node": {"min_free_mb": 1},
        "inference": {"models_dirs": [str(folder / "models")], "require_activation": "none", "max_attempts": 1,
                      "device": "cpu", "workers": 1},
        "peer": [{"ae_title": "CT1", "host": "127.0.0.1"}],
        "dicom_tls": {"port": 0, "certificate": str(certificates.server.certificate),
                      "private_key": str(certificates.server.private_key), "client_certificate": "none"},
        "time": {"servers": [f"127.0.0.1:{time_port}"]},
        "metrics": {"port": free_port()},
        "hl7": {"port": 0, "patient_authority": "HOSP"},
        "destination": [{"name": "pacs", "ae_title": pacs.aet, "port": pacs.dicom_port, **there},
                        {"name": "away", "ae_title": "AWAY", "port": away_port, **there}],
        "route": [{"name": "chest", "model": "quoting", "quiet_period_s": 0.5, "when": {"modality": "CT"}}],
    }  # fmt: skip


@contextmanager
def measured_site(folder: Path) -> Iterator[MeasuredSite]:
    with ExitStack() as stack:
        (folder / "pacs").mkdir()
        (folder / "tls").mkdir()
        pacs = stack.enter_context(running_orthanc(folder / "pacs"))
        away_port, clock = free_port(), stack.enter_context(time_server())
        write_card(
            folder / "models" / "quoting", "python", task="measurement", more="",
            top='entry_point = "tests.integration.quoting_model:analyse"\n[[accepts]]\nmodality = "CT"',
        )  # fmt: skip
        collector = stack.enter_context(running_collector())
        traced = {"traces": {"endpoint": collector.endpoint}}
        node = Node(folder / "node", {**settings(folder, pacs, away_port, clock.port), **traced})
        accept = ["models", "accept", "quoting", "--config", str(node.config)]
        subprocess.run([sys.executable, "-m", "dicom_node", *accept], cwd=REPOSITORY, check=True, capture_output=True)
        fill_the_disk_day_by_day(node)
        node.start({"PATH": f"{driver_of_two_gpus(folder / 'driver')}:{os.environ['PATH']}"})
        stack.callback(node.kill9)
        rules = folder / "rules.yml"
        text = (REPOSITORY / "deploy" / "prometheus" / "alerts.yml").read_text(encoding="utf-8")
        rules.write_text(re.sub(r"for: \d+[mh]", "for: 1s", text), encoding="utf-8")
        (folder / "prometheus").mkdir()
        target = f"127.0.0.1:{node.ports['metrics']}"
        prometheus = stack.enter_context(running_prometheus(folder / "prometheus", target, rules))
        site = MeasuredSite(node, prometheus, collector, away_port, folder)
        go_through_all(site)
        yield site


def driver_of_two_gpus(folder: Path) -> Path:
    """Make a program that answers as that of the driver does where there is a GPU, and one that tells no memory."""
    folder.mkdir()
    program = folder / "nvidia-smi"
    program.write_text("#!/bin/sh\necho '0, 1024, 143771'\necho '1, [N/A], [N/A]'\n", encoding="utf-8")
    program.chmod(0o755)
    return folder


def fill_the_disk_day_by_day(node: Node) -> None:
    """Have the node's index know a disk that took a gigabyte more on each of the last ten days."""
    now = datetime.now(UTC)
    with opened_database(f"sqlite:///{node.data_dir / 'node.sqlite'}") as database, database.write() as connection:
        for day in range(10, 0, -1):
            keep_sample(connection, (100 - day) << 30, 1 << 40, now - timedelta(days=day))


def go_through_all(site: MeasuredSite) -> None:
    """Have every stage happen that is measured."""
    hl7_port = site.node.ports["hl7"]
    assert code(send(hl7_port, order("A1"))) == "AA"
    assert code(send(hl7_port, message("MDM^T02", control_id="M1"))) == "AR"
    for doing in ("reads", "dies", "confuses", "declines"):
        site.send(doing)
    images, _ = chest_ct_phantom("files", slices=2, rows=32)
    (one, two) = sorted(saved(images, site.folder / "files").iterdir())
    with site.node.api() as api:
        api.post("/api/v1/studies", files={"files": ("one.dcm", one.read_bytes())}).raise_for_status()
    assert dcmtk.storescu(site.node.dicom_port, one, calling="STRANGER").returncode != 0
    wrong_uid(two, site.folder / "wrong.dcm")
    dcmtk.storescu(site.node.dicom_port, site.folder / "wrong.dcm", calling="CT1")
    wait_until(lambda: all_ended(site), LIMIT_S, "the end of every study", 0.3)
    wait_until(lambda: site.value("dicom_node_deliveries_total", destination="pacs", outcome="sent") > 0, LIMIT_S,
               "a result in the PACS")  # fmt: skip
    wait_until(lambda: site.value("dicom_node_objects_refused_total") > 0, LIMIT_S, "the acceptor's counts")
    kill_acceptor(site)


def wrong_uid(image: Path, to: Path) -> None:
    """Write an image whose data set has no valid Study Instance UID."""
    import pydicom  # noqa: PLC0415

    dataset = pydicom.dcmread(image)
    dataset.StudyInstanceUID = ""
    dataset.save_as(to, enforce_file_format=True)


def all_ended(site: MeasuredSite) -> bool:
    with site.node.api() as api:
        listed = api.get("/api/v1/studies").raise_for_status().json()["studies"]
    states = {one["study_instance_uid"]: one["state"] for one in listed}
    return all(states.get(uid) in {"REPORTED", "NOT_ANALYSED", "FAILED"} for uid in site.studies.values())


def kill_acceptor(site: MeasuredSite) -> None:
    """End the process that serves the DICOM ports, as a crash would, and wait until another one does."""
    assert site.node.process is not None
    family = psutil.Process(site.node.process.pid).children(recursive=True)
    (acceptor,) = [one for one in family if "dicom_node.receive.acceptor.acceptor" in one.cmdline()]
    acceptor.send_signal(signal.SIGKILL)
    wait_until(lambda: dcmtk.echoscu(site.node.dicom_port, calling="CT1").returncode == 0, LIMIT_S, "another acceptor")
