"""What a result says, as labels that tell of no patient: codes, numbers and places, never what somebody wrote.

Built up from what is known to be harmless, not thinned out: a field that a summary gets one day is not in it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping

from dicom_node.analysis.stored_findings import analysed_uids_in, model_named, readable_findings
from dicom_node.core.entities import Code, Finding, Measurement
from dicom_node.deidentification.coded_entries import VOCABULARIES
from dicom_node.index.views.types import ResultView

#: Keys of findings that a reviewer added begin so (`people.review.changes`).
_ADDED = "added-"
#: Codes of public vocabularies; a name that was typed in the place of one is none.
_CODE = re.compile(r"[A-Z]{0,4}[0-9][0-9A-Z.-]{0,31}")
#: Gives the UID that stands for another.
Pseudonym = Callable[[str], str]


def labels_of(result: ResultView, pseudonym: Pseudonym) -> Mapping[str, object]:
    """Return model, state and findings of a result; `pseudonym` gives the UIDs of the images that go with it."""
    model, (findings, _) = model_named(result.summary), readable_findings(result.summary)
    sources = analysed_uids_in(result.summary)
    return {
        "model": {"name": model.name, "version": model.version, "digest": model.digest},
        "state": result.state,
        "reason": result.reason,
        "standing": result.standing,
        "source_sop_instance_uids": [pseudonym(str(uid)) for uid in sources],
        "findings": [
            finding_label(one, pseudonym, is_typed=bool(result.review_of) and one.key.startswith(_ADDED))
            for one in findings
        ],
    }


def finding_label(finding: Finding, pseudonym: Pseudonym, *, is_typed: bool) -> Mapping[str, object]:
    """Return one finding as a label; of one that a reviewer typed, neither words nor a code of their own."""
    coded = _plain_code if is_typed else _code
    region = finding.region and {
        "sop_instance_uid": pseudonym(finding.region.sop_instance_uid),
        "frame_number": finding.region.frame_number,
        "points_xy_px": finding.region.points_xy_px,
    }
    return {
        "key": finding.key,
        "label": "" if is_typed else finding.label,
        "code": coded(finding.code),
        "site": coded(finding.site),
        "laterality": coded(finding.laterality),
        "presence": finding.presence,
        "probability": finding.probability,
        "threshold": finding.threshold,
        "measurements": [_measurement(one) for one in finding.measurements],
        "withheld": [{"name": _code(one.name), "reason": one.reason} for one in finding.withheld],
        "region": region,
        "segment_number": finding.segment_number,
    }


def _plain_code(code: Code | None) -> Mapping[str, str] | None:
    """Return a code that somebody typed without its words, if it is one of a public vocabulary."""
    if code is None or code.scheme not in VOCABULARIES or not _CODE.fullmatch(code.value):
        return None
    return {"value": code.value, "scheme": code.scheme, "meaning": ""}


def _measurement(measurement: Measurement) -> Mapping[str, object]:
    value = measurement.value if math.isfinite(measurement.value) else None  # JSON has no other numbers
    return {
        "name": _code(measurement.name),
        "value": value,
        "unit": _code(measurement.unit),
        "derivation": _code(measurement.derivation),
    }


def _code(code: Code | None) -> Mapping[str, str] | None:
    return None if code is None else {"value": code.value, "scheme": code.scheme, "meaning": code.meaning}
