"""`dicom-node evaluate` over DICOM, PNG and what is neither, through the worker process and the gates."""

from __future__ import annotations

import csv
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dicom_node.__main__ import main
from dicom_node.demo.phantoms import chest_radiograph_phantom
from tests.support.needs import real_data
from tests.support.studies.data_factories import toy_bundle


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A configuration without a node."""
    path = tmp_path / "node.toml"
    path.write_text(f'[node]\ndata_dir = "{tmp_path / "data"}"\nmin_free_mb = 0\n')
    return path


def evaluate(config: Path, *words: str) -> tuple[int, dict[str, Any]]:
    out = config.parent / "out"
    status = main(["evaluate", *words, "--out", str(out), "--resamples", "50", "--config", str(config)])
    return status, json.loads((out / "report.json").read_text(encoding="utf-8"))


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    """Radiographs as DICOM, as PNG, and lines of the labels that lead to none of them."""
    folder = tmp_path / "images"
    folder.mkdir()
    child, adult = chest_radiograph_phantom("child", rows=128), chest_radiograph_phantom("adult", rows=128, age="044Y")
    child.save_as(folder / "child.dcm", enforce_file_format=True)
    adult.save_as(folder / "adult.dcm", enforce_file_format=True)
    Image.fromarray((child.pixel_array >> 4).astype(np.uint8)).save(folder / "child.png")
    (folder / "text.png").write_text("no picture")
    (folder / "empty").mkdir()
    lines = [
        "image,label,age",
        "child.dcm,1,",
        "adult.dcm,0,",
        "child.png,0,3",
        "text.png,1,3",
        "empty,0,",
        "gone.dcm,1,",
    ]
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    return folder


def test_every_line_of_the_labels_has_an_outcome(config: Path, labelled: Path) -> None:
    status, report = evaluate(
        config, "cxr-pneumonia", "--data", str(labelled), "--labels", str(labelled / "labels.csv"),
        "--assume", "Modality=DX",
    )  # fmt: skip

    assert status == 0
    assert report["images"]["listed"] == 6
    assert report["images"]["analysed_and_labelled"] == 2
    reasons = {one["reason"]: (one["positive"], one["negative"]) for one in report["not_analysed"]}
    assert reasons == {
        "AGE_OUT_OF_RANGE": (0, 1),
        "UNREADABLE_FILE": (1, 0),
        "NO_IMAGES": (0, 1),
        "FILE_MISSING": (1, 0),
    }
    with (config.parent / "out" / "images.csv").open() as file:
        rows = {row["image"]: row for row in csv.DictReader(file)}
    assert set(rows) == {"child.dcm", "adult.dcm", "child.png", "text.png", "empty", "gone.dcm"}
    assert abs(float(rows["child.dcm"]["probability"]) - float(rows["child.png"]["probability"])) < 0.1
    assert (config.parent / "out" / "plot.png").is_file()


def test_a_model_that_nobody_accepted_is_not_run(
    config: Path, labelled: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    toy_bundle(config.parent / "data" / "models" / "toy")
    words = ["toy", "--data", str(labelled), "--labels", str(labelled / "labels.csv"), "--finding", "pneumonia"]

    assert main(["evaluate", *words, "--config", str(config)]) == 1

    assert "models accept toy" in capsys.readouterr().err


def test_labelled_adults_are_turned_away_by_the_age_gate_and_counted(config: Path) -> None:
    folder = real_data("cxr_png_nih_labelled")
    words = ["--data", str(folder), "--labels", str(folder / "labels.csv"), "--label", "finding_labels",
             "--positive", "Infiltration", "--positive", "Effusion", "--assume", "Modality=DX"]  # fmt: skip

    status, report = evaluate(config, "cxr-pneumonia", *words)

    assert status == 1
    (reason,) = report["not_analysed"]
    assert (reason["reason"], reason["images"], reason["positive"]) == ("AGE_OUT_OF_RANGE", 12, 4)


def test_the_same_radiographs_taken_as_children_s_are_scored_by_view(config: Path) -> None:
    folder = real_data("cxr_png_nih_labelled")
    words = ["--data", str(folder), "--labels", str(folder / "labels.csv"), "--label", "finding_labels",
             "--positive", "Infiltration", "--positive", "Effusion", "--group", "view",
             "--assume", "Modality=DX", "--assume", "PatientAge=004Y"]  # fmt: skip

    status, report = evaluate(config, "cxr-pneumonia", *words)

    assert status == 0
    assert report["images"]["analysed_and_labelled"] == 12
    assert {name: group["images"] for name, group in report["subgroups"]["view"].items()} == {"AP": 3, "PA": 9}
    assert 0 <= report["analysed"]["auroc"]["low"] <= report["analysed"]["auroc"]["high"] <= 1
    assert report["assumed_of_pictures"] == ["Modality=DX", "PatientAge=004Y"]


def test_radiographs_labelled_by_their_names_are_told_apart(config: Path, tmp_path: Path) -> None:
    folder = tmp_path / "children"
    folder.mkdir()
    lines = ["image,label,patient,age"]
    for name, content in first_of_each(real_data("cxr_pneumonia_train_5216.tar"), 8):
        (folder / name).write_bytes(content)
        label, _, rest = name.partition("__")
        lines.append(f"{name},{label},{rest.split('_')[0]},3")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")

    status, report = evaluate(
        config, "cxr-pneumonia", "--data", str(folder), "--labels", str(folder / "labels.csv"),
        "--assume", "Modality=CR",
    )  # fmt: skip

    assert status == 0
    assert (report["images"]["analysed_and_labelled"], report["images"]["positive"]) == (16, 8)
    assert report["not_analysed"] == []
    assert report["analysed"]["auroc"]["value"] > 0.9, "most of these the model was trained on"


def first_of_each(archive: Path, count: int) -> Iterator[tuple[str, bytes]]:
    """Yield the first radiographs of each label: name and content."""
    left = {"NORMAL": count, "PNEUMONIA": count}
    with tarfile.open(archive) as opened:
        for member in opened:
            name = Path(member.name).name
            label = name.partition("__")[0]
            if not left.get(label):
                continue
            left[label] -= 1
            file = opened.extractfile(member)
            assert file is not None
            yield name, file.read()
            if not any(left.values()):
                return
