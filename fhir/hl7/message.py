"""The whole result as one HL7 v2.5.1 ORU^R01 (7.3.1), and the message that takes it back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import hl7
from pydicom.dataset import Dataset

from dicom_node.analysis.answer import Analysis, NotAnalysed, with_headers
from dicom_node.analysis.context import ReportContext, ReportLine, as_reviewed
from dicom_node.analysis.written import WrittenObject
from dicom_node.core.codes import DIAGNOSTIC_IMAGING_STUDY, PRIVATE_SCHEME
from dicom_node.core.entities import Code, ModelIdentity
from dicom_node.fhir.builders.dicom_values import fhir_instant, one_line
from dicom_node.fhir.builders.facts import ReportFacts, gather_facts, report_identifier, reporter
from dicom_node.fhir.builders.terms import PROCEDURE_FINDINGS, STUDY
from dicom_node.fhir.hl7.grammar import (
    CHARACTER_SET,
    MESSAGE_TYPE,
    VERSION,
    Er7,
    coded,
    cut,
    field,
    message,
    read,
    segment,
    short_id,
    timestamp,
    utc_timestamp,
    value,
)
from dicom_node.fhir.hl7.observations import NOT_VERIFIED, NOTICE, WITHDRAWN, Observation, observations, text
from dicom_node.fhir.hl7.order import CORRECTED, PRELIMINARY, VERIFIED, observer, order_segments, result_status
from dicom_node.fhir.hl7.patient import patient_segment
from dicom_node.fhir.options import FhirOptions
from dicom_node.headers.sound import without_unreadable

#: Table 0103: production.
_PRODUCTION = "P"


def control_id(uid: str) -> str:
    """Return MSH-10 of the object with this UID: whoever gets it a second time sees that it is the same message."""
    return short_id("message", uid)


def build_message(
    answer: Analysis | NotAnalysed,
    context: ReportContext,
    written: Sequence[WrittenObject],
    options: FhirOptions,
    uid: str,
) -> str:
    """Return the message that tells this answer; equal inputs give an equal message.

    `uid` is that of the object as which it is kept. A PDF among `written` goes into it. What nobody can read of a
    source header counts as not said. Raises `ReportInvalid` when there is no image to read from.

    Of an `answer` about one radiograph and its `context`:

    >>> lines = build_message(answer, context, (), FhirOptions(), "2.25.1").split("\\r")
    >>> [line[:3] for line in lines[:5]], lines[4].split("|")[11]
    (['MSH', 'PID', 'ORC', 'OBR', 'OBX'], 'P')
    """
    answer = as_reviewed(answer, context)
    answer = with_headers(answer, without_unreadable)
    facts = gather_facts(answer, context, options)
    header = answer.sources[0]
    told = observations(facts, answer, context, written)
    return message(
        header_segment(context.ae_title, _site(facts), facts.issued, uid),
        patient_segment(header, options),
        *order_segments(facts, header, context),
        *numbered(_segment_of(one, _circumstances(facts, one)) for one in told),
    )


def header_segment(ae_title: str, facility: str, issued: str, uid: str) -> Er7:
    """Return MSH without a receiver; without MSH-15 and MSH-16 it is the original mode, answered once (2.9.2)."""
    return segment("MSH", {
        3: ae_title, 4: cut(facility), 7: timestamp(issued), 9: Er7(MESSAGE_TYPE), 10: control_id(uid),
        11: _PRODUCTION, 12: VERSION, 18: CHARACTER_SET,
    })  # fmt: skip


def _site(facts: ReportFacts) -> str:
    return one_line(str(facts.organization["display"])) if facts.organization else ""


def _circumstances(facts: ReportFacts, one: Observation) -> Mapping[int, str]:
    """Return what every OBX of a result has: when, where, and by which method and device, or else by which person."""
    when = {
        11: result_status(facts), 14: timestamp(facts.effective), 19: timestamp(facts.issued), 23: cut(_site(facts), 50)
    }  # fmt: skip
    if facts.review is not None and one.finding_key and facts.review.of(one.finding_key).is_changed:
        return {**when, 16: observer(facts.review.reviewer)}
    method = cut(f"AI: {facts.model.name} {facts.model.version}")
    return {**when, 17: field("", method), 18: facts.model.device_uid}


def _segment_of(one: Observation, circumstances: Mapping[int, str]) -> Er7:
    return segment("OBX", {2: one.type, 3: one.about, 4: one.sub_id, 5: one.value, 6: one.unit, **circumstances})


def numbered(segments: Iterable[str]) -> list[Er7]:
    """Return OBX with their place as OBX-1."""
    parted = (one.split("|") for one in segments)
    return [Er7("|".join([parts[0], str(place), *parts[2:]])) for place, parts in enumerate(parted, start=1)]


# --- what could not be told in the usual way --------------------------------------------------------------------------


def last_message(
    study_instance_uid: str, model: ModelIdentity, context: ReportContext, reason: tuple[str, str], uid: str
) -> str:
    """Return what is left to tell of a study without usable headers: UIDs, the model and why; `reason` is its code
    and a sentence. It has no patient, so the sender parks it where a person sees it."""
    node, line = reporter(context, model)
    issued = fhir_instant(context.started_at)
    number = short_id("filler", report_identifier(study_instance_uid, node, line)["value"])
    why = one_line(f"Not analysed by {model.name}: {reason[0]}. {reason[1]}")
    told = [
        text(NOTICE, f"{NOT_VERIFIED} {why}"),
        Observation(type="HD", about=coded(STUDY), value=field("", study_instance_uid, "ISO")),
        text(PROCEDURE_FINDINGS, why),
    ]
    return message(
        header_segment(context.ae_title, one_line(context.institution), issued, uid),
        patient_segment(Dataset(), FhirOptions()),
        *_bare_order(number, line, issued),
        *numbered(_segment_of(one, {11: PRELIMINARY, 19: timestamp(issued)}) for one in told),
    )


def _bare_order(number: str, line: ReportLine, issued: str) -> tuple[Er7, Er7]:
    own = Code(short_id("line", line.model, line.route), PRIVATE_SCHEME, f"AI: {line.model} ({line.route})")
    request = {1: "1", 3: number, 4: coded(DIAGNOSTIC_IMAGING_STUDY, own), 22: timestamp(issued), 24: "RAD"}
    return segment("ORC", {1: "RE", 3: number}), segment("OBR", {**request, 25: PRELIMINARY})


# --- what takes a result back -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class WithdrawnMessages:
    """What is taken back from a receiver of HL7, why, and since when: `messages` as they were kept, newest first."""

    messages: Sequence[str]
    reason: str
    at: datetime


def withdrawal_message(told: WithdrawnMessages, uid: str) -> str:
    """Return the message that says of everything in these that it holds no more; the values themselves are gone.

    It is a preliminary one, or corrects what was final, and what a receiver wants it marked with is put in when it is
    sent (see `receiver`). It names patient and order as the newest does, and every observation by OBX-3 and OBX-4, so
    that both those who replace the whole result and those who replace each observation show nothing of it. Raises
    `ReportInvalid`.
    """
    sent = [read(one) for one in told.messages]
    newest = sent[0]
    msh, request = newest.segment("MSH"), newest.segment("OBR")
    now = utc_timestamp(told.at)
    status = CORRECTED if value(request, 25) in VERIFIED else PRELIMINARY
    header = segment("MSH", {**_fields(msh, 3, 4), 7: now, 9: Er7(MESSAGE_TYPE), 10: control_id(uid),
                             11: _PRODUCTION, 12: VERSION, 18: CHARACTER_SET})  # fmt: skip
    why = f"{NOT_VERIFIED} WITHDRAWN: it does not hold any more and must not be used. Reason: {one_line(told.reason)}"
    return message(
        header,
        Er7(str(newest.segment("PID"))),
        Er7(str(newest.segment("ORC"))),
        segment("OBR", {**_fields(request, *range(1, len(request))), 22: now, 25: status}),
        *numbered([
            segment("OBX", {2: "TX", 3: coded(WITHDRAWN), 5: why, 11: status, 19: now}),
            *_taken_back([one for each in sent for one in each.segments("OBX")], status, now),
        ]),
    )  # fmt: skip


def _fields(found: hl7.Segment, *numbers: int) -> dict[int, str]:
    return {number: value(found, number) for number in numbers}


def _taken_back(shown: Iterable[hl7.Segment], status: str, now: str) -> list[Er7]:
    """Return each observation once, without its value; which study it was stays."""
    when = {11: status, 19: now}
    once = {(value(one, 3), value(one, 4)): one for one in shown}
    return [
        _of_status(one, status) if about == coded(STUDY)
        else segment("OBX", {2: "TX", 3: about, 4: sub_id, 5: "WITHDRAWN", **when, 18: value(one, 18)})
        for (about, sub_id), one in once.items()
    ]  # fmt: skip


def _of_status(one: hl7.Segment, status: str) -> Er7:
    return segment("OBX", {**_fields(one, *range(1, len(one))), 11: status})
