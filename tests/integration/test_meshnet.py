"""Weights wrapped as docs/how-to/wrap-weights.md says: MeshNet on real MR of the head, plausible or told to be not."""

from __future__ import annotations

import gzip
import re
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage

from dicom_node.analysis.answer import Analysis, NotAnalysed
from dicom_node.analysis.context import SourceFile
from dicom_node.core.uids import derived_uid
from dicom_node.inference.runner import run_model
from tests.support.campaign import amount
from tests.support.needs import REPOSITORY, real_data
from tests.support.studies.data_factories import request_for, request_for_files

_LISTING = re.compile(r"^   ```\w+ (\S+)\n(.*?)^   ```", re.DOTALL | re.MULTILINE)
_WEIGHTS = "weights/brainchop_meshnet_tfjs_mit"

#: A network over 256 x 256 x 256 voxels takes 20 s on two idle cores.
pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def meshnet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Follow the steps of the page."""
    source, folder = real_data(_WEIGHTS), tmp_path_factory.mktemp("models") / "meshnet-brain"
    section = (REPOSITORY / "docs" / "how-to" / "wrap-weights.md").read_text(encoding="utf-8")
    listings = {name: dedent(text) for name, text in _LISTING.findall(section)}
    for name, text in listings.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    convert = (folder / "convert.py").rename(folder.parent / "convert.py")
    names = ("model.json", "group1-shard1of1.bin")
    subprocess.run(
        [
            sys.executable,
            str(convert),
            *(str(source / f"public__models__model5_gw_ae__{name}") for name in names),
            str(folder / "models" / "model.safetensors"),
        ],
        check=True,
    )
    return folder


def stored(folder: Path) -> list[SourceFile]:
    headers = [(path, dcmread(path, stop_before_pixels=True)) for path in sorted(folder.glob("*.dcm"))]
    return [
        SourceFile(path=p, sop_instance_uid=h.SOPInstanceUID, series_instance_uid=h.SeriesInstanceUID)
        for p, h in headers
    ]


def as_mr_series(path: Path) -> list[Dataset]:
    """Write the voxels of a NIfTI file (little endian, bytes or shorts) as single-frame MR images."""
    raw = gzip.decompress(path.read_bytes())
    shape = np.frombuffer(raw, "<i2", 3, offset=42)
    kind = {2: "<u1", 4: "<i2", 512: "<u2"}[int(np.frombuffer(raw, "<i2", 1, offset=70)[0])]
    start = int(np.frombuffer(raw, "<f4", 1, offset=108)[0])
    affine = np.eye(4)
    affine[:3] = np.frombuffer(raw, "<f4", 12, offset=280).reshape(3, 4)
    affine = np.diag([-1, -1, 1, 1]) @ affine
    voxels = np.frombuffer(raw, kind, int(np.prod(shape)), offset=start).reshape(shape[::-1])
    return [_mr_image(voxels[index].astype("<u2"), affine, index) for index in range(shape[2])]


def _mr_image(pixels: np.ndarray, affine: np.ndarray, index: int) -> Dataset:
    spacing_mm = np.linalg.norm(affine[:3, :3], axis=0)
    image = Dataset()
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.SOPClassUID, image.Modality, image.ImageType = MRImageStorage, "MR", ["ORIGINAL", "PRIMARY", "M"]
    image.SOPInstanceUID = derived_uid("test-mr", str(index))
    image.file_meta.MediaStorageSOPClassUID = image.SOPClassUID
    image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
    image.StudyInstanceUID, image.SeriesInstanceUID = derived_uid("test-mr-study"), derived_uid("test-mr-series")
    image.FrameOfReferenceUID, image.InstanceNumber = derived_uid("test-mr-frame"), index + 1
    image.PatientID, image.PatientName, image.PatientAge = "T1", "Head^Public", "030Y"
    image.ImagePositionPatient = [round(float(x), 4) for x in affine[:3, 3] + index * affine[:3, 2]]
    image.ImageOrientationPatient = [float(x) for axis in (0, 1) for x in affine[:3, axis] / spacing_mm[axis]]
    image.PixelSpacing = [float(spacing_mm[1]), float(spacing_mm[0])]
    image.Rows, image.Columns = pixels.shape
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 16, 15, 0
    image.PixelData = pixels.tobytes()
    return image


def test_an_mprage_gets_the_volumes_the_weights_are_known_for(meshnet: Path, tmp_path: Path) -> None:
    images = as_mr_series(real_data("weights") / "t1_crop.nii.gz")

    found = run_model(request_for(images, meshnet, tmp_path / "study"))

    assert isinstance(found, Analysis)
    volumes_ml = {one.key: one.measurements[0].value for one in found.findings}
    assert volumes_ml["white-matter"] == pytest.approx(519, rel=0.08)
    assert volumes_ml["grey-matter"] == pytest.approx(735, rel=0.08)
    assert not found.partial
    assert all(one.mask.shape == (len(images), images[0].Rows, images[0].Columns) for one in found.segments)


@pytest.mark.campaign
@pytest.mark.parametrize(
    "name",
    amount(
        ["mr_brain_t1sag_prisma_35slices"], campaign=["mr_brain_t1_enhanced_xa30", "mr_brain_t1sag_prisma_35slices"]
    ),
)
def test_volumes_of_images_it_was_not_made_for_are_not_reported(name: str, meshnet: Path, tmp_path: Path) -> None:
    found = run_model(request_for_files(stored(real_data(name)), meshnet, tmp_path))

    assert isinstance(found, NotAnalysed)
    assert found.reason == "IMPLAUSIBLE_VOLUME"
    assert "White matter" in found.message
    assert "Grey matter" in found.message
