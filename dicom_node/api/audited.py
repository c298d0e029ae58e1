"""Acts of people are written into the audit trail before they are done; a route says which act it is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from fastapi import Depends, Request
from fastapi.exceptions import RequestValidationError
from sqlalchemy import Connection
from starlette.exceptions import HTTPException

from dicom_node.api.access import CurrentPrincipal, address_of
from dicom_node.api.answers.problems import ProblemError
from dicom_node.api.parts import ApiParts, Parts
from dicom_node.core.audit import AuditedAct, AuditedEvent, AuditOutcome
from dicom_node.core.errors import NodeError
from dicom_node.core.principal import Principal
from dicom_node.core.uids import is_valid_uid
from dicom_node.index.people.audit_records import study_of_artifact, study_of_delivery, study_of_result

#: What of a query is written down as it was asked; other words may be a patient's name, and only their number is.
_TOLD = (
    "state", "destination", "route", "accession_number", "date", "act", "actor", "study",
    "from", "to", "model", "standing", "deidentified", "profile",
)  # fmt: skip
_LONGEST = 64
#: What a database can be asked for; the route itself refuses what is longer, but later.
_NUMBER = re.compile(r"[0-9]{1,18}")
_PART_OF_UID = re.compile(r"[0-9.]{1,64}")


class Audited:
    """A dependency of a route: the act is written down first, and what came of it when it failed."""

    def __init__(self, act: AuditedAct) -> None:
        self.act = act

    def __call__(self, request: Request, parts: Parts, principal: CurrentPrincipal) -> Iterator[None]:
        """Let the act be done when it is written down. Raises `AuditUnavailable`."""
        event = self._event(request, parts, principal)
        parts.audit.record(event)
        try:
            yield
        except Exception as error:
            parts.audit.note(replace(event, outcome=_outcome(error), detail={**event.detail, "failed": _told(error)}))
            raise

    def _event(self, request: Request, parts: ApiParts, principal: Principal) -> AuditedEvent:
        with parts.database.read() as connection:
            study = _study(connection, request)
        return AuditedEvent(
            act=self.act,
            actor=principal,
            address=address_of(request),
            study_instance_uid=study,
            patient_id=request.query_params.get("patient_id", "")[:_LONGEST],
            detail={"route": f"{request.method} {_template(request)}", **_asked(request)},
        )


def audited(act: AuditedAct) -> Any:
    """Return what a route of this act has among its dependencies, after the permission that it asks for."""
    return Depends(Audited(act))


def _template(request: Request) -> str:
    return str(getattr(request.scope.get("route"), "path", ""))


def _study(connection: Connection, request: Request) -> str:
    """Return the study that the address is about, "" for none or one that is not known."""
    named, template = request.path_params, _template(request)
    if "job_key" in named:
        return study_of_result(connection, str(named["job_key"]))
    uid, number = str(named.get("uid", "")), str(named.get("id", ""))
    if "/artifacts/" in template:
        return study_of_artifact(connection, uid)
    if "/deliveries/" in template:
        return study_of_delivery(connection, int(number)) if _NUMBER.fullmatch(number) else ""
    return uid if is_valid_uid(uid) else ""


def _asked(request: Request) -> dict[str, str]:
    """Return what else the address and its query say, without words that may be a name."""
    named = {key: str(value)[:_LONGEST] for key, value in request.path_params.items() if key != "uid"}
    if "/artifacts/" in _template(request):
        named["object"] = str(request.path_params.get("uid", ""))[:_LONGEST]
    told = {key: request.query_params[key][:_LONGEST] for key in _TOLD if key in request.query_params}
    words = request.query_params.get("query", "").strip()
    if words:
        told["query"] = words if _PART_OF_UID.fullmatch(words) else f"{len(words.split())} words"
    return named | told


def _outcome(error: Exception) -> AuditOutcome:
    """What is refused is a minor failure; what fails for the node's own reason is a serious one (PS3.15 A.5.2)."""
    status = _status(error)
    is_refusal = status < 500 if status else isinstance(error, NodeError | RequestValidationError)
    return AuditOutcome.MINOR_FAILURE if is_refusal else AuditOutcome.SERIOUS_FAILURE


def _told(error: Exception) -> str:
    return str(_status(error) or type(error).__name__)


def _status(error: Exception) -> int:
    """Return the HTTP status that an error names, 0 for one that names none."""
    if isinstance(error, ProblemError):
        return error.status
    return error.status_code if isinstance(error, HTTPException) else 0
