"""What destinations are configured to get, and what is left of it where they do not take everything."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from dicom_node.config.outgoing import PRESETS, OutputSettings, wanted_outputs
from dicom_node.core.entities import Destination
from dicom_node.core.outputs.artifact_kinds import (
    ENCAPSULATED_PDF,
    KEY_OBJECTS,
    LABEL_MAP,
    REPORTS,
    RESULT_CLASSES,
    SECONDARY_CAPTURE,
    SEGMENTATION,
    OutputSet,
    SegmentationType,
    SrClass,
)
from dicom_node.core.outputs.capability_match import LADDER, PeerCapabilities, WantedOutputs, match_capabilities
from dicom_node.deliver.kinds import destinations_of
from dicom_node.deliver.kinds.dicom import DicomDestination
from dicom_node.deliver.profiles import profiles_of
from dicom_node.roles.settings import SiteSettings
from tests.support.needs import REPOSITORY

EVERYTHING = OutputSet(
    segmentation="labelmap", presentation_state=True, parametric_map=True, key_objects=True, encapsulated_pdf=True,
    rejection_note=True,
)  # fmt: skip
SETS = st.builds(
    OutputSet, segmentation=st.sampled_from(get_args(SegmentationType)),
    **{one.name: st.booleans() for one in fields(OutputSet) if one.type == "bool"},
)  # fmt: skip
ROW_STARTS = tuple(f"| `{key}` |" for key in OutputSettings.model_fields)
LADDERS = st.sampled_from([LADDER, *((one,) for one in get_args(SrClass))])


def taking(*classes: str) -> PeerCapabilities:
    return PeerCapabilities(accepted=frozenset(classes))


def destination(**values: Any) -> DicomDestination:
    there = {"name": "pacs", "kind": "dicom", "ae_title": "PACS", "host": "pacs.local"}
    return DicomDestination.model_validate(there | values)


def wanted_by(**values: Any) -> WantedOutputs:
    one = destination(**values)
    return wanted_outputs(one.preset, one.outputs, "auto")


def test_a_preset_can_be_changed_in_single_points() -> None:
    wanted = wanted_by(preset="weasis", outputs={"segmentation": "off", "parametric_map": True})

    assert wanted.outputs == OutputSet(
        segmentation="off", presentation_state=True, key_objects=True, encapsulated_pdf=True, parametric_map=True
    )
    assert wanted.reports == LADDER


@pytest.mark.parametrize(("of_destination", "of_site", "first"), [
    (None, "enhanced", "enhanced"), ("comprehensive", "enhanced", "comprehensive"), ("off", "auto", "off"),
    ("auto", "enhanced", "comprehensive3d"),
])  # fmt: skip
def test_the_class_of_the_report_is_the_destinations_own_or_else_the_sites(
    of_destination: Any, of_site: Any, first: str
) -> None:
    overrides = OutputSettings(sr_sop_class=of_destination)
    wanted = wanted_outputs("generic-pacs", overrides, of_site)
    assert wanted.reports[0] == wanted.outputs.structured_report == first


def test_every_kind_of_an_output_set_can_be_set() -> None:
    assert set(OutputSettings.model_fields) - {"sr_sop_class"} == {
        one.name for one in fields(OutputSet) if one.name not in {"structured_report", "hl7_message", "part_of"}
    }


def test_an_unknown_kind_and_outputs_of_an_ehr_are_refused() -> None:
    with pytest.raises(ValidationError, match="holograms"):
        destination(outputs={"holograms": True})
    ehr = {"name": "ehr", "kind": "fhir", "url": "https://ehr.local/fhir"}
    for chosen in ({"preset": "ohif"}, {"outputs": {"encapsulated_pdf": True}}):
        with pytest.raises(ValidationError, match=next(iter(chosen))):
            SiteSettings.model_validate({"destination": [ehr | chosen]})


def test_what_was_never_asked_gets_everything_it_is_configured_to_get() -> None:
    fitted = match_capabilities(WantedOutputs(outputs=EVERYTHING), PeerCapabilities())
    assert (fitted.outputs, fitted.left_out, fitted.problem) == (EVERYTHING, (), "")


def test_the_best_report_a_peer_takes_is_chosen() -> None:
    only_old = taking(SECONDARY_CAPTURE, SEGMENTATION, REPORTS["enhanced"], REPORTS["comprehensive"])
    fitted = match_capabilities(WantedOutputs(outputs=OutputSet()), only_old)
    assert fitted.outputs == OutputSet(structured_report="comprehensive")
    assert fitted.left_out == ("takes no SR comprehensive3d and gets comprehensive",)


def test_a_class_the_site_has_decided_on_stays_and_is_told() -> None:
    fitted = match_capabilities(
        WantedOutputs(outputs=OutputSet(), reports=("comprehensive3d",)), taking(SECONDARY_CAPTURE, SEGMENTATION)
    )
    assert fitted.outputs == OutputSet()
    assert fitted.problem == "does not take SR comprehensive3d, which is configured for it"


@pytest.mark.parametrize(("wanted", "accepted", "left"), [
    ("labelmap", [SEGMENTATION, LABEL_MAP], "labelmap"), ("labelmap", [SEGMENTATION], "binary"),
    ("labelmap", [], "off"),
    ("fractional", [SEGMENTATION], "fractional"), ("fractional", [LABEL_MAP], "off"), ("binary", [], "off"),
])  # fmt: skip
def test_masks_go_in_what_the_peer_takes(wanted: SegmentationType, accepted: list[str], left: str) -> None:
    outputs = OutputSet(segmentation=wanted)
    fitted = match_capabilities(WantedOutputs(outputs=outputs), taking(SECONDARY_CAPTURE, *REPORTS.values(), *accepted))
    assert fitted.outputs.segmentation == left
    assert bool(fitted.left_out) == (left != wanted)


def test_what_a_peer_does_not_take_is_left_out_and_said() -> None:
    fitted = match_capabilities(
        WantedOutputs(outputs=EVERYTHING), taking(SECONDARY_CAPTURE, SEGMENTATION, *REPORTS.values())
    )
    assert fitted.outputs == OutputSet()
    assert fitted.left_out == (
        "takes no SEG labelmap and gets binary", "takes no PM", "takes no GSPS", "takes no KOS", "takes no PDF",
        "takes no rejection notes",
    )  # fmt: skip


def test_a_refused_class_counts_as_not_taken_whatever_was_negotiated() -> None:
    everything = PeerCapabilities(accepted=frozenset(RESULT_CLASSES), refused=frozenset({REPORTS["comprehensive3d"]}))
    assert (
        match_capabilities(WantedOutputs(outputs=OutputSet()), everything).outputs.structured_report == "comprehensive"
    )


def test_nobody_is_left_without_both_report_and_pictures() -> None:
    fitted = match_capabilities(WantedOutputs(outputs=EVERYTHING), taking(SEGMENTATION, KEY_OBJECTS))
    assert fitted.outputs == EVERYTHING
    assert fitted.problem == "takes neither the report nor the pictures meant for it"


@given(SETS, LADDERS, st.sets(st.sampled_from(sorted(RESULT_CLASSES))))
def test_fitting_adds_nothing_and_fitting_again_changes_nothing(
    outputs: OutputSet, reports: tuple[SrClass, ...], accepted: set[str]
) -> None:
    capabilities = taking(*accepted)
    once = match_capabilities(WantedOutputs(outputs=outputs, reports=reports), capabilities).outputs
    switches = [one.name for one in fields(OutputSet) if one.type == "bool"]
    assert all(getattr(outputs, name) for name in switches if getattr(once, name))
    assert once.segmentation == "off" or outputs.segmentation != "off"
    assert once.structured_report in reports or once.structured_report == "off"
    again = match_capabilities(WantedOutputs(outputs=once, reports=(once.structured_report,)), capabilities)
    assert again.outputs == once
    assert again.left_out == ()


def test_a_folder_takes_what_its_preset_says() -> None:
    settings = SiteSettings.model_validate(
        {"destination": [{"name": "files", "kind": "folder", "path": "out", "preset": "air"}]}
    )
    assert profiles_of(settings).by_name["files"].wanted.outputs == PRESETS["air"]
    assert ENCAPSULATED_PDF in RESULT_CLASSES


def test_the_first_set_is_that_of_the_first_destination_that_gets_objects() -> None:
    settings = SiteSettings.model_validate({"destination": [
        {"name": "ehr", "kind": "fhir", "url": "https://ehr.local/fhir"},
        {"name": "viewer", "kind": "folder", "path": "viewer", "preset": "ohif"},
        {"name": "archive", "kind": "folder", "path": "archive"},
        {"name": "backup", "kind": "folder", "path": "backup", "preset": "ohif"},
    ]})  # fmt: skip
    ehr, *others = (Destination(name=one.name, takes=one.takes) for one in destinations_of(settings))
    delivery_plan = profiles_of(settings).delivery_plan(no_database(), [ehr, *others])

    assert delivery_plan.output_sets == (PRESETS["ohif"], PRESETS["generic-pacs"])
    first, second = delivery_plan.output_keys
    assert [to.output_key for to in delivery_plan.destinations] == ["", first, second, first]
    assert {to.bundle_key for to in delivery_plan.destinations} == {first}
    assert profiles_of(settings).delivery_plan(no_database(), [ehr]).output_sets == (OutputSet(),)
    assert profiles_of(settings).delivery_plan(no_database(), []).output_sets == (OutputSet(),)


def test_the_page_on_presets_says_what_they_are() -> None:
    page = (REPOSITORY / "docs" / "how-to" / "connect-a-pacs.md").read_text(encoding="utf-8")
    head, *rows = (line for line in page.splitlines() if line.startswith(("| `outputs` key", *ROW_STARTS)))
    presets = [cell.strip(" `") for cell in head.split("|")[3:-1]]
    told = {row.split("|")[1].strip(" `"): [cell.strip(" `") for cell in row.split("|")[3:-1]] for row in rows}
    assert presets == list(PRESETS)
    assert told.pop("sr_sop_class") == ["auto"] * len(presets)
    words = {True: "on", False: "off"}
    assert told == {
        key: [words.get(value, value) for value in (getattr(one, key) for one in PRESETS.values())]
        for key in OutputSettings.model_fields
        if key != "sr_sop_class"
    }


def no_database() -> Any:
    """Folders are asked nothing, so nothing is looked up."""
    return None
