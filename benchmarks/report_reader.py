"""How well the reader of reports tells presence from absence: precision and recall of each finding.

    python -m benchmarks.report_reader [--set held] [--faults] [--indiana FOLDER] [--json FILE]

`report_sentences.csv` holds sentences of the project's own, each with what a person takes it to say: `tuned` ones were
looked at while the word lists were written, `held` ones were not, until the lists stood. `--indiana` takes a folder
with the reports of the Indiana University collection as XML (ecgen-radiology), which the project may not pass on: what
the reader says of each is held against the headings (MeSH) that people gave it.
"""

from __future__ import annotations

import csv
import statistics
import sys
import time
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.command_line import keep, parser_of
from dicom_node.assist.texts.reader import TextToRead, read
from dicom_node.core.assessment.report_reading import ReportedPresence, ReportReading

SENTENCES = Path(__file__).with_name("report_sentences.csv")
#: What people of the Indiana collection called what the reader looks for.
_HEADINGS = {
    "pneumonia": ("pneumonia",), "consolidation": ("consolidation",), "pleural-effusion": ("pleural effusion",),
    "pneumothorax": ("pneumothorax", "hydropneumothorax"), "cardiomegaly": ("cardiomegaly",),
    "pulmonary-edema": ("pulmonary edema", "pulmonary congestion"), "atelectasis": ("pulmonary atelectasis",),
    "emphysema": ("emphysema", "pulmonary emphysema"), "lung-nodule": ("nodule",), "hiatal-hernia": ("hernia, hiatal",),
    "lung-fibrosis": ("pulmonary fibrosis",),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Judged:
    """What a person takes a text to say of one finding, and what the reader says."""

    finding: str
    expected: ReportedPresence
    told: ReportedPresence
    language: str
    kind: str
    text: str


def sentences(which: str = "") -> Iterator[Judged]:
    """Yield what became of the project's own sentences; of one set of them, or of all."""
    with SENTENCES.open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if which not in ("", row["set"]):
                continue
            reading = read(TextToRead(row["text"]))
            for one in row["expected"].split(";"):
                finding, _, expected = one.partition("=")
                yield Judged(finding, ReportedPresence(expected), reading.of(finding), row["language"], row["kind"],
                             row["text"])  # fmt: skip


def indiana(folder: Path) -> Iterator[Judged]:
    """Yield what became of each report and finding; what no heading names counts as absent."""
    for path in sorted(folder.rglob("*.xml")):
        tree = ET.parse(path)  # noqa: S314 - a collection that somebody chose to measure with
        parts = [f"{one.get('Label')}: {one.text}" for one in tree.iter("AbstractText") if one.text]
        major = [(one.text or "").lower() for one in tree.iter("major")]
        names = {heading.partition("/")[0].strip() for heading in major}
        if not parts or not names:
            continue
        reading = read(TextToRead("\n".join(parts), ("en",)))
        for finding, headings in _HEADINGS.items():
            is_there = any(name in headings for name in names)
            expected = ReportedPresence.PRESENT if is_there else ReportedPresence.ABSENT
            yield Judged(finding, expected, _two_way(reading, finding), "en", "report", path.stem)


def _two_way(reading: ReportReading, finding: str) -> ReportedPresence:
    """Return presence or absence; who is silent says that nothing is there, who is unsure stays unsure."""
    said = reading.of(finding)
    return ReportedPresence.ABSENT if said is ReportedPresence.SILENT else said


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Precision and recall of one answer (`PRESENT`, `ABSENT`) for one finding; `None` of nothing."""

    finding: str
    answer: str
    cases: int
    precision: float | None
    recall: float | None


def figures(judged: Iterable[Judged]) -> list[Figures]:
    """Return the figures of each finding, then of all together."""
    kept = list(judged)
    names = [*sorted({one.finding for one in kept}), "all"]
    answers = (ReportedPresence.PRESENT, ReportedPresence.ABSENT, ReportedPresence.UNCERTAIN)
    lines = []
    for name in names:
        mine = [one for one in kept if name in (one.finding, "all")]
        for answer in answers:
            right = sum(one.expected is answer and one.told is answer for one in mine)
            told, there = (sum(getattr(one, which) is answer for one in mine) for which in ("told", "expected"))
            if told or there:
                lines.append(Figures(finding=name, answer=answer, cases=there,
                                     precision=right / told if told else None,
                                     recall=right / there if there else None))  # fmt: skip
    return lines


def _show(title: str, judged: list[Judged], *, faults: bool) -> None:
    right = sum(one.expected is one.told for one in judged)
    print(f"{title}: {right} of {len(judged)} as a person reads them ({right / len(judged):.1%})")
    for line in figures(judged):
        told = [f"{value:.3f}" if value is not None else "–" for value in (line.precision, line.recall)]
        print(f"  {line.finding:24} {line.answer:10} n={line.cases:5} precision {told[0]:>5} recall {told[1]:>5}")
    wrong = [one for one in judged if one.expected is not one.told]
    print("  wrong by kind:", dict(Counter(one.kind for one in wrong)))
    for one in wrong if faults else ():
        print(f"  {one.finding}: {one.expected} read as {one.told}: {one.text}")


def main() -> int:
    """Measure, print, and keep."""
    parser = parser_of(__doc__, {"set": "held"})
    parser.add_argument("--set", default="", choices=["", "tuned", "held"])
    parser.add_argument("--faults", action="store_true")
    parser.add_argument("--indiana", type=Path)
    options = parser.parse_args()
    judged = list(sentences(options.set))
    _show("sentences", judged, faults=options.faults)
    measured: dict[str, object] = {"sentences": [asdict(one) for one in figures(judged)]}
    if options.indiana:
        started = time.perf_counter()
        reports = list(indiana(options.indiana))
        took_s = time.perf_counter() - started
        _show("Indiana reports", reports, faults=options.faults)
        count = len({one.text for one in reports})
        print(f"  {count} reports, {took_s / count * 1000:.1f} ms each")
        unsure = statistics.fmean(one.told is ReportedPresence.UNCERTAIN for one in reports)
        print(f"  unsure of {unsure:.2%} of the answers")
        measured["indiana"] = [asdict(one) for one in figures(reports)]
    keep(measured, options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
