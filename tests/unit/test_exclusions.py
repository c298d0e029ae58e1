"""What is no clean image of a patient is told by its header, with a reason that never repeats a name or an ID."""

from __future__ import annotations

import warnings
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import MRImageStorage

from dicom_node.core.errors import NotAnalysable
from dicom_node.demo.phantoms import chest_radiograph_phantom
from dicom_node.inference.cards.card import Gate
from dicom_node.inference.images.exclusions import check_subject
from dicom_node.inference.images.gate import coherent_stack
from dicom_node.inference.images.remarks import spectral_remarks
from dicom_node.inference.images.volume import read_volume
from tests.support import needs
from tests.support.studies import volumes

ALL_ALLOWED = Gate(derived_allowed=True, burned_in_allowed=True, test_subjects_allowed=True)


def series(**changes: Any) -> list[Dataset]:
    return volumes.classic(volumes.asymmetric(), volumes.affine(), **changes)


def reason(headers: list[Dataset], gate: Gate | None = None) -> str:
    with pytest.raises(NotAnalysable) as refused:
        coherent_stack(headers, gate or Gate(), [])
    return refused.value.reason


def subject(**values: str) -> Dataset:
    header = Dataset()
    header.PatientName, header.PatientID = "Doe^Jane", "P-1"
    for keyword, value in values.items():
        setattr(header, keyword, value)
    return header


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "LOCALIZER_ONLY"),
        ({"ImageType": ["DERIVED", "SECONDARY", "REFORMATTED"]}, "DERIVED_ONLY"),
        ({"BurnedInAnnotation": "YES"}, "BURNED_IN_ANNOTATION"),
        ({"QualityControlImage": "YES"}, "TEST_SUBJECT"),
        ({"RescaleType": "OD"}, "NOT_CT_HU"),
        ({"RescaleType": "HU_MOD"}, "SPECTRAL_IMAGE"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "AXIAL", "VMI"]}, "SPECTRAL_IMAGE"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "AXIAL", "VMI"], "SeriesDescription": "40 keV"}, "SPECTRAL_IMAGE"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "AXIAL", "EFF_ATOMIC_NUM"]}, "SPECTRAL_IMAGE"),
        ({"SeriesDescription": "Iodine no Water[mg/ml]"}, "SPECTRAL_IMAGE"),
        ({"PhotometricInterpretation": "RGB"}, "NOT_MONOCHROME"),
        ({"ImagePositionPatient": None}, "NO_POSITION"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"}, "WRONG_SOP_CLASS"),
    ],
    ids=str,
)
def test_a_series_of_such_images_alone_is_refused_with_its_reason(changes: dict[str, Any], code: str) -> None:
    assert reason(series(**changes)) == code


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"ImageType": ["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"]}, "MOSAIC_IMAGES"),
        ({"PhotometricInterpretation": "MONOCHROME1"}, "NOT_MONOCHROME"),
    ],
    ids=str,
)
def test_an_mr_series_of_such_images_is_refused_with_its_reason(changes: dict[str, Any], code: str) -> None:
    assert reason(series(modality="MR", SOPClassUID=MRImageStorage, **changes)) == code


def test_a_few_such_images_beside_slices_are_left_out_and_told() -> None:
    notes: list[str] = []

    stack = coherent_stack([*series(), *series(name="text", BurnedInAnnotation="YES")], Gate(), notes)

    assert len(stack.slices) == 6
    assert notes == ["Left out: 6 image(s), with text burned into its pixels."]


def test_the_commonest_reason_is_the_code_and_all_are_told() -> None:
    derived = series(ImageType=["DERIVED", "SECONDARY"])
    scouts = series(name="scout", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])[:2]

    with pytest.raises(NotAnalysable, match="6 derived from other images; 2 localizer") as refused:
        coherent_stack([*scouts, *derived], Gate(), [])

    assert refused.value.reason == "DERIVED_ONLY"


def derivation(*codes: tuple[str, str]) -> list[Dataset]:
    items = []
    for value, scheme in codes:
        item = Dataset()
        item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, "?"
        items.append(item)
    return items


def test_slices_that_are_derived_by_a_lossy_compression_alone_are_used_and_told(tmp_path: Path) -> None:
    compressed = series(
        ImageType=["DERIVED", "PRIMARY", "AXIAL"],
        DerivationCodeSequence=derivation(("113040", "DCM")),
        LossyImageCompression="01",
        LossyImageCompressionRatio=2.5,
        LossyImageCompressionMethod="ISO_14495_1",
    )
    notes: list[str] = []

    read_volume(volumes.stored(compressed, tmp_path), Gate(), notes)

    assert len(notes) == 1
    assert notes[0].startswith("6 of the 6 images were compressed with loss before the analysis (JPEG-LS, 2.5:1)")


