"""The node as `make install` lays it down: what lies where, and that the unit's command serves as its user."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import sqlalchemy
from packaging.utils import canonicalize_name

from dicom_node import __version__
from dicom_node.roles.settings import load_settings
from dicom_node.sandbox.confinement import lacking
from tests.peers.dcmtk import running_storescp, storescu
from tests.peers.node import to_toml
from tests.peers.process import Process, wait_until
from tests.support.install.containers import Container, StartedContainer, of_cluster, of_compose, of_image
from tests.support.install.tree import SERVICE_USER, InstalledTree, installed_tree, make
from tests.support.install.unit_file import UnitFile
from tests.support.needs import REPOSITORY, absent
from tests.support.studies.data_factories import small_chest_ct
from tests.unit.test_packaging import tracked_files
from tools.sbom import write
from tools.service_libraries import service_libraries

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def tree() -> Iterator[InstalledTree]:
    if os.getuid() != 0:
        absent("only root can start the service as another user")
    with installed_tree() as made:
        yield made


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_the_service_finds_its_files_where_the_unit_names_them(tree: InstalledTree) -> None:
    program, *rest = UnitFile.read(tree.unit).command
    command = tree.root / "usr/local/bin/dicom-node"

    assert (tree.root / program[1:]).is_file()
    assert (
        (tree.release / "bin/dicom-node")
        .read_text(encoding="utf-8")
        .startswith(f"#!/opt/dicom-node/releases/{__version__}/bin/python\n")
    ), "the place where the tree will lie"
    assert str(command.readlink()) == program
    assert rest == ["serve", "--config", "/etc/dicom-node/node.toml"]
    assert (mode(tree.config.parent), mode(tree.config), mode(tree.data_dir)) == (0o750, 0o640, 0o700)


def test_nothing_for_tests_is_installed(tree: InstalledTree) -> None:
    names = {path.name for path in tree.release.glob("lib/python3*/site-packages/*")}

    assert {"dicom_node", f"dicom_node-{__version__}.dist-info"} <= names
    assert not names & {"tests", "benchmarks", "tools", "pytest", "ruff", "mypy"}


def test_the_bill_of_materials_names_every_distribution_of_the_service(tree: InstalledTree, tmp_path: Path) -> None:
    bill = tmp_path / "sbom.cdx.json"

    write(tree.release / "bin/python", bill)

    told = json.loads(bill.read_text(encoding="utf-8"))

    listing = [str(tree.release / "bin/python"), "-m", "pip", "list", "--format", "json"]
    installed = {
        (canonicalize_name(one["name"]), one["version"])
        for one in json.loads(subprocess.run(listing, capture_output=True, text=True, check=True).stdout)
    }
    named = {(canonicalize_name(one["name"]), one["version"]) for one in told["components"]}
    root = told["metadata"]["component"]
    assert told["bomFormat"] == "CycloneDX"
    assert installed == named | {(root["name"], __version__)}
    assert {name for name, _ in installed} > set(service_libraries()) | {"dicom-node"}
    without_licence = {one["name"] for one in told["components"] if not one.get("licenses")}
    assert without_licence == set(), "on which terms a site may pass it on must be seen"


def test_the_example_of_settings_can_be_used_as_it_is_and_with_every_example_in_it_switched_on(tmp_path: Path) -> None:
    example = (REPOSITORY / "deploy/node.toml").read_text(encoding="utf-8")
    switched_on = re.sub(r"^# (?=\[|\w+ = )", "", example, flags=re.MULTILINE)
    whole = tmp_path / "node.toml"
    whole.write_text(switched_on, encoding="utf-8")

    assert load_settings(REPOSITORY / "deploy/node.toml", {}).node.data_dir == Path("/var/lib/dicom-node")
    settings = load_settings(whole, {})
    assert [one.name for one in settings.destination] == ["pacs", "ehr"]
    assert [one.name for one in settings.route] == ["chest-ct"]
    assert len(settings.peer) == 1


def test_the_units_command_analyses_a_study_as_its_user_under_the_limits_of_the_unit(
    tree: InstalledTree, tmp_path: Path
) -> None:
    with running_storescp(tmp_path / "pacs", aet="PACS") as pacs:
        confine = "auto" if lacking() else "require"
        tree.config.write_text(
            to_toml(
                {
                    "node": {"data_dir": "/var/lib/dicom-node", "min_free_mb": 0},
                    "dicom": {"port": 0, "journal_mb": 16},
                    "api": {"port": 0},
                    "inference": {"confine": confine},
                    "destination": [
                        {"name": "pacs", "kind": "dicom", "ae_title": "PACS", "host": "127.0.0.1", "port": pacs.port}
                    ],
                    "route": [
                        {"name": "chest-ct", "model": "ct-lung-density", "when": {"modality": "CT"},
                         "quiet_period_s": 0.5}
                    ],
                }
            ),
            encoding="utf-8",
        )  # fmt: skip
        shutil.chown(tree.config.parent, group="nogroup")
        shutil.chown(tree.config, group="nogroup")
        service = _start(tree, tmp_path)
        try:
            service.wait_until_ready((tree.data_dir / "ports.json").exists, 180)
            _looks_as_the_unit_says(service, tree)
            (tmp_path / "study").mkdir()
            for number, image in enumerate(small_chest_ct("installed")[0]):
                image.save_as(tmp_path / "study" / f"{number}.dcm", enforce_file_format=True)
            ports = json.loads((tree.data_dir / "ports.json").read_text(encoding="utf-8"))
            sent = storescu(ports["dicom"], tmp_path / "study")
            assert sent.returncode == 0, sent.stdout
            wait_until(lambda: "SR" in {one.Modality for one in pacs.datasets()}, 240, "the report at the PACS", 0.5)
            doctor = tree.run("doctor", "--config", str(tree.config))
        finally:
            status = service.stop()

    assert status == 0, service.tail()
    assert "models confined" in doctor.stdout, doctor.stdout + doctor.stderr
    assert tree.run("--version").stdout.strip().endswith(__version__)


def _start(tree: InstalledTree, folder: Path) -> Process:
    """Start the unit's command as systemd would, with the data below the tree."""
    command = ["unshare", "--mount", "--ipc", "--uts", sys.executable, "-m", "tests.support.install.as_systemd"]
    environment = {"PYTHONPATH": str(REPOSITORY), "DICOM_NODE__NODE__DATA_DIR": str(tree.data_dir)}
    return Process([*command, str(tree.unit), str(tree.root), SERVICE_USER], folder / "service.log", environment)


