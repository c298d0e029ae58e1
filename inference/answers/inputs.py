"""A series as a model's inputs: images or one volume through its gate, with the attributes that may go along."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from pydicom.dataset import Dataset

from dicom_node.core.errors import NotAnalysable
from dicom_node.inference.cards.card import ModelCard
from dicom_node.inference.familiarity import familiarity_remark, read_looks, rim_of
from dicom_node.inference.images.channels import on_one_grid
from dicom_node.inference.images.pixels import color_values, display_values, hidden_pixels
from dicom_node.inference.images.radiographs.frontal_chest import LEAST_LIKENESS, likeness
from dicom_node.inference.images.radiographs.radiograph import frontal_images
from dicom_node.inference.images.radiographs.upright import UPRIGHT, Stance, Turn, stance_of
from dicom_node.inference.images.remarks import shutter_remark
from dicom_node.inference.images.volume import Volume, read_volume
from dicom_node.inference.model_run import ModelRun
from dicom_node.inference.prediction import DISAGREEMENT, Explanation, LoadedModel, ModelInput, Prediction
from dicom_node.inference.runtimes.axes import Floats


@dataclass(frozen=True, slots=True)
class Given:
    """One input of a model and what it was made of: one image, or the slices of `volume` in its order.

    `turn` is how the image was turned for the model; what comes of it must go back on the pixels as they are stored.
    """

    sources: tuple[Dataset, ...]
    model_input: ModelInput
    volume: Volume | None = None
    turn: Turn = UPRIGHT

    @property
    def sop_instance_uid(self) -> str:
        """Of the image; of the first slice of a volume."""
        return str(self.sources[0].SOPInstanceUID)

    @property
    def stored_shape(self) -> tuple[int, int]:
        """Rows and columns of the image as it is stored."""
        rows, columns = self.model_input.values.shape[-2:]
        return (columns, rows) if self.turn.exchanged else (rows, columns)


def read_inputs(run: ModelRun) -> list[Given]:
    """Read what the card's model is given: each frontal image, or the one volume. Raises `NotAnalysable`."""
    with run.stage("read"):
        return [_volume(run)] if run.card.input == "volume" else _images(run)


def predictions(run: ModelRun, model: LoadedModel, given: Sequence[Given]) -> list[Prediction]:
    """Run the model on the inputs, as many at once as it takes; what has a place lies on the pixels as stored."""
    with run.stage("infer"):
        found: list[Prediction] = []
        for start in range(0, len(given), model.batch_limit):
            found.extend(model.predict([one.model_input for one in given[start : start + model.batch_limit]]))
        run.notes.extend(getattr(model, "told", ()))
        _tell_disagreement(run, found)
        return [one.turn.stored_prediction(answer, one.stored_shape) for one, answer in zip(given, found, strict=True)]


def _tell_disagreement(run: ModelRun, found: Sequence[Prediction]) -> None:
    """Say of answers that are a mean how far apart they were, the worst of several images."""
    apart = [one.figures[DISAGREEMENT] for one in found if DISAGREEMENT in one.figures]
    if apart:
        run.figures[DISAGREEMENT] = max(apart)
        run.notes.append(f"The answers that were averaged differ by {max(apart):.3f} (standard deviation, 0 to 0.5).")


def explanation(model: LoadedModel, given: Given, output_index: int) -> Explanation | None:
    """Return what speaks for one output, on the pixels as they are stored; `None` where the model cannot tell."""
    found = model.explain(given.model_input, output_index)
    return None if found is None else replace(found, map=given.turn.stored(found.map))


def _images(run: ModelRun) -> list[Given]:
    given = [_image(run, one.read()) for one in frontal_images(run.images, run.notes, run.card.gate)]
    shown = _chests(run, given) if run.card.gate.views == "frontal-chest" else given
    _tell_looks(run, shown)
    return shown


