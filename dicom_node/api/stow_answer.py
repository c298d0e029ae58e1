"""What a STOW-RS client is told of each object (PS3.18 10.5.3): DICOM JSON, and the HTTP status for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from starlette.responses import JSONResponse

from dicom_node.api.body import cannot_store
from dicom_node.ingest.visit import Outcome

MEDIA_TYPE = "application/dicom+json"

_REFERENCED_SOP_SEQUENCE, _FAILED_SOP_SEQUENCE, _OTHER_FAILURES_SEQUENCE = "00081199", "00081198", "0008119A"
_SOP_CLASS, _SOP_INSTANCE, _FAILURE_REASON = "00081150", "00081155", "00081197"


def stow_answer(outcomes: Sequence[Outcome]) -> JSONResponse:
    """Return 200 when all were stored, 202 when some were, 409 when none was.

    Raises `ProblemError` 503 when none was stored and the node is the reason: the client must send all again.
    """
    stored = [outcome for outcome in outcomes if outcome.is_stored]
    failed = [outcome for outcome in outcomes if not outcome.is_stored]
    if not stored and any(outcome.is_passing for outcome in failed):
        raise cannot_store()
    sequences = {
        _REFERENCED_SOP_SEQUENCE: [_names(outcome) for outcome in stored],
        _FAILED_SOP_SEQUENCE: [_names(outcome) | _reason(outcome) for outcome in failed if outcome.sop_instance_uid],
        _OTHER_FAILURES_SEQUENCE: [_reason(outcome) for outcome in failed if not outcome.sop_instance_uid],
    }
    content = {tag: {"vr": "SQ", "Value": items} for tag, items in sequences.items() if items}
    status = 200 if not failed else 202 if stored else 409
    return JSONResponse(content, status_code=status, media_type=MEDIA_TYPE)


def _names(outcome: Outcome) -> dict[str, Any]:
    return {
        _SOP_CLASS: {"vr": "UI", "Value": [outcome.sop_class_uid]},
        _SOP_INSTANCE: {"vr": "UI", "Value": [outcome.sop_instance_uid]},
    }


def _reason(outcome: Outcome) -> dict[str, Any]:
    return {_FAILURE_REASON: {"vr": "US", "Value": [int(outcome.status)]}}
