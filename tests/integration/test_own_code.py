"""The digest of a model covers the node's code that shapes its answers: by what is imported, not by a list (B12)."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dicom_node.demo.phantoms import chest_ct_phantom, chest_radiograph_phantom
from dicom_node.inference.cards.card import SHIPPED_MODELS, load_card
from dicom_node.inference.cards.digest import digest_of
from dicom_node.inference.cards.own_code import PACKAGE, SHAPES_NO_ANSWER, modules_below, own_code
from tests.support.needs import REPOSITORY

_STUDIES = {
    "ct-lung-density": lambda: chest_ct_phantom(rows=128)[0],
    "cxr-pneumonia": lambda: [chest_radiograph_phantom(rows=128)],
}
_SHAPING = (
    "core/entities/__init__.py",
    "core/entities/findings.py",
    "core/codes.py",
    "config/terminology/anatomy.toml",
    "inference/answers/classification.py",
    "inference/answers/inputs.py",
    "inference/cards/outputs.py",
    "inference/ensemble.py",
    "inference/explain/maps.py",
    "inference/images/radiographs/frontal_chest.safetensors",
    "inference/images/pixels.py",
    "inference/images/radiographs/upright.py",
    "inference/model_run.py",
    "inference/prediction.py",
    "inference/runner.py",
    "inference/runtimes/weights.py",
    "inference/workers/device.py",
)
_OTHER = (
    "api/server.py",
    "sr_writer/write.py",
    "fhir/builders/bundle.py",
    "logs.py",
    "inference/lungs/density.py",
    "inference/runtimes/onnx.py",
    "inference/answers/detection.py",
)
_RUN = """
import json, sys
from pathlib import Path
from datetime import UTC, datetime
from dicom_node.analysis import Analysis, AnalysisRequest, ReportContext, SourceFile
from dicom_node.inference.runner import run_model
model, study = map(Path, sys.argv[1:])
files = tuple(SourceFile(path=path, sop_instance_uid=path.stem, series_instance_uid="") for path in study.iterdir())
context = ReportContext(job_key="0", route_name="", started_at=datetime.now(UTC), ae_title="", node_uid="1.2")
answer = run_model(AnalysisRequest(context=context, model_dir=model, files=files, out_dir=study))
assert isinstance(answer, Analysis), answer
import dicom_node.jobs.worker_process
print(json.dumps([name for name in sys.modules if name.partition(".")[0] == "dicom_node"]))
"""


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    copy = tmp_path_factory.mktemp("copy") / "dicom_node"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__", "models"))
    return copy


def digest(model: str, package: Path) -> str:
    return digest_of(own_code(load_card(SHIPPED_MODELS / model).answering_code(), package))


@pytest.mark.parametrize(("changed", "shapes"), [(f, True) for f in _SHAPING] + [(f, False) for f in _OTHER])
def test_the_digest_changes_with_the_code_that_shapes_an_answer_and_no_other(
    changed: str, shapes: bool, package: Path
) -> None:
    before = digest("cxr-pneumonia", package)
    path = package / changed
    original = path.read_bytes()
    try:
        path.write_bytes(original + b"\n# changed\n")
        assert (digest("cxr-pneumonia", package) != before) is shapes
    finally:
        path.write_bytes(original)


@pytest.mark.parametrize("model", _STUDIES)
def test_whatever_a_run_loads_of_the_node_counts(model: str, tmp_path: Path) -> None:
    for image in _STUDIES[model]():
        image.save_as(tmp_path / f"{image.SOPInstanceUID}.dcm", enforce_file_format=True)
    done = subprocess.run(
        [sys.executable, "-c", _RUN, SHIPPED_MODELS / model, tmp_path],
        capture_output=True, text=True, check=True, cwd=REPOSITORY,
    )  # fmt: skip

    loaded = {name for name in json.loads(done.stdout) if name.startswith("dicom_node.inference.")}
    counted = modules_below(load_card(SHIPPED_MODELS / model).answering_code(), PACKAGE).keys()
    assert len(loaded) > 20
    assert loaded <= counted


def test_a_module_is_loaded_by_a_name_made_at_run_time_only_where_the_card_says_which() -> None:
    counted = modules_below(frozenset({"dicom_node.inference.runner"}), PACKAGE)
    runtimes = {f"dicom_node.inference.runtimes.{path.stem}" for path in (PACKAGE / "inference/runtimes").glob("*.py")}
    counted |= modules_below(frozenset(runtimes), PACKAGE)

    loading = {name for name, path in counted.items() if "import_module(" in path.read_text(encoding="utf-8")}

    assert loading == {
        "dicom_node.inference.runner",  # the card's runtime, task and entry point
        "dicom_node.inference.runtimes.entry_point",  # the card's entry point
        "dicom_node.inference.former_names",  # the present names of modules
    }


def test_what_a_model_of_ones_own_imports_of_the_node_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "site_model.py").write_text("def analyse(run):\n    from dicom_node.inference.lungs import airways\n")
    monkeypatch.syspath_prepend(tmp_path)
    card = (SHIPPED_MODELS / "ct-lung-density" / "model_card.toml").read_text(encoding="utf-8")
    (tmp_path / "model_card.toml").write_text(
        card.replace("dicom_node.inference.lungs.density:analyse", "site_model:analyse"), encoding="utf-8"
    )

    counted = modules_below(load_card(tmp_path).answering_code(), PACKAGE)

    assert "dicom_node.inference.lungs.airways" in counted
    assert "dicom_node.inference.lungs.density" not in counted


def test_the_way_ends_only_at_modules_that_exist() -> None:
    for name in SHAPES_NO_ANSWER:
        assert PACKAGE.joinpath(*name.split(".")[1:]).is_dir() or PACKAGE.joinpath(f"{name.split('.')[1]}.py").is_file()
