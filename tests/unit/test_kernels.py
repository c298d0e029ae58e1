"""How sharp a CT image was reconstructed, from the names of the vendors."""

from __future__ import annotations

import pytest
from pydicom.dataset import Dataset

from dicom_node.core.series.kernels import KernelSharpness, sharpness_of

SIEMENS, GE, PHILIPS, CANON = "SIEMENS", "GE MEDICAL SYSTEMS", "Philips Medical Systems", "TOSHIBA"


@pytest.mark.parametrize(
    ("kernel", "manufacturer", "sharpness"),
    [
        ("B10f", SIEMENS, "soft"), ("B30f", SIEMENS, "soft"), ("B31s", SIEMENS, "soft"), ("B36f", SIEMENS, "soft"),
        ("Br36d\\3", "Siemens Healthineers", "soft"), ("Qr36", SIEMENS, "soft"), ("I30f\\2", SIEMENS, "soft"),
        ("B40f", SIEMENS, "medium"), ("B46f", SIEMENS, "medium"), ("Br40", SIEMENS, "medium"),
        ("B50f", SIEMENS, "sharp"), ("B70f", SIEMENS, "sharp"), ("B80f", SIEMENS, "sharp"), ("Bl57d", SIEMENS, "sharp"),
        ("I70f\\3", SIEMENS, "sharp"), ("BL57", SIEMENS, "sharp"), ("Br59", SIEMENS, "sharp"),
        ("SOFT", GE, "soft"), ("STANDARD", GE, "soft"), ("HD Standard", GE, "soft"), ("STND+", GE, "soft"),
        ("DETAIL", GE, "medium"), ("CHEST", GE, "medium"),
        ("LUNG", GE, "sharp"), ("BONE", GE, "sharp"), ("BONEPLUS", GE, "sharp"), ("BONE+", GE, "sharp"),
        ("EDGE", GE, "sharp"), ("HD Lung", GE, "sharp"),
        ("A", PHILIPS, "soft"), ("B", "Philips", "soft"), ("C", PHILIPS, "medium"), ("L", "Philips", "sharp"),
        ("D", PHILIPS, "sharp"), ("YB", PHILIPS, "sharp"), ("YC", PHILIPS, "sharp"),
        ("FC01", CANON, "soft"), ("FC08", CANON, "soft"), ("FC13", CANON, "soft"), ("FC18", "CANON_MEC", "soft"),
        ("FC51", CANON, "sharp"), ("FC52", CANON, "sharp"), ("FC81", CANON, "sharp"), ("FC30", CANON, "sharp"),
        ("B_SOFT_B", "UIH", "soft"), ("B_VSHARP_C", "UIH", "sharp"),
    ],
)  # fmt: skip
def test_the_names_of_the_vendors_are_known(kernel: str, manufacturer: str, sharpness: str) -> None:
    assert sharpness_of(kernel, manufacturer) == sharpness


@pytest.mark.parametrize("kernel", ["", " ", "XYZ", "3", "B", "FC99", "\\", "B30f or so", "Ünbekannt"])
def test_a_name_that_nobody_knows_says_nothing(kernel: str) -> None:
    assert sharpness_of(kernel, GE) is KernelSharpness.UNKNOWN


@pytest.mark.parametrize(
    ("kernel", "sharpness"), [("L", "sharp"), ("STANDARD", "soft"), ("B70f", "sharp"), ("FC51", "sharp")]
)
@pytest.mark.parametrize("manufacturer", [None, "", " "])
def test_without_a_manufacturer_every_vendors_names_are_tried(
    kernel: str, sharpness: str, manufacturer: str | None
) -> None:
    assert sharpness_of(kernel, manufacturer) == sharpness


def test_of_several_names_the_sharpest_counts() -> None:
    """Siemens writes a strength behind the name; where two images of a series differ, the sharp one decides."""
    assert sharpness_of(["B30f", "B70f"], SIEMENS) is KernelSharpness.SHARP
    assert sharpness_of(("I31f", "3"), SIEMENS) is KernelSharpness.SOFT


def test_a_value_is_read_as_pydicom_gives_it() -> None:
    header = Dataset()
    assert sharpness_of(header.get("ConvolutionKernel")) is KernelSharpness.UNKNOWN
    header.ConvolutionKernel = ["Bl57d", "3"]
    assert sharpness_of(header.ConvolutionKernel, SIEMENS) is KernelSharpness.SHARP
    header.ConvolutionKernel = None
    assert sharpness_of(header.ConvolutionKernel, SIEMENS) is KernelSharpness.UNKNOWN


def test_what_nobody_knows_is_chosen_before_what_is_sharp() -> None:
    assert sorted(KernelSharpness, key=lambda one: one.place) == ["soft", "medium", "unknown", "sharp"]
