"""`dicom-node agreement`, `export-cases`: how often readers agreed with the models, and what they said as cases."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing

from dicom_node.cli.node import opened
from dicom_node.cli.studies.export import days, write_new
from dicom_node.cli.terminal import actor, print_json, print_table, say
from dicom_node.core.assessment.proportions import Proportion
from dicom_node.core.assessment.reader_agreement import AgreementLine, Grouping, agreement_by
from dicom_node.core.audit import AuditedAct
from dicom_node.core.csv_lines import csv_lines
from dicom_node.deidentification.pseudonyms import KEY_FILE, read_or_make_key
from dicom_node.index.views.agreement import AgreementFilter, reader_cases
from dicom_node.inference.cards.folders import survey_models
from dicom_node.logs import quiet_third_parties
from dicom_node.operate.exports.agreement_columns import CASE_COLUMNS, agreement_columns, case_rows
from dicom_node.operate.exports.cases import TRAINING, CaseExporter
from dicom_node.operate.exports.export import profile_named, with_codes_of
from dicom_node.operate.exports.study_zip import WithoutPatient
from dicom_node.people.audit.trail import open_audit
from dicom_node.roles.settings import load_settings
from dicom_node.storage.spool import Spool

_SHOWN = ("reviewed", "accepted", "modified", "rejected", "missed", "overcalled", "confirmed", "found")


def agreement(options: argparse.Namespace) -> int:
    """Show the groups, and write what is asked for into files; the exit status is 1 where nothing was reviewed."""
    by, wanted = options.by or [Grouping.MODEL, Grouping.VERSION], _wanted(options)
    with opened(options, AuditedAct.EXPORT, what="agreement") as database:
        lines = agreement_by((one.counted for one in reader_cases(database, wanted)), by)
        if options.csv:
            write_new(options.csv, csv_lines(agreement_columns(by), lines))
        if options.cases:
            cases = reader_cases(database, wanted, only_reviewed=True)
            write_new(options.cases, csv_lines(CASE_COLUMNS, (row for case in cases for row in case_rows(case))))
    if options.json:
        print_json([_as_json(line) for line in lines])
    else:
        _show(lines, by)
    return 0 if any(line.reviewed.count for line in lines) else 1


def _wanted(options: argparse.Namespace) -> AgreementFilter:
    since, until = days(options)
    return AgreementFilter(since=since, until=until, model=options.model, route=options.route)


def _as_json(line: AgreementLine) -> Mapping[str, object]:
    told = {name: _numbers(getattr(line, name)) for name in _SHOWN}
    return {"group": line.group, **told, "found_not_told": line.found_not_told}


def _numbers(found: Proportion | None) -> Mapping[str, object] | None:
    if found is None:
        return None
    return {name: getattr(found, name) for name in ("count", "total", "share", "low", "high")}


def _show(lines: Sequence[AgreementLine], by: Sequence[Grouping]) -> None:
    if not lines:
        say("No model has answered yet.")
        return
    rows = [[*line.group.values(), *(_told(getattr(line, name)) for name in _SHOWN)] for line in lines]
    print_table([*by, *_SHOWN], rows, "Share, and what bounds it with 95 %")


def _told(found: Proportion | None) -> str:
    if found is None:
        return "not known"
    counted = f"{found.count} of {found.total}"
    return counted if found.share is None else f"{counted}: {found.share:.0%} ({found.low:.0%} to {found.high:.0%})"


def export_cases(options: argparse.Namespace) -> int:
    """Write the cases; the exit status is 1 where there is none."""
    quiet_third_parties()
    settings = load_settings(options.config)
    data = settings.node.data_dir
    cards = survey_models(settings.models_dirs).cards.values()
    named = options.profile
    profile = profile_named(named, settings.deidentification, cards) if named else with_codes_of(cards, TRAINING)
    with opened(options) as database, closing(open_audit(settings, database)) as audit:
        without = WithoutPatient(profile=profile, key=read_or_make_key(data / KEY_FILE))
        exporter = CaseExporter(database, Spool(data / "spool"), audit, actor(), without)
        cases = list(exporter.export(options.out, _wanted(options)))
    if options.json:
        print_json({"folder": str(options.out), "cases": cases})
        return 0 if cases else 1
    say(f"{len(cases)} cases are in {options.out}.")
    left_out = sum((Counter(one.left_out) for one in cases), Counter())
    if left_out:
        print_table(["left out", "why"], [(count, why) for why, count in left_out.most_common()])
    return 0 if cases else 1
