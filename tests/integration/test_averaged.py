"""Several networks of one bundle, and mirror images, as one answer: the mean, and how far they differ."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="the inference extra is not installed")

import torch
from safetensors.torch import save_file

from dicom_node.analysis.answer import Analysis, NotAnalysed
from dicom_node.analysis.written import summarise
from dicom_node.core.errors import ModelUnavailable
from dicom_node.demo.phantoms import chest_radiograph_phantom
from dicom_node.inference.cards.card import load_card
from dicom_node.inference.cards.contradictions import contradictions
from dicom_node.inference.prediction import DISAGREEMENT, ModelInput
from dicom_node.inference.runner import run_model
from dicom_node.inference.runtimes.monai_bundle.model import load
from tests.support.models import zoo_bundles
from tests.support.studies.data_factories import request_for

#: The left half of the picture is brighter than the right.
_LEFT_BRIGHTER = np.repeat([[0.6] * 4 + [0.5] * 4], 8, axis=0)[None].astype(np.float32)


def joined(model: Path, state: dict[str, torch.Tensor], *, axes: str = "[]") -> Path:
    """Give a bundle a second set of weights and axes to mirror."""
    file = model / "models" / "second.safetensors"
    save_file(state, file)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    card = model / "model_card.toml"
    card.write_text(
        f"{card.read_text()}\n[ensemble]\nmirrored_axes = {axes}\n[[ensemble.member]]\n"
        f'file = "models/second.safetensors"\nsha256 = "{digest}"\n'
    )
    return model


def halves(slope: float) -> dict[str, torch.Tensor]:
    weight = torch.zeros(2, 64)
    weight[0, :32], weight[1, 32:] = slope, slope
    return {"1.weight": weight, "1.bias": torch.zeros(2)}


def test_two_networks_give_the_mean_of_their_probabilities_and_tell_how_far_they_differ(tmp_path: Path) -> None:
    model = joined(zoo_bundles.classifier(tmp_path / "halves"), halves(0.2))

    (found,) = load(load_card(model), "cpu").predict([ModelInput(values=_LEFT_BRIGHTER)])

    left = [1 / (1 + np.exp(-slope * 32 * 0.1)) for slope in (1.0, 0.2)]
    assert found.scores == pytest.approx([np.mean(left), 1 - np.mean(left)], abs=1e-5)
    assert found.figures[DISAGREEMENT] == pytest.approx(np.std(left), abs=1e-4)


def test_each_image_of_a_call_has_a_disagreement_of_its_own(tmp_path: Path) -> None:
    model = joined(zoo_bundles.classifier(tmp_path / "halves"), halves(0.2))
    even = ModelInput(values=np.full((1, 8, 8), 0.5, np.float32))

    differing, agreeing = load(load_card(model), "cpu").predict([ModelInput(values=_LEFT_BRIGHTER), even])

    assert differing.figures[DISAGREEMENT] > 0.1
    assert agreeing.figures[DISAGREEMENT] == pytest.approx(0.0, abs=1e-3)


def test_an_image_and_its_mirror_image_are_one_answer(tmp_path: Path) -> None:
    """Axis 0 of a picture is that of its columns, as MONAI's readers give it: mirrored, neither half is brighter."""
    model = joined(zoo_bundles.classifier(tmp_path / "halves"), halves(1.0), axes="[0]")

    (found,) = load(load_card(model), "cpu").predict([ModelInput(values=_LEFT_BRIGHTER)])

    assert found.scores == pytest.approx([0.5, 0.5], abs=1e-5)


def test_a_mask_is_that_of_the_mean_in_every_window_and_back_on_its_voxels(tmp_path: Path) -> None:
    """Mirrored outlines that were not mirrored back would lie elsewhere: the volume has no two equal voxels."""
    card = zoo_bundles.SEGMENTS.replace('side = "left"\n', "")
    alone = zoo_bundles.segmenter(tmp_path / "alone", card=card)
    steeper = {key: value * 2 for key, value in zoo_bundles.two_levels().items()}
    model = joined(zoo_bundles.segmenter(tmp_path / "both", card=card), steeper, axes="[0, 1, 2]")
    values = np.linspace(-200, 300, 20 * 40 * 36, dtype=np.float32).reshape(1, 20, 40, 36)
    given = ModelInput(values=values, affine_lps_mm=np.eye(4))

    (one,), together = load(load_card(alone), "cpu").predict([given]), load(load_card(model), "cpu")
    (mean,) = together.predict([given])

    assert one.labels is not None
    assert set(np.unique(one.labels)) == {0, 1, 2}
    assert np.array_equal(mean.labels, one.labels)  # both networks change class at the same values
    assert one.figures == {}
    assert 0 < mean.figures[DISAGREEMENT] < 0.05


def test_a_report_says_how_it_was_computed_and_how_far_the_answers_differ(tmp_path: Path) -> None:
    model = joined(zoo_bundles.classifier(tmp_path / "halves"), halves(0.2))

    found = run_model(request_for([chest_radiograph_phantom()], model, tmp_path / "study"))

    assert isinstance(found, Analysis)
    apart = found.figures[DISAGREEMENT]
    assert summarise(found)["figures"] == {DISAGREEMENT: apart}
    assert "The mean of 2 answers: 2 networks." in found.notes
    assert f"The answers that were averaged differ by {apart:.3f} (standard deviation, 0 to 0.5)." in found.notes


def test_answers_that_differ_too_far_are_none_where_the_card_says_so(tmp_path: Path) -> None:
    model = joined(zoo_bundles.classifier(tmp_path / "halves"), halves(-1.0))
    card = model / "model_card.toml"
    check = (
        f'[[check]]\nfigure = "{DISAGREEMENT}"\nlabel = "The networks\' disagreement"\nmax = 0.01\ncode = "UNSURE"\n'
    )
    card.write_text(f"{card.read_text()}{check}")

    found = run_model(request_for([chest_radiograph_phantom()], model, tmp_path / "study"))

    assert isinstance(found, NotAnalysed)
    assert (found.reason, "disagreement" in found.message) == ("UNSURE", True)


def test_weights_of_a_member_are_those_of_the_card(tmp_path: Path) -> None:
    model = joined(zoo_bundles.classifier(tmp_path / "halves"), halves(0.2))
    save_file(halves(0.3), model / "models" / "second.safetensors")

    with pytest.raises(ModelUnavailable, match=r"second.safetensors have sha256"):
        load_card(model).verify_weights()


def test_a_mirror_does_not_average_left_with_right(tmp_path: Path) -> None:
    """Its ball is on the left."""
    model = joined(zoo_bundles.segmenter(tmp_path / "sided"), zoo_bundles.two_levels(), axes="[0]")

    (told,) = [one for one in contradictions(load_card(model)) if "ensemble" in one]

    assert "would average ball with what lies on the other side" in told
