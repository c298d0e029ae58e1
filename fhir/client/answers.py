"""What a server's answer means for a delivery: done, later, or never as it is. No input or output."""

from __future__ import annotations

from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

import httpx

from dicom_node.core.errors import DeliveryDeferred, DeliveryError, DeliveryRefused
from dicom_node.core.retry_after import retry_after_s
from dicom_node.fhir.builders.dicom_values import one_line

#: Worth another try besides 5xx. 409 is among them: the node sends no If-Match, so a conflict is a race of writers.
_PASSING = {
    HTTPStatus.REQUEST_TIMEOUT,
    HTTPStatus.CONFLICT,
    HTTPStatus.TOO_EARLY,
    HTTPStatus.TOO_MANY_REQUESTS,
}
_LONGEST_TEXT = 500

_ADVICE: dict[int, str] = {
    HTTPStatus.UNAUTHORIZED: "Check token or user and password of the destination.",
    HTTPStatus.FORBIDDEN: "Grant the node the right to do this.",
    HTTPStatus.NOT_FOUND: "Check url of the destination; it must be the FHIR base address.",
    HTTPStatus.PRECONDITION_FAILED: "Several resources carry the same identifier; merge them in the EHR.",
}
_USUAL_ADVICE = "Correct the cause and retry the delivery."


def failure(response: httpx.Response, asked: str, secrets: Iterable[str]) -> DeliveryError:
    """Return the error for an answer that is not a success.

    `asked` says what was asked for. Of the answer only the OperationOutcome is quoted, without the `secrets`.
    """
    text = f": {quoted}" if (quoted := outcome_text(json_or_none(response), secrets)) else ""
    said = f"The FHIR server {response.url.host} answered {response.status_code} to {asked}{text}."
    if response.has_redirect_location:
        return DeliveryRefused(f"{said} Redirects are not followed; set url of the destination to the final address.")
    return error_for_status(response.status_code, said, retry_after_s(response.headers.get("Retry-After", "")))


def error_for_status(status: int, said: str, retry_after: float | None = None) -> DeliveryError:
    """Return the deferral or refusal that an HTTP status stands for."""
    if status in _PASSING or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return DeliveryDeferred(f"{said} It will be tried again.", retry_after)
    return DeliveryRefused(f"{said} {_ADVICE.get(status, _USUAL_ADVICE)}")


def outcome_text(body: object, secrets: Iterable[str]) -> str:
    """Return what an OperationOutcome says, on one line, trimmed, with every secret blotted out."""
    if not isinstance(body, dict) or body.get("resourceType") != "OperationOutcome":
        return ""
    text = one_line("; ".join(_issue_text(issue) for issue in body.get("issue", [])))
    for secret in secrets:
        text = text.replace(secret, "***")
    return text if len(text) <= _LONGEST_TEXT else f"{text[:_LONGEST_TEXT]}..."


def json_or_none(response: httpx.Response) -> Any:
    """Return the JSON body, or `None` when it is none."""
    try:
        return response.json()
    except ValueError:
        return None


def _issue_text(issue: dict[str, Any]) -> str:
    details = issue.get("details", {})
    said = [details.get("text", ""), issue.get("diagnostics", "")]
    return " ".join(part for part in said if part) or str(issue.get("code", ""))