def _tell_looks(run: ModelRun, given: Sequence[Given]) -> None:
    """Note for each image how like those it was taken that the model knows. Raises `ModelUnavailable`."""
    if run.card.looks is None:
        return
    known = read_looks(run.card.looks.file)
    distances = known.distances(np.stack([rim_of(one.model_input.values[0]) for one in given]))
    run.look_distances.extend(float(one) for one in distances)
    run.notes.extend(
        familiarity_remark(
            one.sources[0].get("InstanceNumber", "?"), float(distance), run.card.looks.calibration_errors
        )
        for one, distance in zip(given, distances, strict=True)
    )


def _chests(run: ModelRun, given: Sequence[Given]) -> list[Given]:
    """Return the images that look like a chest from the front. Raises `NotAnalysable` (NOT_FRONTAL_CHEST) without."""
    alike = [likeness(one.model_input.values[0]) for one in given]
    told = [
        f"image {one.sources[0].get('InstanceNumber', '?')} does not look like a frontal chest radiograph "
        f"(likeness {share:.0%}, at least {LEAST_LIKENESS:.0%} is asked for)"
        for one, share in zip(given, alike, strict=True)
        if share < LEAST_LIKENESS
    ]
    if len(told) == len(given):
        raise NotAnalysable("NOT_FRONTAL_CHEST", f"Not a frontal chest radiograph: {'; '.join(told)}.")
    run.notes.extend(f"Left out: {one}." for one in told)
    return [one for one, share in zip(given, alike, strict=True) if share >= LEAST_LIKENESS]


def _image(run: ModelRun, image: Dataset) -> Given:
    stance = stance_of(image) if run.card.gate.views.startswith("frontal") else Stance(UPRIGHT)
    in_color = run.card.color == "rgb"
    shown = color_values(image, voi=run.card.voi) if in_color else display_values(image, voi=run.card.voi)[None]
    values = stance.turn.upright(shown)
    run.notes.extend(shutter_remark(image, hidden_pixels(image)))
    run.notes.extend([stance.remark] if stance.remark else [])
    model_input = ModelInput(values=values, attributes=shared_attributes(run.card, image))
    return Given((image,), model_input, turn=stance.turn)


def _volume(run: ModelRun) -> Given:
    if run.card.channels:
        volume, values = _channels(run)
    else:
        volume = read_volume(run.images, run.card.gate, run.notes)
        values = np.ascontiguousarray(volume.values_zyx, dtype=np.float32)[None]
    if values.min() == values.max():
        raise NotAnalysable("EMPTY_IMAGE", "All pixels of the volume have the same value.")
    shared = shared_attributes(run.card, volume.sources[0])
    return Given(
        volume.sources, ModelInput(values=values, affine_lps_mm=volume.affine_lps_mm, attributes=shared), volume
    )


def _channels(run: ModelRun) -> tuple[Volume, Floats]:
    """Read the series of each channel; return the first as a volume, and all on its grid (channels, z, y, x)."""
    names = [one.key for one in run.card.channels]
    if len(run.channel_series) != len(names):
        raise NotAnalysable(
            "CHANNELS_MISSING",
            f"The model reads {', '.join(names)}; the study gives {len(run.channel_series)} of them.",
        )
    volumes = []
    for name, series in zip(names, run.channel_series, strict=True):
        images = [one for one in run.images if str(one.header.SeriesInstanceUID) == series]
        notes: list[str] = []
        volumes.append(read_volume(images, run.card.gate, notes))
        number = images[0].header.get("SeriesNumber", "?")
        run.notes.append(f"{name}: series {number}, {len(volumes[-1].sources)} images.")
        run.notes.extend(f"{name}: {note}" for note in notes)
        read = {str(one.SOPInstanceUID) for one in volumes[-1].sources}
        if len(volumes) > 1:
            run.further_sources.extend(one.header for one in images if str(one.header.SOPInstanceUID) in read)
    return volumes[0], on_one_grid(volumes, names)


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
