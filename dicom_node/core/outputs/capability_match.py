"""What a destination wants, fitted to what it takes. Pure: SOP classes in, an output set and what was left out back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from dicom_node.core.entities import ArtifactKind
from dicom_node.core.outputs.artifact_kinds import (
    OPTIONAL_KINDS,
    REPORTS,
    SECONDARY_CAPTURE,
    Choice,
    KindOfArtifact,
    OutputSet,
    SrClass,
    is_off,
)

#: `auto`: the first of these that the destination takes.
LADDER: tuple[SrClass, ...] = tuple(REPORTS)
#: What is made where a destination does not take what was chosen: label maps become binary masks.
_INSTEAD: Mapping[Choice, Choice] = {"labelmap": "binary"}


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
    chosen = ((one, one.choice(outputs)) for one in OPTIONAL_KINDS)
    return tuple(one.words(choice) for one, choice in chosen if not is_off(choice))


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
    fitted: Mapping[str, Any] = {
        one.option: report if one.kind is ArtifactKind.STRUCTURED_REPORT else _fitted(one, configured, capabilities)
        for one in OPTIONAL_KINDS
    }
    outputs = replace(configured, **fitted)
    pinned = len(wanted.reports) == 1 and report != "off" and not capabilities.takes(REPORTS[report])
    problem = f"does not take SR {report}, which is configured for it" if pinned else ""
    return MatchedOutputs(outputs=outputs, left_out=tuple(_left_out(configured, outputs)), problem=problem)


def _report(wanted: WantedOutputs, takes: Callable[[str], bool]) -> SrClass:
    if len(wanted.reports) == 1:
        return wanted.reports[0]
    return next((one for one in wanted.reports if takes(REPORTS[one])), "off")


def _fitted(kind: KindOfArtifact, configured: OutputSet, capabilities: PeerCapabilities) -> Choice:
    """Return the choice as configured, or what is made instead, or none, by what is taken."""
    choice = kind.choice(configured)
    nothing = False if isinstance(choice, bool) else "off"
    if not kind.sop_classes:
        return choice
    while not is_off(choice) and not capabilities.takes(kind.sop_classes[choice].uid):
        choice = _INSTEAD.get(choice, nothing)
    return choice


def _left_out(configured: OutputSet, fitted: OutputSet) -> Iterator[str]:
    """Tell what is lacking, the report first: it says most."""
    for one in sorted(OPTIONAL_KINDS, key=lambda one: one.kind is not ArtifactKind.STRUCTURED_REPORT):
        before, after = one.choice(configured), one.choice(fitted)
        if before != after:
            yield f"takes no {one.words(True)}" if is_off(after) else f"takes no {one.words(before)} and gets {after}"
