"""What the API is given by the composition root, and how routes reach it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, cast

from fastapi import Depends, Request
from fastapi import Path as UrlPath
from pydantic import AfterValidator, StringConstraints

from dicom_node.config.settings import Settings
from dicom_node.core.entities import Route
from dicom_node.core.uids import is_valid_uid
from dicom_node.governance.standing import ModelView
from dicom_node.index.database import Database
from dicom_node.index.views.lists import Cursor
from dicom_node.ingest.session import IngestParts
from dicom_node.receive.refusals import RefusedContexts
from dicom_node.retrieve.retrievals import Retrievals


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiParts:
    """Everything the routes need of the node.

    `open_object` finds the file of an object key; it may raise `NotFound`. `models` tells of each
    model by name whether it may run. `wake` tells the sweeps that the operator has asked for something. `token_digest`
    is the sha256 of the API token in hexadecimal. `receiver_ready` tells whether the DICOM listener takes associations
    (always true where no receiver belongs to this process). `roles_not_at_work` names the roles of the node that no
    process does now, and why. `refused_contexts` are what peers could not send to this process's receiver.
    `retrievals` fetches studies and `ingest` takes them in, where this process does.
    """

    database: Database
    settings: Settings
    open_object: Callable[[str], Path]
    models: Callable[[], Mapping[str, ModelView]]
    routes: Sequence[Route]
    wake: Callable[[], None]
    token_digest: str
    receiver_ready: Callable[[], bool]
    version: str
    roles_not_at_work: Callable[[], Mapping[str, str]] = dict
    refused_contexts: Callable[[], Sequence[RefusedContexts]] = tuple
    retrievals: Retrievals | None = None
    ingest: IngestParts | None = None


def parts_of(request: Request) -> ApiParts:
    """Return what the application was built with."""
    return cast(ApiParts, request.app.state.parts)


Parts = Annotated[ApiParts, Depends(parts_of)]


# --- parameters ----------------------------------------------------------------------------------------------------


def _uid(text: str) -> str:
    if not is_valid_uid(text):
        raise ValueError("not a UID: digits and single dots, at most 64 characters")
    return text


def _cursor(text: str) -> str:
    Cursor.parse(text)
    return text


StudyUid = Annotated[str, UrlPath(alias="uid", max_length=64, description="Study Instance UID"), AfterValidator(_uid)]
InstanceUid = Annotated[str, StringConstraints(max_length=64), AfterValidator(_uid)]
ArtifactUid = Annotated[
    str,
    UrlPath(alias="uid", max_length=64, description="SOP Instance UID, or the UID of a FHIR report"),
    AfterValidator(_uid),
]
JobKey = Annotated[str, UrlPath(pattern=r"^[0-9a-f]{64}$", description="Key of the analysis, as in a result")]
DeliveryId = Annotated[int, UrlPath(alias="id", ge=1, le=2**62, description="Number of the delivery")]
CursorText = Annotated[str, StringConstraints(max_length=96), AfterValidator(_cursor)]
