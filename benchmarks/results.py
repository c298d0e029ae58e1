"""What writing a full result costs on one core, and each kind of object's share of it.

    taskset -c 0 python -m benchmarks.results [--slices 300] [--rows 512] [--rounds 5] [--quick] [--json FILE]

A chest CT phantom with both lungs segmented gives an SR, eight secondary captures (a summary and seven key slices) and
a SEG over all slices: "full result", from the answer in memory to the bytes of the files and of the previews. Then each
kind is written alone; a kind that draws pictures or refers to others pays for what it needs of them itself. The last
line is all kinds at once. Every round starts from headers that nothing has been read from.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
from pydicom.dataset import Dataset

from benchmarks.command_line import keep, parser_of
from dicom_node.analysis.answer import Analysis, Histogram, Segment
from dicom_node.analysis.context import ReportContext
from dicom_node.core import codes
from dicom_node.core.entities import Code, Finding, Measurement, ModelIdentity
from dicom_node.core.outputs.artifact_kinds import OutputSet
from dicom_node.core.uids import derived_uid
from dicom_node.demo.phantoms import LungTruth, chest_ct_phantom
from dicom_node.sr_writer import to_part10, write_objects

_KEY_SLICES = 7
_FULL = OutputSet()
_NOTHING = replace(_FULL, structured_report="off", secondary_capture=False, segmentation="off")
_ALONE = {
    "SR": replace(_NOTHING, structured_report="comprehensive3d"),
    "SC": replace(_NOTHING, secondary_capture=True),
    "SEG": replace(_NOTHING, segmentation="binary"),
}
_OTHERS = {
    "SEG as label map": replace(_NOTHING, segmentation="labelmap"),
    "GSPS": replace(_NOTHING, presentation_state=True),
    "KOS": replace(_NOTHING, key_objects=True),
    "PDF": replace(_NOTHING, encapsulated_pdf=True),
}
_EVERYTHING = replace(_FULL, presentation_state=True, key_objects=True, encapsulated_pdf=True)


def answer_of_a_volume(slices: int, rows: int) -> Analysis:
    """Make a chest CT over 330 mm and the answer a perfect segmentation of its lungs would give."""
    sources, truth = chest_ct_phantom("results", slices=slices, rows=rows, slice_spacing_mm=330.0 / slices)
    sides = (("Right lung", codes.RIGHT, truth.right), ("Left lung", codes.LEFT, truth.left))
    return Analysis(
        model=_model(),
        sources=tuple(sources),
        findings=tuple(_finding(label, side, lung) for label, side, lung in sides),
        segments=tuple(_segment(number, label, lung) for number, (label, _, lung) in enumerate(sides, start=1)),
        histogram=_histogram(sources, truth.both.mask_zyx),
        key_slices=tuple(int(share * (slices - 1)) for share in np.linspace(0.2, 0.8, _KEY_SLICES)),
        notes=("Series 1 was used: it covers both lungs.",),
    )


def _model() -> ModelIdentity:
    return ModelIdentity(
        name="benchmark",
        version="1.0.0",
        manufacturer="DICOM AI Node Project",
        digest="3c" * 32,
        device_uid=derived_uid("model", "benchmark"),
        limits="A phantom, no patient.",
        calibrated=True,
    )


def _finding(label: str, side: Code, lung: LungTruth) -> Finding:
    return Finding(
        key=label.lower().replace(" ", "-"),
        label=label,
        code=codes.LUNG,
        site=codes.LUNG,
        laterality=side,
        segment_number=1 if side is codes.RIGHT else 2,
        measurements=(
            Measurement(codes.VOLUME, round(lung.volume_ml, 1), codes.MILLILITER),
            Measurement(codes.ATTENUATION_COEFFICIENT, round(lung.mean_hu, 1), codes.HOUNSFIELD_UNIT, codes.MEAN),
        ),
    )


def _segment(number: int, label: str, lung: LungTruth) -> Segment:
    return Segment(
        number=number,
        label=label,
        category=codes.ANATOMICAL_STRUCTURE,
        type=codes.LUNG,
        mask=lung.mask_zyx,
        finding_key=label.lower().replace(" ", "-"),
        color_rgb=(230, 120, 40) if number == 1 else (70, 150, 240),
    )


def _histogram(sources: list[Dataset], lungs: np.ndarray) -> Histogram:
    middle = len(sources) // 2
    hu = sources[middle].pixel_array[lungs[middle]].astype(float) + float(sources[middle].RescaleIntercept)
    counts, edges = np.histogram(hu, bins=82, range=(-1024, -200))
    return Histogram(
        title="Lung density", x_label="HU", bin_edges=edges, counts=counts.astype(float), marks={"-950 HU": -950.0}
    )


@dataclass(frozen=True, slots=True)
class Written:
    """What writing one set took, in processor time and by the clock, and what came of it."""

    processor_s: float
    clock_s: float
    objects: int
    bytes: int


def written(answer: Analysis, wanted: OutputSet) -> Written:
    """Write one set from headers that nothing has been read from, as far as the bytes of its files."""
    fresh = replace(answer, sources=tuple(_unread(source) for source in answer.sources))
    context = ReportContext(
        job_key="b" * 64,
        route_name="benchmark",
        started_at=datetime(2026, 1, 5, 9, 0, tzinfo=UTC),
        ae_title="AINODE",
        node_uid=derived_uid("node", "benchmark"),
        output_sets=(wanted,),
    )
    clock, processor = time.perf_counter(), time.process_time()
    objects = write_objects(fresh, context)
    size = sum(len(to_part10(one.dataset)) for one in objects)
    return Written(time.process_time() - processor, time.perf_counter() - clock, len(objects), size)


def _unread(source: Dataset) -> Dataset:
    """Return a copy without the decoded pixels that pydicom keeps."""
    copied = Dataset(source)
    copied.file_meta = source.file_meta
    return copied


def told(name: str, rounds: Sequence[Written]) -> dict[str, Any]:
    """Print one line; return its figures."""
    processor_s = [one.processor_s for one in rounds]
    figures = {
        "processor_s": statistics.median(processor_s),
        "clock_s": statistics.median(one.clock_s for one in rounds),
        "objects": rounds[0].objects,
        "bytes": rounds[0].bytes,
    }
    print(
        f"{name:<28} {figures['processor_s']:5.2f} s processor ({min(processor_s):.2f} to {max(processor_s):.2f}), "
        f"{figures['clock_s']:5.2f} s clock, {figures['objects']:3d} objects, {figures['bytes'] / 2**20:6.2f} MiB"
    )
    return figures


def main() -> int:
    """Measure and print."""
    parser = parser_of(__doc__, {"slices": 12, "rows": 64, "rounds": 1})
    parser.add_argument("--slices", type=int, default=300)
    parser.add_argument("--rows", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    answer = answer_of_a_volume(options.slices, options.rows)
    sets = {"full result (SR, 8 SC, SEG)": _FULL, **_ALONE, **_OTHERS, "all of these": _EVERYTHING}
    for wanted in sets.values():
        written(answer, wanted)
    print(f"{options.slices} slices of {options.rows} x {options.rows}, {len(os.sched_getaffinity(0))} core(s)")
    figures = {name: told(name, [written(answer, one) for _ in range(options.rounds)]) for name, one in sets.items()}
    keep(figures, options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
