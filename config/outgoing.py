"""Sections on results: what is made, where it goes, how it is delivered; presets of what viewers make use of."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from string import Formatter
from typing import Literal, get_args
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from dicom_node.config.section import Seconds, Section
from dicom_node.core.outputs.artifact_kinds import HeatMaps, OutputSet, SegmentationType, SrClass
from dicom_node.core.outputs.capability_match import LADDER, WantedOutputs

#: Clean Graphics and Clean Pixel Data are not offered: nothing here tells a name drawn in a picture from a measure.
DeidentificationOption = Literal[
    "uids", "device_identity", "institution_identity", "patient_characteristics", "full_dates", "modified_dates",
    "clean_descriptors", "clean_structured_content",
]  # fmt: skip
#: Private Creator, odd group, element within the block of 256 (PS3.5 7.8.1).
_PRIVATE = re.compile(r"[^\\/]{1,64}/[0-9A-Fa-f]{3}[13579BDFbdf]/[0-9A-Fa-f]{2}")
Verify = Literal["auto", "commitment", "query", "none"]


class ResultSettings(Section):
    sr_sop_class: SrSopClass = Field(
        "auto",
        description="SOP class of structured reports where a destination names none: `auto` (the first of the others "
        "that it takes), `comprehensive3d`, `comprehensive`, `enhanced` or `off`.",
    )
    heat_maps: HeatMaps = Field(
        "model",
        description="How pictures of heat maps are drawn: `model` (as the model asks for), `overlay` (over the image), "
        "`panels` (image, map and overlay side by side), `panels_clahe` (the same, the contrast of a gray image raised "
        "by CLAHE).",
    )


class DeliverySettings(Section):
    first_retry_s: Seconds = Field(
        5, description="Wait after the first failed attempt; doubles with each, or with the time."
    )
    max_retry_s: Seconds = Field(600, description="Longest of these waits. There is no last attempt.")
    timeout_s: Seconds = Field(60, description="Time limit of one attempt.")
    verify_after_s: Seconds = Field(
        60, description="How long after sending a destination is asked whether it has the object; many file it later."
    )
    verify_within_s: Seconds = Field(
        600, description="How long its answer is waited for; then it is asked in another way, and after that daily."
    )
    ask_again_s: Seconds = Field(86400, description="How long it is remembered what a DICOM destination takes.")


class DestinationSettings(Section):
    """What every destination has; the kinds, with what each needs and does, are in `deliver.kinds`."""

    name: str = Field(min_length=1, description="Name used by routes.")
    kind: str = Field(description="How results get there.")
    viewer_url: str | None = Field(
        None,
        description="Address of the site's viewer, for the link to the images that results bear there; "
        "`{study_instance_uid}`, `{accession_number}` and `{patient_id}` in it are filled in. Default: the node's own "
        "viewer, where `viewer.ohif` and the node's public address are set.",
    )
    verify: Verify = Field(
        "auto",
        description="How it proves that it has what it was sent: `commitment` (DICOM Storage Commitment), `query` (it "
        "is asked for the object), `auto` the best that it offers, `none` not at all.",
    )
    verify_again_days: float = Field(
        0,
        ge=0,
        le=3650,
        description="After how many days it is asked again whether it still has what it was proved to have; 0: never.",
    )

    @field_validator("viewer_url")
    @classmethod
    def _viewer_url_can_be_filled_in(cls, template: str | None) -> str | None:
        if template is not None:
            _check_template(template)
        return template


#: What the address of a viewer may leave to be filled in.
VIEWER_PLACEHOLDERS = frozenset({"study_instance_uid", "accession_number", "patient_id"})


def _check_template(template: str) -> None:
    """Raise `ValueError` unless this is a web address with none but the known placeholders, outside its host."""
    known = ", ".join(f"{{{one}}}" for one in sorted(VIEWER_PLACEHOLDERS))
    try:
        fields = [
            (name, form, conversion) for _, name, form, conversion in Formatter().parse(template) if name is not None
        ]
        parts = urlsplit(template)
    except ValueError as error:
        raise ValueError(f"it cannot be filled in ({error}); what may stand in braces is {known}") from error
    if any(name not in VIEWER_PLACEHOLDERS or form or conversion for name, form, conversion in fields):
        raise ValueError(f"what may stand in braces is {known}, and nothing else")
    if parts.scheme not in {"http", "https"} or not parts.hostname or "{" in parts.netloc or "@" in parts.netloc:
        raise ValueError("it must begin with https:// (or http://) and name a host, without user and password")
    if any(character.isspace() or not character.isprintable() for character in template):
        raise ValueError("an address holds no blanks, line ends or other invisible characters")


#: What of patient and order the node's own JSON may tell. The index keeps no patient identifier, so it can tell none.
PatientAttribute = Literal["accession_number"]
INCLUDE = "What its JSON tells beyond UIDs, names, states and codes: `accession_number`, or nothing."


class FhirSettings(Section):
    patient_system: str = Field("", description="Identifier system of PatientID when the images name no issuer.")
    issuers: Mapping[str, str] = Field(
        {},
        description="IssuerOfPatientID to FHIR identifier system. Once there is an entry, patients of any other named "
        "issuer are refused; while there is none, `patient_system` holds for all.",
    )
    accession_system: str = Field("", description="Identifier system of AccessionNumber.")
    dicomweb_url: str = Field("", description="WADO-RS address of the PACS, for the FHIR Endpoint.")


# --- presets, and what a destination changes of them --------------------------------------------------------------

SrSopClass = Literal["auto", SrClass]
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


class DeidentificationSettings(Section):
    """A profile under which studies are exported: the basic one of PS3.15 Annex E, and what else is kept."""

    name: str = Field(
        min_length=1,
        max_length=40,
        description="Its name, for `dicom-node export STUDY --out FOLDER --deidentify NAME`.",
    )
    options: tuple[DeidentificationOption, ...] = Field(
        (),
        description="Options of PS3.15 E.3: `uids`, `device_identity`, `institution_identity`, "
        "`patient_characteristics`, `full_dates`, `modified_dates`, `clean_descriptors`, `clean_structured_content`.",
    )
    safe_private: tuple[str, ...] = Field(
        (), description='Private attributes to keep: `"CREATOR/GGGG/EE"`, group and element within the block in hex.'
    )
    burned_in: Literal["drop", "keep"] = Field(
        "drop", description="What becomes of objects whose pixels may show names, such as ultrasound."
    )

    @field_validator("name")
    @classmethod
    def _basic_is_built_in(cls, name: str) -> str:
        if name == "basic":
            raise ValueError("basic is the profile without any option and always there; give yours another name")
        return name

    @field_validator("options")
    @classmethod
    def _dates_are_kept_in_one_way(cls, options: tuple[str, ...]) -> tuple[str, ...]:
        if {"full_dates", "modified_dates"} <= set(options):
            raise ValueError("full_dates and modified_dates exclude each other; keep one")
        return options

    @field_validator("safe_private")
    @classmethod
    def _private_attributes_are_named_in_full(cls, named: tuple[str, ...]) -> tuple[str, ...]:
        wrong = [one for one in named if not _PRIVATE.fullmatch(one)]
        if wrong:
            raise ValueError(f'{wrong[0]!r} is not "CREATOR/GGGG/EE", for example "SIEMENS MR HEADER/0019/0C"')
        return named


def wanted_outputs(preset: Preset, overrides: OutputSettings | None, site_report: SrSopClass) -> WantedOutputs:
    """Return what a destination is configured to get; `site_report` is `results.sr_sop_class`."""
    overrides = overrides or OutputSettings()
    changes = overrides.model_dump(exclude_none=True, exclude={"sr_sop_class"})
    reports = _reports(overrides.sr_sop_class or site_report)
    return WantedOutputs(outputs=replace(PRESETS[preset], structured_report=reports[0], **changes), reports=reports)


def _reports(wanted: SrSopClass) -> tuple[SrClass, ...]:
    return LADDER if wanted == "auto" else (wanted,)
