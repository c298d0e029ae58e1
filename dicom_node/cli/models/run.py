"""`dicom-node run`: a model on files, without a node."""

from __future__ import annotations

import argparse
import sys

from dicom_node.cli.studies.study import print_findings
from dicom_node.cli.terminal import print_json, say
from dicom_node.core.errors import SettingsError
from dicom_node.logs import quiet_third_parties
from dicom_node.offline import RunOptions, StudyResult, run
from dicom_node.roles.settings import load_settings


def run_model(options: argparse.Namespace) -> int:
    """Run the model on every study among the files; 0: all analysed, 3: not all could be, 1: one failed."""
    quiet_third_parties()
    chosen = RunOptions(
        nifti=options.nifti,
        overwrite=options.overwrite,
        parameters=_numbers(options.parameter),
        tell=_say_nothing if options.json else _show,
    )
    report = run(options.model, options.paths, options.out, chosen, load_settings(options.config))
    for one in report.passed_over:
        sys.stderr.write(f"dicom-node: {one.name} {'refused' if one.refused else 'not used'}: {one.why}\n")
    if options.json:
        print_json(report.model_dump(mode="json"))
    return report.exit_status


def _numbers(given: list[str]) -> dict[str, float]:
    try:
        return {name: float(value) for name, _, value in (one.partition("=") for one in given)}
    except ValueError as error:
        raise SettingsError(f"--parameter takes NAME=NUMBER, not {' '.join(given)}.") from error


def _say_nothing(result: StudyResult) -> None:
    """A script reads all at the end."""


def _show(result: StudyResult) -> None:
    say(f"Study {result.study_instance_uid}: {result.state}. {result.message}".rstrip())
    if result.summary is not None and result.is_analysed:
        print_findings(result.model, {"state": result.state, **result.summary.model_dump(mode="json")})
    for remark in result.remarks:
        say(f"  note: {remark}")
    if result.folder:
        names = [*(one.name for one in result.artifacts), *(one.name for one in result.masks)]
        say(f"  {result.folder}: result.json, {', '.join(names)}")
