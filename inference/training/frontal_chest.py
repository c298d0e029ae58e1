"""Train what tells frontal chest radiographs from other pictures, and say how it tells patients it has not seen.

    python -m dicom_node.inference.training.frontal_chest --data IMAGES.tar --volumes FOLDER … --out FILE.safetensors

Frontal chests are the training patients of `cxr-pneumonia`, varied as there. Against them stand the same turned or with
bright and dark exchanged, parts of them, chest CT seen from the side (projected here) and as slices, and limbs, waves
and noise that are drawn. No radiograph that is no frontal chest is used, so that those can measure it.
"""

from __future__ import annotations

import argparse
import logging
import math
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from pydicom import dcmread
from safetensors.torch import save_file
from scipy import ndimage
from torch import Tensor

from dicom_node.inference.images.radiographs.frontal_chest import SIDE_PX, FrontalChest, prepared
from dicom_node.inference.training.augment import Motion, Strength, varied
from dicom_node.inference.training.data import Radiograph, read_radiographs, split_by_patient

log = logging.getLogger(__name__)

SEED = 1
EPOCHS, BATCH = 8, 128
_STRENGTH = Strength(motion=Motion(rotation_degrees=10, shift=0.1, zoom=0.3), negative=0.0, border=0.4)
_FLIP = Strength(motion=Motion(rotation_degrees=15, shift=0.15, zoom=0.3), negative=0.2, border=0.4)
_STEP_DEGREES = 10


