"""`dicom-node doctor`: what is wrong with this installation, and what to do about it."""

from __future__ import annotations

import argparse

from dicom_node.cli.terminal import print_json, say
from dicom_node.doctor import Check, register_with_orthanc, run_checks
from dicom_node.logs import quiet_third_parties
from dicom_node.roles.settings import load_settings


def doctor(options: argparse.Namespace) -> int:
    """Run every check, or register the node with an Orthanc; the exit status is 1 when something is wrong."""
    quiet_third_parties()
    settings = load_settings(options.config)
    if options.register:
        checks = [register_with_orthanc(settings, options.register, options.alias, options.address)]
    else:
        checks = run_checks(settings)
    if options.json:
        print_json(checks)
    else:
        for check in checks:
            _tell(check)
    return 0 if all(check.ok for check in checks) else 1


def _tell(check: Check) -> None:
    say(f"{'ok  ' if check.ok else 'FAIL'}  {check.name}: {check.text}")
    if check.advice:
        say(f"      → {check.advice}")
