"""The Debian package in a bare Debian, by the pages: installed, set up, at work, upgraded, back, gone.

A long proof: a package with all its libraries is made, and a root by debootstrap. One test after the other looks
at the same machine.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

from dicom_node import __version__
from tests.peers.dcmtk import Receiver, running_storescp, storescu
from tests.peers.node import to_toml
from tests.peers.process import free_port, listens, wait_until
from tests.support.docs.commands import blocks
from tests.support.install.bare_root import BareRoot, bare_root
from tests.support.install.package import build_package, tree_of_version
from tests.support.studies.data_factories import small_chest_ct
from tools.service_libraries import service_libraries

pytestmark = [
    pytest.mark.campaign(only=True),  # minutes of network and disk
    pytest.mark.timeout(3600),
]

OLDER = "0.1.9"
ANALYSED_S = 300.0
SETTINGS, DATA, BACKUPS = "etc/dicom-node/node.toml", "var/lib/dicom-node", "var/backups/dicom-node"


@dataclass(frozen=True, slots=True)
class Machine:
    """A bare Debian with two packages in root's home, and a PACS at its loopback address."""

    root: BareRoot
    packages: dict[str, Path]
    pacs: Receiver
    port: int

    def as_documented(self, page: str, first: str, version: str = __version__, **meanings: str) -> str:
        """Run a block of a page, with what its words mean here."""
        (script,) = {one.script for one in blocks() if one.page == page and one.first == first}
        for word, meaning in {"0.2.0": version, **meanings}.items():
            script = script.replace(word, meaning)
        return self.root.run(f"cd\n{script}")

    def node(self, *arguments: str) -> str:
        """Run a command of the node as its user."""
        return self.root.run(f"cd /{DATA} && runuser -u dicom-node -- dicom-node {' '.join(arguments)}")

    def wait_until_serving(self) -> None:
        wait_until(lambda: self.root.service is not None and listens(self.port), 180, "the node to listen", 0.3)

    def analyse(self, name: str) -> None:
        """Send a study as a modality does, and wait for its report at the PACS."""
        images = small_chest_ct(name)[0]
        with tempfile.TemporaryDirectory() as folder:
            for number, image in enumerate(images):
                image.save_as(Path(folder, f"{number}.dcm"), enforce_file_format=True)
            sent = storescu(self.port, Path(folder))
        assert sent.returncode == 0, sent.stdout + self.root.log()
        wait_until(lambda: self.reports_of(name) > 0, ANALYSED_S, "the report at the PACS", 0.5)

    def reports_of(self, name: str) -> int:
        uid = study_of(name)
        return len([one for one in self.pacs.datasets() if one.StudyInstanceUID == uid and one.Modality == "SR"])

    def is_reported(self, name: str) -> bool:
        return "REPORTED" in self.node("status", "--config", f"/{SETTINGS}", study_of(name))


def study_of(name: str) -> str:
    return str(small_chest_ct(name)[0][0].StudyInstanceUID)


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    folder = tmp_path_factory.mktemp("bare")
    with ExitStack() as stack:
        root = stack.enter_context(bare_root())
        package = build_package(folder)
        older = tree_of_version(OLDER, package, folder / "older")
        packages = {__version__: package, OLDER: build_package(folder, stage=older, version=OLDER)}
        for package in packages.values():
            (root / "root" / package.name).hardlink_to(package)
        (root / "etc/apt/apt.conf.d/90unattended").write_text('APT::Get::Assume-Yes "true";\n', encoding="utf-8")
        pacs = stack.enter_context(running_storescp(folder / "pacs", "--unique-filenames", aet="PACS"))
        yield Machine(root, packages, pacs, free_port())


def test_installed_by_the_page_it_starts_nothing_and_tells_what_comes_next(machine: Machine) -> None:
    told = machine.as_documented("install.md", "apt install ./dicom-node_0.2.0_amd64.deb", OLDER)

    assert "systemctl enable --now dicom-node" in told
    assert machine.root.attempt("systemctl is-enabled dicom-node").stdout.strip() == "disabled"
    looked = machine.root.run(f"stat --format '%n %A %U %G' /etc/dicom-node /{SETTINGS} /{DATA} /{BACKUPS}")
    assert looked.splitlines() == [
        "/etc/dicom-node drwxr-x--- root dicom-node",
        f"/{SETTINGS} -rw-r----- root dicom-node",
        f"/{DATA} drwx------ dicom-node dicom-node",
        f"/{BACKUPS} drwx------ dicom-node dicom-node",
    ]
    assert machine.node("--version").strip().endswith(OLDER)


def test_systemd_finds_no_fault_in_the_installed_unit_and_little_exposed(machine: Machine) -> None:
    unit = "/lib/systemd/system/dicom-node.service"

    assert machine.root.run(f"systemd-analyze verify {unit}") == ""
    told = machine.root.run(f"systemd-analyze security --no-pager --offline=true {unit}")
    (exposure,) = re.findall(r"Overall exposure level for dicom-node.service: ([0-9.]+)", told)
    assert float(exposure) <= 2.5


def test_every_library_finds_what_it_is_linked_with_in_the_packages_that_this_one_asks_for(machine: Machine) -> None:
    """Or beside it: a wheel that brings a library loads it by itself."""
    libraries = "find -L /opt/dicom-node/current/lib -name '*.so*' -type f"
    looked = machine.root.run(f"{libraries} | xargs ldd 2>/dev/null | grep 'not found' || true")
    brought = machine.root.run(f"{libraries} -printf '%f\\n'").split()

    assert len(brought) > 100
    assert {line.split()[0] for line in looked.splitlines()} - set(brought) == set()


