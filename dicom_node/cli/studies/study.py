"""`dicom-node status`, `retry`, `rerun`, `withdraw`, `discard`: what happened to a study, and a part of it again, or
back."""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from operator import itemgetter
from typing import Any

from sqlalchemy import Connection

from dicom_node.cli.node import opened
from dicom_node.cli.terminal import actor, print_json, print_table, say
from dicom_node.core.audit import AuditedAct
from dicom_node.core.entities import JobState
from dicom_node.core.errors import NotFound, SettingsError
from dicom_node.deliver.owed_to_nobody import Waiting, advice_for, owed_to_nobody
from dicom_node.index.decided import actions
from dicom_node.index.outbox.destinations import Suspension, suspensions
from dicom_node.index.views import lists as views
from dicom_node.index.views import study as study_views
from dicom_node.index.views import versions as version_views
from dicom_node.index.views.types import (
    DeliveryView,
    InstanceVersion,
    OpenEvent,
    ResultView,
    StudyLine,
    StudyView,
    TimelineEntry,
    VersionPage,
)
from dicom_node.receive.refusals import kept_in
from dicom_node.receive.start import not_taken_file
from dicom_node.roles.settings import SiteSettings, load_settings

_VERSIONS_SHOWN = 1000
_DECIDED_AGAIN = "No route wanted it; the present ones decide again now. What they say: dicom-node status STUDY"
_NOTHING_TO_SEND = "Nothing waits or is parked there. An analysis is made again by: dicom-node rerun STUDY"
_NUMBERS = "`dicom-node status STUDY` lists deliveries by number and events by id (evt_…)."
_NOT_MEASURABLE = "not measurable"
#: Units as radiologists write them, by their code in UCUM.
_UNITS = {"[hnsf'U]": "HU", "1": ""}


def status(options: argparse.Namespace) -> int:
    """Show one study's timeline, or the latest studies."""
    act = AuditedAct.QUERY if options.study is None else AuditedAct.RESULT_READ
    with opened(options, act, options.study) as database, database.read() as connection:
        if options.study is None:
            page = views.list_studies(connection, options.limit)
            if options.json:
                print_json(page.studies)
            else:
                _print_studies(page.studies)
                settings = load_settings(options.config)
                _print_suspensions(suspensions(connection))
                _print_owed_to_nobody(owed_to_nobody(connection, settings))
                _print_not_taken(settings)
            return 0
        study = study_views.study(connection, options.study)
        timeline = study_views.timeline(connection, options.study)
        versions = version_views.versions(connection, options.study, _VERSIONS_SHOWN)
        if options.json:
            print_json({"study": study, "timeline": timeline, "versions": versions})
            return 0
    say(f"{options.study}: {study.study.state} (revision {study.study.revision}). {study.study.reason}")
    _print_retention(study)
    rows = [(entry.at, entry.kind, entry.actor, entry.text, _request_of(entry)) for entry in timeline]
    print_table(["at", "what", "by", "", "request"], rows)
    _print_versions(versions)
    _print_standing(study.results)
    for result in study.results:
        if result.current:
            print_findings(result.route, result.summary)
    _print_deliveries(study.deliveries)
    _print_events(study.open_events)
    return 0


def _print_retention(study: StudyView) -> None:
    """Say what of the study is gone, by which rule, and who keeps the rest."""
    for one in study.deletions:
        say(one.text)
    if study.hold is not None:
        say(f"Held by {study.hold.held_by} since {study.hold.since:%Y-%m-%d}: {study.hold.reason}")


def _request_of(entry: TimelineEntry) -> str:
    """Return the id of what a line is about, association, upload, retrieval or call: log lines are found by it."""
    requests = entry.detail.get("requests") or [entry.detail.get("association_id", "")]
    return str(requests[-1])


def _print_studies(lines: Sequence[StudyLine]) -> None:
    rows = [
        (s.last_received_at, s.study_instance_uid, ",".join(s.modalities), s.instances, s.state, _answers(s), s.reason)
        for s in lines
    ]
    print_table(["last image", "study", "modality", "images", "state", "answers", "reason"], rows)


def _print_suspensions(suspended: Mapping[str, Suspension]) -> None:
    for name, one in suspended.items():
        advice = f"It is asked again every few minutes, or now: dicom-node retry --destination {name}"
        if one.by:
            advice = f"Let it go on: dicom-node destinations resume {name}"
        say(f"{one.in_words(name)} {advice}")


