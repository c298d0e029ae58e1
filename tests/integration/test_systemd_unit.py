"""The unit of the service: systemd finds no fault in it, and what an attacker would have left is little."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.install.unit_file import UnitFile
from tests.support.needs import REPOSITORY, tool

UNITS = REPOSITORY / "deploy" / "systemd"
UNIT = UNITS / "dicom-node.service"
DROP_INS = sorted((UNITS / "drop-ins").glob("*.conf"))
#: Of 10; below 2.5 nothing but the network and the calls of an ordinary service is left.
MOST_EXPOSED = 2.5


def unit_in(folder: Path, *drop_ins: Path) -> Path:
    """The unit with a program that exists here, and what a site lays over it."""
    text = UNIT.read_text(encoding="utf-8")
    program = "/opt/dicom-node/current/bin/dicom-node"
    assert text.count(f"ExecStart={program} ") == 1
    made = folder / UNIT.name
    made.write_text(text.replace(program, sys.executable), encoding="utf-8")
    for one in drop_ins:
        place = folder / f"{UNIT.name}.d"
        place.mkdir(exist_ok=True)
        (place / one.name).write_bytes(one.read_bytes())
    return made


def analyse(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [tool("systemd-analyze", "systemd"), "--no-pager", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("drop_ins", [[], DROP_INS], ids=["alone", "with all drop-ins"])
def test_systemd_finds_no_fault_in_the_unit(tmp_path: Path, drop_ins: list[Path]) -> None:
    told = analyse("verify", str(unit_in(tmp_path, *drop_ins)))

    assert (told.returncode, told.stdout, told.stderr) == (0, "", "")


def test_systemd_finds_a_fault_that_is_there(tmp_path: Path) -> None:
    unit = unit_in(tmp_path)
    unit.write_text(unit.read_text(encoding="utf-8").replace("UMask=0077", "UMaske=0077"), encoding="utf-8")

    assert "UMaske" in analyse("verify", str(unit)).stderr


@pytest.mark.parametrize("drop_ins", [[], DROP_INS], ids=["alone", "with all drop-ins"])
def test_the_service_is_little_exposed(tmp_path: Path, drop_ins: list[Path]) -> None:
    told = analyse("security", "--offline=true", str(unit_in(tmp_path, *drop_ins))).stdout

    found = re.search(r"Overall exposure level for dicom-node.service: ([0-9.]+)", told)
    assert found is not None, told
    assert float(found[1]) <= MOST_EXPOSED


def test_the_workers_can_confine_themselves_under_its_filter_of_calls() -> None:
    """No group of Debian 12's systemd holds Landlock, and a service without its calls runs models unconfined."""
    allowed = UnitFile.read(UNIT).allowed_calls()

    assert {"landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self", "prctl"} <= allowed
    assert not {"mount", "ptrace", "setuid", "bpf", "kexec_load"} & allowed
