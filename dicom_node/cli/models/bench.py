"""`dicom-node models bench MODEL`: how many studies and images a second this machine does, cold and warm."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset

from dicom_node.analysis.context import SourceFile
from dicom_node.cli.terminal import print_json, print_table, say
from dicom_node.core.errors import ModelUnavailable, NotFound, SettingsError
from dicom_node.demo.phantoms import chest_ct_phantom, chest_radiograph_phantom
from dicom_node.evaluation.model_bench import Bench, bench
from dicom_node.governance.admission import Standing
from dicom_node.governance.golden import files_in
from dicom_node.governance.standing import standing_so_far
from dicom_node.inference.cards.card import ModelCard
from dicom_node.inference.cards.folders import find_models
from dicom_node.jobs.workers import WorkerSettings
from dicom_node.logs import quiet_third_parties
from dicom_node.roles.settings import load_settings


def bench_model(options: argparse.Namespace) -> int:
    """Measure one model in a worker process of its own, with the node's device and limits."""
    quiet_third_parties()
    settings = load_settings(options.config)
    cards = find_models(settings.models_dirs)
    if options.model not in cards:
        raise NotFound(f"There is no model {options.model}; there are: {', '.join(sorted(cards))}.")
    card = cards[options.model]
    standing = standing_so_far(card, settings)
    if standing.standing not in (Standing.LIVE, Standing.NOT_ACTIVATED):
        raise ModelUnavailable(f"Model {card.name} may not run: {standing.text}")
    inference = settings.inference
    worker = WorkerSettings(
        device=options.device or inference.device,
        count=1,
        model_budget_mb=inference.model_budget_mb,
        memory_limit_mb=inference.memory_limit_mb,
        time_limit_s=inference.time_limit_s,
        confined=inference.confine != "off" and card.server is None,
        models_dirs=settings.models_dirs,
    )
    with tempfile.TemporaryDirectory(prefix="bench-study-") as made:
        files = list(files_in(options.study)) if options.study else _phantom(card, Path(made))
        measured = bench(card, files, worker, options.rounds)
    _tell(measured, as_json=options.json)
    return 0


def _phantom(card: ModelCard, folder: Path) -> Sequence[SourceFile]:
    """Write the phantom that fits the model's modality. Raises `SettingsError` when none does."""
    for number, image in enumerate(_images(card)):
        pydicom.dcmwrite(folder / f"{number:04d}.dcm", image, enforce_file_format=True)
    return list(files_in(folder))


def _images(card: ModelCard) -> Sequence[Dataset]:
    if "CT" in card.accepted_modalities:
        return chest_ct_phantom("bench")[0]
    if card.accepted_modalities & {"CR", "DX"}:
        return [chest_radiograph_phantom("bench", rows=2048)]
    raise SettingsError(
        f"Model {card.name} takes {', '.join(sorted(card.accepted_modalities)) or 'anything'}; there is no phantom of "
        "that. Name a study it takes: --study FOLDER."
    )


def _tell(measured: Bench, *, as_json: bool) -> None:
    figures = {"study_s": measured.study_s, "studies_per_s": measured.studies_per_s,
               "images_per_s": measured.images_per_s}  # fmt: skip
    if as_json:
        print_json(asdict(measured) | figures)
        return
    say(f"{measured.model} {measured.version} on {measured.device}: {measured.images} images a study, "
        f"{len(measured.warm_s)} warm rounds")  # fmt: skip
    rows = [
        ("first study (process, libraries, weights)", f"{measured.cold_s:.2f} s"),
        ("warm study, median", f"{measured.study_s:.3f} s"),
        *((f"  {stage}", f"{seconds:.3f} s") for stage, seconds in measured.stages_s.items()),
        ("studies per second", f"{measured.studies_per_s:.2f}"),
        ("images per second", f"{measured.images_per_s:.1f}"),
        ("most memory held", f"{measured.peak_mb} MB"),
    ]
    print_table(["measured", "seen"], rows)
