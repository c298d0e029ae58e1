"""`dicom-node evaluate`: how well a model answers about labelled images, on this machine, gates included."""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dicom_node import __version__
from dicom_node.cli.terminal import print_json, print_table, say
from dicom_node.config.settings import Settings
from dicom_node.core.errors import ModelUnavailable, NotFound, SettingsError
from dicom_node.evaluation.figures import draw, figures
from dicom_node.evaluation.labels import ATTRIBUTES, Columns, columns_for, header_of, read_labels, sampled
from dicom_node.evaluation.run import ImageOutcome, ask_all
from dicom_node.governance.admission import Standing, environment
from dicom_node.governance.model_probe import ModelProbe
from dicom_node.governance.standing import standing_so_far
from dicom_node.inference.cards.card import ModelCard
from dicom_node.inference.cards.folders import survey_models
from dicom_node.logs import quiet_third_parties
from dicom_node.roles.settings import load_settings

_SHOWN = ("auroc", "sensitivity", "specificity", "positive_predictive_value", "negative_predictive_value",
          "brier_score", "expected_calibration_error")  # fmt: skip


def evaluate(options: argparse.Namespace) -> int:
    """Ask the model about every image, write report.json, images.csv and plot.png, and show the figures."""
    quiet_third_parties()
    settings = load_settings(options.config)
    card = _card(options.model, settings)
    key, label = _finding(card, options.finding)
    column, positive = columns_for(header_of(options.labels), (key, label), options.label, options.positive)
    columns = Columns(
        label=column, positive=positive, groups=options.group, patient=options.patient, assumed=_assumed(options.assume)
    )
    images = sampled(read_labels(options.labels, options.data, columns), options.sample, options.seed)
    with ModelProbe(card, settings.inference) as asker:
        outcomes = ask_all(images, key, asker, lambda done: _tell_progress(done, len(images)))
    measured = _about(card, key, settings.inference.device, options) | figures(
        outcomes, resamples=options.resamples, seed=options.seed
    )
    _write(options.out or Path(f"evaluation-{card.name}"), measured, outcomes)
    if options.json:
        print_json(measured)
    else:
        _show(measured, options.out or Path(f"evaluation-{card.name}"))
    return 0 if measured["images"]["analysed_and_labelled"] else 1


def _card(name: str, settings: Settings) -> ModelCard:
    cards = survey_models(settings.models_dirs).cards
    if name not in cards:
        raise NotFound(f"There is no model {name}; there are: {', '.join(sorted(cards))}.")
    standing = standing_so_far(cards[name], settings)
    if standing.standing not in (Standing.LIVE, Standing.NOT_ACTIVATED):
        raise ModelUnavailable(f"{name} is not evaluated: {standing.text}")
    return cards[name]


def _finding(card: ModelCard, wanted: str) -> tuple[str, str]:
    """Return key and label of the finding that is evaluated."""
    found = {finding.key: finding.label for finding in card.findings}
    if not wanted and len(found) == 1:
        return next(iter(found.items()))
    if wanted not in found:
        told = ", ".join(found) or "none with a probability"
        raise SettingsError(f"Name the finding by --finding; the findings of {card.name} are: {told}.")
    return wanted, found[wanted]


def _assumed(texts: Sequence[str]) -> Mapping[str, str]:
    found = dict(text.partition("=")[::2] for text in texts)
    unknown = sorted(set(found) - set(ATTRIBUTES))
    if unknown:
        raise SettingsError(f"--assume {unknown[0]}: only {', '.join(ATTRIBUTES)} can be assumed, as KEYWORD=VALUE.")
    return found


def _about(card: ModelCard, finding: str, device: str, options: argparse.Namespace) -> dict[str, Any]:
    """Say what was evaluated, so that the figures can be made again."""
    return {
        "model": {"name": card.name, "version": card.version, "digest": card.digest, "calibrated": card.calibrated},
        "finding": finding,
        "node_version": __version__,
        "environment": environment(device),
        "labels": str(options.labels),
        "assumed_of_pictures": list(options.assume),
        "sample": options.sample,
        "seed": options.seed,
        "bootstrap_resamples": options.resamples,
    }


def _tell_progress(done: int, total: int) -> None:
    if sys.stderr.isatty() or done % 100 == 0:
        sys.stderr.write(f"\r{done} of {total}" + ("\n" if done == total else ""))


def _write(folder: Path, measured: Mapping[str, Any], outcomes: Sequence[ImageOutcome]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.json").write_text(json.dumps(measured, indent=2) + "\n", encoding="utf-8")
    with (folder / "images.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "truth", "probability", "reason", "message", "took_s"])
        for o in outcomes:
            truth = "" if o.image.truth is None else int(o.image.truth)
            writer.writerow([o.image.name, truth, o.probability, o.reason, o.message, o.took_s])
    if "analysed" in measured:
        title = f"{measured['model']['name']} {measured['model']['version']}: {measured['finding']}"
        draw(
            folder / "plot.png",
            f"{title}, {measured['images']['analysed_and_labelled']} images",
            dict(measured),
            outcomes,
        )


def _show(measured: Mapping[str, Any], folder: Path) -> None:
    census = measured["images"]
    say(f"{census['listed']} images listed, {census['labelled']} labelled ({census['positive']} positive), "
        f"{census['analysed_and_labelled']} analysed and labelled.")  # fmt: skip
    if "analysed" in measured:
        say(f"Threshold {measured['threshold']:g}")
        rows = [(name.replace("_", " "), *_interval(measured["analysed"][name])) for name in _SHOWN]
        print_table(["of the images analysed", "value", "95 % interval"], rows)
        of_all = measured["of_all_labelled"]
        print_table(["of all labelled images", "value"], [(name, _number(value)) for name, value in of_all.items()])
        for column, groups in measured["subgroups"].items():
            shown = ("auroc", "sensitivity", "specificity")
            print_table([column, "images", "positive", *shown],
                        [(name, group["images"], group["positive"], *(" ".join(_interval(group[one])) for one in shown))
                         for name, group in groups.items()])  # fmt: skip
    if measured["not_analysed"]:
        print_table(["not analysed because", "images", "positive", "negative", "for example"],
                    [tuple(one.values()) for one in measured["not_analysed"]])  # fmt: skip
    say(f"Written to {folder}: report.json, images.csv" + (", plot.png" if "analysed" in measured else ""))


def _interval(figure: Mapping[str, float | None]) -> tuple[str, str]:
    if figure["value"] is None or figure["low"] is None:
        return _number(figure["value"]), ""
    return _number(figure["value"]), f"{_number(figure['low'])}–{_number(figure['high'])}"


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"
