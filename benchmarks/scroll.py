"""How long a viewer waits for a slice: a CT that is scrolled through by DICOMweb, and what it took to open it.

`python -m benchmarks.scroll`: one API, 500 slices of 512 x 512, asked for over one connection as a viewer does.
"""

from __future__ import annotations

import copy
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np
from pydicom.dataset import Dataset

from benchmarks.command_line import keep, parser_of
from dicom_node.demo.phantoms import chest_ct_phantom
from dicom_node.sr_writer import to_part10
from dicom_node.viewing.readers import ImageReaders
from tests.support.ingesting import RELATED, child_processes, multipart, opened_place, served

_OCTETS = "multipart/related; type=application/octet-stream"
_BATCH = 50


def main() -> int:
    """Measure and print."""
    parser = parser_of(__doc__, {"slices": 8})
    parser.add_argument("--slices", type=int, default=500)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        figures = measure(Path(name), options.slices)
    print(f"{options.slices} slices of 512 x 512, ms\n\n| | first | p50 | p99 | longest |\n|---|---|---|---|---|")
    for what, waits in figures.items():
        print(f"| {what} | " + " | ".join(f"{one:.0f}" for one in waits.values()) + " |")
    keep(figures, options.json)
    return 0


def measure(folder: Path, count: int) -> Mapping[str, Mapping[str, float]]:
    """Serve a study of so many slices from a folder, ask for it, and return the waits (ms) of each kind of request."""
    with child_processes() as children, opened_place(folder, children) as place:
        images = ImageReaders(folder / "viewing", place.parts.spool.objects)
        with served(replace(place.api_parts(), images=images, open_object=place.parts.spool.path)) as client:
            slices = _slices(count)
            for first in range(0, count, _BATCH):
                body = multipart([to_part10(one) for one in slices[first : first + _BATCH]])
                client.post("/dicom-web/studies", content=body, headers={"Content-Type": RELATED}).raise_for_status()
            figures = _figures(client, slices)
        images.close()
    return figures


def _slices(count: int) -> Sequence[Dataset]:
    """Return slices of 512 x 512, each with noise of its own."""
    (source, *_), _ = chest_ct_phantom("scroll", slices=16)
    noise = np.random.default_rng(1)
    slices = []
    for number in range(count):
        one = Dataset()
        one.update(source)
        one.file_meta = copy.deepcopy(source.file_meta)
        one.SOPInstanceUID = one.file_meta.MediaStorageSOPInstanceUID = f"2.25.77{number}"
        one.InstanceNumber = number + 1
        one.Rows = one.Columns = 512
        one.PixelData = noise.integers(0, 2000, (512, 512), dtype=np.int16).tobytes()
        slices.append(one)
    return slices


def _figures(client: httpx.Client, slices: Sequence[Dataset]) -> Mapping[str, Mapping[str, float]]:
    one = slices[0]
    series = f"/dicom-web/studies/{one.StudyInstanceUID}/series/{one.SeriesInstanceUID}"
    instances = [f"{series}/instances/{each.SOPInstanceUID}" for each in slices]
    metadata, frame = "application/dicom+json", f"{_OCTETS}; transfer-syntax=*"
    return {
        "metadata of the series": _waits(client, [f"{series}/metadata"], metadata),
        "metadata again": _waits(client, [f"{series}/metadata"], metadata),
        "frame as stored": _waits(client, [f"{each}/frames/1" for each in instances], frame),
        "picture, JPEG": _waits(client, [f"{each}/rendered" for each in instances[:100]], "image/jpeg"),
    }


def _waits(client: httpx.Client, paths: Sequence[str], accept: str) -> Mapping[str, float]:
    waits_ms = []
    for path in paths:
        began = time.perf_counter()
        client.get(path, headers={"Accept": accept}).raise_for_status()
        waits_ms.append((time.perf_counter() - began) * 1000)
    p99 = float(np.percentile(waits_ms, 99))
    return {"first": waits_ms[0], "p50": statistics.median(waits_ms), "p99": p99, "longest": max(waits_ms)}


if __name__ == "__main__":
    raise SystemExit(main())
