"""Train and measure the anomaly detector for chest radiographs, on normal images alone.

``python -m dicom_node.inference.training.cxr_anomaly --data FOLDER_OR_TAR --out MODEL_FOLDER``

Networks and statistics come from the normal images of the training patients, the scale of the answer from the normal
images of the validation patients. Images with pneumonia are opened for one thing only: to measure, at the end.
"""

from __future__ import annotations

import argparse
import logging
from dataclasses import asdict, fields
from pathlib import Path

import torch
from monai.utils.misc import set_determinism
from torch import Tensor
from torch.nn.functional import interpolate

from dicom_node.inference.anomaly.cxr import load_detector
from dicom_node.inference.anomaly.detector import INPUT_PX, Detector, prepared
from dicom_node.inference.cards.card import load_card
from dicom_node.inference.runtimes.weights import read_state
from dicom_node.inference.training import anomaly_stages, bundle_folder, fit
from dicom_node.inference.training.anomaly_stages import AnomalyRecipe
from dicom_node.inference.training.data import Radiograph, Split, read_radiographs, split_by_patient
from dicom_node.inference.training.figures import anomaly_report

log = logging.getLogger(__name__)

SHIPPED = bundle_folder.SHIPPED.parent / "cxr-anomaly"


def main(arguments: list[str] | None = None) -> None:
    """Run the command line."""
    options = _options(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(1)
    set_determinism(options.seed)

    given = {one.name: getattr(options, one.name) for one in fields(AnomalyRecipe) if hasattr(options, one.name)}
    recipe = AnomalyRecipe(**given)
    split = split_by_patient(read_radiographs(options.data), seed=options.seed)
    bundle_folder.prepare(options.out, SHIPPED)
    if not options.keep_weights:
        detector = trained(split, recipe, options.vgg16_weights)
        bundle_folder.write_weights(options.out, detector)
        bundle_folder.write_detector(options.out, encoder=recipe.encoder, latent=recipe.latent)
    bundle_folder.write_card_values(options.out, threshold=anomaly_report.SHARE_OF_NORMALS)
    measure(options.out, split, recipe)


def trained(split: Split, recipe: AnomalyRecipe, vgg16_weights: Path | None) -> Detector:
    """Return a detector trained on the normal images of the split; no other image is looked at."""
    normals, held_out = small(normal(split.training)), small(normal(split.validation))
    detector = Detector(encoder=recipe.encoder, latent=recipe.latent, normals=len(held_out))
    detector.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if recipe.encoder == "vgg16":
        _take_vgg16(detector, vgg16_weights)
    else:
        log.info("encoder")
        anomaly_stages.train_encoder(detector, normals, recipe)
    anomaly_stages.standardise_maps(detector, normals)
    log.info("variational autoencoder")
    anomaly_stages.train_vae(detector, normals, recipe)
    log.info("transformer")
    anomaly_stages.train_scorer(detector, normals, recipe)
    anomaly_stages.fit_scale(detector, prepared(normals), prepared(held_out))
    return detector.eval()


def measure(folder: Path, split: Split, recipe: AnomalyRecipe) -> None:
    """Measure on the test patients, normal against pneumonia, and write figures into the folder."""
    detector = load_detector(load_card(folder))
    figures = anomaly_report.figures(detector, split)
    bundle_folder.write_metrics(folder, {"recipe": asdict(recipe), **figures})
    anomaly_report.write_table(folder / "README.md", figures)
    log.info("measured on the test set: %s", figures["test"])


def normal(radiographs: tuple[Radiograph, ...]) -> list[Radiograph]:
    """Return the images without pneumonia."""
    return [radiograph for radiograph in radiographs if not radiograph.has_pneumonia]


def small(radiographs: list[Radiograph]) -> Tensor:
    """Return (images, 1, 64, 64), 0..1."""
    size = (INPUT_PX, INPUT_PX)
    return torch.cat([interpolate(fit.as_tensor(one)[None], size=size, mode="area") for one in radiographs])


def _take_vgg16(detector: Detector, weights: Path | None) -> None:
    """Read the ImageNet weights as torchvision names them; what lies behind the third pooling is left out."""
    if weights is None:
        raise SystemExit("--encoder vgg16 needs --vgg16-weights: the state dict of torchvision's VGG16.")
    state = {key.removeprefix("features."): value for key, value in read_state(weights).items()}
    wanted = detector.encoder.state_dict().keys()
    missing = sorted(wanted - state.keys())
    if missing:
        raise SystemExit(f"{weights} lacks {', '.join(missing)}: it is no VGG16 of torchvision.")
    detector.encoder.load_state_dict({key: state[key] for key in wanted})


def _options(arguments: list[str] | None) -> argparse.Namespace:
    usual = AnomalyRecipe()
    parser = argparse.ArgumentParser(description="Train and measure the anomaly detector for chest radiographs.")
    parser.add_argument("--data", type=Path, required=True, help="folder or tar archive of labelled radiographs")
    parser.add_argument("--out", type=Path, required=True, help="model folder to write; made if absent")
    parser.add_argument("--encoder", choices=("small", "vgg16"), default=usual.encoder)
    parser.add_argument("--vgg16-weights", type=Path, help="ImageNet weights of VGG16, for --encoder vgg16")
    for name in ("encoder_epochs", "vae_epochs", "scorer_epochs", "seed"):
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=getattr(usual, name))
    parser.add_argument("--keep-weights", action="store_true", help="measure the folder's weights, train nothing")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
