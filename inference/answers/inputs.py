"""A series as a model's inputs: images or one volume through its gate, with the attributes that may go along."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pydicom.dataset import Dataset

from dicom_node.inference.cards.card import ModelCard
from dicom_node.inference.images.pixels import color_values, display_values, hidden_pixels
from dicom_node.inference.images.radiograph import frontal_images
from dicom_node.inference.images.remarks import shutter_remark
from dicom_node.inference.images.volume import Volume, read_volume
from dicom_node.inference.model_run import ModelRun
from dicom_node.inference.prediction import LoadedModel, ModelInput, Prediction


@dataclass(frozen=True, slots=True)
class Given:
    """One input of a model and what it was made of: one image, or the slices of `volume` in its order."""

    sources: tuple[Dataset, ...]
    model_input: ModelInput
    volume: Volume | None = None

    @property
    def sop_instance_uid(self) -> str:
        """Of the image; of the first slice of a volume."""
        return str(self.sources[0].SOPInstanceUID)


def read_inputs(run: ModelRun) -> list[Given]:
    """Read what the card's model is given: each frontal image, or the one volume. Raises `NotAnalysable`."""
    with run.stage("read"):
        return [_volume(run)] if run.card.input == "volume" else _images(run)


def predictions(run: ModelRun, model: LoadedModel, given: Sequence[Given]) -> list[Prediction]:
    """Run the model on the inputs, as many at once as it takes."""
    with run.stage("infer"):
        found: list[Prediction] = []
        for start in range(0, len(given), model.batch_limit):
            found.extend(model.predict([one.model_input for one in given[start : start + model.batch_limit]]))
        return found


def _images(run: ModelRun) -> list[Given]:
    images = [one.read() for one in frontal_images(run.images, run.notes, run.card.gate)]
    return [Given((image,), _image(run, image)) for image in images]


def _image(run: ModelRun, image: Dataset) -> ModelInput:
    in_color = run.card.color == "rgb"
    values = color_values(image, voi=run.card.voi) if in_color else display_values(image, voi=run.card.voi)[None]
    run.notes.extend(shutter_remark(image, hidden_pixels(image)))
    return ModelInput(values=values, attributes=shared_attributes(run.card, image))


def _volume(run: ModelRun) -> Given:
    volume = read_volume(run.images, run.card.gate, run.notes)
    values = np.ascontiguousarray(volume.values_zyx, dtype=np.float32)[None]
    shared = shared_attributes(run.card, volume.sources[0])
    return Given(
        volume.sources, ModelInput(values=values, affine_lps_mm=volume.affine_lps_mm, attributes=shared), volume
    )


# --- which attributes leave this machine -----------------------------------------------------------------------------

#: Older people are few enough to be found by their age (45 CFR 164.514).
_OLDEST_TOLD_YEARS = 90


def shared_attributes(card: ModelCard, header: Dataset) -> dict[str, str]:
    """Return the declared attributes that the image has, by keyword; empty for a model that runs here."""
    if card.server is None:
        return {}
    told = {keyword: str(header.get(keyword)) for keyword in card.server.attributes if header.get(keyword) is not None}
    if "PatientAge" in told:
        told["PatientAge"] = _without_great_age(told["PatientAge"])
    return {keyword: value for keyword, value in told.items() if value}


def _without_great_age(age: str) -> str:
    years = age.endswith("Y") and age[:-1].isdigit()
    return f"{_OLDEST_TOLD_YEARS:03d}Y" if years and int(age[:-1]) > _OLDEST_TOLD_YEARS else age
