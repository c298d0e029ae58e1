"""PixelMed's validator of structured reports: one Java process for all tests of a session, as it takes 3 s to start."""

from __future__ import annotations

import atexit
import subprocess
from functools import cache
from pathlib import Path

from tests.support import needs

_JAR = Path("/usr/share/java/pixelmed.jar")
_PROGRAM = Path(__file__).with_name("PixelMedReports.java")
#: Without the limits off, the XSLT processor stops half-way; with the quick compiler it takes a third less time.
_OPTIONS = (
    *(f"-Djdk.xml.xpath{name}Limit=0" for name in ("TotalOp", "ExprGrp", "ExprOp")),
    *("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"),
)


def remarks(report: Path) -> list[str]:
    """Return what PixelMed says of a report, line by line."""
    process = _validator()
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{report}\n")
    process.stdin.flush()
    said = []
    while (line := process.stdout.readline()) != f"== end of {report}\n":
        said.append(line.rstrip("\n"))
        assert line, "PixelMed stopped half-way:\n" + "\n".join(said)[-2000:]
    return said


@cache
def _validator() -> subprocess.Popen[str]:
    """Start it; it ends when its input does, at the latest with this process."""
    if not _JAR.exists():
        needs.absent("PixelMed is not installed; install the Debian package libpixelmed-java")
    needs.tool("javac", "default-jdk-headless")
    process = subprocess.Popen(
        [needs.tool("java", "default-jdk-headless"), *_OPTIONS, "-cp", str(_JAR), str(_PROGRAM)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
    )
    atexit.register(process.communicate)
    return process
