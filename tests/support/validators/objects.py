"""Independent validators of DICOM objects: dicom3tools, DCMTK, PixelMed, highdicom; and the one list of what is noise.

`assert_valid_dicom` for any object, `assert_consistent` for results beside their sources, `assert_readable_sr` and the
slower `assert_valid_sr` for the content of structured reports, `assert_valid_presentation_state` and
`assert_readable_pdf` for those kinds, `assert_parsed` for what another library makes of it. A missing program skips the
test and names its package.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from highdicom import imread
from highdicom.ko import KeyObjectSelectionDocument
from highdicom.seg import segread
from highdicom.sr import srread
from pydicom import config as settings
from pydicom import dcmread
from pydicom.datadict import dictionary_VR, keyword_for_tag
from pydicom.dataset import Dataset
from pydicom.uid import (
    EncapsulatedPDFStorage,
    GrayscaleSoftcopyPresentationStateStorage,
    KeyObjectSelectionDocumentStorage,
    SegmentationStorage,
)
from pydicom.valuerep import validate_value

from dicom_node.sr_writer.copied import COPIED
from tests.support import needs
from tests.support.validators import pixelmed


@dataclass(frozen=True, slots=True)
class Noise:
    """Words of a validator that say nothing against an object, and why they do not."""

    validator: str
    pattern: str
    why: str


#: Whatever is not listed here is a defect.
NOISE = (
    Noise(
        "dciodvfy",
        r"ContributingEquipmentSequence.*/DeviceUID.* Attribute is not present in standard DICOM IOD",
        "the validator is older than the attribute in this sequence, and IHE AI Results asks for it",
    ),
    Noise(
        "dciodvfy",
        r"/(StudyDate|StudyTime|StudyID|PatientID)\(.* Missing attribute or value .* needed to build DICOMDIR",
        "the source has no value either, and none may be invented",
    ),
    Noise(
        "dciodvfy",
        r"CodingSchemeDesignator.* Unrecognized defined term = <99[A-Z]+>",
        "PS3.3 8.2 allows private schemes where no standard code exists: that of the node, which each file identifies, "
        "and that of the site in a procedure code of the source",
    ),
    Noise(
        "dciodvfy",
        r"VerifyingObserverIdentificationCodeSequence.*CodingSchemeDesignator.* Unrecognized defined term = <L>",
        "PS3.3 8.2 has L, as HL7 does, for local codes: the number that the hospital gives a physician",
    ),
    Noise(
        "dciodvfy",
        r"CodingSchemeIdentificationSequence.*CodingSchemeUID.* Unrecognized defined term = <2\.25\.\d+>",
        "the UID of that private scheme",
    ),
    Noise(
        "dciodvfy",
        r"</Laterality\(0020,0060\)> - is only permitted to be empty when actually unknown",
        "it is unknown: the source names a paired body part, or none, and no side",
    ),
    Noise(
        "dciodvfy",
        r"/?(ImageType|FrameType)\([0-9a-f,]+\)\[4\]> - Unrecognized defined term = <QUANTITY>",
        "a term of parametric maps (PS3.3 C.8.32.2.1) that the validator of 2022 does not know",
    ),
    Noise(
        "dciodvfy label map",
        r"</SegmentationType\(0062,0001\)\[1\]> - Unrecognized enumerated value = <LABELMAP>"
        r"|SegmentNumber\(0062,0004\)(\[1\]> - Value is zero|> - SegmentNumber not monotonically increasing .* of 0$)"
        r"|/SegmentIdentificationSequence\(0062,000a\)> - Missing attribute for Type 1 Required",
        "it is older than label maps: segment 0 is background, and pixel values name segments (PS3.3 C.8.20.2)",
    ),
    Noise(
        "dcentvfy",
        r"Different information entities for attribute - "
        r"Element=<(AccessionNumber|IssuerOfAccessionNumberSequence|ReferencedStudySequence)>",
        "the attribute sits in different modules of SR and image IODs; its values are compared all the same",
    ),
    Noise(
        "dcentvfy",
        r"present in one instance but not the other - Element=<(Patient(Name|ID|BirthDate|Sex)|Study(Date|Time|ID)"
        r"|AccessionNumber|ReferringPhysicianName)>",
        "type 2: a result must have it, empty, where the source lacks it; one that was lost is an error to dciodvfy",
    ),
    Noise(
        "dcmpschk",
        r"^W: patientName absent or empty in presentation state",
        "the source has no name, and none may be invented; type 2 lets it be empty",
    ),
)
#: CID 100 is a baseline group (BCID): a site's own procedure code is as good, but PixelMed wants a member.
_SITES_PROCEDURE = re.compile(r'"Procedure reported"\).* not found in context group 100$')
#: PixelMed 2022 validates groups by the template of a group with a region too, if the report has one of whole images.
_MISTAKEN_GROUP = re.compile(r"Template (141[01]) .* within 1\.\d+\.(\d+): .*Missing conditional content item")

#: Characters of an LT (PS3.5 6.2), which is the longest of those that are copied.
_LONGEST_TEXT = 10240
_LACKING = re.compile(r"in one instance.* - Element=<(\w+)> .* for file <(.+)> versus (?:existing )?<(.+)>$")
#: Label Map Segmentation Storage as it stands in a file; it is younger than the dictionary of pydicom.
_LABEL_MAP = b"1.2.840.10008.5.1.4.1.1.66.7"


def assert_valid_dicom(path: Path, source: Path | None = None) -> None:
    """dciodvfy finds no error, and no warning beyond the known noise.

    What it says in the same words about `source` is the source's own fault where the value was copied, never improved.
    """
    inherited = _inherited(source, source.stat().st_mtime_ns) if source is not None else frozenset()
    said = [line for line in _complaints(path) if not (line in inherited and _is_about_a_copy(line))]
    if _is_label_map(path):
        said = without_noise("dciodvfy label map", said)
    _none_left(without_noise("dciodvfy", said), f"dciodvfy {path.name}")


def assert_consistent(sources: Sequence[Path], outputs: Sequence[Path], unreadable: Sequence[str] = ()) -> None:
    """dcentvfy sees one patient, one study, and consistent series across all files.

    `unreadable` are attributes whose values in the sources nobody can read, so that results must not have them.
    """
    outputs = [_known_class(path) for path in outputs]
    lines = _lines([needs.tool("dcentvfy", "dicom3tools"), *map(str, sources), *map(str, outputs)])
    among_sources = [line for line in lines if "<" in line and not any(f"<{path}>" in line for path in outputs)]
    said = [line for line in lines if line.strip() and line not in among_sources]
    left_out = [f"but not the other - Element=<{keyword}>" for keyword in unreadable]
    said = [line for line in said if not any(words in line for words in left_out)]
    said = [line for line in said if not _was_no_value(line)]
    _none_left(without_noise("dcentvfy", said), "dcentvfy")


def assert_readable_sr(path: Path) -> None:
    """dsrdump reads the tree and finds each relationship allowed in this SR class."""
    command = [needs.tool("dsrdump", "dcmtk"), "-q", str(_known_class(path))]
    dump = subprocess.run(command, capture_output=True, check=False)
    assert dump.returncode == 0, f"dsrdump {path.name}: {dump.stderr.decode(errors='replace')}"


def assert_valid_presentation_state(path: Path) -> None:
    """dcmpschk finds nothing to remark; it exits with 0 even when it does."""
    lines = _lines([needs.tool("dcmpschk", "dcmtk"), str(path)])
    assert any("Testing: " in line for line in lines), f"dcmpschk {path.name}: {lines}"
    remarks = [line for line in lines if not re.match(r"W: Test(ing: | passed| failed)|$", line)]
    # A remark has several lines, the last of them blank; what it says of copied values is the source's own fault.
    blocks = re.split(r"^[EW]:\s*$", "\n".join(remarks), flags=re.MULTILINE)
    own = [line for block in blocks if not _is_about_a_copy(block) for line in block.strip().splitlines()]
    _none_left(without_noise("dcmpschk", own), f"dcmpschk {path.name}")


def assert_readable_pdf(path: Path) -> None:
    """The document in the object opens, and its first page says that it is not verified."""
    pdf = path.with_suffix(".pdf")
    pdf.write_bytes(dcmread(path).EncapsulatedDocument)
    command = [needs.tool("pdftotext", "poppler-utils"), "-layout", str(pdf), "-"]
    done = subprocess.run(command, capture_output=True, check=False)
    assert done.returncode == 0, f"pdftotext {path.name}: {done.stderr.decode(errors='replace')}"
    assert not done.stderr, f"pdftotext {path.name}: {done.stderr.decode(errors='replace')}"
    assert "NOT VERIFIED" in done.stdout.decode(), f"{path.name} does not say that it is not verified"


def assert_parsed(path: Path) -> None:
    """A library for derived objects reads it; pixels that it holds are decoded."""
    header = dcmread(path, stop_before_pixels=True)
    if header.SOPClassUID == KeyObjectSelectionDocumentStorage:
        KeyObjectSelectionDocument.from_dataset(dcmread(path))
    elif header.Modality == "SR":
        assert srread(path).content[0].name.value == "126000"
    elif header.SOPClassUID == SegmentationStorage or header.Modality == "SEG":
        # The background, number 0 of a label map, is no segment.
        numbers = [int(item.SegmentNumber) for item in header.SegmentSequence if item.SegmentNumber > 0]
        assert segread(path).segment_numbers == numbers
    elif "Rows" in header:
        assert imread(path).get_frame(1).shape[:2] == (header.Rows, header.Columns)
    else:
        assert header.SOPClassUID in {GrayscaleSoftcopyPresentationStateStorage, EncapsulatedPDFStorage}


def assert_valid_sr(path: Path) -> None:
    """The report is readable, and PixelMed finds the rows of TID 1500 as the template wants them (about 2 s)."""
    assert_readable_sr(path)
    lines = pixelmed.remarks(_known_class(path))
    assert any("Found Root Template TID_1500" in line for line in lines), f"PixelMed sees no TID 1500: {lines}"
    report = dcmread(path)
    errors = [line for line in lines if line.startswith("Error") and not _is_mistaken_group(line, report)]
    if report.get("ProcedureCodeSequence"):
        errors = [line for line in errors if not _SITES_PROCEDURE.search(line)]
    _none_left(errors, f"PixelMed {path.name}")


def without_noise(validator: str, lines: Iterable[str]) -> list[str]:
    """Return what a validator said less the known noise."""
    patterns = [noise.pattern for noise in NOISE if noise.validator == validator]
    return [line for line in lines if not any(re.search(pattern, line) for pattern in patterns)]


def tree_of(report: Dataset) -> Any:
    """Return the shape of a report: value types, concepts, codes and templates, without texts, numbers and UIDs.

    PixelMed validates templates by these alone, so that reports of one shape need to be asked about once.
    """
    names = tuple(_code(item) for item in report.get("ConceptNameCodeSequence") or ())
    values = tuple(_code(item) for item in report.get("ConceptCodeSequence") or ())
    units = tuple(
        _code(unit)
        for value in report.get("MeasuredValueSequence") or ()
        for unit in value.MeasurementUnitsCodeSequence
    )
    templates = tuple(str(item.TemplateIdentifier) for item in report.get("ContentTemplateSequence") or ())
    children = tuple(tree_of(item) for item in report.get("ContentSequence") or ())
    kind = (
        report.get("SOPClassUID"),
        report.get("ValueType"),
        report.get("RelationshipType"),
        report.get("GraphicType"),
    )
    return kind, names, values, units, templates, children


def _code(item: Dataset) -> tuple[str, str]:
    return str(item.get("CodeValue")), str(item.get("CodingSchemeDesignator"))


def _complaints(path: Path) -> list[str]:
    lines = _lines([needs.tool("dciodvfy", "dicom3tools"), "-new", str(_known_class(path))])
    return [line for line in lines if line.startswith(("Error", "Warning"))]


@cache
def _inherited(source: Path, _: int) -> frozenset[str]:
    """Return what is said of a source, asked once for all results about it as long as its file stays the same."""
    return frozenset(_complaints(source))


def _known_class(path: Path) -> Path:
    """Return a copy in which label maps are of the class that they were parted from: the validators are older."""
    content = path.read_bytes()
    if _LABEL_MAP not in content:
        return path
    copy = path.with_suffix(".known")
    copy.write_bytes(content.replace(_LABEL_MAP, SegmentationStorage.encode()))
    return copy


def _is_label_map(path: Path) -> bool:
    return bool(dcmread(path, specific_tags=["SOPClassUID"]).get("SOPClassUID") == _LABEL_MAP.decode())


def _is_about_a_copy(line: str) -> bool:
    named = re.search(r"\(([0-9a-f]{4}),([0-9a-f]{4})\)", line)
    return named is not None and keyword_for_tag(int(named[1] + named[2], 16)) in {*COPIED, "BodyPartExamined"}


def _was_no_value(line: str) -> bool:
    """Whether a result lacks a copied attribute since the value of the source may not be written (PS3.5 6.2)."""
    named = _LACKING.search(line)
    if named is None:
        return False
    keyword, *paths = named.groups()
    values = [str(dcmread(path, specific_tags=[keyword]).get(keyword) or "") for path in paths]
    if keyword not in COPIED or "" not in values:
        return False
    written = max(values)
    if len(written) > _LONGEST_TEXT or re.search(r"[\x00-\x08\x0b\x0e-\x1a\x1c-\x1f\x7f]", written):
        return True
    try:
        validate_value(dictionary_VR(keyword), written, settings.RAISE)
    except ValueError:
        return True
    return False


def _is_mistaken_group(line: str, report: Dataset) -> bool:
    match = _MISTAKEN_GROUP.search(line)
    if match is None:
        return False
    (measurements,) = (i for i in report.ContentSequence if i.ConceptNameCodeSequence[0].CodeValue == "126010")
    group = measurements.ContentSequence[int(match.group(2)) - 1]
    return bool(group.ContentTemplateSequence[0].TemplateIdentifier != match.group(1))


def _lines(command: Sequence[str]) -> list[str]:
    done = subprocess.run(command, capture_output=True, check=False, timeout=280)
    return (done.stdout + done.stderr).decode("utf-8", errors="replace").splitlines()


def _none_left(lines: Sequence[str], validator: str) -> None:
    assert not lines, f"{validator}:\n" + "\n".join(lines)
