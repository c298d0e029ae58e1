"""What MR images show, as their headers tell, and whether contrast medium was given: before a model of T1 sees them."""

from __future__ import annotations

from typing import Any

import pytest
from pydicom.dataset import Dataset

from dicom_node.core.errors import NotAnalysable
from dicom_node.inference.cards.card import Gate
from dicom_node.inference.images.mr_weighting import check_sequence

GATE = Gate(weighting="T1", contrast_medium_allowed=False)
MPRAGE = {
    "SeriesDescription": "t1_mprage_sag_p2_iso", "ScanningSequence": ["GR", "IR"], "RepetitionTime": 2300,
    "EchoTime": 2.98, "InversionTime": 900,
}  # fmt: skip


def header(**attributes: Any) -> Dataset:
    found = Dataset()
    for keyword, value in attributes.items():
        setattr(found, keyword, value)
    return found


def enhanced(contrast: str = "T1", echo_ms: float = 2.2, planar: str = "NO", **attributes: Any) -> Dataset:
    """An enhanced object tells its times in functional groups that all frames share."""
    found = header(AcquisitionContrast=contrast, EchoPlanarPulseSequence=planar, **attributes)
    echo, timing, shared = Dataset(), Dataset(), Dataset()
    echo.EffectiveEchoTime, timing.RepetitionTime = echo_ms, 1700
    shared.MREchoSequence, shared.MRTimingAndRelatedParametersSequence = [echo], [timing]
    modifier = Dataset()
    modifier.InversionTimes = [880.0]
    shared.MRModifierSequence = [modifier]
    found.SharedFunctionalGroupsSequence = [shared]
    return found


@pytest.mark.parametrize(
    "one",
    [
        header(**MPRAGE),
        header(SeriesDescription="Sag BRAVO", ScanningSequence="GR", RepetitionTime=8.2, EchoTime=3.2),
        header(SeriesDescription="AX T1 FLAIR", RepetitionTime=2500, EchoTime=10, InversionTime=860),
        header(SeriesDescription="t1_tirm_dark-fluid", RepetitionTime=2000, EchoTime=9, InversionTime=800),
        header(SeriesDescription="T1W_3D_TFE", ScanningSequence="GR", RepetitionTime=8, EchoTime=3.7),
        header(SeriesDescription="3D", EchoTime=3, InversionTime=900, RepetitionTime=2200),
        header(SeriesDescription="T1 MPRAGE", ContrastBolusAgent="NONE"),
        header(SeriesDescription="T1 MPRAGE w/o contrast"),
        header(SeriesDescription="T1 MPRAGE post-op"),
        enhanced(SeriesDescription="anat-T1w_acq-tfl"),
        enhanced(SeriesDescription="Sagittal"),
    ],
    ids=lambda one: str(one.SeriesDescription),
)  # fmt: skip
def test_t1_without_contrast_medium_passes(one: Dataset) -> None:
    check_sequence(GATE, [one])


@pytest.mark.parametrize(
    ("one", "reason", "told"),
    [
        (header(SeriesDescription="t2_space_sag"), "NOT_T1_WEIGHTED", "T2"),
        (header(SeriesDescription="Sag FLAIR 3D"), "NOT_T1_WEIGHTED", "FLAIR"),
        (header(SeriesDescription="T2 FLAIR", InversionTime=2500), "NOT_T1_WEIGHTED", "T2"),
        (header(SeriesDescription="SWI_Images"), "NOT_T1_WEIGHTED", "SWI"),
        (header(SeriesDescription="TOF_3D_multi-slab"), "NOT_T1_WEIGHTED", "TOF"),
        (header(SeriesDescription="AX T1", EchoTime=95, ScanningSequence="SE"), "NOT_T1_WEIGHTED", "95 ms"),
        (header(SeriesDescription="AX T1", EchoTime=22, ScanningSequence="GR"), "NOT_T1_WEIGHTED", "22 ms"),
        (header(SeriesDescription="AX T1", EchoTime=10, RepetitionTime=4000), "NOT_T1_WEIGHTED", "4000 ms"),
        (header(SeriesDescription="Sagittal 3D", EchoTime=3, RepetitionTime=8), "NOT_T1_WEIGHTED", "Nothing"),
        (header(), "NOT_T1_WEIGHTED", "Nothing"),
        (enhanced("T2", SeriesDescription="T1?"), "NOT_T1_WEIGHTED", "Acquisition Contrast says T2"),
        (enhanced(echo_ms=80.0), "NOT_T1_WEIGHTED", "80 ms"),
        (header(**{**MPRAGE, "ScanningSequence": ["EP", "GR"]}), "ECHO_PLANAR", "echo-planar"),
        (enhanced(planar="YES"), "ECHO_PLANAR", "echo-planar"),
        (header(**MPRAGE, ContrastBolusAgent="Dotarem"), "CONTRAST_MEDIUM", "Contrast/Bolus Agent"),
        (header(**{**MPRAGE, "SeriesDescription": "t1_mprage_sag_KM"}), "CONTRAST_MEDIUM", "description"),
        (header(**{**MPRAGE, "SeriesDescription": "SAG T1 MPRAGE +C"}), "CONTRAST_MEDIUM", "description"),
        (header(**{**MPRAGE, "SeriesDescription": "T1 POST GAD"}), "CONTRAST_MEDIUM", "description"),
    ],
)
def test_everything_else_is_refused_with_what_tells_it(one: Dataset, reason: str, told: str) -> None:
    with pytest.raises(NotAnalysable, match=told) as refusal:
        check_sequence(GATE, [one])
    assert refusal.value.reason == reason


def test_one_image_of_another_kind_refuses_the_series() -> None:
    with pytest.raises(NotAnalysable):
        check_sequence(GATE, [header(**MPRAGE), header(**{**MPRAGE, "EchoTime": 90})])


def test_a_card_that_asks_for_nothing_takes_all() -> None:
    check_sequence(Gate(), [header(SeriesDescription="t2", ContrastBolusAgent="Dotarem")])
