"""Labels as people write them, and figures whose right values are known."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image

from dicom_node.core.errors import SettingsError
from dicom_node.evaluation.figures import draw, figures
from dicom_node.evaluation.labels import Columns, LabelledImage, columns_for, header_of, read_labels, sampled
from dicom_node.evaluation.run import ImageOutcome

FINDING = ("pneumonia", "Pneumonia")


def read(
    folder: Path, text: str, *, label: str = "", positive: Sequence[str] = (), **more: object
) -> Sequence[LabelledImage]:
    path = folder / "labels.csv"
    path.write_text(text, encoding="utf-8")
    column, words = columns_for(header_of(path), FINDING, label, positive)
    assumed = more.pop("assumed", {})
    return read_labels(path, folder, Columns(label=column, positive=words, assumed=assumed, **more))  # type: ignore[arg-type]


def test_a_column_named_like_the_finding_tells_the_truth(tmp_path: Path) -> None:
    images = read(tmp_path, "image,pneumonia\na.png,1\nb.png,0\nc.png,\n")

    assert [(image.name, image.truth) for image in images] == [("a.png", True), ("b.png", False), ("c.png", None)]


def test_a_column_label_with_the_finding_s_name_tells_the_truth(tmp_path: Path) -> None:
    images = read(tmp_path, "file,label\na.png,PNEUMONIA\nb.png,NORMAL\n")

    assert [image.truth for image in images] == [True, False]


def test_several_words_in_one_cell_are_looked_through(tmp_path: Path) -> None:
    text = "filename,finding_labels\na.png,Edema|Infiltration\nb.png,No Finding\n"

    images = read(tmp_path, text, label="finding_labels", positive=["infiltration"])

    assert [image.truth for image in images] == [True, False]


@pytest.mark.parametrize("word", ["nan", "NaN", "NA", "n/a", "U", "-1", "-1.0", "unknown", "uncertain", "?", " ", "|"])
def test_a_word_that_says_neither_yes_nor_no_is_no_label(tmp_path: Path, word: str) -> None:
    images = read(tmp_path, f"image,pneumonia\na.png,{word}\nb.png,0\nc.png,No Finding\nd.png,U|1\ne.png,Mass|U\n")

    assert [image.truth for image in images] == [None, False, False, True, None]


def test_images_of_patients_who_are_not_named_are_not_one_patient(tmp_path: Path) -> None:
    images = read(tmp_path, "image,pneumonia,patient\na.png,1,x\nb.png,0,\nc.png,0,nan\nd.png,1,x\n")

    assert [image.patient for image in images] == ["x", "b.png", "c.png", "x"]


def test_age_sex_and_view_become_attributes_and_assumptions_win(tmp_path: Path) -> None:
    text = "image,label,age,sex,view,patient_id\na.png,1,7,F,PA,x\n"

    (image,) = read(tmp_path, text, assumed={"Modality": "DX", "PatientAge": "003Y"}, groups=["sex"])

    assert image.attributes == {"PatientAge": "003Y", "PatientSex": "F", "ViewPosition": "PA", "Modality": "DX"}
    assert (image.patient, image.groups) == ("x", {"sex": "F"})


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("image,truth\na.png,1\n", "no column 'pneumonia'; they have image, truth"),
        ("name,label\na.png,1\n", "that names the image"),
        ("image,label\n../a.png,1\n", "does not lie in"),
        ("image,label\n", "no line beside the header"),
    ],
)
def test_labels_that_cannot_be_used_are_refused(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(SettingsError, match=told):
        read(tmp_path, text)


def test_a_sample_is_the_same_for_the_same_seed(tmp_path: Path) -> None:
    images = read(tmp_path, "image,label\n" + "".join(f"{n}.png,1\n" for n in range(50)))

    assert sampled(images, 5, 1) == sampled(images, 5, 1)
    assert sampled(images, 5, 1) != sampled(images, 5, 2)
    assert sampled(images, 0, 1) == sampled(images, 99, 1) == images


def outcome(truth: bool | None, probability: float | None, *, group: str = "a", patient: str = "") -> ImageOutcome:
    number = f"{truth}-{probability}-{group}-{patient}"
    image = LabelledImage(
        name=number, path=Path(number), truth=truth, patient=patient or number, groups={"kind": group}, attributes={}
    )
    reason = "" if probability is not None else "AGE_UNKNOWN"
    return ImageOutcome(image=image, probability=probability, threshold=0.5, reason=reason, message=reason.lower())


#: One ill image below, one healthy above the threshold; one ill image was not analysed, one healthy has no label.
OUTCOMES = [
    outcome(True, 0.9), outcome(True, 0.8), outcome(True, 0.3), outcome(True, None),
    outcome(False, 0.1), outcome(False, 0.2), outcome(False, 0.6), outcome(False, 0.05, group="b"),
    outcome(None, 0.7),
]  # fmt: skip


def test_figures_are_those_counted_by_hand() -> None:
    found = figures(OUTCOMES, resamples=50)

    assert found["images"] == {"listed": 9, "labelled": 8, "positive": 4, "analysed": 8, "analysed_and_labelled": 7,
                               "patients": 9}  # fmt: skip
    assert found["analysed"]["confusion"] == {
        "true_positive": 2, "false_positive": 1, "false_negative": 1, "true_negative": 3}  # fmt: skip
    assert found["analysed"]["sensitivity"]["value"] == 0.6667
    assert found["analysed"]["specificity"]["value"] == 0.75
    assert found["analysed"]["auroc"]["value"] == pytest.approx(11 / 12, abs=1e-4)
    assert found["analysed"]["positive_predictive_value"]["value"] == 0.6667


def test_what_was_not_analysed_is_counted_by_reason_and_label_and_as_not_found() -> None:
    found = figures(OUTCOMES, resamples=50)

    assert found["not_analysed"] == [
        {"reason": "AGE_UNKNOWN", "images": 1, "positive": 1, "negative": 0, "example": "age_unknown"}
    ]
    assert found["of_all_labelled"] == {"sensitivity": 0.5, "specificity": 0.75}


def test_intervals_hold_the_value_and_subgroups_without_a_class_are_undefined() -> None:
    found = figures(OUTCOMES, resamples=200)

    auroc = found["analysed"]["auroc"]
    assert auroc["low"] <= auroc["value"] <= auroc["high"]
    assert found["subgroups"]["kind"]["b"]["auroc"] == {"value": None, "low": None, "high": None}
    assert found["subgroups"]["kind"]["b"]["specificity"]["value"] == 1.0


def test_images_of_one_patient_are_drawn_together() -> None:
    alone = [outcome(truth, 0.9 if truth else 0.6, group=str(n)) for n in range(20) for truth in (True, False)]
    together = [outcome(truth, 0.9 if truth else 0.6, group=str(n), patient=str(truth)) for n in range(20)
                for truth in (True, False)]  # fmt: skip

    # Two patients only: each draw holds one class, or both; the Brier score swings between its two ends.
    wide, narrow = (figures(one, resamples=200)["analysed"]["brier_score"] for one in (together, alone))
    assert wide["high"] - wide["low"] > 2 * (narrow["high"] - narrow["low"])


def test_the_roc_curve_ends_in_its_corners_and_the_calibration_curve_counts_every_image() -> None:
    found = figures(OUTCOMES, resamples=10)

    assert (found["roc"][0], found["roc"][-1]) == ([0.0, 0.0], [1.0, 1.0])
    assert sum(one["images"] for one in found["calibration"]) == 7
    assert found["calibration"][0] == {"from": 0.0, "to": 0.1, "images": 1, "stated": 0.05, "observed": 0.0}


def test_many_numbers_are_cut_into_thirds() -> None:
    ages = [outcome(bool(age % 2), 0.5, group=str(age)) for age in range(1, 31)]

    groups = figures(ages, resamples=10)["subgroups"]["kind"]

    assert [group["images"] for group in groups.values()] == [10, 10, 10]


def test_nothing_analysed_gives_a_census_and_no_figures() -> None:
    found = figures([outcome(True, None)])

    assert set(found) == {"images", "not_analysed"}


def test_the_drawing_is_a_picture_with_marks_in_it(tmp_path: Path) -> None:
    draw(tmp_path / "plot.png", "A title", figures(OUTCOMES, resamples=10), OUTCOMES)

    with Image.open(tmp_path / "plot.png") as picture:
        assert picture.size[0] == 3 * (picture.size[1] - 40)
        colours = {colour for _, colour in picture.getcolors(1 << 20) or []}
    assert {(30, 90, 200), (222, 120, 20)} <= colours
