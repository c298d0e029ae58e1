"""Train and measure the shipped chest radiograph classifier.

``python -m dicom_node.inference.training.cxr_pneumonia --data FOLDER_OR_TAR --out BUNDLE_FOLDER``

Split by patient, train, fit the temperature and choose the threshold on the validation set, then measure once on the
test set. `--keep-weights` measures the weights that are in the bundle already.
"""

from __future__ import annotations

import argparse
import logging
from dataclasses import asdict
from pathlib import Path

import torch
from monai.data.meta_obj import set_track_meta
from monai.transforms.compose import Compose
from monai.utils.misc import set_determinism
from torch import nn

from dicom_node.inference.training import bundle_folder, fit, report
from dicom_node.inference.training.augment import training_augmentation
from dicom_node.inference.training.data import Split, read_radiographs, split_by_patient
from dicom_node.inference.training.metrics import auroc

log = logging.getLogger(__name__)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line."""
    options = _options(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(options.threads)
    set_track_meta(False)

    recipe = fit.Recipe(epochs=options.epochs, seed=options.seed)
    split = split_by_patient(read_radiographs(options.data), seed=recipe.seed)
    bundle_folder.prepare(options.out)
    if not options.keep_weights:
        _train(options.out, split, recipe)
    measure(options.out, split, recipe)


def measure(folder: Path, split: Split, recipe: fit.Recipe) -> None:
    """Calibrate on the validation set, measure on the test set, and write both into the bundle."""
    network = bundle_folder.trained_network(folder)
    preprocessing = bundle_folder.definitions(folder).get_parsed_content("preprocessing")
    operating_point = report.choose_operating_point(
        fit.score(network, split.validation, fit.inputs_of(split.validation, preprocessing))
    )
    figures = report.figures(network, split, preprocessing, operating_point)

    bundle_folder.write_metrics(folder, {"recipe": asdict(recipe), **figures})
    bundle_folder.write_card_values(
        folder, threshold=operating_point.threshold, temperature=operating_point.temperature
    )
    report.write_table(folder / "README.md", figures)
    log.info("measured on the test set: %s", figures["test"])


def _train(folder: Path, split: Split, recipe: fit.Recipe) -> None:
    """Train, and write the weights after every epoch: a run that is stopped leaves its last whole epoch."""
    set_determinism(recipe.seed)
    parser = bundle_folder.definitions(folder)
    preprocessing = parser.get_parsed_content("preprocessing")
    # The first step only brings every image to one size; the augmentation works on that size.
    shrink, *scale = preprocessing.transforms
    validation_inputs = fit.inputs_of(split.validation, preprocessing)

    def save_and_validate(network: nn.Module) -> float:
        bundle_folder.write_weights(folder, network)
        return auroc(fit.score(network, split.validation, validation_inputs))

    fit.train(
        parser.get_parsed_content("network_def"),
        fit.items_of(split.training, shrink),
        Compose([training_augmentation(), *scale]),
        recipe,
        save_and_validate,
    )


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train and measure the chest radiograph classifier.")
    parser.add_argument("--data", type=Path, required=True, help="folder or tar archive of labelled radiographs")
    parser.add_argument("--out", type=Path, required=True, help="bundle folder to write; made if absent")
    parser.add_argument("--epochs", type=int, default=fit.Recipe().epochs)
    parser.add_argument("--seed", type=int, default=fit.Recipe().seed)
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of torch")
    parser.add_argument("--keep-weights", action="store_true", help="measure the bundle's weights, train nothing")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
