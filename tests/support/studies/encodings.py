"""One image in every encoding: the same values with any bits, sign, place in the word and rubbish beside, compressed by
DCMTK, GDCM or the libraries that the node itself reads with."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gdcm
import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    UID,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from tests.support.needs import tool
from tests.support.studies import volumes

#: Not square, and of an even number of bytes, without which GDCM ends the process.
ROWS, COLUMNS = 74, 46

#: What DCMTK compresses without a loss, by what.
DCMTK_LOSSLESS: Mapping[UID, Sequence[str]] = {
    JPEGLosslessSV1: ("dcmcjpeg", "+e1"),
    JPEGLossless: ("dcmcjpeg", "+el"),
    JPEGLSLossless: ("dcmcjpls",),
    RLELossless: ("dcmcrle",),
    ExplicitVRBigEndian: ("dcmconv", "+tb"),
    ImplicitVRLittleEndian: ("dcmconv", "+ti"),
}
#: With a loss: what DCMTK's own decoder reads is the measure.
DCMTK_LOSSY: Mapping[UID, Sequence[str]] = {
    JPEGBaseline8Bit: ("dcmcjpeg", "+eb"),
    JPEGExtended12Bit: ("dcmcjpeg", "+ee"),
}
#: With a loss of at most 1 in every value.
DCMTK_NEAR_LOSSLESS: Mapping[UID, Sequence[str]] = {JPEGLSNearLossless: ("dcmcjpls", "+en", "+md", "1")}


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """How values lie in their words: bits, sign, by how many bits to the left, and whether the other bits hold an
    overlay or what else was there."""

    bits: int
    is_signed: bool = False
    shift: int = 0
    has_overlay: bool = False

    @property
    def allocated(self) -> int:
        return 8 if self.bits <= 8 else 16

    def __str__(self) -> str:
        sign, overlay = "signed" if self.is_signed else "unsigned", "-overlay" if self.has_overlay else ""
        return f"{self.bits}-{sign}-left-{self.shift}{overlay}"


def all_words() -> list[Words]:
    """Return every way in which 8 to 16 bits lie in words of 8 or 16 bits: right, left, in between."""
    found = []
    for bits in (8, 10, 12, 14, 16):
        spare = (8 if bits <= 8 else 16) - bits
        for is_signed in (False, True):
            for shift in sorted({0, spare // 2, spare}):
                overlays = (False, True) if spare else (False,)
                found += [Words(bits=bits, is_signed=is_signed, shift=shift, has_overlay=one) for one in overlays]
    return found


def image(words: Words, **changes: Any) -> tuple[Dataset, NDArray[np.int64]]:
    """Return an uncompressed image and the values it holds, (rows, columns): noise over the whole range of its bits."""
    random = np.random.default_rng(words.bits)
    patterns = random.integers(0, 1 << words.bits, (ROWS, COLUMNS))
    patterns.flat[:2] = 0, (1 << words.bits) - 1
    negative = words.is_signed & (patterns >> (words.bits - 1))
    values = patterns - (negative << words.bits)
    own = ((1 << words.bits) - 1) << words.shift
    other = ((1 << words.allocated) - 1) & ~own
    beside = random.integers(0, 1 << words.allocated, patterns.shape) if words.has_overlay else -negative
    stored = (patterns << words.shift) | (beside & other)
    dataset = volumes.classic(volumes.asymmetric()[:1], volumes.affine())[0]
    dataset.Rows, dataset.Columns = ROWS, COLUMNS
    dataset.BitsAllocated, dataset.BitsStored = words.allocated, words.bits
    dataset.HighBit, dataset.PixelRepresentation = words.bits - 1 + words.shift, int(words.is_signed)
    dataset.PixelData = padded(stored.astype(f"<u{words.allocated // 8}").tobytes())
    dataset["PixelData"].VR = "OB" if words.allocated == 8 else "OW"
    for keyword, value in changes.items():
        setattr(dataset, keyword, value)
    return dataset, values


def in_colour(planar: int, **changes: Any) -> tuple[Dataset, NDArray[np.uint8]]:
    """Return an RGB image, by pixel or by plane, and its values (rows, columns, 3)."""
    dataset, _ = image(Words(bits=8))
    y, x = np.mgrid[0:ROWS, 0:COLUMNS]
    rgb = np.stack([x * 5 % 256, y * 3 % 256, (x + y) * 2 % 256], axis=-1).astype(np.uint8)
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PlanarConfiguration = 3, "RGB", planar
    dataset.PixelData = padded((rgb.transpose(2, 0, 1) if planar else rgb).tobytes())
    for keyword, value in changes.items():
        setattr(dataset, keyword, value)
    return dataset, rgb


def padded(pixels: bytes) -> bytes:
    return pixels + b"\0" * (len(pixels) % 2)


def by_dcmtk(dataset: Dataset, command: Sequence[str], folder: Path) -> Dataset:
    """Return what one of DCMTK's programs makes of an image."""
    source, made = folder / "source.dcm", folder / "made.dcm"
    dataset.save_as(source, enforce_file_format=True)
    made.unlink(missing_ok=True)
    program = tool(command[0], "dcmtk")
    subprocess.run([program, *command[1:], str(source), str(made)], check=True, capture_output=True)
    return dcmread(made)


def by_gdcm(dataset: Dataset, syntax: UID, folder: Path) -> Dataset:
    """Return an image as GDCM compresses it."""
    source, made = folder / "source.dcm", folder / "made.dcm"
    dataset.save_as(source, enforce_file_format=True)
    reader, change, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), gdcm.ImageWriter()
    reader.SetFileName(str(source))
    assert reader.Read()
    change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.GetTSType(str.__str__(syntax))))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer.SetFileName(str(made))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()
    return dcmread(made)


def holding(dataset: Dataset, stream: bytes, syntax: UID) -> Dataset:
    """Put one compressed frame into an image, which is changed and returned."""
    dataset.PixelData = encapsulate([padded(stream)])
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    dataset.file_meta.TransferSyntaxUID = syntax
    return dataset


#: 96 x 96 values of 12 bits, a slice of a made-up chest, as high-throughput JPEG 2000, for which nothing that
#: the tests install has an encoder; and the sha256 of its values in little endian words.
HTJ2K_STREAM = Path(__file__).with_name("htj2k.j2c")
HTJ2K_SHA256 = "c797a4bef9b02c64cb185aa0a5666d54e997b017d2ccf26a8bbf0128a7d96ae7"


def high_throughput(syntax: UID) -> Dataset:
    """Return an image of 96 x 96 values in high-throughput JPEG 2000."""
    dataset, _ = image(Words(bits=12))
    dataset.Rows = dataset.Columns = 96
    return holding(dataset, HTJ2K_STREAM.read_bytes(), syntax)
