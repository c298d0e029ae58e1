"""Codes that leave de-identified are those of known vocabularies: what a site has made up itself may name somebody."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from pydicom.datadict import DicomDictionary
from pydicom.dataset import Dataset

from dicom_node.core.codes import PRIVATE_SCHEME, PRIVATE_SCHEME_NAME
from dicom_node.core.entities import Code
from dicom_node.core.identifying import ProfileOption
from dicom_node.core.uids import coding_scheme_uid
from dicom_node.deidentification.profile import BASIC, DeidentificationProfile
from dicom_node.inference.cards.folders import find_models
from dicom_node.operate.exports.export import profile_named
from tests.integration.test_deidentification import FOLLOWED, as_file, cleaned_by_node, complaints, words_in
from tests.support.results import analysis_examples as examples
from tests.support.studies.marked import ELSEWHERE

#: Everything that a site can choose, but for what keeps its own identity.
_CHOSEN = frozenset(ProfileOption) - {ProfileOption.INSTITUTION_IDENTITY, ProfileOption.DEVICE_IDENTITY}
OPEN = DeidentificationProfile("open", _CHOSEN)
LOCAL = ("99XQZELSE", "L", "XQZELSE", "")
#: What PS3.16 calls it.
CRANIO_CAUDAL = "Cranio-caudal projection (qualifier value)"
_CODES = ("CodeValue", "LongCodeValue", "URNCodeValue")


def code(value: str, scheme: str, meaning: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item


def local(keyword: str = "CodeValue", scheme: str = "99XQZELSE") -> Dataset:
    """Return a coded entry with the mark in all that the macros of PS3.3 8.8 and 8.9 let hold text."""
    item = Dataset()
    setattr(item, keyword, f"{ELSEWHERE}-PROTOCOL")
    item.CodeMeaning = f"Protocol of {ELSEWHERE}"
    if scheme:
        item.CodingSchemeDesignator, item.CodingSchemeVersion = scheme, ELSEWHERE
    item.ContextIdentifier, item.MappingResource, item.MappingResourceName = ELSEWHERE, ELSEWHERE, ELSEWHERE
    item.ContextUID, item.MappingResourceUID, item.ContextGroupExtensionCreatorUID = ("1.2.3.18870117",) * 3
    item.CodingSchemeName, item.CodingSchemeUID = ELSEWHERE, "1.2.3.18870117"  # belong elsewhere
    return item


def coded_sequences() -> list[int]:
    """Return every sequence of the data dictionary that holds codes by its name, and a few that do by their kind."""
    named = [tag for tag, (vr, _, name, *_) in DicomDictionary.items() if vr == "SQ" and "Code Sequence" in name]
    others = [0x00082218, 0x00082228, 0x00180026, 0x0040A043, 0x0040A168]  # anatomy, interventional drugs, concepts
    return sorted(tag for tag in {*named, *others} if tag >> 16 >= 0x0008)


@pytest.mark.parametrize("keyword", _CODES)
@pytest.mark.parametrize("scheme", LOCAL)
@pytest.mark.parametrize("profile", [BASIC, FOLLOWED, OPEN], ids=lambda one: one.name)
def test_no_mark_is_left_of_a_code_that_a_site_has_made_up(
    profile: DeidentificationProfile, scheme: str, keyword: str
) -> None:
    image = examples.radiograph(rows=16, columns=16)
    for tag in coded_sequences():
        entry = local(keyword, scheme)
        entry.EquivalentCodeSequence = [local(keyword, scheme)]
        image.add_new(tag, "SQ", [entry])
    below = Dataset()
    below.PurposeOfReferenceCodeSequence, below.ReferencedSOPInstanceUID = [local(keyword, scheme)], "1.2.3.4"
    image.SourceImageSequence = [below]
    assert {ELSEWHERE, "18870117"} <= set(words_in(as_file(image)))
    assert words_in(as_file(cleaned_by_node(image, profile))) == []


@pytest.mark.parametrize("keyword", _CODES)
def test_such_a_code_keeps_its_place_with_another_value(keyword: str) -> None:
    image = examples.radiograph(rows=16, columns=16)
    image.ProcedureCodeSequence = [local(keyword), local(keyword)]
    for one in cleaned_by_node(image).ProcedureCodeSequence:
        assert {element.keyword for element in one} == {keyword, "CodingSchemeDesignator", "CodeMeaning"}
        assert one.CodingSchemeDesignator == "99REMOVED"
        assert one.CodeMeaning == "REMOVED"


def test_an_object_with_codes_of_its_site_stays_as_valid_as_it_was(tmp_path: Path) -> None:
    image = examples.digital_radiograph()
    for keyword in ("AnatomicRegionSequence", "ViewCodeSequence", "ProcedureCodeSequence"):
        setattr(image, keyword, [code("CHEST-MILLER", "99MILLER", "As Miller wants it")])
    image.CodingSchemeIdentificationSequence = [described("99MILLER")]
    before, after = tmp_path / "before.dcm", tmp_path / "after.dcm"
    before.write_bytes(as_file(image))
    for profile in (BASIC, FOLLOWED):
        after.write_bytes(as_file(cleaned_by_node(image, profile)))
        assert complaints(after) <= complaints(before)
        assert b"MILLER" not in after.read_bytes().upper()


@pytest.mark.parametrize(
    ("value", "scheme", "meaning"),
    [
        ("399162004", "SCT", CRANIO_CAUDAL), ("R-10242", "SRT", CRANIO_CAUDAL), ("R-10242", "SNM3", CRANIO_CAUDAL),
        ("121071", "DCM", "Finding"), ("LAA950", PRIVATE_SCHEME, "LAA-950, lung volume below -950 HU"),
    ],
)  # fmt: skip
def test_a_code_of_a_vocabulary_stays_and_means_what_that_says(value: str, scheme: str, meaning: str) -> None:
    image = examples.radiograph(rows=16, columns=16)
    image.ViewCodeSequence = [code(value, scheme, f"as {ELSEWHERE} wants it")]
    (entry,) = cleaned_by_node(image).ViewCodeSequence
    assert (entry.CodeValue, entry.CodingSchemeDesignator) == (value, scheme)
    assert entry.CodeMeaning == meaning


def test_a_known_code_says_which_version_and_context_group_it_is_of_and_nothing_that_was_typed() -> None:
    entry = code("399162004", "SCT", "cranio-caudal")
    entry.CodingSchemeVersion, entry.MappingResourceName = "20240901", ELSEWHERE
    entry.ContextIdentifier, entry.MappingResource, entry.ContextUID = "4014", "DCMR", "1.2.840.10008.6.1.336"
    typed = code("399162004", "SCT", "cranio-caudal")
    typed.CodingSchemeVersion, typed.ContextIdentifier, typed.MappingResource = ELSEWHERE, ELSEWHERE, "DCMR"
    typed.LongCodeValue, typed.URNCodeValue = ELSEWHERE, f"urn:{ELSEWHERE}"
    image = examples.radiograph(rows=16, columns=16)
    image.ViewCodeSequence = [entry, typed]
    kept, bare = cleaned_by_node(image).ViewCodeSequence
    assert (kept.CodingSchemeVersion, kept.ContextIdentifier, kept.MappingResource) == ("20240901", "4014", "DCMR")
    assert kept.ContextUID == "1.2.840.10008.6.1.336"
    assert {element.keyword for element in bare} == {"CodeValue", "CodingSchemeDesignator", "CodeMeaning"}
    assert words_in(as_file(cleaned_by_node(image))) == []


def test_codes_that_the_cards_of_models_declare_stay_and_no_others_of_their_scheme() -> None:
    declared = Code("SITE-NODULE", "99SITE", "Nodule as our model counts it")
    profile = replace(BASIC, own_codes=frozenset({declared}))
    image = examples.radiograph(rows=16, columns=16)
    image.ProcedureCodeSequence = [
        code(declared.value, "99SITE", ELSEWHERE), code(f"{ELSEWHERE}-1", "99SITE", declared.meaning),
    ]  # fmt: skip
    image.CodingSchemeIdentificationSequence = [described("99SITE")]
    after = cleaned_by_node(image, profile)
    kept, gone = after.ProcedureCodeSequence
    assert (kept.CodeValue, kept.CodingSchemeDesignator, kept.CodeMeaning) == (
        declared.value, declared.scheme, declared.meaning,
    )  # fmt: skip
    assert gone.CodingSchemeDesignator == "99REMOVED"
    assert words_in(as_file(after)) == []


def test_a_profile_knows_the_codes_of_the_models_there_are() -> None:
    cards = find_models()
    image = examples.radiograph(rows=16, columns=16)
    image.ProcedureCodeSequence = [
        code("UNLIKE-NORMAL", PRIVATE_SCHEME, ELSEWHERE), code("ANOMALY", PRIVATE_SCHEME, ELSEWHERE),
    ]  # fmt: skip
    after = cleaned_by_node(image, profile_named("basic", (), cards.values()))
    assert [one.CodeMeaning for one in after.ProcedureCodeSequence] == [
        "Image unlike normal images", "Anomaly score, deviations of normal",
    ]  # fmt: skip


def described(scheme: str) -> Dataset:
    item = Dataset()
    item.CodingSchemeDesignator, item.CodingSchemeUID = scheme, "1.2.3.18870117"
    item.CodingSchemeName, item.CodingSchemeResponsibleOrganization = f"Codes of {ELSEWHERE}", ELSEWHERE
    item.CodingSchemeRegistry, item.CodingSchemeExternalID, item.CodingSchemeVersion = ELSEWHERE, ELSEWHERE, ELSEWHERE
    where = Dataset()
    where.CodingSchemeURLType, where.CodingSchemeURL = "DOC", f"https://{ELSEWHERE}.invalid"
    item.CodingSchemeResourcesSequence = [where]
    return item


@pytest.mark.parametrize("profile", [BASIC, FOLLOWED, OPEN], ids=lambda one: one.name)
def test_of_coding_schemes_those_are_told_that_everybody_knows(profile: DeidentificationProfile) -> None:
    image = examples.radiograph(rows=16, columns=16)
    ours, theirs = Dataset(), described("SCT")
    ours.CodingSchemeDesignator, ours.CodingSchemeUID = PRIVATE_SCHEME, coding_scheme_uid(PRIVATE_SCHEME)
    ours.CodingSchemeName = PRIVATE_SCHEME_NAME
    theirs.CodingSchemeUID = "2.16.840.1.113883.6.96"
    image.CodingSchemeIdentificationSequence = [ours, described("99LOCAL"), theirs]
    image.ContextGroupIdentificationSequence = [local()]
    image.MappingResourceIdentificationSequence = [local()]
    after = cleaned_by_node(image, profile)
    assert words_in(as_file(after)) == []
    kept, public = after.CodingSchemeIdentificationSequence
    assert (kept.CodingSchemeDesignator, kept.CodingSchemeUID) == (PRIVATE_SCHEME, ours.CodingSchemeUID)
    assert kept.CodingSchemeName == PRIVATE_SCHEME_NAME
    assert (public.CodingSchemeDesignator, public.CodingSchemeUID) == ("SCT", theirs.CodingSchemeUID)
    assert "ContextGroupIdentificationSequence" not in after
    image.CodingSchemeIdentificationSequence = [described("99LOCAL")]
    assert "CodingSchemeIdentificationSequence" not in cleaned_by_node(image, profile)


def test_codes_stay_of_the_institution_that_a_site_chose_to_keep() -> None:
    image = examples.radiograph(rows=16, columns=16)
    image.InstitutionCodeSequence = [code("H7", "99CITY", "City Hospital")]
    image.ProcedureCodeSequence = [local()]
    kept = DeidentificationProfile("x", frozenset({ProfileOption.INSTITUTION_IDENTITY}))
    after = cleaned_by_node(image, kept)
    assert (after.InstitutionCodeSequence[0].CodeValue, after.InstitutionCodeSequence[0].CodeMeaning) == (
        "H7", "City Hospital",
    )  # fmt: skip
    assert words_in(as_file(after)) == []
    assert b"City" not in as_file(cleaned_by_node(image))
