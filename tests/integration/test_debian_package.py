"""The Debian package: what it holds, whom it needs, and what it does to a system, read from one that was made quickly.

In full it is installed, upgraded and taken away in a bare Debian by tests/acceptance/test_bare_debian.py.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from dicom_node import __version__
from tests.support.install.bare_root import BareRoot, layers_folder
from tests.support.install.package import build_package, stub_tree
from tests.support.needs import REPOSITORY, tool


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("package")
    return build_package(folder, stage=stub_tree(folder / "stage"))


@pytest.fixture(scope="module")
def control(package: Path) -> Path:
    """The folder of what dpkg itself reads: metadata and scripts."""
    folder = package.parent / "control"
    subprocess.run(["dpkg-deb", "--control", package, folder], check=True)
    return folder


def field(package: Path, name: str) -> str:
    asked = ["dpkg-deb", "--field", str(package), name]
    return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()


def content(package: Path, path: str) -> str:
    """Return the text of one file of the package."""
    packed = subprocess.run(["dpkg-deb", "--fsys-tarfile", package], capture_output=True, check=True).stdout
    return subprocess.run(["tar", "xO", f"./{path}"], input=packed, capture_output=True, check=True).stdout.decode()


def listed(package: Path) -> dict[str, str]:
    """Each path of the package with its mode and owner, and where a link leads."""
    told = subprocess.run(["dpkg-deb", "--contents", package], capture_output=True, text=True, check=True).stdout
    lines = (line.split(maxsplit=5) for line in told.splitlines())
    return {path[2:].partition(" -> ")[0]: f"{mode} {owner} {path.partition(' -> ')[2]}".strip()
            for mode, owner, _, _, _, path in lines}  # fmt: skip


def test_it_lays_program_unit_command_user_folders_and_settings_where_a_package_has_them(package: Path) -> None:
    files = listed(package)

    program = "opt/dicom-node/current/bin/dicom-node"
    assert files["opt/dicom-node/current"] == f"lrwxrwxrwx root/root releases/{__version__}"
    assert files[f"opt/dicom-node/releases/{__version__}/bin/dicom-node"] == "-rwxr-xr-x root/root"
    assert files["usr/bin/dicom-node"] == f"lrwxrwxrwx root/root /{program}"
    assert files["etc/dicom-node/"] == "drwxr-x--- root/root"
    assert files["etc/dicom-node/node.toml"] == "-rw-r----- root/root", "passwords, from the first moment on"
    assert {"usr/lib/sysusers.d/dicom-node.conf", "usr/lib/tmpfiles.d/dicom-node.conf"} <= files.keys()
    assert not [one for one in files if one.startswith(("var/", "usr/local/", "etc/systemd/"))]


def test_its_unit_is_the_one_whose_exposure_is_measured(package: Path) -> None:
    (place,) = [one for one in listed(package) if one.endswith("system/dicom-node.service")]

    assert content(package, place) == (REPOSITORY / "deploy/systemd/dicom-node.service").read_text(encoding="utf-8")


def test_it_needs_exactly_the_python_that_its_libraries_were_installed_for(package: Path) -> None:
    needed = field(package, "Depends").split(", ")

    assert Path("/usr/bin/python3").resolve().name in needed
    assert {"systemd | systemd-standalone-tmpfiles", "systemd | systemd-standalone-sysusers | systemd-sysusers"} <= set(
        needed
    )
    assert (field(package, "Package"), field(package, "Version")) == ("dicom-node", __version__)


def test_settings_are_kept_on_upgrade_and_removal(control: Path) -> None:
    kept = (control / "conffiles").read_text(encoding="utf-8").split()

    assert kept == ["/etc/default/dicom-node", "/etc/dicom-node/node.toml"]


def test_the_node_is_stopped_then_backed_up_before_its_files_change_and_a_person_enables_it(control: Path) -> None:
    before, after = ((control / name).read_text(encoding="utf-8") for name in ("preinst", "postinst"))

    stopped, backed_up = before.index("deb-systemd-invoke stop 'dicom-node.service'"), before.rindex("back_up")
    assert stopped < backed_up
    assert "deb-systemd-invoke start 'dicom-node.service'" in after
    assert "was-enabled defaults to true" not in after, "a new installation starts nothing"


def test_lintian_finds_no_error(package: Path) -> None:
    """But for what deploy/debian/dicom-node.lintian-overrides gives a reason for."""
    asked = [tool("lintian", "lintian"), "--fail-on", "error", "--allow-root", str(package)]
    told = subprocess.run(asked, capture_output=True, text=True, check=False)

    assert (told.returncode, "E: " in told.stdout) == (0, False), told.stdout


@pytest.mark.parametrize("script", ["preinst", "postinst", "prerm", "postrm"])
def test_no_script_touches_patient_data(control: Path, script: str) -> None:
    """They make room for nothing: what is removed, a person removes."""
    lines = [one for one in (control / script).read_text(encoding="utf-8").splitlines() if "echo" not in one]

    assert [one for one in lines if re.search(r"\b(rm|find|shred|userdel|deluser)\b", one)] == []


_DATA = "mkdir -p /var/lib/dicom-node && head -c 3M /dev/zero >/var/lib/dicom-node/node.sqlite"
_SMALL = "mkdir /small && mount -t tmpfs -o size=4m tmpfs /small && echo BACKUP_FOLDER=/small >/etc/default/dicom-node"


@pytest.mark.parametrize(
    ("before", "call", "refused", "told"),
    [
        ("true", "upgrade 0.1.0 0.2.0", False, "No backup: there is nothing in /var/lib/dicom-node yet."),
        (f"{_DATA}; {_SMALL}", "upgrade 0.1.0 0.2.0", True, "more than half of what is free in /small"),
        (f"{_DATA}; echo BACKUP_FOLDER= >/etc/default/dicom-node", "upgrade 0.1.0 0.2.0", False, "names no folder"),
        (_DATA, "upgrade 0.3.0 0.2.0", False, ""),
        ("touch /etc/systemd/system/dicom-node.service", "install", True, "run 'make uninstall' first"),
    ],
    ids=["never started", "no room", "none wanted", "to an older one", "beside make install"],
)
def test_before_files_are_exchanged_a_backup_is_made_where_one_must_be(
    control: Path, before: str, call: str, refused: bool, told: str
) -> None:
    with layers_folder() as place:
        ended = BareRoot.over(Path("/"), place / "root").attempt(f"{before}\nsh {control / 'preinst'} {call}")

    assert (ended.returncode != 0) == refused, ended.stdout
    assert told in ended.stdout
    assert ended.stdout.count("\n") <= 1


@pytest.mark.parametrize("script", ["preinst", "postinst", "postrm"])
def test_a_script_is_one_that_the_shell_of_debian_can_read(script: str) -> None:
    told = subprocess.run(
        [tool("dash", "dash"), "-n", REPOSITORY / "deploy/debian" / script], capture_output=True, text=True, check=False
    )

    assert (told.returncode, told.stderr) == (0, "")