def _print_owed_to_nobody(owed: Mapping[str, Waiting]) -> None:
    for name, waiting in owed.items():
        say(f"{waiting.in_words} for {name}, which is not in the settings. {advice_for(name, waiting)}")


def _print_not_taken(settings: SiteSettings) -> None:
    found = kept_in(not_taken_file(settings).parent)
    if not found:
        return
    say("What peers proposed to send and the node does not take:")
    rows = [
        (one.last_at, f"{one.calling_ae_title}@{one.host}", one.sop_class_name, one.count, one.why) for one in found
    ]
    print_table(["last", "from", "objects", "times", "why"], rows)


def _answers(line: StudyLine) -> str:
    return ", ".join(f"{one.model} {one.state}" for one in line.routes if not one.shadow_of)


def _print_versions(page: VersionPage) -> None:
    """Print one row for all versions that came alike: of which, mostly, there is one for a whole study."""
    alike: defaultdict[tuple[str, ...], list[InstanceVersion]] = defaultdict(list)
    for one in (version for instance in page.instances for version in instance.versions):
        sender = f"{one.calling_ae_title} at {one.source_host}" if one.calling_ae_title else "unknown"
        said = " ".join([", ".join(one.changed), *one.flags]).strip()
        alike[one.came, sender, one.study_instance_uid, "in use" if one.in_use else "kept", said].append(one)
    rows = [(min(one.received_at for one in ones), len(ones), *row) for row, ones in alike.items()]
    if not rows:
        return
    if page.total > len(page.instances):
        say(f"Of {page.total} images that came in several versions the first {len(page.instances)}:")
    header = ["version came at", "images", "how", "from", "belongs to study", "", "changed"]
    print_table(header, sorted(rows, key=itemgetter(0)))


def _print_standing(results: Sequence[ResultView]) -> None:
    rows = [(r.route, r.model, r.state, r.standing, r.created_at, r.standing_reason) for r in results]
    if rows:
        print_table(["result of route", "model", "answer", "standing", "made at", "why it does not hold"], rows)


def print_findings(title: str, summary: Mapping[str, Any]) -> None:
    """Print what a result says: that it is partial, its findings, and what limits them."""
    if summary["state"] == JobState.PARTIAL:
        say(f"{title}: PARTIAL, only part of the study could be assessed.")
    rows = [row for finding in summary["findings"] for row in finding_rows(finding)]
    if rows:
        print_table(["finding", "measured", "value", "unit"], rows, title=title)
    for note in summary["notes"]:
        say(f"{title}: {note}")


def finding_rows(finding: Mapping[str, Any]) -> Sequence[Sequence[str]]:
    """Return a row for the score of a finding and for each measurement: finding, what it is, value, unit."""
    rows = []
    if finding["presence"] is not None or finding["probability"] is not None:
        rows.append([finding["label"], *_answer_of(finding)])
    for measured in finding["measurements"]:
        value = _NOT_MEASURABLE if measured["value"] is None else f"{measured['value']:g}"
        unit = measured["unit"]["value"]
        rows.append([finding["label"], measured["label"], value, _UNITS.get(unit, unit)])
    return rows


def _answer_of(finding: Mapping[str, Any]) -> Sequence[str]:
    presence, probability, threshold = (finding[key] for key in ("presence", "probability", "threshold"))
    limit = "" if threshold is None else f"threshold {threshold * 100:.1f} %"
    told = ": ".join(filter(None, (str(presence or "").lower(), limit)))
    if probability is None:
        return "answer", told, ""
    return f"score ({told})" if told else "score", f"{probability * 100:.1f}", "%"


def _print_deliveries(deliveries: Sequence[DeliveryView]) -> None:
    rows = [(d.id, d.artifact_kind, d.destination, d.state, d.attempts, _said(d)) for d in deliveries]
    if rows:
        print_table(["delivery", "object", "destination", "state", "tries", "note"], rows)


def _print_events(waiting: Sequence[OpenEvent]) -> None:
    """One line each, for in a table the id would be broken where the terminal is narrow."""
    for one in waiting:
        say(f"Event {one.id} for {one.destination}: {one.type}, {one.state}. {one.note}".rstrip())


def _said(delivery: DeliveryView) -> str:
    """Return what the destination said when it took the object, and whether it is proved to have it."""
    proved = f"{'proved' if delivery.proof else 'not proved'}: {delivery.proof_note}" if delivery.proof_note else ""
    return " · ".join(filter(None, (delivery.note, proved)))


