"""Which results hold a finding that somebody must know of at once, by the rules of the settings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from dicom_node.config.alarms import CriticalFindingSettings
from dicom_node.core.alarms.standing import Fault
from dicom_node.core.entities import Presence
from dicom_node.index.alarms.looks import UnreviewedResult, unreviewed_results, unreviewed_since
from dicom_node.operate.alarms.judges import AlarmLook

#: What was made while no process judged is found for so long, and rows that were late for so long.
_AT_START, _LATE = timedelta(hours=72), timedelta(minutes=10)


class CriticalFindings:
    """Judges the rule `critical_finding`: new results, and whether what was found before still stands unreviewed."""

    def __init__(self, wanted: Sequence[CriticalFindingSettings]) -> None:
        self._wanted = wanted
        self._looked_to: datetime | None = None

    def __call__(self, look: AlarmLook) -> Sequence[Fault]:
        """Return what stands, and what is new."""
        keys = [str(one.detail.get("job_key", "")) for one in look.standing.values()]
        found = list(self._faults(unreviewed_results(look.connection, keys))) if keys else []
        if not self._wanted:
            return found
        since = look.now - _AT_START if self._looked_to is None else self._looked_to - _LATE
        self._looked_to = look.now
        return [*found, *self._faults(unreviewed_since(look.connection, since))]

    def _faults(self, results: Sequence[UnreviewedResult]) -> Iterator[Fault]:
        for result in results:
            told = [text for wanted in self._wanted if (text := _told(wanted, result))]
            if told:
                yield Fault(
                    subject=f"result {result.job_key[:16]}", text=f"{result.model}, route {result.route}: {told[0]}.",
                    since=result.created_at,
                    detail={"study_instance_uid": result.study_instance_uid, "job_key": result.job_key},
                )  # fmt: skip


def _told(wanted: CriticalFindingSettings, result: UnreviewedResult) -> str:
    """Return what is told of a result, in words of the settings and the terminology; "": it is not what is meant."""
    if wanted.route and wanted.route != result.route:
        return ""
    for finding in result.findings:
        if _is_meant(wanted, finding):
            score = finding.get("probability")
            at = f", score {score:.2f}" if isinstance(score, int | float) else ""
            return f"{wanted.meaning}{at}"
    return ""


def _is_meant(wanted: CriticalFindingSettings, finding: Mapping[str, Any]) -> bool:
    code, score = finding.get("code"), finding.get("probability")
    if not isinstance(code, Mapping) or (code.get("scheme"), code.get("value")) != wanted.code:
        return False
    if wanted.at_least is None:
        return finding.get("presence") == Presence.PRESENT
    return isinstance(score, int | float) and score >= wanted.at_least
