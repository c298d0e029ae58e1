"""The grays and colours of our pictures are those another renderer shows: DCMTK's, to one gray level in 256."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread
from pydicom.dataset import Dataset

from dicom_node.inference.images.pixels import display_values
from dicom_node.sr_writer.pictures.display import display_rgb
from tests.support import needs
from tests.support.results import analysis_examples as examples

MADE: dict[str, Callable[[], Dataset]] = {
    "window": lambda: examples.ct_volume()[4],
    "window, MONOCHROME1": lambda: examples.digital_radiograph(WindowCenter=1500, WindowWidth=2000),
    "sigmoid": lambda: examples.radiograph(WindowCenter=2000, WindowWidth=900, VOILUTFunction="SIGMOID"),
    "window wider than the data": lambda: examples.radiograph(WindowCenter=2048, WindowWidth=16384),
    "sigmoid wider than the data": lambda: examples.radiograph(
        WindowCenter=2048, WindowWidth=16384, VOILUTFunction="SIGMOID"
    ),
    "exact, beside the data": lambda: examples.digital_radiograph(
        WindowCenter=3000, WindowWidth=9000, VOILUTFunction="LINEAR_EXACT"
    ),
    "two windows": lambda: examples.radiograph(WindowCenter=[900, 40], WindowWidth=[700, 400]),
    "negative slope": lambda: examples.radiograph(
        WindowCenter=-1500, WindowWidth=2000, RescaleSlope=-1, RescaleIntercept=0
    ),
    "window, MONOCHROME1 and INVERSE": lambda: examples.digital_radiograph(
        WindowCenter=1500, WindowWidth=2000, PresentationLUTShape="INVERSE"
    ),
    "window, MONOCHROME1 and IDENTITY": lambda: examples.digital_radiograph(
        WindowCenter=1500, WindowWidth=2000, PresentationLUTShape="IDENTITY"
    ),
    "window, MONOCHROME2 and INVERSE": lambda: examples.radiograph(
        WindowCenter=1500, WindowWidth=2000, PresentationLUTShape="INVERSE"
    ),
    "table of 8 bits": lambda: examples.radiograph(
        VOILUTSequence=[_table(np.linspace(0, 255, 3000).astype(np.uint16), first=500, bits=8)]
    ),
    "table of 12 bits before negative values": lambda: examples.radiograph(
        VOILUTSequence=[_table((4095 * np.linspace(0, 1, 2000) ** 2).astype(np.uint16), first=-300, bits=12)],
        RescaleSlope=1,
        RescaleIntercept=-1024,
    ),
}


def _table(values: np.ndarray, *, first: int, bits: int) -> Dataset:
    """Return an item of a VOI LUT Sequence."""
    item = Dataset()
    item.add_new("LUTDescriptor", "SS" if first < 0 else "US", [len(values), first, bits])
    item.add_new("LUTData", "OW", values.astype("<u2").tobytes())
    return item


REAL = (
    ("cxr", "RG1_J2KI"),
    ("cxr", "gdcm-CR-MONO1-10-chest.dcm"),
    ("cxr", "dx_image.dcm"),
    ("ct_chest_rider_64slices", "1-20.dcm"),
    ("odd_encoding", "mlut_18.dcm"),
    ("odd_encoding", "vlut_04.dcm"),
    ("us_multiframe_and_colour", "US-RGB-8-epicard"),
    ("us_multiframe_and_colour", "YBR_FULL-RLE.dcm"),
)


@pytest.mark.parametrize("kind", MADE)
def test_made_images_look_as_dcmtk_shows_them(kind: str, tmp_path: Path) -> None:
    assert _difference(_made(kind), tmp_path) <= 1


@pytest.mark.parametrize("kind", MADE)
def test_a_model_is_shown_what_dcmtk_shows(kind: str, tmp_path: Path) -> None:
    source = _made(kind)
    theirs = _theirs(source, tmp_path)[:, :, 0]
    assert np.abs(np.rint(display_values(source, voi=True) * 255) - theirs).max() <= 1


def _made(kind: str) -> Dataset:
    source = MADE[kind]()
    source.file_meta.MediaStorageSOPClassUID = source.SOPClassUID
    source.file_meta.MediaStorageSOPInstanceUID = source.SOPInstanceUID
    return source


@pytest.mark.parametrize(("folder", "name"), REAL)
def test_real_images_look_as_dcmtk_shows_them(folder: str, name: str, tmp_path: Path) -> None:
    source = dcmread(needs.real_data(folder) / name)
    if source.file_meta.TransferSyntaxUID.is_compressed:
        source.decompress()
    assert _difference(source, tmp_path) <= 1


def _difference(source: Dataset, folder: Path) -> int:
    """Return the largest difference of any sample to what `dcm2pnm` makes of the same file."""
    theirs = _theirs(source, folder)
    ours = display_rgb(dcmread(folder / "source.dcm")).astype(int)
    assert ours.shape == theirs.shape
    return int(np.abs(ours - theirs).max())


def _theirs(source: Dataset, folder: Path) -> np.ndarray:
    """Return what `dcm2pnm` makes of an image, (rows, columns, 3); the file lies in the folder."""
    dcm2pnm = needs.tool("dcm2pnm", "dcmtk")
    file, png = folder / "source.dcm", folder / "theirs.png"
    source.save_as(file, enforce_file_format=True)
    if source.SamplesPerPixel > 1:
        voi = []
    elif "VOILUTSequence" in source:
        voi = ["+Wl", "1"]
    else:
        voi = ["+Wi", "1"] if "WindowCenter" in source else ["+Wm"]
    subprocess.run([dcm2pnm, "--write-png", *voi, "+F", "1", file, png], check=True, capture_output=True)
    return np.asarray(Image.open(png).convert("RGB")).astype(int)
