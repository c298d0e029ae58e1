"""docs/how-to/bring-a-model.md: its Python model runs; and the schema of a card names every key the code reads."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom.dataset import Dataset

from dicom_node.analysis.answer import Analysis, NotAnalysed
from dicom_node.governance.verify import verify_folder
from dicom_node.inference.cards.folders import find_models
from dicom_node.inference.cards.schema import KEYS
from dicom_node.inference.runner import run_model
from tests.support.docs.model_page import write_example
from tests.support.needs import REPOSITORY
from tests.support.studies.data_factories import request_for

_KEY = re.compile(
    r"(?:\.(?:text|optional_text|texts|flag|number|whole|floats|pair|table|tables|subtables|digest|choice|values\.get)\("
    r"|_code\(fields, )\"(\w+)\""
)
#: Read by whoever explains, not by the card.
_FREE_TEXTS = {"method", "layer"}


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = write_example("a Python function", tmp_path / "models")
    monkeypatch.syspath_prepend(str(folder / "site-models"))
    yield folder / "ct-mean"
    sys.modules.pop("ct_mean", None)  # its file goes with the test


def test_the_python_example_measures_a_study(model: Path, phantom: list[Dataset], tmp_path: Path) -> None:
    answer = run_model(request_for(phantom, model, tmp_path / "study"))

    assert isinstance(answer, Analysis)
    assert -400 < answer.findings[0].measurements[0].value < 40
    assert "ct-mean" in find_models([model.parent])


def test_the_python_example_verifies(model: Path) -> None:
    assert [point for point in verify_folder(model) if not point.ok] == []


def test_the_python_example_declines_with_a_code_of_its_own(
    model: Path, phantom: list[Dataset], tmp_path: Path
) -> None:
    answer = run_model(request_for(phantom, model, tmp_path / "study", lowest_hu=4000))

    assert isinstance(answer, NotAnalysed)
    assert answer.reason == "ONLY_AIR"


def test_every_key_is_in_the_schema_once() -> None:
    paths = [key.path for key in KEYS]

    assert len(paths) == len(set(paths))


def test_every_key_the_code_reads_is_in_the_schema_and_every_one_there_is_read() -> None:
    others = {"fields.py", "schema.py"}
    readers = [path for path in (REPOSITORY / "inference" / "cards").glob("*.py") if path.name not in others]
    keys = set(_KEY.findall("\n".join(path.read_text(encoding="utf-8") for path in readers)))

    assert keys - {"value", "scheme", "meaning"} == {key.name for key in KEYS} - _FREE_TEXTS - {"value"}
