"""Installed as a new user would, by the pages, on a bare Debian; upgraded, rolled back, uninstalled. For the campaign.

Two whole installations come from the package index, some gigabytes on the disk.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from dicom_node import __version__
from tests.peers.dcmtk import Receiver, running_storescp, storescu
from tests.peers.process import free_port, wait_until
from tests.support.campaign import IS_CAMPAIGN
from tests.support.docs.commands import blocks
from tests.support.install.debian_root import CHECKOUT, DebianRoot, debian_root
from tests.support.install.unit_file import UnitFile
from tests.support.needs import REPOSITORY
from tests.support.studies.data_factories import small_chest_ct
from tests.unit.test_packaging import tracked_files

pytestmark = [
    pytest.mark.campaign,
    pytest.mark.skipif(not IS_CAMPAIGN, reason="two whole installations: make campaign"),
    pytest.mark.timeout(5400),
]
NEWER = "99.0.0"
_SETTINGS = """
[dicom]
port = {dicom}
[api]
port = {api}
[[destination]]
name = "pacs"
kind = "dicom"
ae_title = "PACS"
host = "127.0.0.1"
port = {pacs}
[[route]]
name = "chest-ct"
model = "ct-lung-density"
when = {{ modality = "CT" }}
quiet_period_s = 1
"""


@pytest.fixture
def debian() -> Iterator[DebianRoot]:
    with debian_root() as made:
        yield made


def test_a_new_user_installs_upgrades_goes_back_and_uninstalls_by_the_pages(debian: DebianRoot, tmp_path: Path) -> None:
    checkout = debian.take_checkout(tracked_files(), REPOSITORY)
    debian.run("make", "-C", CHECKOUT, "install")
    with running_storescp(tmp_path / "pacs", aet="PACS") as pacs:
        settings, port = _configure(debian, pacs)
        assert "FAIL" not in _as_service(debian, "doctor")
        with _serving(debian, tmp_path / "first.log"):
            study = _analysed(tmp_path / "study", port, pacs)
        debian.script(_block("operate.md", "sqlite3 -cmd").replace("'/backup", "'/root").replace("/backup", "/root"))

        _make_newer(checkout)
        debian.run("make", "-C", CHECKOUT, "install")
        assert _links(debian) == {"current": f"releases/{NEWER}", "previous": f"releases/{__version__}"}
        with _serving(debian, tmp_path / "second.log"):
            assert study in _as_service(debian, "status", study)
        old = f"/opt/dicom-node/releases/{__version__}/bin/dicom-node"
        assert "newer" in _as_service(debian, "status", study, program=old, fails=True)

        debian.script(_without_systemd(_block("upgrade.md", "systemctl stop")).replace("/backup", "/root"))
        assert _links(debian)["current"] == f"releases/{__version__}"
        with _serving(debian, tmp_path / "third.log"):
            assert study in _as_service(debian, "status", study)

    assert settings.read_text(encoding="utf-8").endswith(
        _SETTINGS.partition("{pacs}")[2].replace("{{", "{").replace("}}", "}")
    )
    told = debian.run("make", "-C", CHECKOUT, "uninstall")
    assert "/var/lib/dicom-node" in told
    for gone in ("opt/dicom-node", "usr/local/bin/dicom-node", "etc/systemd/system/dicom-node.service"):
        assert not (debian.root / gone).is_symlink(), gone
        assert not (debian.root / gone).exists(), gone
    assert (debian.root / "var/lib/dicom-node/node.sqlite").is_file()
    debian.script(_block("uninstall.md", "rm -r") + "\nrm -r /var/lib/dicom-node.newer\n! getent passwd dicom-node")


def _configure(debian: DebianRoot, pacs: Receiver) -> tuple[Path, int]:
    """Add to the example what a site would; the group is the service's, as it was."""
    path, port = debian.root / "etc/dicom-node/node.toml", free_port()
    with path.open("a", encoding="utf-8") as file:
        file.write(_SETTINGS.format(dicom=port, api=free_port(), pacs=pacs.port))
    return path, port


def _as_service(debian: DebianRoot, *words: str, program: str = "dicom-node", fails: bool = False) -> str:
    user = ("setpriv", "--reuid", "dicom-node", "--regid", "dicom-node", "--clear-groups")
    return debian.run(*user, program, words[0], "--config", "/etc/dicom-node/node.toml", *words[1:], fails=fails)


@contextmanager
def _serving(debian: DebianRoot, log: Path) -> Iterator[None]:
    """Run the unit's command as its user, in its folder, with its umask."""
    unit = UnitFile.read(debian.root / "etc/systemd/system/dicom-node.service")
    ports = debian.root / "var/lib/dicom-node/ports.json"
    ports.unlink(missing_ok=True)
    become = f"cd {unit.last('WorkingDirectory')}; umask {unit.last('UMask')}; ulimit -n {unit.last('LimitNOFILE')}"
    user = f"setpriv --reuid {unit.last('User')} --regid {unit.last('Group')} --clear-groups --no-new-privs"
    process = debian.start(log, "bash", "-c", f"{become}; exec {user} --bounding-set -all {' '.join(unit.command)}")
    try:
        process.wait_until_ready(ports.exists, 600)
        yield
        (service,) = psutil.Process(process.pid).children()
        service.terminate()
        wait_until(lambda: process.exit_status is not None, 120, "the end of the service")
        assert process.exit_status == 0, process.tail()
    finally:
        process.kill9()


def _analysed(folder: Path, port: int, pacs: Receiver) -> str:
    folder.mkdir()
    images, _truth = small_chest_ct("debian")
    for number, image in enumerate(images):
        image.save_as(folder / f"{number}.dcm", enforce_file_format=True)
    sent = storescu(port, folder)
    assert sent.returncode == 0, sent.stdout
    wait_until(lambda: "SR" in {one.Modality for one in pacs.datasets()}, 600, "the report at the PACS", 1)
    return str(images[0].StudyInstanceUID)


def _make_newer(checkout: Path) -> None:
    """A version to come, with a step of the schema of its own."""
    for file in ("pyproject.toml", "dicom_node/__init__.py"):
        text = (checkout / file).read_text(encoding="utf-8")
        (checkout / file).write_text(text.replace(f'version = "{__version__}"', f'version = "{NEWER}"').replace(
            f'version__ = "{__version__}"', f'version__ = "{NEWER}"'), encoding="utf-8")  # fmt: skip
    versions = checkout / "dicom_node/index/migrations/versions"
    newest = max(versions.glob("[0-9]*.py"))
    revision = re.search(r'^revision = "(.+)"', newest.read_text(encoding="utf-8"), re.MULTILINE)
    assert revision is not None
    (versions / "9999_to_come.py").write_text(
        "from alembic import op\nimport sqlalchemy as sa\n"
        f'revision = "9999"\ndown_revision = "{revision[1]}"\nbranch_labels = None\ndepends_on = None\n\n\n'
        'def upgrade():\n    op.create_table("to_come", sa.Column("id", sa.Integer, primary_key=True))\n',
        encoding="utf-8",
    )


def _links(debian: DebianRoot) -> dict[str, str]:
    folder = debian.root / "opt/dicom-node"
    return {name: str((folder / name).readlink()) for name in ("current", "previous")}


def _block(page: str, first: str) -> str:
    (found,) = [one.script for one in blocks() if one.page == page and one.first.startswith(first)]
    return found


def _without_systemd(script: str) -> str:
    """No systemd runs in a chroot; the test starts and ends the service itself."""
    return "\n".join(line for line in script.splitlines() if not line.startswith("systemctl"))
