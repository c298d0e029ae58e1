"""Every block of commands of the documentation that can run here runs, on a healthy node that lists its peers.

Names that a reader replaces (STUDY, FOLDER, node.local, …) stand for what the fixture has made.
"""

from __future__ import annotations

import csv
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
from PIL import Image
from pydicom.dataset import Dataset

from dicom_node.core.principal import NODE
from dicom_node.demo.phantoms import chest_ct_phantom, chest_radiograph_phantom
from dicom_node.index.drift.stops import stop_route
from tests.peers.dcmtk import running_storescp
from tests.peers.mail_server import running_mail_server
from tests.peers.node import Node
from tests.peers.process import wait_until
from tests.support.docs.commands import NOT_RUN, PAGES, Block, blocks
from tests.support.docs.model_page import write_example
from tests.support.needs import REPOSITORY
from tests.support.results.arrivals import opened_database

BLOCKS = list(blocks())
#: Moved to shadow, so that it can be restored.
_STOPPED = "stopped-route"
#: Loading torch and MONAI on a busy machine takes its time, once for each command that needs them.
pytestmark = pytest.mark.timeout(900)


@dataclass(frozen=True, slots=True)
class Site:
    """A folder with a running node, and what the words of the pages stand for in it."""

    folder: Path
    meanings: Mapping[str, str]
    environment: Mapping[str, str]

    def run(self, script: str) -> subprocess.CompletedProcess[str]:
        """Run a script as a reader would, with their words in place of the page's."""
        names = "|".join(sorted(map(re.escape, self.meanings), key=len, reverse=True))
        meant = re.sub(rf"(?<![\w/.-])({names})(?![\w-])", lambda found: self.meanings[found[1]], script)
        return subprocess.run(
            ["bash", "-euo", "pipefail", "-c", meant],
            cwd=self.folder,
            env=dict(self.environment),
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    with running_storescp(folder / "pacs", aet="PACS") as pacs, running_mail_server(None) as mail:
        node = Node(folder, _settings(pacs.port, mail.port))
        node.start()
        try:
            made = Site(folder, _meanings(folder, node, pacs.port), _environment(folder, node))
            _prepare(made, node)
            yield made
        finally:
            node.kill9()


@pytest.mark.parametrize("block", [one for one in BLOCKS if one.first not in NOT_RUN], ids=lambda one: one.first)
def test_a_documented_command_succeeds(site: Site, block: Block) -> None:
    done = site.run(block.script)

    assert done.returncode == 0, f"{block.page}:\n{block.script}\n{done.stdout}\n{done.stderr}"


def test_a_command_that_fails_fails(site: Site) -> None:
    assert site.run("dicom-node status --config node.toml 1.2.3\ntrue").returncode != 0


def test_the_table_of_what_is_not_run_is_up_to_date() -> None:
    assert set(NOT_RUN) - {one.first for one in BLOCKS} == set()


def test_every_block_is_found() -> None:
    fences = [line.strip() for page in PAGES for line in page.read_text(encoding="utf-8").splitlines() if "```" in line]

    assert len(BLOCKS) == sum(fence in {"```sh", "```console"} for fence in fences) > 20
    assert not {"```bash", "```shell", "```python-console"}.intersection(fences), "which would not be found"


# --- the site: what a reader has before the pages begin -------------------------------------------------------------


def _settings(pacs_port: int, mail_port: int) -> Mapping[str, object]:
    peers = [{"ae_title": "CT1", "host": "127.0.0.1"}]
    pacs = {"name": "pacs", "kind": "dicom", "ae_title": "PACS", "host": "127.0.0.1", "port": pacs_port}
    route = {"name": "chest-ct", "model": "ct-lung-density", "when": {"modality": "CT"}, "quiet_period_s": 0.5}
    hl7 = {"port": 0, "patient_authority": "HOSPITAL"}
    mail = {"name": "it", "kind": "email", "host": "127.0.0.1", "port": mail_port, "tls": "none",
            "sender": "ai@hospital.example", "to": ["it@hospital.example"]}  # fmt: skip
    return {
        "hl7": hl7,
        "reports": {"hl7": True},
        "metrics": {"port": 0},
        "peer": peers,
        "destination": [pacs],
        "route": [route],
        "alarm": [mail],
    }


def _meanings(folder: Path, node: Node, pacs_port: int) -> Mapping[str, str]:
    return {
        "STUDY": str(_phantom()[0].StudyInstanceUID),
        "FOLDER": "study",
        "IMAGES": "images",
        "MODEL": "two-classes",
        "BUNDLE": "two-classes",
        "NAME": "two-classes",
        "ROUTE": _STOPPED,
        "pacs.local:104": f"127.0.0.1:{pacs_port}",
        "node.local:11112": f"127.0.0.1:{node.dicom_port}",
        "node.local 11112": f"127.0.0.1 {node.dicom_port}",
        "2575": str(node.ports["hl7"]),
        "http://127.0.0.1:8042": f"http://127.0.0.1:{node.api_port}",
        "http://127.0.0.1:9464": f"http://127.0.0.1:{node.ports['metrics']}",
        "/var/lib/dicom-node": str(node.data_dir),
        "'/backup": f"'{folder / 'backup'}",
        "/backup": str(folder / "backup"),
    }


def _environment(folder: Path, node: Node) -> Mapping[str, str]:
    """The node's program, first on the path and at `.venv/bin`, as it is where the node is installed."""
    program = folder / ".venv" / "bin" / "dicom-node"
    program.parent.mkdir(parents=True)
    program.write_text(
        f'#!/bin/sh\nPYTHONPATH="{REPOSITORY}:$PYTHONPATH" exec {sys.executable} -m dicom_node "$@"\n', encoding="utf-8"
    )
    program.chmod(0o755)
    path = f"{program.parent}:{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "TOKEN": node.api_token, "PYTHONPATH": "", "PYTHONDONTWRITEBYTECODE": "1"}


def _phantom() -> list[Dataset]:
    return chest_ct_phantom("documented", slices=32, rows=128, slice_spacing_mm=10.0)[0]


def _prepare(site: Site, node: Node) -> None:
    """Make the reader's files, and have one study analysed."""
    for number, dataset in enumerate(_phantom()):
        _save(dataset, site.folder / "study" / f"{number}.dcm")
    _save(_phantom()[0], site.folder / "image.dcm")
    with zipfile.ZipFile(site.folder / "study.zip", "w") as archive:
        archive.write(site.folder / "image.dcm", "image.dcm")
    Image.new("L", (64, 64), 128).save(site.folder / "film.jpeg")
    (site.folder / "backup").mkdir()
    for rules in (REPOSITORY / "deploy" / "prometheus").iterdir():
        shutil.copy(rules, site.folder)
    _make_labelled_images(site.folder)
    _make_models(site)
    sent = site.run("dicom-node send study --from CT1 --to AINODE@node.local:11112")
    assert sent.returncode == 0, sent.stdout + sent.stderr
    wait_until(lambda: _is_reported(node), 120.0, "the study to be reported", 0.5)
    with opened_database(f"sqlite:///{node.data_dir / 'node.sqlite'}") as index, index.write() as connection:
        stop_route(connection, _STOPPED, ("Its scanner drifted.", {}), NODE, datetime.now(UTC))


def _is_reported(node: Node) -> bool:
    with node.api() as api:
        return [study["state"] for study in api.get("/api/studies").json()["studies"]] == ["REPORTED"]


def _make_labelled_images(folder: Path) -> None:
    rows = []
    for number in range(4):
        name = f"{number}.dcm"
        _save(chest_radiograph_phantom(str(number), rows=128), folder / "images" / name)
        rows.append({"image": name, "label": number % 2, "sex": "FM"[number % 2], "age": 3 + number})
    with (folder / "labels.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def _make_models(site: Site) -> None:
    """Write the examples of the page on models, the first one with weights."""
    write_example("a Python function", site.folder)
    folder = write_example("a bundle from nothing", site.folder / "two-classes")
    environment = {**site.environment, "PYTHONPATH": str(REPOSITORY)}
    subprocess.run([sys.executable, "make_weights.py"], cwd=folder, env=environment, check=True, capture_output=True)
    (folder / "make_weights.py").unlink()
    weights = subprocess.run(
        ["sha256sum", "models/model.safetensors"], cwd=folder, check=True, capture_output=True, text=True
    )
    card = folder / "model_card.toml"
    card.write_text(card.read_text().replace('sha256 = ""', f'sha256 = "{weights.stdout.split()[0]}"'))


def _save(dataset: Dataset, path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
