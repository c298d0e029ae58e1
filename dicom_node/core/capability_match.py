"""What a destination wants, fitted to what it takes. Pure: SOP classes in, an output set and what was left out back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from dicom_node.core.outputs import OutputSet, SegmentationType, SrClass

SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"
LABEL_MAP = "1.2.840.10008.5.1.4.1.1.66.7"
PARAMETRIC_MAP = "1.2.840.10008.5.1.4.1.1.30"
PRESENTATION_STATE = "1.2.840.10008.5.1.4.1.1.11.1"
KEY_OBJECTS = "1.2.840.10008.5.1.4.1.1.88.59"
ENCAPSULATED_PDF = "1.2.840.10008.5.1.4.1.1.104.1"

#: The classes of report, the one that says most first.
REPORTS: dict[SrClass, str] = {
    "comprehensive3d": "1.2.840.10008.5.1.4.1.1.88.34",
    "comprehensive": "1.2.840.10008.5.1.4.1.1.88.33",
    "enhanced": "1.2.840.10008.5.1.4.1.1.88.22",
}
#: `auto`: the first of these that the destination takes.
LADDER: tuple[SrClass, ...] = tuple(REPORTS)
#: Every class a result may have, in the order in which people read of them.
RESULT_CLASSES: dict[str, str] = {
    SECONDARY_CAPTURE: "SC",
    SEGMENTATION: "SEG",
    LABEL_MAP: "label map SEG",
    PARAMETRIC_MAP: "PM",
    PRESENTATION_STATE: "GSPS",
    KEY_OBJECTS: "KOS",
    ENCAPSULATED_PDF: "PDF",
    **{uid: f"SR {name}" for name, uid in REPORTS.items()},
}

#: Kinds that are either wanted or not, by their name in `OutputSet`.
_SWITCHES = {
    "secondary_capture": SECONDARY_CAPTURE,
    "presentation_state": PRESENTATION_STATE,
    "parametric_map": PARAMETRIC_MAP,
    "key_objects": KEY_OBJECTS,
    "encapsulated_pdf": ENCAPSULATED_PDF,
    "rejection_note": KEY_OBJECTS,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedOutputs:
    """What a destination is configured to get. `reports` are the classes of report it may get, best first.

    One class alone is the site's decision and is not changed; ``("off",)``: no report.
    """

    outputs: OutputSet
    reports: tuple[SrClass, ...] = LADDER


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerCapabilities:
    """What is known of a destination: the SOP classes it agreed to (`None`: never heard) and those it then refused."""

    accepted: frozenset[str] | None = None
    refused: frozenset[str] = frozenset()

    def takes(self, sop_class_uid: str) -> bool:
        """Tell whether there is no reason to think that it does not take this class."""
        return sop_class_uid not in self.refused and (self.accepted is None or sop_class_uid in self.accepted)


@dataclass(frozen=True, slots=True, kw_only=True)
class MatchedOutputs:
    """The set a destination gets. `left_out` completes the sentence "<destination> …"; `problem` needs a person."""

    outputs: OutputSet
    left_out: tuple[str, ...] = ()
    problem: str = ""


def in_words(outputs: OutputSet) -> tuple[str, ...]:
    """Return the kinds of a set as people read of them, in the order of sending."""
    names = {"secondary_capture": "SC", "segmentation": f"SEG {outputs.segmentation}"}
    names |= {name: RESULT_CLASSES[uid] for name, uid in _SWITCHES.items() if name != "secondary_capture"}
    names |= {"structured_report": f"SR {outputs.structured_report}", "rejection_note": "rejection notes"}
    return tuple(words for name, words in names.items() if getattr(outputs, name) not in {False, "off"})


def match_capabilities(wanted: WantedOutputs, capabilities: PeerCapabilities) -> MatchedOutputs:
    """Return what of `wanted` the destination takes.

    A destination that takes neither the report nor the pictures meant for it gets everything as configured: then
    deliveries are parked with the reason where a person sees it, and no result is silently told to nobody.
    """
    report = _report(wanted, capabilities.takes)
    configured = replace(wanted.outputs, structured_report=wanted.reports[0])
    readable = [report != "off" and capabilities.takes(REPORTS[report])]
    readable += [configured.secondary_capture and capabilities.takes(SECONDARY_CAPTURE)]
    if not any(readable) and (configured.structured_report != "off" or configured.secondary_capture):
        return MatchedOutputs(outputs=configured, problem="takes neither the report nor the pictures meant for it")
    fitted = replace(
        configured,
        structured_report=report,
        segmentation=_segmentation(wanted.outputs.segmentation, capabilities.takes),
    )
    for name, sop_class_uid in _SWITCHES.items():
        if not capabilities.takes(sop_class_uid):
            off: Mapping[str, Any] = {name: False}
            fitted = replace(fitted, **off)
    pinned = len(wanted.reports) == 1 and report != "off" and not capabilities.takes(REPORTS[report])
    problem = f"does not take SR {report}, which is configured for it" if pinned else ""
    return MatchedOutputs(outputs=fitted, left_out=tuple(_left_out(configured, fitted)), problem=problem)


def _report(wanted: WantedOutputs, takes: Callable[[str], bool]) -> SrClass:
    if len(wanted.reports) == 1:
        return wanted.reports[0]
    return next((one for one in wanted.reports if takes(REPORTS[one])), "off")


def _segmentation(wanted: SegmentationType, takes: Callable[[str], bool]) -> SegmentationType:
    if wanted == "labelmap" and not takes(LABEL_MAP):
        wanted = "binary"
    return "off" if wanted in {"binary", "fractional"} and not takes(SEGMENTATION) else wanted


def _left_out(configured: OutputSet, fitted: OutputSet) -> Iterator[str]:
    if fitted.structured_report == "off" != configured.structured_report:
        yield "takes no SR"
    elif fitted.structured_report != configured.structured_report:
        yield f"takes no SR {configured.structured_report} and gets {fitted.structured_report}"
    if fitted.segmentation == "off" != configured.segmentation:
        yield "takes no SEG"
    elif fitted.segmentation != configured.segmentation:
        yield f"takes no {configured.segmentation} SEG and gets {fitted.segmentation}"
    for name, sop_class_uid in _SWITCHES.items():
        if getattr(configured, name) and not getattr(fitted, name):
            what = "rejection notes" if name == "rejection_note" else RESULT_CLASSES[sop_class_uid]
            yield f"takes no {what}"