def retry(options: argparse.Namespace) -> int:
    """Make deliveries due now."""
    if [options.study, options.delivery, options.destination].count(None) != 2:
        raise SettingsError(
            "Name either a study, --delivery NUMBER or --destination NAME; `dicom-node status STUDY` lists deliveries."
        )
    asked = {"delivery": options.delivery, "destination": options.destination}
    with opened(options, AuditedAct.RETRY, options.study, **asked) as database, database.write() as connection:
        ids = _made_due(options, connection)
    if options.json:
        print_json({"deliveries": ids})
    else:
        say(f"{len(ids)} deliveries are due now." if ids else _NOTHING_TO_SEND)
    return 0


def _made_due(options: argparse.Namespace, connection: Connection) -> list[int]:
    now = datetime.now(UTC)
    if options.delivery is not None:
        actions.retry_delivery(connection, options.delivery, actor(), now)
        return [options.delivery]
    if options.destination is not None:
        _require_destination(options)
        return actions.retry_destination(connection, options.destination, actor(), now)
    return actions.retry_study(connection, options.study, actor(), now)


def _require_destination(options: argparse.Namespace) -> None:
    known = [one.name for one in load_settings(options.config).destination]
    if options.destination not in known:
        there_are = ", ".join(known) or "none"
        raise NotFound(f"The configuration has no destination {options.destination!r}; it has {there_are}.")


def rerun(options: argparse.Namespace) -> int:
    """Queue a study's analyses again."""
    asked = {"route": options.route}
    with opened(options, AuditedAct.RERUN, options.study, **asked) as database, database.write() as connection:
        ids = actions.rerun_study(connection, options.study, options.route, actor(), datetime.now(UTC))
    if options.json:
        print_json({"jobs": ids})
    else:
        say(f"{len(ids)} analyses are queued again." if ids else _DECIDED_AGAIN)
    return 0


def withdraw(options: argparse.Namespace) -> int:
    """Take a study's results back, everywhere."""
    told = {"route": options.route}
    with opened(options, AuditedAct.WITHDRAWAL, options.study, **told) as database, database.write() as connection:
        asked = (options.reason, options.route)
        keys = actions.withdraw_study(connection, options.study, asked, actor(), datetime.now(UTC))
    if options.json:
        print_json({"results": keys})
    elif keys:
        say(f"{_counted(len(keys), 'result')} withdrawn; what destinations show of them is taken back there.")
    else:
        say("No result of it holds now; what is being analysed at this moment is kept and not sent.")
    return 0


def discard(options: argparse.Namespace) -> int:
    """Give up one delivery or event, or all that waits for a destination that is gone."""
    if (options.delivery is None) == (options.destination is None):
        raise SettingsError(f"Name either a delivery or --destination NAME. {_NUMBERS}")
    told = {"delivery": options.delivery, "destination": options.destination}
    with opened(options, AuditedAct.DISCARD, **told) as database, database.write() as connection:
        ids, event_ids = _given_up(options, connection)
    if options.json:
        print_json({"deliveries": ids, "events": event_ids})
    else:
        counted = (_counted(len(ids), "delivery", "deliveries"), _counted(len(event_ids), "event"))
        found = [one for one in counted if not one.startswith("0 ")]
        say(f"Discarded: {' and '.join(found)}." if found else "Nothing waits there.")
    return 0


def _given_up(options: argparse.Namespace, connection: Connection) -> tuple[list[int], list[str]]:
    """Return which deliveries and which events are given up."""
    if options.destination is not None:
        _require_former(options)
        return actions.discard_for_destination(
            connection, options.destination, options.reason, actor(), datetime.now(UTC)
        )
    asked: str = options.delivery
    if asked.startswith("evt_"):
        actions.discard_event(connection, asked, options.reason, actor(), datetime.now(UTC))
        return [], [asked]
    if not asked.isdecimal():
        raise SettingsError(f"{asked!r} is neither the number of a delivery nor the id of an event. {_NUMBERS}")
    actions.discard_delivery(connection, int(asked), options.reason, actor(), datetime.now(UTC))
    return [int(asked)], []


def _require_former(options: argparse.Namespace) -> None:
    if options.destination in {one.name for one in load_settings(options.config).destination}:
        raise SettingsError(
            f"{options.destination} is in the settings, so what waits for it will be sent. Give up single deliveries, "
            "or take it out of the settings and start the node again."
        )


def _counted(number: int, what: str, many: str = "") -> str:
    return f"{number} {what}" if number == 1 else f"{number} {many or f'{what}s'}"
