"""The first look at a data set: agrees with pydicom on honest files, gives up on hostile ones at fixed limits."""

from __future__ import annotations

import contextlib
import struct
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import pydicom.data
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_file_meta_info

from dicom_node.core.errors import RefusedObject
from dicom_node.headers.header import read_header
from dicom_node.headers.scan import scan_header
from tests.support.studies.data_factories import encoded, small_chest_ct

EXPLICIT, IMPLICIT = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2"
DEFLATED = "1.2.840.10008.1.2.1.99"
_LARGE_FILE = 20_000_000


def data_set() -> bytes:
    return encoded(small_chest_ct()[0][0])


def honest_files() -> Iterator[tuple[str, bytes, str]]:
    """pydicom's own test files: every transfer syntax, many oddities."""
    for path in sorted(Path(pydicom.data.__file__).parent.rglob("*.dcm")):
        try:
            meta = read_file_meta_info(path)
            start, syntax = 144 + int(meta.FileMetaInformationGroupLength), str(meta.TransferSyntaxUID)
        except (InvalidDicomError, AttributeError, OSError):
            continue
        if syntax != DEFLATED and path.stat().st_size < _LARGE_FILE:
            yield path.name, path.read_bytes()[start:], syntax


def verdict(name: str, data: bytes, syntax: str) -> tuple[str, str, str, str] | None:
    reader = scan_header if name == "look" else read_header
    try:
        found = reader(memoryview(data), syntax)
    except RefusedObject:
        return None
    return found.sop_class_uid, found.sop_instance_uid, found.study_instance_uid, found.series_instance_uid


def test_look_and_pydicom_agree_on_every_file_pydicom_ships() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        files = list(honest_files())
        differ = [name for name, *file in files if verdict("look", *file) != verdict("pydicom", *file)]
    assert differ == []
    assert len(files) > 50


def test_the_header_ends_where_the_pixel_data_begins() -> None:
    whole = data_set()
    found = scan_header(memoryview(whole), EXPLICIT)
    assert whole[found.header_bytes : found.header_bytes + 4] == b"\xe0\x7f\x10\x00"


@given(st.integers(0, 2000))
@settings(max_examples=100, deadline=None)
def test_a_data_set_cut_anywhere_is_refused(cut: int) -> None:
    whole = _WHOLE
    found = scan_header(memoryview(whole), EXPLICIT)
    with pytest.raises(RefusedObject, match=r"cut off|missing|not a valid UID"):
        # Cut between two elements of the header it lacks pixel data, and that alone is no fault.
        scan_header(memoryview(whole[: len(whole) - 1 - cut % (len(whole) - found.header_bytes - 12)]), EXPLICIT)


@given(st.binary(max_size=400))
@settings(max_examples=300, deadline=None)
def test_garbage_is_refused_and_nothing_else_happens(garbage: bytes) -> None:
    for syntax in (EXPLICIT, IMPLICIT, "1.2.840.10008.1.2.2"):
        with pytest.raises(RefusedObject):
            scan_header(memoryview(garbage), syntax)


@given(st.integers(0, 10_000), st.integers(0, 255))
@settings(max_examples=300, deadline=None)
def test_a_changed_byte_is_refused_or_read_but_never_breaks_it(where: int, value: int) -> None:
    changed = bytearray(_WHOLE)
    changed[where % len(changed)] = value
    with contextlib.suppress(RefusedObject):
        scan_header(memoryview(changed), EXPLICIT)


def nested(depth: int) -> bytes:
    sequence = struct.pack("<HH2sHL", 0x0008, 0x1140, b"SQ", 0, 0xFFFFFFFF)
    item = struct.pack("<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF)
    ends = struct.pack("<HHLHHL", 0xFFFE, 0xE00D, 0, 0xFFFE, 0xE0DD, 0)
    return (sequence + item) * depth + ends * depth


def test_sequences_may_be_nested_64_deep_and_no_deeper() -> None:
    whole = data_set()
    scan_header(memoryview(nested(64) + whole), EXPLICIT)
    with pytest.raises(RefusedObject, match="nested more than 64"):
        scan_header(memoryview(nested(65) + whole), EXPLICIT)


def test_millions_of_empty_elements_end_at_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dicom_node.headers.scan.MAX_ELEMENTS", 1000)
    empty = struct.pack("<HH2sH", 0x0009, 0x0010, b"LO", 0) * 2000
    with pytest.raises(RefusedObject, match="more than 1000"):
        scan_header(memoryview(empty), EXPLICIT)
    pixels = struct.pack("<HH2sHL", 0x7FE0, 0x0010, b"OB", 0, 0xFFFFFFFF)
    fragments = pixels + struct.pack("<HHL", 0xFFFE, 0xE000, 0) * 2000
    with pytest.raises(RefusedObject, match="more than 1000 fragments"):
        scan_header(memoryview(fragments), EXPLICIT)


def test_a_length_of_four_gigabytes_costs_nothing() -> None:
    began = time.process_time()
    huge = struct.pack("<HH2sHL", 0x7FE0, 0x0010, b"OW", 0, 0xFFFFFFF0) + b"xx"
    with pytest.raises(RefusedObject, match="4294967280 bytes announced, 2 received"):
        scan_header(memoryview(huge), EXPLICIT)
    assert time.process_time() - began < 1


_WHOLE = data_set()
