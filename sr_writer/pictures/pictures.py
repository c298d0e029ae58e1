"""Which pictures one answer gives: the summary first, then why (heatmaps), then where (key slices)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pydicom.dataset import Dataset

from dicom_node.analysis import Analysis, NotAnalysed, Picture, ReportContext, Saliency
from dicom_node.sr_writer.geometry import slice_position_mm
from dicom_node.sr_writer.pictures.choice import choose, index_of
from dicom_node.sr_writer.pictures.display import displayed, preferred_window
from dicom_node.sr_writer.pictures.heatmap import heatmap_picture
from dicom_node.sr_writer.pictures.key_slice import Volume, slice_picture
from dicom_node.sr_writer.pictures.locator import locator_of
from dicom_node.sr_writer.pictures.panels import panels_picture
from dicom_node.sr_writer.pictures.picture_source import PictureSource
from dicom_node.sr_writer.pictures.summary import refusal_pages, summary_pages
from dicom_node.sr_writer.pictures.voi import Window
from dicom_node.sr_writer.source_frames import marked_key, source_key
from dicom_node.sr_writer.text import marking, number


def pictures_of(answer: Analysis | NotAnalysed, context: ReportContext) -> list[Picture]:
    """Draw everything worth a secondary capture, in the order of the series."""
    return list(drawn_pictures(answer, context))


def drawn_pictures(answer: Analysis | NotAnalysed, context: ReportContext) -> Iterator[Picture]:
    """Draw one picture after the other; those before one that cannot be drawn are had all the same."""
    if isinstance(answer, NotAnalysed):
        yield from refusal_pages(answer, context)
        return
    choice = choose(answer)
    drawing = _Drawing(answer, context)
    yield from summary_pages(answer, context, choice.remarks)
    yield from drawing.heatmaps(choice.saliencies)
    yield from drawing.slices(choice.slices)


def heatmap_key(finding_key: str, sop_instance_uid: str) -> str:
    """Return the key of the picture that explains a finding on one image."""
    return f"heatmap:{finding_key}:{sop_instance_uid}"


class _Drawing:
    """Draws on source images; each is decoded and windowed once."""

    def __init__(self, analysis: Analysis, context: ReportContext) -> None:
        self._analysis = analysis
        self._marking = marking(context.intended_use)
        self._ready: dict[int, PictureSource] = {}

    def heatmaps(self, saliencies: Sequence[Saliency]) -> Iterator[Picture]:
        findings = {finding.key: finding for finding in self._analysis.findings}
        for saliency in saliencies:
            finding = findings[saliency.finding_key]
            source = self._source(index_of(saliency, self._analysis))
            draw = panels_picture if saliency.in_three_panels else heatmap_picture
            yield Picture(
                key=heatmap_key(finding.key, marked_key(saliency)),
                rgb=draw(source, saliency, finding),
                description=f"Heatmap: {finding.label}",
                source=source.dataset,
            )

    def slices(self, indices: Sequence[int]) -> Iterator[Picture]:
        if not indices:
            return
        analysis = self._analysis
        volume = Volume(
            sources=analysis.sources,
            segments=analysis.segments,
            findings=analysis.findings,
            locator=locator_of(analysis.sources, analysis.segments),
        )
        for index in indices:
            source = self._source(index)
            yield Picture(
                key=f"slice:{source_key(source.dataset)}",
                rgb=slice_picture(source, index, volume),
                description=f"Key slice {index + 1} of {len(volume.sources)}",
                source=source.dataset,
            )

    def _source(self, index: int) -> PictureSource:
        if index not in self._ready:
            dataset = self._analysis.sources[index]
            model = self._analysis.model
            shown = displayed(dataset, preferred_window(dataset, self._analysis.findings))
            place = _place(dataset, index, len(self._analysis.sources))
            self._ready[index] = PictureSource(
                dataset=dataset,
                pixels=shown.pixels,
                model_text=f"{model.name} {model.version}",
                marking=self._marking,
                place=place,
                shown_with=_window_text(shown.window),
            )
        return self._ready[index]


def _place(source: Dataset, index: int, count: int) -> str:
    """Return which of several images this is, and where along their stack."""
    if count == 1:
        return ""
    position = slice_position_mm(source)
    at = f", position {number(round(position, 1))} mm" if position is not None else ""
    return f"{'slice' if at else 'image'} {index + 1} of {count}{at}"


def _window_text(window: Window | None) -> str:
    return f"window {number(round(window[1]))}, level {number(round(window[0]))}" if window is not None else ""
