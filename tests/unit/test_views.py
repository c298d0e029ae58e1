"""What a header says of the view of a radiograph, of its region and of whose it is."""

from __future__ import annotations

from typing import Any

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from dicom_node.demo.phantoms import chest_radiograph_phantom
from dicom_node.inference.images.radiographs.views import is_of_an_animal, region_exclusion, view_exclusion
from tests.support import needs


def coded(meaning: str, value: str = "") -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "SCT", meaning
    return item


def radiograph(**changes: Any) -> Dataset:
    image = Dataset()
    image.update(chest_radiograph_phantom(rows=32, view=""))
    image.SeriesDescription = "CHEST"
    for keyword, value in changes.items():
        setattr(image, keyword, value)
    return image


def reason(image: Dataset) -> str:
    exclusion = view_exclusion(image)
    return exclusion.reason if exclusion else ""


@pytest.mark.parametrize(
    "said",
    [
        {"ViewPosition": "LL"},
        {"ViewPosition": "LATERAL"},
        {"ViewCodeSequence": [coded("lateral", "399067008")]},
        {"ViewCodeSequence": [coded("left lateral", "X1")]},
        {"PatientOrientation": ["A", "F"]},
        {"PatientOrientation": ["P", "F"]},
        {"PatientOrientation": ["F", "A"]},
        {"PatientOrientation": None, "ImageOrientationPatient": [0, -1, 0, 0, 0, -1]},
        {"SeriesDescription": "Thorax seitlich"},
        {"SeriesDescription": "W034 Chest LAT."},
        {"SeriesDescription": "Thorax de profil"},
        {"ProtocolName": "CHEST LATERAL"},
        {"ProtocolName": "CHEST LATERAL", "ViewPosition": "AP"},
        {"AcquisitionDeviceProcessingDescription": "CHEST,LLAT"},
        {"PerformedProtocolCodeSequence": [coded("Chest lateral")]},
        {"PerformedProcedureStepDescription": "Tórax perfil"},
    ],
    ids=str,
)
def test_a_lateral_view_is_known_by_whatever_says_so(said: dict[str, Any]) -> None:
    assert reason(radiograph(**said)) == "LATERAL_VIEW_ONLY"


def test_the_vectors_of_a_slice_across_the_body_say_nothing_of_a_projection() -> None:
    """What converts pictures writes them as a default; no radiograph of a chest lies so."""
    assert view_exclusion(radiograph(PatientOrientation=None, ImageOrientationPatient=[1, 0, 0, 0, 1, 0])) is None


@pytest.mark.parametrize(
    "said",
    [
        {"ViewPosition": "RAO"},
        {"SeriesDescription": "CHEST LEFT LATERAL DECUBITUS"},
        {"ProtocolName": "Thorax schräg"},
        {"ViewCodeSequence": [coded("Lordotic projection")]},
        {"PatientOrientation": ["L", "P"]},
    ],
    ids=str,
)
def test_other_views_are_not_frontal_either(said: dict[str, Any]) -> None:
    assert reason(radiograph(**said)) == "NOT_FRONTAL"


@pytest.mark.parametrize(
    "said",
    [
        {},
        {"ViewPosition": "PA ERECT"},
        {"SeriesDescription": "CHEST PA AND LATERAL"},
        {"SeriesDescription": "Thorax pa/seitl."},
        {"SeriesDescription": "RL base, bilateral opacities, LL"},
        {"ViewCodeSequence": [coded("antero-posterior", "399348003")]},
        {"PatientOrientation": ["F", "R"]},
        {"PatientOrientation": ["L", "L"]},
    ],
    ids=str,
)
def test_a_frontal_view_and_one_that_says_nothing_pass(said: dict[str, Any]) -> None:
    assert view_exclusion(radiograph(**said)) is None


@pytest.mark.parametrize(
    ("items", "is_chest"),
    [
        ([], True),
        ([coded("Thorax", "51185008")], True),
        ([coded("Chest")], True),
        ([coded("Hand", "85562004")], False),
        ([coded("Abdomen", "113345001"), coded("Chest", "51185008")], True),
        ([Dataset()], True),
    ],
    ids=str,
)
def test_a_coded_region_must_be_the_chest(items: list[Dataset], is_chest: bool) -> None:
    assert (region_exclusion(radiograph(AnatomicRegionSequence=items)) is None) is is_chest


@pytest.mark.parametrize(
    "said",
    [
        {"PatientSpeciesDescription": "Canis lupus familiaris"},
        {"PatientSpeciesCodeSequence": [coded("Felis catus", "448169003")]},
        {"PatientBreedDescription": "Beagle"},
        {"PatientBreedCodeSequence": [coded("Beagle")]},
        {"PatientSexNeutered": "ALTERED"},
        {"ResponsiblePersonRole": "OWNER"},
        {"AnatomicalOrientationType": "QUADRUPED"},
        {"AcquisitionDeviceProcessingDescription": "CANINE LATERAL THORAX 0-15cm"},
        {"InstitutionName": "Veterinarian"},
    ],
    ids=str,
)
def test_an_animal_is_known_by_whatever_says_so(said: dict[str, Any]) -> None:
    assert is_of_an_animal(radiograph(**said))


@pytest.mark.parametrize(
    "said",
    [
        {},
        {"PatientSpeciesDescription": "Homo sapiens"},
        {"PatientSpeciesCodeSequence": [coded("homo sapiens", "337915000")]},
        {"ResponsiblePersonRole": "PARENT"},
        {"PatientBreedDescription": "", "PatientBreedCodeSequence": []},
        {"PatientName": "Canine^Anna"},
        {"Modality": "IO", "SeriesDescription": "upper canine left"},
    ],
    ids=str,
)
def test_a_person_is_none(said: dict[str, Any]) -> None:
    assert not is_of_an_animal(radiograph(**said))


def test_a_lateral_view_is_known_by_its_words_alone() -> None:
    source = dcmread(needs.real_data("faults") / "x20b_lateral_by_words" / "0000.dcm", stop_before_pixels=True)

    assert reason(source) == "LATERAL_VIEW_ONLY"


def test_a_dog_is_no_child() -> None:
    assert is_of_an_animal(dcmread(needs.real_data("cxr") / "dx_image.dcm", stop_before_pixels=True))
