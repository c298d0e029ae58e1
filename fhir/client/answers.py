"""What a server's answer means for a delivery: done, later, or never as it is. No input or output."""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import httpx

from dicom_node.core.calls.limits import retry_after_s
from dicom_node.core.errors import CredentialsRefused, DeliveryDeferred, DeliveryError, DeliveryRefused
from dicom_node.fhir.client.reading import children, text

#: Worth another try besides 5xx: passing troubles, and a conflict, which is a race of writers.
_PASSING = {
    HTTPStatus.REQUEST_TIMEOUT,
    HTTPStatus.CONFLICT,
    HTTPStatus.TOO_EARLY,
    HTTPStatus.TOO_MANY_REQUESTS,
}
#: No fault of the report: no other would be taken either.
_LOGIN_REFUSED = {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}

#: By status alone these mean many things.
_MAY_BE_UNSUPPORTED = {HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND, HTTPStatus.UNPROCESSABLE_ENTITY}

_ADVICE: dict[int, str] = {
    HTTPStatus.UNAUTHORIZED: "Check token or user and password of the destination.",
    HTTPStatus.FORBIDDEN: "Grant the node the right to do this.",
    HTTPStatus.NOT_FOUND: "Check url of the destination; it must be the FHIR base address.",
    HTTPStatus.PRECONDITION_FAILED: "Somebody changes the report while the node writes, or the EHR holds several "
    "resources with one identifier; look, then retry the delivery.",
}
_USUAL_ADVICE = "Look into the log of the EHR, correct the cause and retry the delivery."


class NotOffered(DeliveryRefused):
    """The server does not do what was asked at all (405, 501, or it says so); another way may serve."""


class AccessDenied(CredentialsRefused):
    """The server answers, and does not let this account do it (401, 403); it may let it do other things."""


#: Why what stands beside a report cannot be looked for or written, and must not cost it. A sign-in that is refused is
#: none: what was left out would never be made up for, and is when the sign-in is mended and the report sent again.
NOT_FOR_US = (DeliveryRefused, AccessDenied)


class ConditionNotMet(DeliveryRefused):
    """What the server holds is no longer what was looked at (412); look again."""


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """One whole HTTP answer; `host` is who gave it."""

    status: int
    headers: httpx.Headers
    content: bytes
    host: str

    @property
    def is_success(self) -> bool:
        """Tell whether the status is 2xx."""
        return HTTPStatus.OK <= self.status < HTTPStatus.MULTIPLE_CHOICES

    def json(self) -> Any:
        """Return the JSON body, or `None` when it is none."""
        try:
            return json.loads(self.content)
        except (ValueError, RecursionError):
            return None


def failure(answer: HttpAnswer, asked: str, elements: Collection[str]) -> DeliveryError:
    """Return the error for an answer that is not a success.

    `asked` says what was asked for. Of the answer only status, issue codes and paths of `elements` are quoted.
    """
    said = f"The FHIR server {answer.host} answered {answer.status} to {asked}{in_brackets(answer.json(), elements)}."
    if answer.status in _MAY_BE_UNSUPPORTED and says_unsupported(answer.json()):
        return NotOffered(f"{said} {_USUAL_ADVICE}")
    if HTTPStatus.MULTIPLE_CHOICES <= answer.status < HTTPStatus.BAD_REQUEST:
        return DeliveryRefused(f"{said} Redirects are not followed; set url of the destination to the final address.")
    return error_for_status(answer.status, said, retry_after_s(answer.headers.get("Retry-After", "")))


def says_unsupported(outcome: object) -> bool:
    """Tell an OperationOutcome that says that the server does not do what was asked (R4 issue-type: not-supported)."""
    return any(text(issue, "code") == "not-supported" for issue in children(outcome, "issue"))


def is_unknown_here(answer: HttpAnswer) -> bool:
    """Tell whether nothing of this kind is at the address (404), rather than something that was referred to missing."""
    return answer.status == HTTPStatus.NOT_FOUND and not any(
        text(issue, "code") == "not-found" for issue in children(answer.json(), "issue")
    )


def error_for_status(status: int, said: str, retry_after: float | None = None) -> DeliveryError:
    """Return the deferral or refusal that an HTTP status stands for."""
    advice = _ADVICE.get(status, _USUAL_ADVICE)
    if status in _LOGIN_REFUSED:
        return AccessDenied(f"{said} {advice}", retry_after)
    if status == HTTPStatus.PRECONDITION_FAILED:
        return ConditionNotMet(f"{said} {advice}")
    if status in {HTTPStatus.METHOD_NOT_ALLOWED, HTTPStatus.NOT_IMPLEMENTED}:
        return NotOffered(f"{said} {advice}")
    if status in _PASSING or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return DeliveryDeferred(f"{said} It will be tried again.", retry_after)
    return DeliveryRefused(f"{said} {advice}")


# --- what an OperationOutcome says, without a word of its own -----------------------------------------------------

_MOST_ISSUES = 5
_ELEMENT_PATH = re.compile(r"[A-Za-z]+(\[\d+\])?(\.[A-Za-z]+(\[\d+\])?)*")
#: R4 value set issue-type (required).
_ISSUE_TYPES = frozenset({
    "invalid", "structure", "required", "value", "invariant", "security", "login", "unknown", "expired",
    "forbidden", "suppressed", "processing", "not-supported", "duplicate", "multiple-matches", "not-found",
    "deleted", "too-long", "code-invalid", "extension", "too-costly", "business-rule", "conflict", "transient",
    "lock-error", "no-store", "exception", "timeout", "incomplete", "throttled", "informational",
})  # fmt: skip


def in_brackets(outcome: object, elements: Collection[str]) -> str:
    """Return `outcome_text` as an addition to a sentence: `` (…)``, or nothing."""
    told = outcome_text(outcome, elements)
    return f" ({told})" if told else ""


def outcome_text(outcome: object, elements: Collection[str]) -> str:
    """Return the issue codes of an OperationOutcome, each with the element it is about.

    Never its words: servers repeat names and numbers in any spelling and script, so no list of words to blot out is
    long enough. Of paths only those of `elements` pass, which the node itself has sent.
    """
    if text(outcome, "resourceType") != "OperationOutcome":
        return ""
    issues = children(outcome, "issue")
    told = [_issue_text(issue, elements) for issue in issues[:_MOST_ISSUES]]
    return "; ".join(dict.fromkeys(filter(None, told)))


def _issue_text(issue: object, elements: Collection[str]) -> str:
    code = text(issue, "code")
    paths = issue.get("expression") if isinstance(issue, dict) else None
    known = [path for path in paths if _is_known(path, elements)] if isinstance(paths, list) else []
    where = f" at {', '.join(known[:_MOST_ISSUES])}" if known else ""
    return f"{code if code in _ISSUE_TYPES else 'an issue'}{where}"


def _is_known(path: object, elements: Collection[str]) -> bool:
    if not isinstance(path, str) or not _ELEMENT_PATH.fullmatch(path):
        return False
    return all(step.partition("[")[0] in elements for step in path.split("."))
