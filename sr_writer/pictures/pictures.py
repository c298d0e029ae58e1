"""Which pictures one answer gives: the summary first, then why (heatmaps), then where (key slices)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from pydicom.dataset import Dataset

from dicom_node.analysis.answer import Analysis, NotAnalysed, Saliency
from dicom_node.analysis.context import ReportContext
from dicom_node.analysis.written import Picture
from dicom_node.core.entities import Finding, Presence, Region
from dicom_node.decoding.voi import Window
from dicom_node.sr_writer.geometry import key_slices, slice_position_mm
from dicom_node.sr_writer.pictures.display import displayed, preferred_window
from dicom_node.sr_writer.pictures.frame import PictureSource
from dicom_node.sr_writer.pictures.heatmap import heatmap_picture, panels_picture
from dicom_node.sr_writer.pictures.key_slice import OutlinedVolume, locator_of, slice_picture
from dicom_node.sr_writer.pictures.summary import refusal_pages, summary_pages
from dicom_node.sr_writer.source_frames import marked_key, shows, source_key
from dicom_node.sr_writer.text import ascii_text, image_named, marking_of, number


def pictures_of(answer: Analysis | NotAnalysed, context: ReportContext) -> list[Picture]:
    """Draw everything worth a secondary capture, in the order of the series."""
    return list(drawn_pictures(answer, context))


def drawn_pictures(answer: Analysis | NotAnalysed, context: ReportContext) -> Iterator[Picture]:
    """Draw one picture after the other; those before one that cannot be drawn are had all the same. Of a reviewed
    result only the summary is another than before."""
    if isinstance(answer, NotAnalysed):
        yield from refusal_pages(answer, context)
        return
    if context.review is not None:
        yield from summary_pages(answer, context)
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
        self._marking = marking_of(context)
        self._heat_maps = context.heat_maps
        self._ready: dict[int, PictureSource] = {}
        self._enhanced: dict[int, PictureSource] = {}

    def heatmaps(self, saliencies: Sequence[Saliency]) -> Iterator[Picture]:
        findings = {finding.key: finding for finding in self._analysis.findings}
        for saliency in saliencies:
            finding = findings[saliency.finding_key]
            source = self._explained(index_of(saliency, self._analysis))
            draw = panels_picture if self._in_three_panels(saliency) else heatmap_picture
            yield Picture(
                key=heatmap_key(finding.key, marked_key(saliency)),
                rgb=draw(source, saliency, finding),
                description=", ".join(filter(None, (f"Influence map: {finding.label}", view_of(source.dataset)))),
                source=source.dataset,
            )

    def slices(self, indices: Sequence[int]) -> Iterator[Picture]:
        if not indices:
            return
        analysis = self._analysis
        volume = OutlinedVolume(
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

    def _in_three_panels(self, saliency: Saliency) -> bool:
        return saliency.in_three_panels if self._heat_maps == "model" else self._heat_maps != "overlay"

    def _explained(self, index: int) -> PictureSource:
        """Return the source as heat maps show it; key slices show it as it is."""
        if self._heat_maps != "panels_clahe":
            return self._source(index)
        if index not in self._enhanced:
            self._enhanced[index] = replace(self._source(index), enhance=True)
        return self._enhanced[index]

    def _source(self, index: int) -> PictureSource:
        if index not in self._ready:
            dataset = self._analysis.sources[index]
            model = self._analysis.model
            shown = displayed(dataset, preferred_window(dataset, self._analysis.findings))
            place = ", ".join(filter(None, (view_of(dataset), _place(dataset, index, len(self._analysis.sources)))))
            self._ready[index] = PictureSource(
                dataset=dataset,
                pixels=shown.pixels,
                model_text=f"{model.name} {model.version}",
                marking=self._marking,
                place=place,
                shown_with="; ".join(filter(None, (image_named(dataset), _window_text(shown.window)))),
            )
        return self._ready[index]


_SIDES = {"L": "left", "R": "right", "B": "both sides"}


def view_of(source: Dataset) -> str:
    """Return the side and the view of a mammogram, of which a study has several (PS3.3 C.8.11.7); else nothing.

    ``left MLO`` by View Position, or else the meaning of the view code, which a mammogram must have.
    """
    if source.get("Modality") != "MG":
        return ""
    side = _SIDES.get(str(source.get("ImageLaterality") or source.get("Laterality") or ""), "")
    coded = next((str(item.get("CodeMeaning") or "") for item in source.get("ViewCodeSequence") or []), "")
    return ascii_text(" ".join(filter(None, (side, str(source.get("ViewPosition") or coded)))))


def _place(source: Dataset, index: int, count: int) -> str:
    """Return which of several images this is, and where along their stack."""
    if count == 1:
        return ""
    position = slice_position_mm(source)
    at = f", position {number(round(position, 1))} mm" if position is not None else ""
    return f"{'slice' if at else 'image'} {index + 1} of {count}{at}"


def _window_text(window: Window | None) -> str:
    return f"window {number(round(window[1]))}, level {number(round(window[0]))}" if window is not None else ""


# --- which are drawn: each is time and space -------------------------------------------------------------------------

#: More pictures than this bury the reader (and the PACS); of the heat maps alone, more than this.
MOST_PICTURES = 20
MOST_HEATMAPS = 8
#: So many names of findings without a picture are told, then only their number.
_MOST_NAMES = 12
_PRESENCE_ORDER = (Presence.PRESENT, Presence.UNDETERMINED, None, Presence.ABSENT)


@dataclass(frozen=True, slots=True)
class Choice:
    """What is drawn, most telling first: heat maps, then slices by index; `remarks` say what is not."""

    saliencies: tuple[Saliency, ...]
    slices: tuple[int, ...]
    remarks: tuple[str, ...]


def choose(analysis: Analysis) -> Choice:
    """Choose the pictures of an answer."""
    ranked = _ranked(analysis)
    saliencies, left_out = ranked[:MOST_HEATMAPS], ranked[MOST_HEATMAPS:]
    indices = _slice_indices(analysis)
    room = MOST_PICTURES - len(saliencies)
    remarks = [_without_map(left_out, len(ranked), analysis)] if left_out else []
    if len(indices) > room:
        remarks.append(f"{room} of {len(indices)} key slices are drawn.")
    return Choice(tuple(saliencies), tuple(indices[:room]), tuple(remarks))


def _ranked(analysis: Analysis) -> list[Saliency]:
    """Order the maps: what is present before what is not, then by how far the score is above its threshold."""
    findings = {finding.key: finding for finding in analysis.findings}

    def rank(saliency: Saliency) -> tuple[int, float]:
        finding = findings[saliency.finding_key]
        return _PRESENCE_ORDER.index(finding.presence), -_margin(finding)

    return sorted(analysis.saliencies, key=rank)


def _margin(finding: Finding) -> float:
    return (finding.probability or 0.0) - (finding.threshold or 0.0)


def _without_map(left_out: Sequence[Saliency], total: int, analysis: Analysis) -> str:
    labels = {finding.key: finding.label for finding in analysis.findings}
    names = list(dict.fromkeys(labels[saliency.finding_key] for saliency in left_out))
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return (
        f"Heat maps: the {total - len(left_out)} most telling of {total} are drawn. "
        f"Without a picture: {', '.join(names[:_MOST_NAMES])}{more}."
    )


def _slice_indices(analysis: Analysis) -> Sequence[int]:
    """Return the key slices, else where segments are largest, else images with a region no heatmap shows."""
    telling = key_slices(analysis)
    if telling or analysis.segments:
        return telling
    explained = {marked_key(saliency) for saliency in analysis.saliencies}
    regions = [f.region for f in analysis.findings if f.region is not None]
    return list(dict.fromkeys(index_of(one, analysis) for one in regions if marked_key(one) not in explained))


def index_of(marked: Region | Saliency, analysis: Analysis) -> int:
    """Return which source a region or a heat map lies on."""
    return next(index for index, source in enumerate(analysis.sources) if shows(source, marked))
