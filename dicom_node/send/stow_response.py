"""Read what a STOW-RS server says of one stored instance (PS3.18 10.5.3, I.2)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx

from dicom_node.errors import DeliveryDeferred, DeliveryError, DeliveryRefused
from dicom_node.send.statuses import error_of

_FAILED_SOP_SEQUENCE = "00081198"
_REFERENCED_SOP_INSTANCE_UID = "00081155"
_FAILURE_REASON = "00081197"

#: Client errors that pass by themselves; every other is parked until a person has changed something.
_PASSING_STATUSES = {408, 425, 429}
_ADVICE = {
    401: "Check token, username and password of this destination, then retry.",
    403: "Allow this node to store there, then retry.",
    404: "Check url of this destination: it must end where /studies begins. Then retry.",
    407: "Check the proxy, then retry.",
    413: "Raise the size limit of the server or its proxy, then retry.",
    415: "The server does not take this SOP class or transfer syntax.",
}


def error_in(response: httpx.Response, sop_instance_uid: str, receiver: str, kind: str) -> DeliveryError | None:
    """Return why the instance was not stored, or `None` when it was.

    A reason given for the instance counts more than the HTTP status: servers answer 200 and 202 with failed
    instances, and 409 for what they already have.
    """
    reason = failure_reason(response, sop_instance_uid)
    if reason is not None:
        return error_of(reason, receiver, kind)
    if response.is_success:
        return None
    return _http_error(response, receiver)


def failure_reason(response: httpx.Response, sop_instance_uid: str) -> int | None:
    """Return the failure reason for an instance from a DICOM JSON answer, `None` if there is none."""
    for item in _sequence(response, _FAILED_SOP_SEQUENCE):
        reason = _first(item, _FAILURE_REASON)
        if _first(item, _REFERENCED_SOP_INSTANCE_UID) in {sop_instance_uid, None} and isinstance(reason, int):
            return reason
    return None


def _http_error(response: httpx.Response, receiver: str) -> DeliveryError:
    status = response.status_code
    told = f"{receiver} answered HTTP {status} to STOW-RS."
    if response.is_redirect:
        return DeliveryRefused(f"{told} Redirects are not followed: set url of this destination to the final address.")
    if response.is_client_error and status not in _PASSING_STATUSES:
        return DeliveryRefused(f"{told} {_ADVICE.get(status, 'Look into its log, then retry.')}")
    return DeliveryDeferred(f"{told} Tried again later.", retry_after_s(response))


def retry_after_s(response: httpx.Response) -> float | None:
    """Return the seconds of a Retry-After header, given as seconds or as a date (RFC 9110 10.2.3)."""
    text = response.headers.get("Retry-After", "").strip()
    if text.isdecimal():
        return float(text)
    try:
        when = parsedate_to_datetime(text)
    except ValueError:
        return None
    return max(0.0, (when.replace(tzinfo=when.tzinfo or UTC) - datetime.now(UTC)).total_seconds())


def _sequence(response: httpx.Response, tag: str) -> list[Mapping[str, object]]:
    """Return the items of a sequence in a DICOM JSON body; none if the body is something else."""
    try:
        body = response.json()
    except ValueError:
        return []
    dataset = body[0] if isinstance(body, list) and body else body
    element = dataset.get(tag) if isinstance(dataset, dict) else None
    items = element.get("Value") if isinstance(element, dict) else None
    return [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []


def _first(item: Mapping[str, object], tag: str) -> object:
    element = item.get(tag)
    values = element.get("Value") if isinstance(element, dict) else None
    return values[0] if isinstance(values, list) and values else None
