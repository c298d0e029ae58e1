"""What a series is by its headers: the regions of the body it shows, and whether its values are conventional CT."""

from __future__ import annotations

import pytest

from dicom_node.core.series.body_regions import regions_in, regions_of
from dicom_node.core.series.spectral import spectral_of

AXIAL = ("ORIGINAL", "PRIMARY", "AXIAL")


@pytest.mark.parametrize(
    ("text", "regions"),
    [
        ("CHEST", "CHEST"), ("TH CT CHEST WO C", "CHEST"), ("CHEST_TO_PELVIS", "CHEST PELVIS"),
        ("NECKCHESTABDOMEN", "NECK CHEST ABDOMEN"), ("CHESTABDPELVIS", "CHEST ABDOMEN PELVIS"),
        ("THORAXABDOMEN", "CHEST ABDOMEN"), ("CT CAP W", "CHEST ABDOMEN PELVIS"), ("ThoraxRoutine 8.0", "CHEST"),
        ("Thorax-Übersicht", "CHEST"), ("Lungenembolie", "CHEST"), ("TC TÓRAX", "CHEST"), ("Torace senza mdc", "CHEST"),
        ("胸部CT", "CHEST"), ("흉부", "CHEST"), ("КТ грудной клетки", "CHEST"), ("лёгкие", "CHEST"),
        ("51185008", "CHEST"), ("416775004", "CHEST ABDOMEN PELVIS"), ("CTPA", "CHEST"), ("Schädel nativ", "HEAD"),
        ("CHEST PAIN PROTOCOL ABDOMEN", "ABDOMEN"), ("chest pain", ""), ("Thoraxschmerz", ""), ("dolor torácico", ""),
        ("THORACIC SPINE", "SPINE"), ("T-SPINE", "SPINE"), ("HEAD WITHOUT CHEST", "HEAD"), ("ABD", "ABDOMEN"),
        ("CLAVICLE", "LIMB"), ("RIBS", "OTHER"), ("LONG BONE SURVEY", ""), ("HAS CONTRAST", ""), ("", ""),
    ],
)  # fmt: skip
def test_regions_are_found_in_words_of_many_languages_and_never_in_a_complaint(text: str, regions: str) -> None:
    assert regions_in(text) == set(regions.split())


@pytest.mark.parametrize(
    ("told", "regions", "evidence"),
    [
        ({"body_part_examined": "CHEST"}, "CHEST", "BodyPartExamined CHEST"),
        ({"anatomic_region_sequence": "818983003", "body_part_examined": "CHEST"}, "ABDOMEN",
         "AnatomicRegionSequence 818983003"),
        ({"series_description": "Thorax 1.0", "protocol_name": "Routine"}, "CHEST", "SeriesDescription Thorax 1.0"),
        ({"body_part_examined": "BODY", "protocol_name": "CT_CHEST"}, "CHEST", "ProtocolName CT_CHEST"),
        ({"study_description": "CT CHEST PAIN PROTOCOL ABDOMEN"}, "ABDOMEN",
         "StudyDescription CT CHEST PAIN PROTOCOL ABDOMEN"),
        ({"body_part_examined": "NOBODY KNOWS"}, "OTHER", "BodyPartExamined NOBODY KNOWS"),
        ({"body_part_examined": "ABDOMEN", "study_description": "CHEST"}, "ABDOMEN", "BodyPartExamined ABDOMEN"),
        ({"body_part_examined": "CHEST", "series_description": "ABDOMEN 5.0"}, "CONTRADICTORY",
         "BodyPartExamined CHEST, but SeriesDescription ABDOMEN 5.0"),
        ({"body_part_examined": "ABDOMEN", "series_description": "Thorax"}, "CONTRADICTORY",
         "BodyPartExamined ABDOMEN, but SeriesDescription Thorax"),
        ({"body_part_examined": "CHEST", "series_description": "arm down"}, "CHEST", "BodyPartExamined CHEST"),
    ],
)  # fmt: skip
def test_the_most_exact_evidence_decides_and_is_told(told: dict[str, str], regions: str, evidence: str) -> None:
    found = regions_of({name: {value} for name, value in told.items()})
    assert found is not None
    assert (found.regions, found.evidence) == (set(regions.split()), evidence)


@pytest.mark.parametrize("told", [{}, {"body_part_examined": "BODY"}, {"series_description": "5.0 B30f"}])
def test_where_nothing_is_said_no_region_is_known(told: dict[str, str]) -> None:
    assert regions_of({name: {value} for name, value in told.items()}) is None


@pytest.mark.parametrize(
    ("image_type", "rescale_type", "description", "words"),
    [
        ((*AXIAL, "VMI"), "HU", "MonoE 40 keV", "virtual monoenergetic at 40 keV"),
        (AXIAL, "HU", "Mono+ 55keV", "virtual monoenergetic at 55 keV"),
        ((*AXIAL, "VMI"), "HU", "", "virtual monoenergetic, of an energy that is not told"),
        (AXIAL, "HU_MOD", "", "in Hounsfield units that were modified afterwards (Rescale Type HU_MOD)"),
        ((*AXIAL, "ELECTRON_DENSITY"), "ED", "", "a map of electron density"),
        (AXIAL, "", "Z effective", "a map of effective atomic numbers"),
        (AXIAL, "HU", "VNC 5.0", "with a material removed from them"),
    ],
)
def test_what_spectral_ct_computed_is_known_by_image_type_rescale_type_and_plain_words(
    image_type: tuple[str, ...], rescale_type: str, description: str, words: str
) -> None:
    found = spectral_of(image_type, rescale_type, description)
    assert found is not None
    assert (found.words, found.is_like_conventional) == (words, False)


def test_a_monoenergetic_image_in_the_place_of_a_conventional_one_has_values_as_of_120_kvp() -> None:
    found = spectral_of((*AXIAL, "VMI"), "HU", "Thorax Qr40", energy_kev=70.0)
    assert found is not None
    assert found.is_like_conventional


@pytest.mark.parametrize("description", ["", "CHEST W IODINE CONTRAST", "Monitoring", "Vue axiale", "Thorax 1.0 Br40"])
def test_a_conventional_ct_is_none_of_these(description: str) -> None:
    assert spectral_of(AXIAL, "HU", description) is None
