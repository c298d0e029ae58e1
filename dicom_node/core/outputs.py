"""Which objects a destination gets: the noun shared by settings, builders, index and delivery.

A route's destinations may want different sets; one run of the model serves them all. Objects that two sets share are
made once and have one UID; a report belongs to exactly one set, since it refers only to what its reader also got.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Literal

#: Metadata of an option that came after 0.1.0: while it has its default, keys stay those of before it came, and so do
#: the UIDs that come from them.
ADDED: Mapping[str, bool] = MappingProxyType({"added": True})
SrClass = Literal["comprehensive3d", "comprehensive", "enhanced", "off"]
SegmentationType = Literal["binary", "fractional", "labelmap", "off"]


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputSet:
    """What one destination gets, already fitted to what it accepts. The defaults are what every PACS should take."""

    #: SOP class of the structured report.
    structured_report: SrClass = "comprehensive3d"
    secondary_capture: bool = True
    segmentation: SegmentationType = "binary"
    #: GSPS: outlines, boxes and texts that a viewer can switch on and off.
    presentation_state: bool = False
    #: Heat maps as numbers, for viewers that colour them themselves.
    parametric_map: bool = False
    #: KOS: the images worth opening first.
    key_objects: bool = False
    encapsulated_pdf: bool = False
    #: An IOCM rejection note for the objects that a new result replaces.
    rejection_note: bool = False

    @property
    def key(self) -> str:
        """Return the set as one line of text: equal sets have equal keys; it seeds UIDs and stands in the index."""
        told = ((one, getattr(self, one.name)) for one in fields(self))
        return ",".join(
            f"{one.name}={_word(value)}"
            for one, value in told
            if not (one.metadata.get("added") and value == one.default)
        )


def _word(value: object) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return str(value)