def main() -> int:
    """Read, train, write the weights, and print how the unseen patients of the source are told."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--volumes", type=Path, nargs="+", required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.manual_seed(SEED)
    random = np.random.default_rng(SEED)
    split = split_by_patient(read_radiographs(options.data), seed=SEED)
    volumes = [volume for folder in options.volumes for volume in read_volumes(folder)]
    others = _others(volumes, random)
    network = trained(_tensor(split.training), others, random)
    save_file({key: value.contiguous() for key, value in network.state_dict().items()}, options.out)
    test = _tensor(split.test)
    log.info("%d volumes, %d other pictures", len(volumes), len(others))
    for name, images in (("upright", test), ("turned", test.rot90(1, (2, 3))), ("upside down", test.rot90(2, (2, 3)))):
        share = float((network(prepared(images)) > 0).float().mean())
        log.info("%s: %.4f of %d taken for frontal chests", name, share, len(images))
    return 0


def trained(chests: Tensor, others: Tensor, random: np.random.Generator) -> FrontalChest:
    """Return the network, trained with as many pictures of each kind."""
    network = FrontalChest()
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=1e-3)
    steps = EPOCHS * (len(chests) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=4e-3, total_steps=steps)
    for _ in range(steps):
        positive = varied(chests[torch.from_numpy(random.integers(len(chests), size=BATCH))], _STRENGTH)
        negative = _negatives(chests, others, random)
        images = prepared(torch.cat([positive, negative]))
        wanted = torch.cat([torch.ones(len(positive)), torch.zeros(len(negative))])
        loss = torch.nn.functional.binary_cross_entropy_with_logits(network(images), wanted)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    return network.eval()


def _negatives(chests: Tensor, others: Tensor, random: np.random.Generator) -> Tensor:
    """Draw a batch of what is no frontal chest: a quarter turned, an eighth negated, an eighth parts, half others."""
    quarter, eighth = BATCH // 4, BATCH // 8
    drawn = varied(chests[torch.from_numpy(random.integers(len(chests), size=quarter + 2 * eighth))], _STRENGTH)
    turned = torch.stack([one.rot90(int(random.integers(1, 4)), (1, 2)) for one in drawn[:quarter]])
    parts = torch.stack([_part(one, random) for one in drawn[quarter + eighth :]])
    strangers = varied(others[torch.from_numpy(random.integers(len(others), size=BATCH // 2))], _FLIP)
    return torch.cat([turned, 1.0 - drawn[quarter : quarter + eighth], parts, strangers])


def _part(image: Tensor, random: np.random.Generator) -> Tensor:
    """Return a window of a third to a half of each side, enlarged."""
    side = int(SIDE_PX * random.uniform(0.3, 0.5))
    top, left = random.integers(0, SIDE_PX - side, size=2)
    cut = image[None, :, top : top + side, left : left + side]
    return torch.nn.functional.interpolate(cut, size=(SIDE_PX, SIDE_PX), mode="bilinear")[0]


def _tensor(radiographs: Sequence[Radiograph]) -> Tensor:
    return torch.from_numpy(np.stack([_small(one.pixels.astype(np.float32) / 255.0) for one in radiographs]))[:, None]


def _small(picture: NDArray[np.float32]) -> NDArray[np.float32]:
    resized = Image.fromarray(picture).resize((SIDE_PX, SIDE_PX), Image.Resampling.BOX)
    return np.asarray(resized, dtype=np.float32)


# --- pictures that are no frontal chests ------------------------------------------------------------------------------


def read_volumes(folder: Path) -> list[NDArray[np.float32]]:
    """Return the chest CTs below a folder as HU (slices from head to feet, rows, columns), reduced to a quarter."""
    series: defaultdict[str, dict[float, NDArray[np.float32]]] = defaultdict(dict)
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.suffix.lower() in {".dcm", ""}:
            dataset = dcmread(path, force=True)
            if dataset.get("Modality") == "CT" and "ImagePositionPatient" in dataset and "PixelData" in dataset:
                hu = dataset.pixel_array[::4, ::4].astype(np.float32) * float(dataset.RescaleSlope)
                place = float(dataset.ImagePositionPatient[2])
                series[dataset.SeriesInstanceUID][place] = hu + float(dataset.RescaleIntercept)
    return [np.stack([one[z] for z in sorted(one, reverse=True)]) for one in series.values() if len(one) >= 40]


def _others(volumes: Sequence[NDArray[np.float32]], random: np.random.Generator) -> Tensor:
    pictures = [picture for volume in volumes for picture in (*_projections(volume), *_slices(volume))]
    drawn = [_limb(random) for _ in range(900)] + [_wave(random) for _ in range(200)]
    drawn += [random.random((SIDE_PX, SIDE_PX), dtype=np.float32) for _ in range(50)]
    repeated = pictures * max(1, 1200 // max(1, len(pictures)))
    return torch.from_numpy(np.stack([*repeated, *drawn]))[:, None]


def _projections(volume: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """Return the CT as a radiograph from the side, and from up to 40 degrees before and behind it."""
    dense = np.clip(volume + 1000.0, 0.0, 2500.0)
    found = []
    for beside in range(-40, 41, _STEP_DEGREES):
        turned = ndimage.rotate(dense, 90 + beside, axes=(1, 2), reshape=False, order=1)
        for way in (turned, turned[:, :, ::-1]):
            path = way.mean(axis=1)
            inside = path > 0.12 * path.max()
            rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
            cut = path[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
            found += [_small(1.0 - np.exp(-strength * cut / cut.max())) for strength in (1.0, 2.5)]
    return found


def _slices(volume: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    windows = ((-600.0, 1500.0), (40.0, 400.0))
    return [
        _small(np.clip((volume[index] - center) / width + 0.5, 0.0, 1.0))
        for index in range(0, len(volume), max(1, len(volume) // 12))
        for center, width in windows
    ]


def _limb(random: np.random.Generator) -> NDArray[np.float32]:
    """Draw bones in soft tissue: one to six tapering branches from a common root, anywhere and any way round."""
    down, across = np.mgrid[:SIDE_PX, :SIDE_PX].astype(np.float32)
    picture = np.full((SIDE_PX, SIDE_PX), random.uniform(0.0, 0.2), dtype=np.float32)
    root = random.uniform(10, SIDE_PX - 10, size=2)
    facing = random.uniform(0, 2 * math.pi)
    for _ in range(int(random.integers(1, 7))):
        angle, length = facing + random.normal(0, 0.6), random.uniform(20, 70)
        along = (across - root[0]) * math.cos(angle) + (down - root[1]) * math.sin(angle)
        beside = np.abs((down - root[1]) * math.cos(angle) - (across - root[0]) * math.sin(angle))
        width = random.uniform(2, 9) * (1 - 0.5 * np.clip(along / length, 0, 1))
        inside = (along > -random.uniform(0, 20)) & (along < length)
        flesh, bone = inside & (beside < width * 1.6), inside & (beside < width * 0.7)
        picture[flesh] = np.maximum(picture[flesh], random.uniform(0.25, 0.5))
        picture[bone] = np.maximum(picture[bone], random.uniform(0.5, 1.0))
    return np.asarray(ndimage.gaussian_filter(picture, random.uniform(0.3, 1.5)), dtype=np.float32)


def _wave(random: np.random.Generator) -> NDArray[np.float32]:
    """Draw soft noise of some coarseness, a ramp or a disc."""
    noise = ndimage.gaussian_filter(random.normal(size=(SIDE_PX, SIDE_PX)), random.uniform(0, 12))
    down, across = np.mgrid[:SIDE_PX, :SIDE_PX] / SIDE_PX - 0.5
    shape = random.normal() * across + random.normal() * down
    shape += random.normal() * (np.hypot(down, across) < random.uniform(0.2, 0.6))
    mixed = noise / max(float(np.ptp(noise)), 1e-6) + random.uniform(0, 2) * shape
    return np.asarray((mixed - mixed.min()) / max(float(np.ptp(mixed)), 1e-6), dtype=np.float32)


if __name__ == "__main__":
    sys.exit(main())
