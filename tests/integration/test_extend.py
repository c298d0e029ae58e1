"""docs/how-to/extend.md, followed literally: a new kind of destination, one module and one line, gets what is owed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.needs import REPOSITORY

ROOMS = ("dicom_node", "config", "fhir", "inference", "sr_writer")
PAGE = (REPOSITORY / "docs" / "how-to" / "extend.md").read_text(encoding="utf-8")
RECIPE = PAGE.partition("## A destination kind\n")[2].partition("\n## ")[0]
SETTINGS = re.findall(r"```\n(\[\[destination\]\]\n.*?)```", RECIPE, re.DOTALL)[0]

#: Real parts in a process of their own, since the table is read when the package is: settings, index, outbox.
DELIVER = """
import sys
from dataclasses import replace
from pathlib import Path

from dicom_node.core.entities import Destination
from dicom_node.deliver.kinds import destinations_of
from dicom_node.deliver.kinds.kind import Caller
from dicom_node.deliver.dispatch.outage import BackOff
from dicom_node.deliver.dispatch.outbox import DestinationWorker, OutboxPolicy
from dicom_node.deliver.profiles import profiles_of
from dicom_node.doctor.configured import check_destinations
from dicom_node.index import results
from dicom_node.index.database import Database
from dicom_node.roles.settings import load_settings
from dicom_node.storage.spool import Spool
from tests.support.results.arrivals import arrive, claimed, cut_study, instance, outcome

folder = Path(sys.argv[1])
settings = load_settings(folder / "node.toml", {})
(there,) = destinations_of(settings)
database = Database(f"sqlite:///{folder / 'node.sqlite'}")
database.migrate()
arrive(database, instance("1"))
cut_study(database, ("chest-ct",))
job, result, spool = claimed(database), outcome("a"), Spool(folder / "spool")
kept = spool.put([b"its bytes"], ".result")
artifacts = tuple(replace(one, object_key=kept.key, sha256=kept.sha256) for one in result.artifacts)
result = replace(result, artifacts=artifacts)
with database.write() as connection:
    to = Destination(name=there.name, takes=there.takes)
    plan = profiles_of(settings).delivery_plan(connection, [to])
    results.save_result(connection, job, "key", result, plan.destinations)
worker = DestinationWorker(
    there.name, lambda: there.sender(Caller("AINODE", 5)), database, spool, OutboxPolicy("host:1", BackOff(1, 1))
)
while worker.deliver_once():
    pass
database.close()
print(check_destinations(settings)[0])
"""


def code_for(step: str) -> str:
    """The code of one step of the recipe."""
    return re.findall(rf"### {step}\..*?```python\n(.*?)```", RECIPE, re.DOTALL)[0]


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the source tree, links and all, in which the recipe can be followed."""
    for room in (*ROOMS, "tests", "tools"):
        shutil.copytree(
            REPOSITORY / room, tmp_path / "tree" / room, symlinks=True, ignore=shutil.ignore_patterns("*.pyc")
        )
    return tmp_path / "tree"


def write_the_module(copy: Path) -> None:
    (copy / "dicom_node/deliver/kinds/inventory.py").write_text(code_for("1"), encoding="utf-8")


def add_the_line(copy: Path) -> None:
    imported, line = code_for("2").rstrip().split("\n\n")
    table = copy / "dicom_node/deliver/kinds/__init__.py"
    text = table.read_text(encoding="utf-8")
    last_import = "from dicom_node.deliver.kinds.kind import DestinationKind\n"
    last_line = re.search(r"    \| \w+,\n(?=    Field\(discriminator)", text)
    assert last_import in text
    assert last_line is not None
    text = text.replace(last_line[0], f"{last_line[0].rstrip().rstrip(',')}\n{line},\n")
    table.write_text(text.replace(last_import, f"{imported}\n{last_import}"), encoding="utf-8")


def run(copy: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(copy), "MYPYPATH": str(copy)}
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, check=False)


def test_the_recipe_makes_a_kind_that_gets_what_it_is_owed(copy: Path, tmp_path: Path) -> None:
    write_the_module(copy)
    add_the_line(copy)
    (tmp_path / "node.toml").write_text(SETTINGS, encoding="utf-8")

    done = run(copy, "-c", DELIVER, str(tmp_path))

    assert done.returncode == 0, done.stderr
    lines = (tmp_path / "inventory.txt").read_text(encoding="utf-8").splitlines()
    assert [line.split()[0] for line in lines] == ["SC", "FHIR", "SR"]
    assert "inventory.txt can be written" in done.stdout


def test_the_module_of_the_recipe_keeps_the_projects_style_types_and_table(copy: Path) -> None:
    write_the_module(copy)
    add_the_line(copy)
    config = str(REPOSITORY / "pyproject.toml")

    linted = run(copy, "-m", "ruff", "check", "--no-cache", "--config", config, "dicom_node/deliver/kinds")
    checked = run(copy, "-m", "mypy", "--config-file", config, "-m", "dicom_node.deliver.kinds")
    tested = run(copy, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/unit/test_destination_kinds.py")

    assert linted.returncode == 0, linted.stdout
    assert checked.stdout.startswith("Success: no issues found"), checked.stdout
    assert tested.returncode == 0, tested.stdout


def test_without_the_line_the_start_is_refused_and_a_test_fails_that_names_the_class(
    copy: Path, tmp_path: Path
) -> None:
    write_the_module(copy)
    (tmp_path / "node.toml").write_text(SETTINGS, encoding="utf-8")

    started = run(copy, "-m", "dicom_node", "doctor", "--config", str(tmp_path / "node.toml"))
    tested = run(copy, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/unit/test_destination_kinds.py")

    assert started.returncode == 1
    known = "dicom, dicomweb, fhir, hl7, folder, webhook"
    assert f"destination.0.kind is 'inventory'; it must be one of {known}" in started.stderr
    assert tested.returncode == 1
    assert "InventoryDestination" in tested.stdout