def test_its_bill_of_materials_names_every_library(machine: Machine) -> None:
    bill = machine.root / "opt/dicom-node/current/share/dicom-node/sbom.cdx.json"

    named = {canonicalize_name(one["name"]) for one in json.loads(bill.read_text(encoding="utf-8"))["components"]}
    assert set(service_libraries()) <= named


def test_set_up_by_the_page_it_serves_as_its_user_and_the_result_of_a_study_comes_back(machine: Machine) -> None:
    machine.root.pretend_systemd()
    route = {"name": "chest-ct", "model": "ct-lung-density", "when": {"modality": "CT"}, "quiet_period_s": 0.5}
    pacs = {"name": "pacs", "kind": "dicom", "ae_title": "PACS", "host": "127.0.0.1", "port": machine.pacs.port}
    settings = {
        "node": {"data_dir": f"/{DATA}", "min_free_mb": 0},
        "dicom": {"port": machine.port, "journal_mb": 16},
        "api": {"port": free_port()},
        "destination": [pacs],
        "route": [route],
    }
    edited = machine.root / "root/edited.toml"
    edited.write_text(to_toml(settings), encoding="utf-8")

    machine.as_documented("install.md", f"editor /{SETTINGS}", editor=f"cp {edited.name}")

    machine.wait_until_serving()
    status = Path(f"/proc/{machine.root.service}/status").read_text(encoding="ascii")
    (number,) = re.findall(r"^Uid:\t(\d+)", status, re.MULTILINE)
    assert machine.root.run("id --user dicom-node").strip() == number != "0"
    machine.analyse("first")
    assert machine.is_reported("first")


def test_an_upgrade_whose_backup_fails_is_none_and_the_old_version_goes_on(machine: Machine) -> None:
    defaults = machine.root / "etc/default/dicom-node"
    kept = defaults.read_text(encoding="utf-8")
    defaults.write_text("BACKUP_FOLDER=/not/mounted\n", encoding="utf-8")

    ended = machine.root.attempt(f"apt-get install ./root/{machine.packages[__version__].name}")
    defaults.write_text(kept, encoding="utf-8")

    assert ended.returncode != 0
    assert "there is no folder /not/mounted for the backup" in ended.stdout
    machine.wait_until_serving()
    assert machine.node("--version").strip().endswith(OLDER)


def test_upgraded_by_the_page_it_was_stopped_and_backed_up_before_and_knows_all_that_it_knew(machine: Machine) -> None:
    settings = (machine.root / SETTINGS).read_bytes()

    machine.as_documented("upgrade.md", "apt install ./dicom-node_0.2.0_amd64.deb")

    machine.wait_until_serving()
    assert f"stopped dicom-node {OLDER}" in (machine.root / "var/log/dicom-node.log").read_text(encoding="utf-8")
    assert machine.node("--version").strip().endswith(__version__)
    assert [one["version"] for one in snapshots(machine)] == [OLDER]
    assert (machine.root / SETTINGS).read_bytes() == settings
    assert [one.name for one in (machine.root / "opt/dicom-node/releases").iterdir()] == [__version__]
    machine.analyse("second")
    assert machine.is_reported("first")
    assert machine.reports_of("first") == machine.reports_of("second") == 1


def snapshots(machine: Machine) -> list[dict[str, str]]:
    return list(json.loads(machine.node("backup", f"/{BACKUPS}", "--list", "--json")))


def test_back_by_the_page_it_is_what_it_was_before_the_upgrade(machine: Machine) -> None:
    (snapshot,) = [one["snapshot"] for one in snapshots(machine) if one["version"] == OLDER]

    machine.as_documented("upgrade.md", "systemctl disable --now dicom-node", OLDER, SNAPSHOT=snapshot)

    machine.wait_until_serving()
    assert machine.node("--version").strip().endswith(OLDER)
    assert machine.is_reported("first")
    asked = f"cd /{DATA} && runuser -u dicom-node -- dicom-node status --config /{SETTINGS} {study_of('second')}"
    assert machine.root.attempt(asked).returncode != 0, "it came after the backup"
    machine.node("destinations", "resume", "--config", f"/{SETTINGS}", "pacs")
    machine.analyse("third")
    assert machine.reports_of("first") == 1, "nothing is sent twice"


def test_removed_by_the_page_its_settings_and_data_stay_and_purged_only_the_data_and_it_says_where(
    machine: Machine,
) -> None:
    machine.as_documented("uninstall.md", "apt remove dicom-node")

    assert machine.root.service is None
    left = machine.root.run(f"ls -d /opt/dicom-node /usr/bin/dicom-node /{SETTINGS} /{DATA}/node.sqlite || true")
    assert [one for one in left.splitlines() if "cannot access" not in one] == [f"/{SETTINGS}", f"/{DATA}/node.sqlite"]

    told = machine.root.run("apt purge dicom-node")

    assert f"/{DATA}" in told
    assert (machine.root / DATA / "node.sqlite").exists()
    assert not (machine.root / "etc/dicom-node").exists()
    assert not (machine.root / "etc/default/dicom-node").exists()
    assert machine.root.run("dpkg --list dicom-node 2>/dev/null | grep ^ii || true") == ""
