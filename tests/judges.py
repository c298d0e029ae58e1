"""Independent judges of DICOM objects: dicom3tools, DCMTK and PixelMed, each with a closed list of what is noise.

`assert_valid_dicom` for any object, `assert_consistent` for results beside their sources, `assert_readable_sr` and the
slower `assert_valid_sr` for the content of a structured report. A missing program skips the test and names its package.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

from pydicom import dcmread
from pydicom.dataset import Dataset

from tests import needs

#: dciodvfy of 2022 is older than these parts of the standard, or says again what the source already lacks.
_IOD_NOISE = (
    r"ContributingEquipmentSequence.*/DeviceUID.* Attribute is not present in standard DICOM IOD",
    r"/(StudyDate|StudyTime|StudyID|PatientID)\(.* Missing attribute or value that would be needed to build DICOMDIR",
    # PS3.3 8.2 allows a private scheme where no standard code exists; the file identifies it.
    r"CodingSchemeDesignator.* Unrecognized defined term = <99AINODE>",
    r"CodingSchemeIdentificationSequence.*CodingSchemeUID.* Unrecognized defined term = <2\.25\.\d+>",
    r"Laterality.* - (is only permitted to be empty|Empty attribute|Value is zero length|empty)",
)
#: The same attribute sits in different modules of SR and image IODs; its values are compared all the same.
_CONSISTENCY_NOISE = (
    r"Different information entities for attribute - Element=<AccessionNumber>",
    # Type 2: a result must have it, empty, where the source has it not at all; a lost one is an error to dciodvfy.
    r"present in one instance but not the other - Element=<(Patient(Name|ID|BirthDate|Sex)|Study(Date|Time|ID)"
    r"|AccessionNumber|ReferringPhysicianName)>",
)
#: CID 100 is a baseline group (BCID): a site's own procedure code is as good, but PixelMed wants a member.
_SITES_PROCEDURE = (r'"Procedure reported"\).* not found in context group 100$',)
#: PixelMed 2022 judges groups about whole images by the template of a group with a region, if the report has one.
_MISTAKEN_GROUP = re.compile(r"Template 1410 .* within 1\.\d+\.(\d+): .*Missing conditional content item")

_PIXELMED = Path("/usr/share/java/pixelmed.jar")
#: Without the limits off, the XSLT processor stops half-way; with the quick compiler it takes a third less time.
_JAVA_OPTIONS = [
    *(f"-Djdk.xml.xpath{name}Limit=0" for name in ("TotalOp", "ExprGrp", "ExprOp")),
    *("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"),
]


def assert_valid_dicom(path: Path, source: Path | None = None) -> None:
    """dciodvfy finds no error, and no warning beyond the known noise.

    What it says in the same words about `source` is the source's own fault: its values are copied, never improved.
    """
    inherited = set(_complaints(source)) if source is not None else set()
    said = [line for line in _complaints(path) if line not in inherited]
    _none_left(_without(said, _IOD_NOISE), f"dciodvfy {path.name}")


def assert_consistent(sources: Sequence[Path], outputs: Sequence[Path]) -> None:
    """dcentvfy sees one patient, one study, and consistent series across all files."""
    lines = _lines([needs.tool("dcentvfy", "dicom3tools"), *map(str, sources), *map(str, outputs)])
    among_sources = [line for line in lines if "<" in line and not any(f"<{path}>" in line for path in outputs)]
    said = [line for line in lines if line.strip() and line not in among_sources]
    _none_left(_without(said, _CONSISTENCY_NOISE), "dcentvfy")


def assert_readable_sr(path: Path) -> None:
    """dsrdump reads the tree and finds each relationship allowed in this SR class."""
    dump = subprocess.run([needs.tool("dsrdump", "dcmtk"), "-q", str(path)], capture_output=True, check=False)
    assert dump.returncode == 0, f"dsrdump {path.name}: {dump.stderr.decode(errors='replace')}"


def assert_valid_sr(path: Path) -> None:
    """The report is readable, and PixelMed finds the rows of TID 1500 as the template wants them (about 8 s)."""
    assert_readable_sr(path)
    if not _PIXELMED.exists():
        needs.absent("PixelMed is not installed; install the Debian package libpixelmed-java")
    java = needs.tool("java", "default-jre-headless")
    lines = _lines([java, *_JAVA_OPTIONS, "-cp", str(_PIXELMED), "com.pixelmed.validate.DicomSRValidator", str(path)])
    assert any("Found Root Template TID_1500" in line for line in lines), f"PixelMed sees no TID 1500: {lines}"
    report = dcmread(path)
    errors = [line for line in lines if line.startswith("Error") and not _is_mistaken_group(line, report)]
    noise = _SITES_PROCEDURE if report.get("ProcedureCodeSequence") else ()
    _none_left(_without(errors, noise), f"PixelMed {path.name}")


def _complaints(path: Path) -> list[str]:
    lines = _lines([needs.tool("dciodvfy", "dicom3tools"), "-new", str(path)])
    return [line for line in lines if line.startswith(("Error", "Warning"))]


def _is_mistaken_group(line: str, report: Dataset) -> bool:
    match = _MISTAKEN_GROUP.search(line)
    if match is None:
        return False
    (measurements,) = (i for i in report.ContentSequence if i.ConceptNameCodeSequence[0].CodeValue == "126010")
    group = measurements.ContentSequence[int(match.group(1)) - 1]
    return bool(group.ContentTemplateSequence[0].TemplateIdentifier == "1501")


def _lines(command: Sequence[str]) -> list[str]:
    done = subprocess.run(command, capture_output=True, check=False, timeout=240)
    return (done.stdout + done.stderr).decode("utf-8", errors="replace").splitlines()


def _without(lines: Iterable[str], noise: Sequence[str]) -> list[str]:
    return [line for line in lines if not any(re.search(pattern, line) for pattern in noise)]


def _none_left(lines: Sequence[str], judge: str) -> None:
    assert not lines, f"{judge}:\n" + "\n".join(lines)
