"""Train and measure the shipped chest radiograph classifier.

``python -m dicom_node.inference.training.cxr_pneumonia --data FOLDER_OR_TAR --out BUNDLE_FOLDER``

Each member of the ensemble is trained without a share of the looks that radiographs have (`looks`), and asked about
just those: so every radiograph is scored by a network that has seen neither its patient nor its look. Temperature,
threshold and figures come of these scores alone. `--keep-weights` measures the weights that are in the bundle already.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import cast

import torch
from monai.data.meta_obj import set_track_meta
from monai.utils.misc import set_determinism
from safetensors.torch import load_file
from torch import Tensor, nn

from dicom_node.inference.cards.digest import sha256_of
from dicom_node.inference.ensemble import MirroredEnsemble, member_state
from dicom_node.inference.training import bundle_folder, fit
from dicom_node.inference.training.augment import Strength, standardised, varied
from dicom_node.inference.training.data import read_radiographs
from dicom_node.inference.training.figures import familiarity_report, report
from dicom_node.inference.training.figures.metrics import auroc, fit_shift
from dicom_node.inference.training.looks import Fold, folds_by_look

log = logging.getLogger(__name__)

_STRENGTH = Strength(framed=0.5)


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
    bundle_folder.prepare(options.out)
    members = len(bundle_folder.definitions(options.out).get_parsed_content("network_def").heads)
    folds = folds_by_look(read_radiographs(options.data), folds=members, seed=recipe.seed)
    if not options.keep_weights:
        _train(options, folds, recipe)
    measure(options.out, folds, recipe)


def measure(folder: Path, folds: Sequence[Fold], recipe: fit.Recipe) -> None:
    """Ask each member about the looks it has not seen, and write what that shows into the bundle."""
    network = cast("MirroredEnsemble", bundle_folder.trained_network(folder))
    preprocessing = bundle_folder.definitions(folder).get_parsed_content("preprocessing")
    figures = report.figures(network, folds, preprocessing, seed=recipe.seed)
    familiarity_report.looks_of_ensemble(folds, seed=recipe.seed).save(folder / familiarity_report.FILE)
    bundle_folder.write_metrics(folder, {"recipe": asdict(recipe), **figures})
    point = figures["operating_point"]
    errors = familiarity_report.calibration_errors(figures["looks"])
    bundle_folder.write_card_values(
        folder, threshold=point["threshold"], temperature=point["temperature"], calibration_errors=errors
    )
    report.write_table(folder / "README.md", figures)
    log.info("measured on looks that were held out: %s", figures["held_out"])


def _train(options: argparse.Namespace, folds: Sequence[Fold], recipe: fit.Recipe) -> None:
    """Train the members of the ensemble, `--processes` at a time, and join them into the bundle's weights."""
    network = bundle_folder.definitions(options.out).get_parsed_content("network_def")
    jobs = [
        _Job(options.out, fold, replace(recipe, seed=recipe.seed + number), number, options.continue_from)
        for number, fold in enumerate(folds)
    ]
    if options.processes == 1:
        states = [_train_member(job) for job in jobs]
    else:
        with get_context("spawn").Pool(options.processes) as pool:
            states = pool.map(_train_member, jobs, chunksize=1)
    network.load_members(states)
    preprocessing = bundle_folder.definitions(options.out).get_parsed_content("preprocessing")
    network.subtract(1, fit_shift(report.joined(report.held_out_scores(network, folds, preprocessing))))
    bundle_folder.write_weights(options.out, network)


@dataclass(frozen=True, slots=True)
class _Job:
    """One member to train: its number in the ensemble of `folder`, and weights to start from."""

    folder: Path
    fold: Fold
    recipe: fit.Recipe
    number: int
    continued_from: Path | None


def _train_member(job: _Job) -> dict[str, Tensor]:
    """Train one member with a seed of its own and return its averaged weights.

    What it says of the looks that are held out goes into the log and decides nothing.
    """
    _set_up(job.recipe.seed)
    parser = bundle_folder.definitions(job.folder)
    preprocessing = parser.get_parsed_content("preprocessing")
    # The first step only brings every image to one size; the augmentation works on that size.
    shrink = preprocessing.transforms[0]
    held_out_inputs = fit.inputs_of(job.fold.held_out, preprocessing)
    ensemble = parser.get_parsed_content("network_def")
    if job.continued_from is not None:
        _start_from(ensemble, job)

    def validate(average: nn.Module) -> float:
        return auroc(fit.score(average, job.fold.held_out, held_out_inputs))

    data = fit.labelled(job.fold.training, shrink)
    member = ensemble.member(job.number)
    trained = fit.train(member, data, lambda images: standardised(varied(images, _STRENGTH)), job.recipe, validate)
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
