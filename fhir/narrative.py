"""The report for people: XHTML for `text.div`, and an HTML page as presentedForm. Every inserted text is escaped."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Sequence
from html import escape

from dicom_node.analysis import WrittenObject
from dicom_node.fhir.facts import ReportFacts
from dicom_node.fhir.json_types import Json
from dicom_node.fhir.source_text import one_line, source_text

_STYLE = "body{font-family:sans-serif;max-width:48em;margin:2em auto}th{text-align:left;padding-right:1em}"


def narrative(facts: ReportFacts, lines: Sequence[str]) -> Json:
    """Return the Narrative of the report."""
    body = _paragraph(facts.warning) + _list(lines)
    return {"status": "generated", "div": f'<div xmlns="http://www.w3.org/1999/xhtml">{body}</div>'}


def presented_form(facts: ReportFacts, lines: Sequence[str], written: Sequence[WrittenObject]) -> Json:
    """Return the report as one HTML page (Attachment); `hash` is the base64 SHA-1 of its bytes (R4 datatypes)."""
    data = _page(facts, lines, written).encode("utf-8")
    return {
        "contentType": "text/html",
        "language": "en",
        "data": base64.b64encode(data).decode("ascii"),
        "size": len(data),
        "hash": base64.b64encode(hashlib.sha1(data, usedforsecurity=False).digest()).decode("ascii"),
        "title": f"AI preliminary analysis: {facts.model.name} {facts.model.version}",
        "creation": facts.issued,
    }


def _page(facts: ReportFacts, lines: Sequence[str], written: Sequence[WrittenObject]) -> str:
    title = f"AI preliminary analysis: {facts.model.name} {facts.model.version}"
    rows = "".join(f"<tr><th>{_text(name)}</th><td>{_text(value)}</td></tr>" for name, value in _header(facts) if value)
    objects = [f"{item.description} ({source_text(item.dataset, 'SOPInstanceUID')})" for item in written]
    return (
        f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>{_text(title)}</title>'
        f"<style>{_STYLE}</style></head><body><h1>{_text(title)}</h1>"
        f"<p><strong>{_text(facts.warning)}</strong></p><table>{rows}</table>{_list(lines)}"
        + (f"<h2>Objects in the image archive</h2>{_list(objects)}" if objects else "")
        + "</body></html>"
    )


def _header(facts: ReportFacts) -> Iterable[tuple[str, str]]:
    return (
        ("Patient", facts.subject.get("display", "")),
        ("Patient ID", facts.subject.get("identifier", {}).get("value", "")),
        ("Accession number", (facts.accession or {}).get("value", "")),
        ("Study", facts.study_instance_uid),
        ("Images taken", facts.effective),
        ("Analysed", facts.issued),
        ("Intended use", facts.model.intended_use),
        ("Limits", facts.model.limits),
    )


def _paragraph(text: str) -> str:
    return f"<p>{_text(text)}</p>"


def _list(lines: Iterable[str]) -> str:
    return f"<ul>{''.join(f'<li>{_text(line)}</li>' for line in lines)}</ul>"


def _text(text: str) -> str:
    return escape(one_line(text))
