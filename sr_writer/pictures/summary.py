"""The pages of words: what was found and measured, by which model, with what limits; or that nothing was analysed."""

from __future__ import annotations

from collections.abc import Sequence

from dicom_node import __version__
from dicom_node.analysis.answer import Analysis, NotAnalysed, Picture, ReportContext
from dicom_node.core.entities import Finding, ModelIdentity, Presence
from dicom_node.sr_writer.pictures.page import NOTE_PX, Frame, Pages, histogram
from dicom_node.sr_writer.pictures.pen import AMBER, BLUE, RED, TEXT
from dicom_node.sr_writer.pictures.tables import findings_table, measurement_tables
from dicom_node.sr_writer.text import looked_at, marking, state_of, verdict_on

NOT_PERFORMED = "AI ANALYSIS NOT PERFORMED"
_DIGEST_LETTERS = 16
_TONES = {Presence.PRESENT: AMBER, Presence.UNDETERMINED: BLUE, Presence.ABSENT: TEXT}


def summary_pages(analysis: Analysis, context: ReportContext, remarks: Sequence[str] = ()) -> list[Picture]:
    """Draw the summary; `remarks` say which pictures were left out."""
    pages = Pages(
        Frame(
            banner=marking(context.intended_use),
            color=AMBER,
            title=f"{analysis.model.name} {analysis.model.version}",
            subtitle=looked_at(analysis),
            footer=_maker(analysis.model),
        )
    )
    if analysis.partial or context.study_partial:
        pages.verdict("PARTIAL: only part of the study could be assessed.", AMBER)
    _results(pages, analysis)
    _remarks(pages, [*analysis.notes, *remarks])
    _about(pages, analysis.model, context)
    return _numbered(pages, "summary", "AI summary page")


def refusal_pages(answer: NotAnalysed, context: ReportContext) -> list[Picture]:
    """Draw the page that says why there is no result; in colour, border and words unlike one that found nothing."""
    pages = Pages(
        Frame(
            banner=NOT_PERFORMED,
            color=RED,
            title=f"{answer.model.name} {answer.model.version}",
            subtitle=looked_at(answer),
            footer=_maker(answer.model),
            bordered=True,
        )
    )
    pages.verdict("NO RESULT. The images were NOT assessed.", RED)
    pages.paragraph("This is not a negative result: it says nothing about the patient.")
    pages.heading("Reason")
    pages.paragraph(answer.reason, AMBER)
    pages.paragraph(answer.message)
    _remarks(pages, answer.notes)
    pages.heading("Marking")
    pages.paragraph(marking(context.intended_use), AMBER)
    return _numbered(pages, "not-analysed", "AI analysis not performed")


def _results(pages: Pages, analysis: Analysis) -> None:
    scored = [f for f in analysis.findings if f.presence is not None or f.probability is not None]
    measured = [f for f in analysis.findings if f.measurements]
    _verdict(pages, scored)
    if scored:
        barred = any(f.threshold is not None and f.probability is not None for f in scored)
        pages.heading("Findings (red line: threshold)" if barred else "Findings")
        findings_table(pages, scored)
        if any(f.probability is not None for f in scored) and not analysis.model.calibrated:
            pages.small("Scores are not calibrated: they rank, they are not probabilities of disease.")
    if measured:
        pages.heading("Measurements")
        measurement_tables(pages, measured)
    if analysis.histogram is not None:
        histogram(pages, analysis.histogram)


def _verdict(pages: Pages, findings: Sequence[Finding]) -> None:
    """Say the result in one sentence. That nothing was found is white, not green: it clears nobody."""
    verdict = verdict_on(findings)
    if verdict is not None:
        pages.verdict(verdict.text, _TONES[verdict.presence])
        if verdict.caveat:
            pages.small(verdict.caveat)


def _remarks(pages: Pages, remarks: Sequence[str]) -> None:
    if remarks:
        pages.heading("Notes")
        for remark in remarks:
            pages.paragraph(f"- {remark}", size_px=NOTE_PX)


def _about(pages: Pages, model: ModelIdentity, context: ReportContext) -> None:
    """Say what the answer is worth: its state, what the model is meant for, and its limits."""
    pages.heading("State")
    pages.small(state_of(model, context))
    for title, text in (("Intended use", model.intended_use), ("Limits", model.limits)):
        if text:
            pages.heading(title)
            pages.small(text)


def _maker(model: ModelIdentity) -> str:
    digest = model.digest[:_DIGEST_LETTERS]
    return f"Model {model.name} {model.version}, {model.manufacturer}, digest {digest}; node {__version__}"


def _numbered(pages: Pages, key: str, description: str) -> list[Picture]:
    """Return one picture per page; the first has the plain key and description."""
    pictures = []
    for page, rgb in enumerate(pages.finished(), start=1):
        suffix = ("", "") if page == 1 else (f":{page}", f", page {page}")
        pictures.append(Picture(key=key + suffix[0], rgb=rgb, description=description + suffix[1], source=None))
    return pictures
