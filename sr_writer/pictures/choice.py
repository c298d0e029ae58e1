"""Which pictures of an answer are drawn: a reader looks at the telling ones, and each is time and space."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dicom_node.analysis import Analysis, Saliency
from dicom_node.model import Finding, Presence, Region
from dicom_node.sr_writer.key_slices import key_slices
from dicom_node.sr_writer.source_frames import marked_key, shows

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
