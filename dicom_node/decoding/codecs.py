"""The codec of each transfer syntax, one and no other, as pydicom calls a decoding plugin.

Which library reads what decides numbers, so it is written here and not left to what happens to be installed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import gdcm
import jpeg_ls
import openjpeg.utils
import rle.utils
from pydicom.pixels.decoders.base import Decoder, DecodeRunner
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from dicom_node.decoding.codestream import bare, read_codestream, without_applications

NAME = "node"
#: A deflated data set is inflated when a file is read; none is taken from a network.
NATIVE = (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian)


@lru_cache(maxsize=32)
def decoder(syntax: UID) -> Decoder:
    """Return the decoder of a transfer syntax. Raises `NotImplementedError` for one that nothing here reads."""
    if syntax not in NATIVE and syntax not in CODECS:
        raise NotImplementedError(f"no decoder for {syntax.name}")
    made = Decoder(syntax)
    if syntax in CODECS:
        made.add_plugin(NAME, (__name__, "decode_frame"))
    return made


def is_available(syntax: str) -> bool:
    """Tell pydicom what this plugin reads."""
    return syntax in CODECS


def decode_frame(stream: bytes, runner: DecodeRunner) -> bytes | bytearray:
    """Decode one frame; the samples are as wide as the stream's precision needs, little endian."""
    syntax = runner.transfer_syntax
    return CODECS[syntax](bare(stream, syntax), runner)


def _jpeg(stream: bytes, runner: DecodeRunner) -> bytes:
    """GDCM has a libjpeg for each of 8, 12 and 16 bits."""
    # With fewer than eight bits GDCM ends the process.
    precision = max(8, _set_width(stream, runner))
    fragment = gdcm.Fragment()
    fragment.SetByteStringValue(stream if runner.samples_per_pixel > 1 else without_applications(stream))
    fragments = gdcm.SequenceOfFragments.New()
    fragments.AddFragment(fragment)
    element = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
    element.SetValue(fragments.__ref__())
    image = gdcm.Image()
    image.SetNumberOfDimensions(2)
    image.SetDimensions((runner.columns, runner.rows, 1))
    image.SetDataElement(element)
    kind = gdcm.PhotometricInterpretation.GetPIType(runner.photometric_interpretation)
    image.SetPhotometricInterpretation(gdcm.PhotometricInterpretation(kind))
    if runner.samples_per_pixel > 1:
        image.SetPlanarConfiguration(runner.planar_configuration)
    image.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.GetTSType(str.__str__(runner.transfer_syntax))))
    image.SetPixelFormat(gdcm.PixelFormat(runner.samples_per_pixel, runner.bits_allocated, precision, precision - 1, 0))
    # GDCM hands over bytes as text.
    return bytes(image.GetBuffer().encode("utf-8", "surrogateescape"))


def _jpeg_ls(stream: bytes, runner: DecodeRunner) -> bytearray:
    samples, told = jpeg_ls.decode_pixel_data(stream)
    _set_width(stream, runner)
    if told["components"] > 1:
        by_plane = 0
        runner.set_option("planar_configuration", int(told["interleave_mode"] == by_plane))
    return bytearray(samples)


def _jpeg_2000(stream: bytes, runner: DecodeRunner) -> bytearray:
    """OpenJPEG reads the high-throughput streams, too; it undoes the colour transform of a stream."""
    samples = openjpeg.utils.decode_pixel_data(stream, version=2)
    _set_width(stream, runner)
    if runner.photometric_interpretation in ("YBR_ICT", "YBR_RCT"):
        runner.set_option("photometric_interpretation", "RGB")
    runner.set_option("planar_configuration", 0)
    return bytearray(samples)


def _rle(stream: bytes, runner: DecodeRunner) -> bytearray:
    sizes: dict[str, Any] = {"rows": runner.rows, "columns": runner.columns, "bits_allocated": runner.bits_allocated}
    try:
        samples = rle.utils.decode_pixel_data(stream, version=2, **sizes)
    except BaseException as error:
        # A segment that is cut off makes the library panic, and a panic of Rust is no `Exception`.
        if type(error).__name__ != "PanicException":
            raise
        raise ValueError("its segments are cut off") from error
    runner.set_option("planar_configuration", 1)
    return bytearray(samples)


def _set_width(stream: bytes, runner: DecodeRunner) -> int:
    """Tell pydicom how wide the decoded samples are; return their precision."""
    told = read_codestream(stream, runner.transfer_syntax)
    precision = told.precision if told else runner.bits_stored
    runner.set_option("bits_allocated", next((bits for bits in (8, 16, 32) if precision <= bits), 64))
    return precision


CODECS: Mapping[str, Callable[[bytes, DecodeRunner], bytes | bytearray]] = {
    JPEGBaseline8Bit: _jpeg,
    JPEGExtended12Bit: _jpeg,
    JPEGLossless: _jpeg,
    JPEGLosslessSV1: _jpeg,
    JPEGLSLossless: _jpeg_ls,
    JPEGLSNearLossless: _jpeg_ls,
    JPEG2000Lossless: _jpeg_2000,
    JPEG2000: _jpeg_2000,
    HTJ2KLossless: _jpeg_2000,
    HTJ2KLosslessRPCL: _jpeg_2000,
    HTJ2K: _jpeg_2000,
    RLELossless: _rle,
}