def _looks_as_the_unit_says(service: Process, tree: InstalledTree) -> None:
    """What the kernel says of the process that runs."""
    told = Path(f"/proc/{service.pid}/status").read_text(encoding="ascii")
    status = dict(line.split(":\t", 1) for line in told.splitlines())
    limits = Path(f"/proc/{service.pid}/limits").read_text(encoding="ascii")
    assert status["Uid"].split() == [str(shutil._get_uid(SERVICE_USER))] * 4  # type: ignore[attr-defined]
    assert status["Groups"].split() == []
    assert (status["CapBnd"], status["NoNewPrivs"], status["Seccomp"]) == ("0" * 16, "1", "2")
    assert status["Umask"] == "0077"
    assert re.search(r"^Max open files +8192 +8192", limits, re.MULTILINE)
    assert Path(f"/proc/{service.pid}/cwd").readlink() == tree.data_dir
    others = subprocess.run(
        ["nsenter", "--target", str(service.pid), "--mount", "touch", str(tree.root / "elsewhere")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "Read-only file system" in others.stderr, "only the state folder can be written"


@pytest.mark.parametrize("container", [of_image(), of_compose(), of_cluster()], ids=["image", "compose", "cluster"])
def test_what_a_container_would_start_serves_and_its_probes_find_it_well(
    tree: InstalledTree, container: Container, request: pytest.FixtureRequest
) -> None:
    elsewhere = {}
    if "DICOM_NODE__DATABASE__URL" in container.environment:
        elsewhere["DICOM_NODE__DATABASE__URL"] = _by_its_socket(request.getfixturevalue("postgres_url"))
    place = Path(tempfile.mkdtemp(prefix="dicom-node-container-", dir="/var/tmp"))
    place.chmod(0o755)
    try:
        started = StartedContainer(container, tree, place, elsewhere)
        try:
            started.wait_until_serving()
            for name, probe in container.probes.items():
                wait_until(partial(started.is_well, probe), 60, f"the probe {name} to find it well", 0.5)
        finally:
            status = started.process.stop()
        assert status == 0, started.process.tail()
        assert not started.is_well(next(iter(container.probes.values()))), "a probe that cannot fail"
    finally:
        shutil.rmtree(place)


def _by_its_socket(url: str) -> str:
    """The database from a network of its own: by its socket among the files, which everybody may use then."""
    made = sqlalchemy.make_url(url)
    (socket,) = Path(tempfile.gettempdir()).glob(f"dicom-node-postgres-*/.s.PGSQL.{made.port}")
    socket.parent.chmod(0o711)
    return f"postgresql+psycopg2://{made.username}@/{made.database}?host={socket.parent}&port={made.port}"


def test_a_newer_version_lies_beside_the_old_one_and_the_settings_stay_and_a_link_is_the_way_back(
    tree: InstalledTree, tmp_path: Path
) -> None:
    for name in tracked_files():
        if not name.startswith(("tests/", "docs/")):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(REPOSITORY / name, tmp_path / name, follow_symlinks=False)
    for file in ("pyproject.toml", "dicom_node/__init__.py"):
        text = (tmp_path / file).read_text(encoding="utf-8")
        (tmp_path / file).write_text(text.replace(f'"{__version__}"', '"99.0.0"', 1), encoding="utf-8")
    settings = tree.config.read_bytes()
    links = tree.root / "opt/dicom-node"

    make("install", tree.root, "PIP_ARGS=--no-deps", f"PYTHON={tree.release}/bin/python", checkout=tmp_path)

    assert [(links / one).readlink() for one in ("current", "previous")] == [
        Path("releases/99.0.0"), Path(f"releases/{__version__}"),
    ]  # fmt: skip
    assert tree.config.read_bytes() == settings
    page = (REPOSITORY / "docs/how-to/upgrade.md").read_text(encoding="utf-8")
    (way_back,) = [line for line in page.splitlines() if line.startswith("ln -sfn")]
    subprocess.run(["sh", "-c", way_back.replace("/opt/dicom-node", str(links))], check=True)
    assert tree.run("--version").stdout.strip().endswith(__version__)


def test_uninstalled_the_data_and_the_settings_stay_and_it_says_where(tree: InstalledTree) -> None:
    """The last one: it takes the tree away."""
    told = make("uninstall", tree.root)

    left = sorted(str(path.relative_to(tree.root)) for path in tree.root.rglob("*") if path.is_file())
    assert left[0] == "etc/dicom-node/node.toml"
    assert [path for path in left[1:] if not path.startswith("var/lib/dicom-node/")] == []
    assert f"{tree.root}/var/lib/dicom-node" in told
