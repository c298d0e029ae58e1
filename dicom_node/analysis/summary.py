"""An answer as JSON-ready data for the API: what was found, by which model, from which images, and how long it took."""

from __future__ import annotations

import math
from dataclasses import asdict
from datetime import UTC, datetime

from dicom_node import __version__
from dicom_node.analysis.answer import Analysis, NotAnalysed, whole_objects
from dicom_node.core.entities import Finding, JobState

MARK = "AI result - NOT VERIFIED. Decision support only."


def summarise(answer: Analysis | NotAnalysed) -> dict[str, object]:
    """Return the answer without arrays and without anything that names the patient."""
    sources = [str(source.SOPInstanceUID) for source in whole_objects(answer.sources)]
    common: dict[str, object] = {
        "mark": MARK,
        "state": state_of(answer).value,
        "model": asdict(answer.model),
        "node_version": __version__,
        "source_sop_instance_uids": sources,
        "notes": list(answer.notes),
        "finished_at": datetime.now(UTC).isoformat(),
    }
    if isinstance(answer, NotAnalysed):
        return common | {"reason": answer.reason, "message": answer.message, "findings": []}
    return common | {
        "findings": [_finding(finding) for finding in answer.findings],
        "stage_times_s": {stage: round(seconds, 3) for stage, seconds in answer.stage_times_s.items()},
    }


def state_of(answer: Analysis | NotAnalysed) -> JobState:
    """Return the state in which a job with this answer ends."""
    if isinstance(answer, NotAnalysed):
        return JobState.NOT_ANALYSABLE
    return JobState.PARTIAL if answer.partial else JobState.DONE


def _finding(finding: Finding) -> dict[str, object]:
    data = asdict(finding)
    for written, measurement in zip(data["measurements"], finding.measurements, strict=True):
        written["label"] = measurement.label
        written["value"] = _number(measurement.value)
    data |= {"probability": _number(finding.probability), "threshold": _number(finding.threshold)}
    if finding.region is not None:
        data["region"] = {"sop_instance_uid": finding.region.sop_instance_uid,
                          "points_xy_px": [list(point) for point in finding.region.points_xy_px]}  # fmt: skip
    return data


def _number(value: float | None) -> float | None:
    """Return a number that JSON has; `None` for one that is not finite."""
    return value if value is not None and math.isfinite(value) else None
