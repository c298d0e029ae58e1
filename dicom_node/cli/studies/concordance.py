"""`dicom-node concordance`: how often models and radiologists' reports say the same, and where to look again."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from contextlib import ExitStack

from dicom_node.cli.node import opened
from dicom_node.cli.studies.export import days
from dicom_node.cli.terminal import print_json, print_table, say
from dicom_node.core.assessment.concordance import (
    DISCORDANT,
    ComparedFinding,
    ConcordanceGroup,
    ConcordanceLine,
    Kappa,
    concordance_by,
    most_recent,
)
from dicom_node.core.audit import AuditedAct
from dicom_node.core.entities import ReportMatch
from dicom_node.index.reports.compared import ComparedFilter, compared_findings
from dicom_node.index.reports.kept import UnmatchedReport, counted_reports, unmatched_reports

_COUNTS = ("compared", "both_present", "both_absent", "model_only", "report_only", "unsure", "silent")


def concordance(options: argparse.Namespace) -> int:
    """Show the groups, with the latest studies that differ, or the reports without a study, where those are asked for;
    the exit status is 1 where nothing was compared."""
    by = options.by or [ConcordanceGroup.MODEL, ConcordanceGroup.FINDING]
    since, until = days(options)
    wanted = ComparedFilter(since=since, until=until, model=options.model, route=options.route)
    with ExitStack() as stack:
        database = stack.enter_context(opened(options, AuditedAct.EXPORT, what="concordance"))
        lines = concordance_by(compared_findings(database, wanted), by)
        differ = most_recent(compared_findings(database, wanted), DISCORDANT, options.discordant)
        connection = stack.enter_context(database.read())
        counted = counted_reports(connection)
        unmatched = unmatched_reports(connection, options.unmatched) if options.unmatched else []
    if options.json:
        groups, differing = list(map(_as_json, lines)), list(map(_differing, differ))
        print_json({"groups": groups, "reports": counted, "discordant": differing, "unmatched": unmatched})
    else:
        _show(lines, by, counted)
        _show_differing(differ)
        _show_unmatched(unmatched)
    return 0 if lines else 1


def _as_json(line: ConcordanceLine) -> Mapping[str, object]:
    agree = {name: getattr(line.agree, name) for name in ("count", "total", "share", "low", "high")}
    return {
        "group": line.group, **{name: getattr(line, name) for name in _COUNTS}, "agree": agree, "kappa": line.kappa,
        "kappa_not_told": line.kappa_not_told,
    }  # fmt: skip


def _differing(one: ComparedFinding) -> Mapping[str, object]:
    return {
        "study_instance_uid": one.study_instance_uid, "model": one.model, "finding": one.finding,
        "made_at": one.made_at, "verdict": one.verdict, "scanner": one.scanner,
    }  # fmt: skip


def _show(lines: Sequence[ConcordanceLine], by: Sequence[ConcordanceGroup], counted: Mapping[ReportMatch, int]) -> None:
    if lines:
        rows = [[*one.group.values(), *(getattr(one, name) for name in _COUNTS), _kappa(one.kappa)] for one in lines]
        print_table([*by, *_COUNTS, "kappa"], rows, "What models and reports say of the same findings")
    else:
        say("No finding of a model could be held against a report yet.")
    told = ", ".join(f"{number} {match.lower()}" for match, number in counted.items() if number)
    say(f"Reports: {told or 'none'}.")


def _kappa(found: Kappa | None) -> str:
    return "not known" if found is None else f"{found.value:.2f} ({found.low:.2f} to {found.high:.2f})"


def _show_differing(differ: Sequence[ComparedFinding]) -> None:
    if differ:
        rows = [(one.study_instance_uid, one.model, one.finding, one.verdict, one.made_at) for one in differ]
        print_table(["study", "model", "finding", "verdict", "made"], rows, "To look at again")


def _show_unmatched(unmatched: Sequence[UnmatchedReport]) -> None:
    if unmatched:
        rows = [
            (one.source, one.accession_number, one.stated_study_uid, one.received_at, one.reason) for one in unmatched
        ]
        print_table(["from", "accession", "study", "came", "why"], rows, "Reports without a study")
