"""Which objects viewers make use of: presets, and what a destination's own settings change of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal, get_args

from pydantic import Field

from dicom_node.config.section import Section
from dicom_node.core.capability_match import LADDER, WantedOutputs
from dicom_node.core.outputs import OutputSet, SegmentationType, SrClass

SrSopClass = Literal["auto", "comprehensive3d", "comprehensive", "enhanced", "off"]
Preset = Literal["generic-pacs", "ohif", "weasis", "air"]

PRESETS: Mapping[Preset, OutputSet] = {
    # What every PACS should take and every viewer show.
    "generic-pacs": OutputSet(),
    # OHIF 3 hides presentation states; it opens PDFs.
    "ohif": OutputSet(encapsulated_pdf=True),
    # Weasis draws presentation states over the image, and marks key images.
    "weasis": OutputSet(presentation_state=True, key_objects=True, encapsulated_pdf=True),
    # IHE AI Results: the primitives of an evidence creator beside the report that refers to them.
    "air": OutputSet(parametric_map=True, key_objects=True),
}
assert set(PRESETS) == set(get_args(Preset))


class OutputSettings(Section):
    """What one destination gets other than its preset says; what is not set stays as the preset has it."""

    sr_sop_class: SrSopClass | None = Field(None, description="Structured report; none: as `results.sr_sop_class`.")
    secondary_capture: bool | None = Field(None, description="Pictures: summary page, heat maps, key slices.")
    segmentation: SegmentationType | None = Field(None, description="Masks: `binary`, `fractional`, `labelmap`, `off`.")
    presentation_state: bool | None = Field(None, description="GSPS: outlines and texts a viewer can switch off.")
    parametric_map: bool | None = Field(None, description="Heat maps as numbers.")
    key_objects: bool | None = Field(None, description="KOS: the images worth opening first.")
    encapsulated_pdf: bool | None = Field(None, description="The report as a page to print.")
    rejection_note: bool | None = Field(None, description="Take back what a new result replaces (IHE IOCM).")


def wanted_outputs(preset: Preset, overrides: OutputSettings | None, site_report: SrSopClass) -> WantedOutputs:
    """Return what a destination is configured to get; `site_report` is `results.sr_sop_class`."""
    overrides = overrides or OutputSettings()
    changes = overrides.model_dump(exclude_none=True, exclude={"sr_sop_class"})
    reports = _reports(overrides.sr_sop_class or site_report)
    return WantedOutputs(outputs=replace(PRESETS[preset], structured_report=reports[0], **changes), reports=reports)


def _reports(wanted: SrSopClass) -> tuple[SrClass, ...]:
    return LADDER if wanted == "auto" else (wanted,)
