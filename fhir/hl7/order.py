"""ORC and OBR: which order the result is about, which procedure, and which result of the node it is."""

from __future__ import annotations

from datetime import datetime

from pydicom.dataset import Dataset

from dicom_node.analysis.context import ReportContext
from dicom_node.core.assessment.review import Reviewer
from dicom_node.core.codes import DIAGNOSTIC_IMAGING_STUDY, PRIVATE_SCHEME
from dicom_node.core.entities import Code, OrderContext
from dicom_node.fhir.builders.dicom_values import one_line, source_text
from dicom_node.fhir.builders.facts import ReportFacts, reporter
from dicom_node.fhir.hl7.grammar import (
    Er7,
    coded,
    component,
    cut,
    escape,
    field,
    segment,
    short_id,
    timestamp,
    utc_timestamp,
)
from dicom_node.fhir.hl7.patient import universal_id

#: Where images keep the code of what was ordered or done, what was ordered first.
_PROCEDURE_CODES = ("RequestedProcedureCodeSequence", "ProcedureCodeSequence")
#: Table 0074: Radiology; tables 0123 and 0085: preliminary, final, and a correction of what was final.
_RADIOLOGY, PRELIMINARY, FINAL, CORRECTED = "RAD", "P", "F", "C"
VERIFIED = frozenset({FINAL, CORRECTED})
#: FHIR's words for priority in table 0485, whose users add letters; U is that of those who tell urgent from at once.
_PRIORITIES = {"stat": "S", "asap": "A", "urgent": "U", "routine": "R"}


def filler_number(facts: ReportFacts, context: ReportContext) -> str:
    """Return what a result is known by, whatever images, version or run made it, as the report in FHIR is.

    What is analysed after a withdrawal is a result of its own: some receivers bring back no order that was cancelled.
    """
    official, withdrawn = facts.report_identifier["value"], context.withdrawn_before
    return short_id("filler", official, *([str(withdrawn)] if withdrawn else []))


def order_segments(facts: ReportFacts, header: Dataset, context: ReportContext) -> tuple[Er7, Er7]:
    """Return ORC and OBR, of the order that the node was told of, else as the images name it.

    OBR-2 is the placer's number of the order, OBR-3 the node's number of this result, OBR-18 the accession number;
    where a receiver wants it elsewhere, `receiver` puts it there. OBR-27 is in the grammar of older receivers, too,
    which know no TQ1.
    """
    placer, filler = _placer(facts, header), filler_number(facts, context)
    asked = facts.order or OrderContext()
    order = segment("ORC", {1: "RE", 2: placer, 3: filler})
    request = segment("OBR", {
        1: "1", 2: placer, 3: filler, 4: _procedure(facts, header, context), 7: timestamp(facts.effective),
        18: facts.accession["value"] if facts.accession else "", 22: timestamp(facts.issued), 24: _RADIOLOGY,
        25: result_status(facts), 27: field("", "", "", "", "", _PRIORITIES.get(asked.priority, "")),
        31: field("", cut(one_line(asked.reason))), **_interpreters(facts),
    })  # fmt: skip
    return order, request


def result_status(facts: ReportFacts) -> str:
    """Return OBR-25 and OBX-11: preliminary until a person has reviewed the result."""
    if facts.review is None:
        return PRELIMINARY
    return CORRECTED if facts.is_correction else FINAL


def _interpreters(facts: ReportFacts) -> dict[int, Er7]:
    """Return the reader as principal (OBR-32) and a second one as assistant result interpreter (OBR-33)."""
    readers = facts.review.readers if facts.review else ()
    return {number: _interpreter(who, at) for number, (who, at) in zip((32, 33), readers, strict=False)}


def _interpreter(reader: Reviewer, at: datetime) -> Er7:
    """Return NDL (2.A.44): who, when, and of which facility."""
    family, given, middle, prefix, suffix = _name_parts(reader)
    name = component(cut(one_line(reader.identifier), 15), family, given, middle, suffix, prefix)
    return field(name, utc_timestamp(at), "", "", "", "", component(cut(one_line(reader.organization), 20)))


def observer(reader: Reviewer) -> Er7:
    """Return OBX-16: a person by number and name (XCN)."""
    family, given, middle, prefix, suffix = _name_parts(reader)
    return field(cut(one_line(reader.identifier), 15), family, given, middle, suffix, prefix)


def _name_parts(reader: Reviewer) -> tuple[str, ...]:
    """Return the parts of a DICOM name as it has them; one that has none is the account."""
    parts = [one_line(part) for part in reader.name.split("=")[0].split("^")]
    return (*parts, "", "", "", "", "")[:5] if any(parts) else (reader.account, "", "", "", "")


def _placer(facts: ReportFacts, header: Dataset) -> Er7:
    """Return the number at who placed the order (EI), with the OID or the name of who gave it out where it is known."""
    number = facts.order.placer if facts.order else None
    if facts.placer is None or number is None:
        return escape(_request_text(header, "PlacerOrderNumberImagingServiceRequest"))
    by_oid = universal_id(facts.placer.get("system", ""))
    return field(number.value, *(("", *by_oid) if by_oid else (number.authority,)))


def _procedure(facts: ReportFacts, header: Dataset, context: ReportContext) -> Er7:
    """Return the procedure as it was ordered, else in the words of the images, and beside it which of the node's
    analyses this is: a study may have several."""
    _, line = reporter(context, facts.model)
    own = Code(short_id("line", line.model, line.route), PRIVATE_SCHEME, f"AI: {line.model} ({line.route})")
    ordered = facts.order.procedure if facts.order else None
    known = ordered if ordered and ordered.value else procedure_code(header)
    return coded(known or DIAGNOSTIC_IMAGING_STUDY, own)


def procedure_code(header: Dataset) -> Code | None:
    """Return the code of the procedure in the words of the images, `None` where they have none."""
    for holder in (*(header.get("RequestAttributesSequence") or ()), header):
        for keyword in _PROCEDURE_CODES:
            for item in holder.get(keyword) or ():
                code = source_text(item, "CodeValue")
                if code:
                    scheme = source_text(item, "CodingSchemeDesignator")
                    return Code(code, scheme, cut(source_text(item, "CodeMeaning")))
    return None


def _request_text(header: Dataset, keyword: str) -> str:
    holders = (header, *(header.get("RequestAttributesSequence") or ()))
    return next((text for one in holders if (text := source_text(one, keyword))), "")
