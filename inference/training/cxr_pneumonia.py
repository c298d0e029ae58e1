"""Train and measure the shipped chest radiograph classifier.

``python -m dicom_node.inference.training.cxr_pneumonia --data FOLDER_OR_TAR --out BUNDLE_FOLDER``

Split by patient, train, fit the temperature and choose the threshold on the validation set, then measure once on the
test set. `--keep-weights` measures the weights that are in the bundle already.
"""

from __future__ import annotations

import argparse
import logging
from dataclasses import asdict, dataclass, replace
from multiprocessing import get_context
from pathlib import Path

import torch
from monai.data.meta_obj import set_track_meta
from monai.utils.misc import set_determinism
from safetensors.torch import load_file
from torch import Tensor, nn

from dicom_node.inference.cards.digest import sha256_of
from dicom_node.inference.ensemble import MirroredEnsemble, member_state
from dicom_node.inference.training import bundle_folder, fit, report
from dicom_node.inference.training.augment import Strength, standardised, varied
from dicom_node.inference.training.data import Split, read_radiographs, split_by_patient
from dicom_node.inference.training.metrics import auroc, fit_shift

log = logging.getLogger(__name__)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line."""
    options = _options(arguments)
    _set_up(options.seed)
    recipe = fit.Recipe(
        epochs=options.epochs,
        learning_rate=options.learning_rate,
        seed=options.seed,
        continued_from=sha256_of(options.continue_from) if options.continue_from else "",
    )
    split = split_by_patient(read_radiographs(options.data), seed=recipe.seed)
    bundle_folder.prepare(options.out)
    if not options.keep_weights:
        _train(options, split, recipe)
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


def _train(options: argparse.Namespace, split: Split, recipe: fit.Recipe) -> None:
    """Train the members of the ensemble, `--processes` at a time, and join them into the bundle's weights."""
    network = bundle_folder.definitions(options.out).get_parsed_content("network_def")
    members = len(network.heads)
    jobs = [
        _Job(options.out, split, replace(recipe, seed=recipe.seed + number), number, options.continue_from)
        for number in range(members)
    ]
    if options.processes == 1:
        states = [_train_member(job) for job in jobs]
    else:
        with get_context("spawn").Pool(options.processes) as pool:
            states = pool.map(_train_member, jobs, chunksize=1)
    network.load_members(states)
    network.subtract(1, _shift_of(network, options.out, split))
    bundle_folder.write_weights(options.out, network)


def _shift_of(network: nn.Module, folder: Path, split: Split) -> float:
    """Return how far the log odds of the whole ensemble lie too high on the validation set."""
    preprocessing = bundle_folder.definitions(folder).get_parsed_content("preprocessing")
    return fit_shift(fit.score(network, split.validation, fit.inputs_of(split.validation, preprocessing)))


@dataclass(frozen=True, slots=True)
class _Job:
    """One member to train: its number in the ensemble of `folder`, and weights to start from."""

    folder: Path
    split: Split
    recipe: fit.Recipe
    number: int
    continued_from: Path | None


def _train_member(job: _Job) -> dict[str, Tensor]:
    """Train one member with a seed of its own and return its averaged weights."""
    split, recipe = job.split, job.recipe
    _set_up(recipe.seed)
    parser = bundle_folder.definitions(job.folder)
    preprocessing = parser.get_parsed_content("preprocessing")
    # The first step only brings every image to one size; the augmentation works on that size.
    shrink = preprocessing.transforms[0]
    validation_inputs = fit.inputs_of(split.validation, preprocessing)
    ensemble = parser.get_parsed_content("network_def")
    if job.continued_from is not None:
        _start_from(ensemble, job)
    network = ensemble.member(job.number)

    def validate(average: nn.Module) -> float:
        return auroc(fit.score(average, split.validation, validation_inputs))

    data = fit.labelled(split.training, shrink)
    trained = fit.train(network, data, lambda images: standardised(varied(images, Strength())), recipe, validate)
    return dict(trained.state_dict())


def _start_from(ensemble: MirroredEnsemble, job: _Job) -> None:
    """Take the weights of an earlier ensemble of the same shape, or of a single ResNet for the job's member."""
    state = load_file(str(job.continued_from))
    if "fc.weight" in state:
        ensemble.member(job.number).load_state_dict(member_state(state), strict=True)
    else:
        ensemble.load_state_dict(state, strict=True)


def _set_up(seed: int) -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(process)d %(message)s")
    torch.set_num_threads(1)
    set_track_meta(False)
    set_determinism(seed)


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train and measure the chest radiograph classifier.")
    parser.add_argument("--data", type=Path, required=True, help="folder or tar archive of labelled radiographs")
    parser.add_argument("--out", type=Path, required=True, help="bundle folder to write; made if absent")
    parser.add_argument("--epochs", type=int, default=fit.Recipe().epochs)
    parser.add_argument("--learning-rate", type=float, default=fit.Recipe().learning_rate, help="highest rate")
    parser.add_argument(
        "--continue-from", type=Path, help="weights to start from: of such a bundle, or of a single ResNet"
    )
    parser.add_argument("--seed", type=int, default=fit.Recipe().seed)
    parser.add_argument("--processes", type=int, default=1, help="members trained at the same time")
    parser.add_argument("--keep-weights", action="store_true", help="measure the bundle's weights, train nothing")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
