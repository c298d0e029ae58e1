"""What the node adds to a model's own time: from the last image to the SR at the PACS, stage by stage.

    python -m benchmarks.overhead [--rounds 5] [--slices 64] [--rows 256] [--quick] [--json FILE]

Sends the chest CT phantom to a node that delivers to a second local AE; quiet time is subtracted, it is a setting.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from datetime import datetime
from pathlib import Path
from typing import Any

from benchmarks.command_line import keep, parser_of
from dicom_node.cli.demo import await_results
from dicom_node.demo.phantoms import chest_ct_phantom
from dicom_node.demo.processes import DemoProcesses

QUIET_S = 2.0


def stages(stage: DemoProcesses, study: str) -> dict[str, float]:
    """Return the seconds of each stage of one study, from its timeline and its result."""
    timeline = stage.ask(f"/api/studies/{study}/timeline")
    result = stage.ask(f"/api/studies/{study}/results")[0]
    last_image = _time(stage.ask(f"/api/studies/{study}")["study"]["last_received_at"])
    at = {entry["kind"]: _time(entry["at"]) for entry in timeline}
    model_s = sum(result["summary"]["stage_times_s"].values())
    total_s = (at["sent"] - last_image).total_seconds() - QUIET_S
    return {
        "noticed complete after the quiet time": (at["routed"] - last_image).total_seconds() - QUIET_S,
        "taken by the job runner": (at["started"] - at["routed"]).total_seconds(),
        "model (gate, volume, segmentation)": model_s,
        "writing SC, SEG, SR, FHIR": result["summary"]["took_s"] - model_s,
        "saved": (at["analysed"] - at["started"]).total_seconds() - result["summary"]["took_s"],
        "delivered to the PACS": (at["sent"] - at["analysed"]).total_seconds(),
        "node's own share (total without model)": total_s - model_s,
    }


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)


def measure(rounds: int, slices: int, rows: int) -> list[dict[str, float]]:
    """Send one phantom a round; the first warms the worker up and does not count."""
    measured: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as name:
        stage = DemoProcesses(Path(name) / "demo")
        try:
            stage.open()
            for number in range(rounds + 1):
                folder = Path(name) / f"study-{number}"
                study = _write_phantom(folder, slices, rows)
                stage.send([folder])
                await_results(stage, number + 1)
                measured.append(stages(stage, study))
        finally:
            stage.close()
    return measured[1:]


def _write_phantom(folder: Path, slices: int, rows: int) -> str:
    """Write a chest CT of 320 mm of its own; return its Study Instance UID."""
    images, _ = chest_ct_phantom(folder.name, slices=slices, rows=rows, slice_spacing_mm=320.0 / slices)
    folder.mkdir()
    for image in images:
        image.save_as(folder / f"{image.SOPInstanceUID}.dcm", enforce_file_format=True)
    return str(images[0].StudyInstanceUID)


def main() -> int:
    """Measure and print."""
    parser = parser_of(__doc__, {"rounds": 1, "slices": 32, "rows": 128})
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--slices", type=int, default=64)
    parser.add_argument("--rows", type=int, default=256)
    options = parser.parse_args()
    measured: list[dict[str, Any]] = measure(options.rounds, options.slices, options.rows)
    for name in measured[0]:
        values = [round_[name] for round_ in measured]
        print(f"{name:<42} median {statistics.median(values):6.2f} s   {' '.join(f'{v:.2f}' for v in values)}")
    keep(measured, options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
