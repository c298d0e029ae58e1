"""Which pictures one answer gives: the summary first, then why (heatmaps), then where (key slices)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np

from dicom_node import __version__
from dicom_node.analysis import Analysis, NotAnalysed, Picture, ReportContext, Saliency, Segment
from dicom_node.model import ModelIdentity, Region
from dicom_node.sr_writer.pictures.display import display_rgb, preferred_window
from dicom_node.sr_writer.pictures.heatmap import heatmap_picture
from dicom_node.sr_writer.pictures.key_slice import Volume, slice_picture
from dicom_node.sr_writer.pictures.locator import locator_of
from dicom_node.sr_writer.pictures.page import NOTE_PX, Frame, Pages
from dicom_node.sr_writer.pictures.panels import panels_picture
from dicom_node.sr_writer.pictures.pen import AMBER, RED, Rgb
from dicom_node.sr_writer.pictures.picture_source import PictureSource
from dicom_node.sr_writer.source_frames import marked_key, shows, source_key
from dicom_node.sr_writer.text import marking

#: More pictures than this bury the reader (and the PACS).
MOST_PICTURES = 20
_NODE = f"node {__version__}"
NOT_PERFORMED = "AI ANALYSIS NOT PERFORMED"


def pictures_of(answer: Analysis | NotAnalysed, context: ReportContext) -> list[Picture]:
    """Draw everything worth a secondary capture, in the order of the series."""
    if isinstance(answer, NotAnalysed):
        return _not_performed(answer, context)
    drawn = _Drawing(answer, context)
    return [*_summary(answer, context), *islice(drawn.all(), MOST_PICTURES)]


def heatmap_key(finding_key: str, sop_instance_uid: str) -> str:
    """Return the key of the picture that explains a finding on one image."""
    return f"heatmap:{finding_key}:{sop_instance_uid}"


class _Drawing:
    """Draws on source images; each is decoded and windowed once."""

    def __init__(self, analysis: Analysis, context: ReportContext) -> None:
        self._analysis = analysis
        self._marking = marking(context.intended_use)
        self._ready: dict[int, PictureSource] = {}

    def all(self) -> Iterator[Picture]:
        yield from self._heatmaps()
        yield from self._slices()

    def _heatmaps(self) -> Iterator[Picture]:
        findings = {finding.key: finding for finding in self._analysis.findings}
        for saliency in self._analysis.saliencies:
            finding = findings[saliency.finding_key]
            source = self._source(self._index_of(saliency))
            draw = panels_picture if saliency.in_three_panels else heatmap_picture
            yield Picture(
                key=heatmap_key(finding.key, marked_key(saliency)),
                rgb=draw(source, saliency, finding),
                description=f"Heatmap: {finding.label}",
                source=source.dataset,
            )

    def _slices(self) -> Iterator[Picture]:
        analysis = self._analysis
        volume = Volume(
            sources=analysis.sources,
            segments=analysis.segments,
            findings=analysis.findings,
            locator=locator_of(analysis.sources, analysis.segments),
        )
        for index in self._slice_indices():
            source = self._source(index)
            yield Picture(
                key=f"slice:{source_key(source.dataset)}",
                rgb=slice_picture(source, index, volume),
                description=f"Key slice {index + 1} of {len(volume.sources)}",
                source=source.dataset,
            )

    def _slice_indices(self) -> Sequence[int]:
        """Return the key slices, else where segments are largest, and images with a region no heatmap shows."""
        if self._analysis.key_slices:
            return self._analysis.key_slices
        if self._analysis.segments:
            return _telling_slices(self._analysis.segments)
        explained = {marked_key(saliency) for saliency in self._analysis.saliencies}
        regions = [f.region for f in self._analysis.findings if f.region is not None]
        return list(dict.fromkeys(self._index_of(one) for one in regions if marked_key(one) not in explained))

    def _index_of(self, marked: Region | Saliency) -> int:
        return next(index for index, source in enumerate(self._analysis.sources) if shows(source, marked))

    def _source(self, index: int) -> PictureSource:
        if index not in self._ready:
            dataset = self._analysis.sources[index]
            model = self._analysis.model
            self._ready[index] = PictureSource(
                dataset=dataset,
                rgb=display_rgb(dataset, preferred_window(dataset, self._analysis.findings)),
                model_text=f"{model.name} {model.version}",
                marking=self._marking,
            )
        return self._ready[index]


def _telling_slices(segments: Sequence[Segment]) -> list[int]:
    """Return the slices at a quarter, half and three quarters of what is segmented."""
    area = np.sum([segment.mask.sum(axis=(1, 2)) for segment in segments], axis=0)
    filled = np.flatnonzero(area)
    if filled.size == 0:
        return []
    return sorted({int(filled[int(share * (filled.size - 1))]) for share in (0.25, 0.5, 0.75)})


def _summary(analysis: Analysis, context: ReportContext) -> list[Picture]:
    model = analysis.model
    pages = Pages(_frame(marking(context.intended_use), AMBER, model))
    if analysis.partial or context.study_partial:
        pages.paragraph("PARTIAL: only part of the study could be assessed.", AMBER)
    scored = [f for f in analysis.findings if f.presence is not None or f.probability is not None]
    measured = [f for f in analysis.findings if f.measurements]
    if scored:
        pages.heading("Findings (red line: threshold)" if any(f.threshold is not None for f in scored) else "Findings")
        pages.findings(scored)
        if any(f.probability is not None for f in scored) and not model.calibrated:
            pages.small("Scores are not calibrated: they rank, they are not probabilities of disease.")
    if measured:
        pages.heading("Measurements")
        pages.measurements(measured)
    if analysis.histogram is not None:
        pages.histogram(analysis.histogram)
    _remarks(pages, analysis.notes, model.limits)
    if model.intended_use:
        pages.heading("Intended use")
        pages.small(model.intended_use)
    pages.small("For decision support only. A physician must review the images.")
    return _numbered(pages, "summary", "AI summary page")


def _not_performed(answer: NotAnalysed, context: ReportContext) -> list[Picture]:
    pages = Pages(_frame(NOT_PERFORMED, RED, answer.model))
    pages.paragraph(marking(context.intended_use), AMBER)
    pages.heading("Reason")
    pages.paragraph(answer.reason, AMBER)
    pages.paragraph(answer.message)
    pages.heading("What this means")
    pages.paragraph("The images were NOT assessed. This is not a negative result.")
    _remarks(pages, answer.notes, "")
    return _numbered(pages, "not-analysed", "AI analysis not performed")


def _frame(banner: str, color: Rgb, model: ModelIdentity) -> Frame:
    footer = f"Model {model.name} {model.version}, {model.manufacturer}, digest {model.digest[:16]}; {_NODE}"
    return Frame(banner=banner, color=color, title=f"{model.name} {model.version}", footer=footer)


def _numbered(pages: Pages, key: str, description: str) -> list[Picture]:
    """Return one picture per page; the first has the plain key and description."""
    pictures = []
    for page, rgb in enumerate(pages.finished(), start=1):
        suffix = ("", "") if page == 1 else (f":{page}", f", page {page}")
        pictures.append(Picture(key=key + suffix[0], rgb=rgb, description=description + suffix[1], source=None))
    return pictures


def _remarks(pages: Pages, notes: Sequence[str], limits: str) -> None:
    if notes:
        pages.heading("Notes")
        for note in notes:
            pages.paragraph(f"- {note}", size_px=NOTE_PX)
    if limits:
        pages.heading("Limits")
        pages.small(limits)
