"""docs/how-to/extend.md: what its recipes add to a copy of the node works, and a step that is left out is noticed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from dicom_node.core.outputs.artifact_kinds import OutputSet
from dicom_node.inference.cards.digest import sha256_of
from dicom_node.inference.cards.own_code import PACKAGE
from tests.support.needs import REPOSITORY
from tests.support.validators.objects import assert_valid_dicom

_PAGE = (REPOSITORY / "docs" / "how-to" / "extend.md").read_text(encoding="utf-8")
_STEP = re.compile(
    r"^(?:New `(?P<new>\S+)`|In `(?P<file>\S+)`, after (?P<entry>the entry of )?`(?P<anchor>[^`]+)`):\n\n"
    r"```(?:python|text)\n(?P<code>.*?)```",
    re.DOTALL | re.MULTILINE,
)
_RUN_LINEAR = """
import sys
from pathlib import Path
from dicom_node.demo.phantoms import chest_radiograph_phantom
from dicom_node.inference.runner import run_model
from tests.support.studies.data_factories import request_for
answer = run_model(request_for([chest_radiograph_phantom(rows=64)], Path(sys.argv[1]), Path(sys.argv[1]) / "study"))
print([(one.key, one.presence.value, one.probability) for one in answer.findings])
"""
_WRITE_TEXT = """
import sys
from pathlib import Path
from dicom_node.core.outputs.capability_match import PeerCapabilities, WantedOutputs, match_capabilities
from dicom_node.core.outputs.artifact_kinds import OutputSet
from dicom_node.sr_writer import to_part10, write_objects
from tests.support.results import analysis_examples as examples
from tests.unit import test_artifact_kinds as table
table.test_every_kind_is_in_the_table_in_the_order_of_sending()
table.test_every_dicom_kind_has_one_builder_and_no_other_has()
table.test_every_option_of_an_output_set_asks_for_one_kind()
table.test_the_sop_classes_are_known_to_dicom_and_have_one_name_each()
wanted = OutputSet(plain_text=True)
assert OutputSet().key == sys.argv[2], "the option changed keys of sets that do not use it"
fitted = match_capabilities(
    WantedOutputs(outputs=wanted), PeerCapabilities(refused=frozenset({"1.2.840.10008.5.1.4.1.1.88.11"}))
)
assert (fitted.outputs, fitted.left_out) == (OutputSet(), ("takes no TEXT",))
written = write_objects(examples.radiograph_analysis(), examples.context(output_sets=(wanted,)))
for one in written:
    Path(sys.argv[1], f"{one.order}-{one.kind}.dcm").write_bytes(to_part10(one.dataset))
"""
_CARD = """
name = "linear"
version = "1"
manufacturer = "Test"
runtime = "linear"
task = "classification"
intended_use = "Tests."
limits = "None."
calibrated = false
[gate]
test_subjects_allowed = true
[parameters]
threshold = 0.5
[weights]
file = "model.npz"
sha256 = "SHA256"
[preprocessing]
size = [8, 8]
[output]
activation = "softmax"
[[finding]]
key = "pneumonia"
label = "Pneumonia"
output_index = 1
code = "pneumonia"
site = "lung"
"""


@dataclass(frozen=True, slots=True)
class Step:
    """One listing of the page and where it goes."""

    path: str
    code: str
    after: str = ""
    after_entry: bool = False

    def take(self, root: Path) -> None:
        path = root / self.path
        if not self.after:
            path.write_text(self.code, encoding="utf-8")
            return
        text = path.read_text(encoding="utf-8")
        place = text.index("\n    ),\n", text.index(self.after)) + 7 if self.after_entry else text.index(self.after)
        place = text.index("\n", place) + 1
        path.write_text(text[:place] + self.code + text[place:], encoding="utf-8")


def steps_under(heading: str) -> Iterator[Step]:
    section = _PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    for found in _STEP.finditer(section):
        yield Step(found["new"] or found["file"], found["code"], found["anchor"] or "", bool(found["entry"]))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    ignored = shutil.ignore_patterns("__pycache__", "models", "training")
    shutil.copytree(PACKAGE, tmp_path / "copy" / "dicom_node", ignore=ignored)
    return tmp_path / "copy"


def run(root: Path, code: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    paths = os.pathsep.join([str(root), str(REPOSITORY)])
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=root, env=os.environ | {"PYTHONPATH": paths}, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_a_new_runtime_runs_its_models(root: Path, tmp_path: Path) -> None:
    steps = list(steps_under("A runtime"))
    assert len(steps) == 2
    for step in steps:
        step.take(root)
    model = tmp_path / "model"
    model.mkdir()
    np.savez(model / "model.npz", weights=np.stack([np.zeros(64), np.full(64, 0.1)], axis=1))
    (model / "model_card.toml").write_text(_CARD.replace("SHA256", sha256_of(model / "model.npz")), encoding="utf-8")

    done = run(root, _RUN_LINEAR, model)

    assert done.stdout.startswith("[('pneumonia', 'PRESENT', 0."), done.stderr


def test_a_new_kind_is_written_negotiated_and_referred_to(root: Path, tmp_path: Path) -> None:
    for step in steps_under("A result kind"):
        step.take(root)

    done = run(root, _WRITE_TEXT, tmp_path, OutputSet().key)

    assert done.returncode == 0, done.stderr
    text = dcmread(next(tmp_path.glob("*-TEXT.dcm")))
    report = dcmread(next(tmp_path.glob("*-SR.dcm")))
    assert text.ContentSequence[0].TextValue == "AI - NOT VERIFIED: 2 of 4 findings PRESENT"
    assert str(text.SOPInstanceUID) in str(report)
    assert_valid_dicom(next(tmp_path.glob("*-TEXT.dcm")))


@pytest.mark.parametrize("left_out", ["artifact_kinds.py", "write.py"])
def test_a_step_that_is_left_out_is_noticed(left_out: str, root: Path, tmp_path: Path) -> None:
    for step in steps_under("A result kind"):
        if not (step.path.endswith(left_out) and "PLAIN_TEXT" in step.code):
            step.take(root)

    done = run(root, _WRITE_TEXT, tmp_path, OutputSet().key)

    assert "AssertionError" in done.stderr
    assert "test_artifact_kinds.py" in done.stderr
