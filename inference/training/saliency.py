"""Measure how much of a chest radiograph classifier's heat maps lies in the lungs.

``python -m dicom_node.inference.training.saliency --data FOLDER_OR_TAR --bundle BUNDLE_FOLDER``

Of each of a random set of patients with pneumonia one image is asked about; where the bundle calls it present, its heat
map is held against lungs that are found without labels (`lung_fields`). `--write` puts the figures into the README.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data.meta_obj import set_track_meta
from numpy.typing import NDArray

from dicom_node.inference.cards.card import ModelCard, load_card
from dicom_node.inference.explain.methods import grad_cam
from dicom_node.inference.training import bundle_folder, fit
from dicom_node.inference.training.data import Radiograph, read_radiographs
from dicom_node.inference.training.figures import report
from dicom_node.inference.training.figures.metrics import Interval
from dicom_node.inference.training.lung_fields import LungAtlas, LungFields, agreement, plain_lung_fields

log = logging.getLogger(__name__)

Floats = NDArray[np.float32]

#: So many other chests are looked through for those that show their lungs plainly.
_FOR_THE_ATLAS = 200
_RESAMPLES = 2000
_ROWS = {
    "in_lungs": "heat map in the lungs",
    "between_lungs": "heat map between them (heart, great vessels, spine)",
    "elsewhere": "heat map elsewhere",
    "peak_in_lungs": "images with the hottest place in the lungs",
    "peak_between_lungs": "images with the hottest place between them",
    "lungs_of_image": "lungs' share of the image: what a map that knows nothing would have in them",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Shares:
    """Where one heat map lies: shares of its sum, and of the image; its hottest place as 0 or 1."""

    in_lungs: float
    between_lungs: float
    elsewhere: float
    peak_in_lungs: float
    peak_between_lungs: float
    lungs_of_image: float


def shares(heat: Floats, fields: LungFields) -> Shares:
    """Return where a map (rows, columns; not all 0) lies, that is of the size of the masks."""
    total = float(heat.sum())
    inside, between = float(heat[fields.lungs].sum()) / total, float(heat[fields.between].sum()) / total
    peak = np.unravel_index(int(heat.argmax()), heat.shape)
    return Shares(
        in_lungs=inside,
        between_lungs=between,
        elsewhere=1.0 - inside - between,
        peak_in_lungs=float(fields.lungs[peak]),
        peak_between_lungs=float(fields.between[peak]),
        lungs_of_image=float(fields.lungs.mean()),
    )


def chosen(radiographs: Sequence[Radiograph], count: int, seed: int) -> tuple[list[Radiograph], list[Radiograph]]:
    """Return one image each of `count` random patients with pneumonia, and images of others for the atlas."""
    random = np.random.default_rng(seed)
    ill = sorted({one.patient for one in radiographs if one.has_pneumonia})
    patients = set(random.permutation(ill)[:count].tolist())
    asked: dict[str, Radiograph] = {}
    for place in random.permutation(len(radiographs)):
        one = radiographs[place]
        if one.has_pneumonia and one.patient in patients:
            asked.setdefault(one.patient, one)
    others = [one for one in radiographs if one.patient not in patients]
    for_the_atlas = [others[place] for place in random.permutation(len(others))[:_FOR_THE_ATLAS]]
    return [asked[patient] for patient in sorted(asked)], for_the_atlas


def measured(folder: Path, radiographs: Sequence[Radiograph], count: int, seed: int) -> dict[str, Any]:
    """Return the mean shares with 95 % intervals over patients, and on how many images, as JSON-ready data.

    Raises `ValueError` where the bundle calls none of the images present, and where too few chests make an atlas.
    """
    asked, others = chosen(radiographs, count, seed)
    atlas = LungAtlas([one.pixels for one in others])
    found = _all_shares(folder, load_card(folder), asked, atlas)
    if not found:
        raise ValueError(f"None of the {len(asked)} images is called present, so there is no heat map to measure.")
    return {
        "asked": len(asked),
        "present": len(found),
        "atlas": atlas.size,
        "seed": seed,
        "masks": _agreement(asked, atlas),
        "shares": {name: asdict(_mean([getattr(one, name) for one in found])) for name in _ROWS},
    }


def _all_shares(folder: Path, card: ModelCard, asked: Sequence[Radiograph], atlas: LungAtlas) -> list[Shares]:
    network = bundle_folder.trained_network(folder)
    preprocessing = bundle_folder.definitions(folder).get_parsed_content("preprocessing")
    (finding,), layer = card.findings, card.explain["layer"]
    found = []
    for one, tensor in zip(asked, torch.split(fit.inputs_of(asked, preprocessing), 1), strict=True):
        with torch.no_grad():
            chances = torch.softmax(network(tensor)[0] / card.parameters["temperature"], dim=0)
        if float(chances[finding.output_index]) < card.parameters["threshold"]:
            continue
        fields = atlas.fields(one.pixels)
        heat = grad_cam(network, tensor, layer=layer, output_index=finding.output_index, shape=fields.lungs.shape)
        if heat.any():
            found.append(shares(heat, fields))
    return found


def _agreement(asked: Sequence[Radiograph], atlas: LungAtlas) -> dict[str, float]:
    """Hold the masks against those of the same images whose lungs show plainly: no truth, but another way."""
    pairs = [(plain, atlas.fields(one.pixels)) for one in asked if (plain := plain_lung_fields(one.pixels)) is not None]
    dice = [agreement(*pair) for pair in pairs]
    low, median = np.percentile(dice, [5, 50]) if dice else (float("nan"),) * 2
    return {"images": len(dice), "dice_median": round(float(median), 3), "dice_5th_percentile": round(float(low), 3)}


def _mean(values: Sequence[float]) -> Interval:
    each = np.array(values)
    draws = np.random.default_rng(0).choice(each, size=(_RESAMPLES, each.size)).mean(axis=1)
    low, high = np.percentile(draws, [2.5, 97.5])
    return Interval(value=round(float(each.mean()), 4), low=round(float(low), 4), high=round(float(high), 4))


def table(figures: dict[str, Any]) -> str:
    """Return the figures as Markdown."""
    lines = [
        f"| {figures['present']} images called present, of {figures['asked']} with pneumonia | mean | 95 % interval |",
        "|---|---|---|",
    ]
    for name, words in _ROWS.items():
        one = figures["shares"][name]
        lines.append(f"| {words} | {one['value']:.0%} | {one['low']:.0%}–{one['high']:.0%} |".replace("%", " %"))
    masks = figures["masks"]
    lines += [
        "",
        f"On the {masks['images']} that show their lungs plainly, the masks have a Dice of {masks['dice_median']:.2f} "
        f"(median; 5th percentile {masks['dice_5th_percentile']:.2f}) with what is dark there.",
    ]
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Measure how much of the heat maps lies in the lungs.")
    parser.add_argument("--data", type=Path, required=True, help="folder or tar archive of labelled radiographs")
    parser.add_argument("--bundle", type=Path, default=bundle_folder.SHIPPED, help="folder of the trained bundle")
    parser.add_argument("--patients", type=int, default=400, help="how many with pneumonia, one image each")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", action="store_true", help="put the figures into the README of the bundle")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(1)
    set_track_meta(False)
    figures = measured(options.bundle, read_radiographs(options.data), options.patients, options.seed)
    log.info("of the heat maps: %s", json.dumps(figures, indent=2))
    if options.write:
        report.replace_table(options.bundle / "README.md", table(figures), "saliency")


if __name__ == "__main__":
    main()
