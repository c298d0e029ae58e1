"""`dicom-node demo`: one command that shows the whole way of a study, with phantoms whose right answer is known.

Of the chest CT that is what was drawn into it; of the chest radiograph, that it is nobody's and must not be scored.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dicom_node.cli.studies.study import finding_rows
from dicom_node.cli.terminal import console, print_table, say
from dicom_node.core import codes
from dicom_node.core.entities import JobState
from dicom_node.core.errors import NodeError
from dicom_node.demo.phantoms import PhantomTruth, chest_ct_phantom, chest_radiograph_phantom
from dicom_node.demo.processes import DemoProcesses
from dicom_node.logs import quiet_third_parties

_RESULT_LIMIT_S = 300.0
_FINISHED = {"REPORTED", "NOT_ANALYSED", "FAILED"}

#: What the phantoms must end as, by modality.
_RIGHT_STATES = {"CT": "REPORTED", "CR": "NOT_ANALYSED"}
#: Code of a measurement → what the phantom's truth calls it.
_TRUE_VALUES = {
    codes.VOLUME.value: "volume_ml",
    codes.ATTENUATION_COEFFICIENT.value: "mean_hu",
    codes.LOW_ATTENUATION_AREA_950.value: "laa950_percent",
    codes.LUNG_DENSITY_PERCENTILE_15.value: "percentile15_hu",
}
#: Finding key → which part of the truth it is measured against.
_TRUE_PARTS = {"left-lung": "left", "right-lung": "right", "both-lungs": "both"}


def demo(options: argparse.Namespace) -> int:
    """Run the demonstration; the exit status is 0 when every study came back, the phantoms with their right answer."""
    quiet_third_parties()
    # A window that is closed ends it as Ctrl-C does: its node and PACS would keep their ports else.
    for number in (signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    stage = DemoProcesses(options.folder)
    try:
        say("Starting a node and a PACS on this machine ...")
        stage.open()
        say(f"The node listens as AINODE on port {stage.ports['dicom']}; its page is {stage.page}")
        paths, truth = ([options.study], None) if options.study else phantoms(stage.folder / "studies")
        say("Sending by C-STORE from a process of its own, as a modality would:")
        if stage.send(paths) != 0 and options.study is None:
            raise NodeError(f"The node did not take the phantoms. Its log: {stage.folder / 'node.log'}")
        studies = await_results(stage)
        _show(stage, studies, truth)
        if sys.stdout.isatty() and not options.once:
            _keep_serving(stage)
        return 0 if options.study or all(map(is_right, studies)) else 1
    finally:
        stage.close()


def is_right(study: Mapping[str, Any]) -> bool:
    """Tell whether a phantom study came to the end that is right for it."""
    return all(_RIGHT_STATES.get(modality) == study["state"] for modality in study["modalities"])


def phantoms(folder: Path) -> tuple[list[Path], PhantomTruth]:
    """Write the phantom studies as files; the radiograph without the mark by which the node lets its own ones pass."""
    folder.mkdir()
    slices, truth = chest_ct_phantom()
    radiograph = chest_radiograph_phantom()
    radiograph.Manufacturer = "PHANTOM"
    paths = []
    for dataset in (*slices, radiograph):
        paths.append(folder / f"{dataset.SOPInstanceUID}.dcm")
        dataset.save_as(paths[-1], enforce_file_format=True)
    return [folder], truth


def await_results(stage: DemoProcesses, at_least: int = 1) -> list[dict[str, Any]]:
    """Wait until every study (`at_least` so many) has come to an end and everything owed is delivered."""
    deadline = time.monotonic() + _RESULT_LIMIT_S
    studies: list[dict[str, Any]] = []
    with console.status("waiting for the studies to be complete, analysed and delivered ..."):
        while time.monotonic() < deadline and stage.is_alive():
            studies = stage.ask("/api/studies")["studies"]
            if len(studies) >= at_least and all(
                s["state"] in _FINISHED and not s["deliveries"]["pending"] for s in studies
            ):
                return studies
            time.sleep(0.3)
    raise NodeError(f"The results did not come back in {_RESULT_LIMIT_S:.0f} s. The logs are in {stage.folder}.")


# --- showing what came back ----------------------------------------------------------------------------------------


def _show(stage: DemoProcesses, studies: Sequence[Mapping[str, Any]], truth: PhantomTruth | None) -> None:
    say("")
    for study in studies:
        uid = study["study_instance_uid"]
        title = f"{study['description'] or uid} ({', '.join(study['modalities'])}, {study['instances']} images)"
        results = stage.ask(f"/api/studies/{uid}/results")
        if not results:
            say(f"{title}: {study['state']}. {study['reason']}")
        for result in results:
            _show_result(title, result, truth)
            _show_files(stage, result)
    if truth:
        say("The radiograph phantom is nobody's chest: that it is not analysed, and why, is the right answer.")
    say("Every result is marked: AI result - NOT VERIFIED. Decision support only.")
    say(f"PACS received {len(list(stage.pacs_folder.glob('*.dcm')))} objects in {stage.pacs_folder}")
    say(f"Status page: {stage.page}  (token: {stage.folder / 'node' / 'api-token'})")


def _show_result(title: str, result: Mapping[str, Any], truth: PhantomTruth | None) -> None:
    summary = result["summary"]
    rows = [row for finding in summary["findings"] for row in _rows(finding, truth)]
    if not rows:
        say(f"{title}: {result['state']}. {result['reason']} {result['message']}")
        return
    if result["state"] == JobState.PARTIAL:
        say(f"{title}: PARTIAL, only part of the study could be assessed.")
    columns = ["finding", "measured", "value", "unit", *(["true value"] if truth else [])]
    print_table(columns, rows, title=f"{title} - {summary['model']['name']} {summary['model']['version']}")
    for note in summary["notes"]:
        say(f"  {note}")


def _rows(finding: Mapping[str, Any], truth: PhantomTruth | None) -> Sequence[Sequence[str]]:
    rows = finding_rows(finding)
    if truth is None:
        return rows
    scores = len(rows) - len(finding["measurements"])
    names = [measurement["name"]["value"] for measurement in finding["measurements"]]
    true_values = [""] * scores + [_true_value(finding["key"], name, truth) for name in names]
    return [[*row, true_value] for row, true_value in zip(rows, true_values, strict=True)]


def _true_value(finding_key: str, code_value: str, truth: PhantomTruth) -> str:
    part, value = _TRUE_PARTS.get(finding_key), _TRUE_VALUES.get(code_value)
    return f"{getattr(getattr(truth, part), value):.1f}" if part and value else ""


def _show_files(stage: DemoProcesses, result: Mapping[str, Any]) -> None:
    """Name the file of every object, but not the sidecar beside it."""
    for artifact in result["artifacts"]:
        for path in sorted(stage.files_folder.rglob(f"*-{artifact['uid']}.*")):
            if not path.name.endswith(".dcm.json"):
                say(f"  {artifact['kind']:<5}{artifact['description'][:52]:<53}{_shorter(path)}")
    say("")


def _shorter(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _keep_serving(stage: DemoProcesses) -> None:
    say("\nThe node keeps serving; send it a study of your own, or press Ctrl-C to end.")
    try:
        while stage.is_alive():
            time.sleep(0.5)
    except KeyboardInterrupt:
        say("")
