"""`dicom-node run`: files in, all objects out, by the node's own worker; what is hostile costs nobody else anything."""

from __future__ import annotations

import doctest
import json
import os
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

nibabel = pytest.importorskip("nibabel")  # of the inference extra
import highdicom  # noqa: E402
import numpy as np  # noqa: E402

from dicom_node.__main__ import main  # noqa: E402
from dicom_node.core.entities import JobState  # noqa: E402
from dicom_node.core.errors import Conflict, ModelUnavailable, NotFound, SettingsError  # noqa: E402
from dicom_node.demo.phantoms import chest_ct_phantom, chest_radiograph_phantom  # noqa: E402
from dicom_node.offline import RunOptions, RunReport, StudyResult, run  # noqa: E402
from tests.peers.process import wait_until  # noqa: E402
from tests.support.needs import REPOSITORY  # noqa: E402
from tests.support.validators.objects import assert_valid_dicom  # noqa: E402

MODEL = "ct-lung-density"


def save(images: Sequence[Dataset], folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number, image in enumerate(images):
        image.save_as(folder / f"{number}.dcm", enforce_file_format=True)
    return folder


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    slices = chest_ct_phantom("run", slices=32, rows=128, slice_spacing_mm=10.0)[0]
    return save(slices, tmp_path_factory.mktemp("run") / "study")


@pytest.fixture(scope="module")
def out(study: Path) -> Path:
    return study.parent / "out"


@pytest.fixture(scope="module")
def report(study: Path, out: Path) -> RunReport:
    return run(MODEL, [study], out, RunOptions(nifti=True))


@pytest.fixture
def child(tmp_path: Path) -> Path:
    return save([chest_radiograph_phantom("child", rows=128)], tmp_path / "child")


def test_a_study_becomes_all_objects_and_a_typed_result(report: RunReport, out: Path) -> None:
    (result,) = report.studies
    folder = out / result.folder

    assert (result.state, report.exit_status) == (JobState.DONE, 0)
    assert {str(one.kind) for one in result.artifacts} == {"SC", "SEG", "PDF", "SR", "FHIR"}
    assert StudyResult.model_validate_json((folder / "result.json").read_bytes()) == result
    assert (folder / "report.pdf").read_bytes().startswith(b"%PDF-")
    assert json.loads((folder / "fhir.json").read_text(encoding="utf-8"))["type"] == "transaction"
    told = {one.name for one in (*result.artifacts, *result.masks)} | {one.preview for one in result.artifacts} - {""}
    assert {path.name for path in folder.iterdir()} == told | {"result.json", "report.pdf"}
    assert [path.name for path in out.iterdir()] == [result.folder], "nothing of the run itself stays"
    for one in result.artifacts:
        if one.name.endswith(".dcm"):
            assert_valid_dicom(folder / one.name)
            assert str(dcmread(folder / one.name).SOPInstanceUID) == one.uid


def test_a_mask_lies_where_the_segmentation_lies(report: RunReport, study: Path, out: Path) -> None:
    """Each source slice is looked up by its own position, negated in x and y, and held against what highdicom reads."""
    (result,) = report.studies
    seg = highdicom.seg.segread(out / result.folder / "segmentation.dcm")
    sources = [dcmread(path, stop_before_pixels=True) for path in study.iterdir()]

    assert [one.label for one in result.masks] == ["Left lung", "Right lung"]
    for one in result.masks:
        image = nibabel.load(out / result.folder / one.name)
        mask_xyz = np.asarray(image.dataobj)
        assert mask_xyz.shape == one.shape_xyz == (128, 128, 32)
        assert mask_xyz.sum() == one.voxels > 0
        assert nibabel.aff2axcodes(image.affine) == ("L", "P", "S")
        for source in sources:
            x, y, z = map(float, source.ImagePositionPatient)
            place = np.linalg.inv(image.affine) @ [-x, -y, z, 1.0]
            assert np.allclose(place, [0, 0, round(place[2]), 1], atol=1e-3)
            stored = seg.get_pixels_by_source_instance(
                [source.SOPInstanceUID], segment_numbers=[one.segment_number], ignore_spatial_locations=True,
                assert_missing_frames_are_empty=True,
            )[0, ..., 0]  # fmt: skip
            assert (mask_xyz[..., round(place[2])] == stored.T).all()
    left, right = (_center_mm(out / result.folder / one.name) for one in result.masks)
    assert left[0] < 0 < right[0], "in RAS+ the patient's left is negative"


def _center_mm(path: Path) -> Any:
    image = nibabel.load(path)
    return nibabel.affines.apply_affine(image.affine, np.argwhere(np.asarray(image.dataobj))).mean(axis=0)


def test_the_example_in_the_docstring_is_what_happens(study: Path, tmp_path: Path) -> None:
    names = {"run": run, "RunOptions": RunOptions, "study": study, "out": tmp_path / "out"}
    (example,) = doctest.DocTestFinder(recurse=False).find(run, globs=names)
    told: list[str] = []

    assert doctest.DocTestRunner().run(example, out=told.append) == (0, 2), "".join(told)


def test_the_same_images_give_the_same_bytes_whatever_their_names(child: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        archive.write(child / "0.dcm", "another/name")
    at = RunOptions(started_at=chosen_time())

    first = run("cxr-pneumonia", [child], tmp_path / "first", at)
    second = run("cxr-pneumonia", [tmp_path / "images.zip"], tmp_path / "second", at)

    assert first.studies[0].is_analysed
    assert first.studies[0].artifacts == second.studies[0].artifacts


def chosen_time() -> Any:
    from datetime import UTC, datetime  # noqa: PLC0415

    return datetime(2026, 3, 1, 12, tzinfo=UTC)


def test_what_cannot_be_analysed_is_told_and_costs_the_others_nothing(
    child: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save([chest_radiograph_phantom("adult", rows=128, age="044Y")], child / "below")
    (child / "cut.dcm").write_bytes((child / "0.dcm").read_bytes()[:4000])
    (child / "claim.dcm").write_bytes(claiming(child / "0.dcm", 10 << 30))
    (child / "note.txt").write_text("no image")

    status = main(["run", "cxr-pneumonia", str(child), "--out", str(tmp_path / "out"), "--json"])
    told, beside = capsys.readouterr()

    assert status == 3
    found = json.loads(told)
    states = {(one["state"], one["reason"]) for one in found["studies"]}
    assert states == {("DONE", ""), ("NOT_ANALYSABLE", "AGE_OUT_OF_RANGE")}
    assert {one["name"]: one["refused"] for one in found["passed_over"]} == {
        "cut.dcm": True, "claim.dcm": True, "note.txt": False,
    }  # fmt: skip
    assert "cut.dcm refused" in beside
    assert "PHANTOM" not in told + beside


def claiming(path: Path, size_bytes: int) -> bytes:
    """Return a file whose pixel data claims to be as large as the length field can say, of 10 GB at most."""
    content = path.read_bytes()
    at = content.rindex(b"\xe0\x7f\x10\x00OW\0\0") + 8
    return content[:at] + min(size_bytes, 0xFFFFFFFE).to_bytes(4, "little") + content[at + 4 :]


def test_images_of_two_patients_in_one_study_get_no_result_at_all(study: Path, tmp_path: Path) -> None:
    images = [dcmread(path) for path in study.iterdir()]
    images[3].PatientID = "ANOTHER"

    report = run(MODEL, [save(images, tmp_path / "mixed")], tmp_path / "out")

    (result,) = report.studies
    assert (result.state, result.reason, report.exit_status) == (JobState.NOT_ANALYSABLE, "PATIENT_MISMATCH", 3)
    assert not (tmp_path / "out").exists(), "not even the folder, which was made for it"


def test_two_versions_of_one_image_are_not_chosen_between(child: Path, tmp_path: Path) -> None:
    other = dcmread(child / "0.dcm")
    other.InstanceNumber = 7
    other.save_as(child / "other.dcm")

    report = run("cxr-pneumonia", [child], tmp_path / "out")

    assert (report.studies[0].state, report.exit_status) == (JobState.FAILED, 1)
    assert "one SOP Instance UID" in report.studies[0].message


def test_nothing_is_overwritten_unasked_and_nothing_but_results_ever(child: Path, tmp_path: Path) -> None:
    uid = str(dcmread(child / "0.dcm").StudyInstanceUID)
    (tmp_path / uid).mkdir()
    (tmp_path / uid / "mine.txt").write_text("mine")

    for options in (RunOptions(), RunOptions(overwrite=True)):
        with pytest.raises(Conflict, match=uid):
            run("cxr-pneumonia", [child], tmp_path, options)
    assert (tmp_path / uid / "mine.txt").read_text() == "mine"

    (tmp_path / uid / "result.json").write_text("{}")
    run("cxr-pneumonia", [child], tmp_path, RunOptions(overwrite=True))
    assert (tmp_path / uid / "report.dcm").is_file()
    assert not (tmp_path / uid / "mine.txt").exists()


def test_an_unusable_question_says_what_to_do(child: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()

    with pytest.raises(SettingsError, match="no DICOM image"):
        run("cxr-pneumonia", [tmp_path / "empty"], tmp_path / "out")
    with pytest.raises(NotFound, match="gone is not there"):
        run("cxr-pneumonia", [tmp_path / "gone"], tmp_path / "out")
    with pytest.raises(NotFound, match="there are the models"):
        run("no-such-model", [child], tmp_path / "out")
    with pytest.raises(ModelUnavailable, match=r"folder is not run\. card:"):
        run(tmp_path / "folder", [child], tmp_path / "out")
    with pytest.raises(SettingsError, match="cannot be made"):
        run("cxr-pneumonia", [child], tmp_path / "file" / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_is_verified_and_runs_unless_its_weights_are_others(child: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(REPOSITORY / "inference/models/cxr-pneumonia", tmp_path / "model")

    report = run(folder, [child], tmp_path / "out")
    assert report.studies[0].is_analysed

    with (folder / "models/model.safetensors").open("ab") as weights:
        weights.write(b"more")
    with pytest.raises(ModelUnavailable, match="weights"):
        run(folder, [child], tmp_path / "again")


def test_ctrl_c_leaves_nothing(study: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-m", "dicom_node", "run", MODEL, str(study), "--out", str(out)]
    process = subprocess.Popen(command, cwd=REPOSITORY, env={**os.environ}, stderr=subprocess.PIPE)
    wait_until(lambda: bool(list(out.glob(".running-*/workers/*/inputs/*/*"))), 60.0, "the model to run", 0.02)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)

    assert process.returncode == 130, said
    assert not out.exists()


def test_the_notebook_runs() -> None:
    notebook = json.loads((REPOSITORY / "docs/how-to/run-without-a-node.ipynb").read_text(encoding="utf-8"))
    code = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    names: dict[str, Any] = {}
    for cell in code:
        exec(compile(cell, "notebook", "exec"), names)

    assert names["report"].exit_status == 0
    truth_ml = names["measured"]["Left lung, Volume"][0]
    assert names["volume_ml"] == pytest.approx(truth_ml, rel=0.01)
    assert all(not cell.get("outputs") for cell in notebook["cells"])