@pytest.mark.parametrize(
    "changes",
    [
        {"ImageType": ["DERIVED", "SECONDARY"], "DerivationCodeSequence": derivation(("113040", "DCM"))},
        {
            "ImageType": ["DERIVED", "PRIMARY"],
            "DerivationCodeSequence": derivation(("113072", "DCM"), ("113040", "DCM")),
        },
        {"ImageType": ["DERIVED", "PRIMARY"], "DerivationCodeSequence": derivation(("113040", "99SITE"))},
        {"ImageType": ["DERIVED", "PRIMARY"], "LossyImageCompression": "01"},
    ],
    ids=["secondary", "reformatted and compressed", "a code of somebody's own", "without a code"],
)
def test_slices_that_are_derived_in_another_way_stay_out(changes: dict[str, Any]) -> None:
    assert reason(series(**changes)) == "DERIVED_ONLY"


def test_a_series_with_more_loss_than_the_card_takes_is_refused_as_a_whole() -> None:
    lossy = series()
    lossy[2].LossyImageCompression, lossy[2].LossyImageCompressionRatio = "01", 31

    assert reason(lossy, Gate(max_lossy_ratio=10)) == "LOSSY_COMPRESSION"
    assert len(coherent_stack(lossy, Gate(max_lossy_ratio=40), []).slices) == 6


@pytest.mark.parametrize("changes", [{"ImageType": ["DERIVED", "PRIMARY"]}, {"BurnedInAnnotation": "YES"}], ids=str)
def test_a_card_may_let_them_pass(changes: dict[str, Any]) -> None:
    assert len(coherent_stack(series(**changes), ALL_ALLOWED, []).slices) == 6


@pytest.mark.parametrize(
    "values",
    [
        {"QualityControlSubject": "YES"},
        {"PatientName": "ACR^Phantom"},
        {"PatientName": "ZZTest^Anna"},
        {"PatientName": "TEST^PATIENT^01"},
        {"PatientName": "Test"},
        {"PatientName": "QA^Daily"},
        {"PatientID": "PHANTOM_7"},
        {"PatientID": "QA-0012"},
        {"StudyDescription": "Monthly quality assurance"},
        {"SeriesDescription": "Water phantom axial"},
        {"ProtocolName": "Daily QA"},
        {"BodyPartExamined": "PHANTOM"},
    ],
    ids=str,
)
def test_a_phantom_or_test_patient_is_refused_and_not_named(values: dict[str, str]) -> None:
    with pytest.raises(NotAnalysable) as refused:
        check_subject([subject(**values)], Gate())

    assert refused.value.reason == "TEST_SUBJECT"
    (value,) = values.values()
    assert value == "YES" or value not in str(refused.value)
    check_subject([subject(**values)], ALL_ALLOWED)


@pytest.mark.parametrize(
    "values",
    [
        {"PatientName": "Test^Jane"},
        {"PatientName": "Tester^Max"},
        {"PatientName": "Pat^Scanlon"},
        {"PatientID": "T-4711"},
        {"PatientID": "PATIENT-12"},
        {"StudyDescription": "Stress test MRI"},
        {"SeriesDescription": "T1 AQUA"},
        {"QualityControlSubject": "NO"},
    ],
    ids=str,
)
def test_a_patient_is_a_patient(values: dict[str, str]) -> None:
    check_subject([subject(**values)], Gate())


def test_the_demonstration_studies_of_the_node_pass() -> None:
    check_subject([chest_radiograph_phantom()], Gate())


def test_an_unknown_character_set_neither_warns_nor_hides_a_phantom() -> None:
    check_subject([_of_unknown_character_set("Müller^Jörg")], Gate())
    with pytest.raises(NotAnalysable):
        check_subject([_of_unknown_character_set("Phantom^Jörg")], Gate())


def _of_unknown_character_set(name: str) -> Dataset:
    (one, *_) = series(PatientName=name, SpecificCharacterSet="ISO_IR 100", StudyDescription="Thorax für Ärzte")
    stream = BytesIO()
    one.save_as(stream, enforce_file_format=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return dcmread(BytesIO(stream.getvalue().replace(b"ISO_IR 100", b"ISO_IR 999")))


@pytest.mark.parametrize(
    ("study", "words"),
    [("a21_hu_mod", "with a material removed from them"), ("a22_vmi40", "virtual monoenergetic at 40 keV")],
)
def test_computed_spectral_images_are_refused_unless_the_card_takes_them(study: str, words: str) -> None:
    files = sorted(path for path in needs.real_data(f"faults/variety/{study}").rglob("*") if path.is_file())
    headers = [dcmread(path, stop_before_pixels=True) for path in files]
    with pytest.raises(NotAnalysable, match=words) as refused:
        coherent_stack(headers, Gate(), [])
    assert refused.value.reason == "SPECTRAL_IMAGE"
    assert len(coherent_stack(headers, Gate(spectral_allowed=True), []).slices) == 32
    assert any(words in remark for remark in spectral_remarks(headers))
