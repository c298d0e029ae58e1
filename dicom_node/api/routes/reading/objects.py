"""The produced objects themselves: DICOM files, FHIR Bundles, and pictures of them."""

from __future__ import annotations

import logging
from pathlib import Path

from fastapi import APIRouter
from starlette.responses import FileResponse

from dicom_node.api.access import Reads
from dicom_node.api.addresses import V1
from dicom_node.api.answers.problem_kinds import OBJECT_LOST
from dicom_node.api.answers.problems import ProblemError, described
from dicom_node.api.audited import audited
from dicom_node.api.front.ranges import OF_A_FILE
from dicom_node.api.parts import ApiParts, ArtifactUid, Parts
from dicom_node.core.audit import AuditedAct
from dicom_node.index.views import study as study_views
from dicom_node.index.views.types import StoredArtifact
from dicom_node.storage.digest import is_damaged

router = APIRouter(
    prefix=f"{V1}/artifacts", tags=["results"], dependencies=[Reads], responses=described(401, 404, 422, 429, 503)
)
_SUFFIXES = {
    "application/dicom": ".dcm", "application/fhir+json": ".json", "application/json": ".json",
    "application/hl7-v2": ".hl7",
}  # fmt: skip
_FILE = {"type": "string", "format": "binary"}
_OBJECTS = {
    "application/dicom": {"schema": _FILE},
    "application/fhir+json": {"schema": {"type": "object"}},
    "application/hl7-v2": {"schema": {"type": "string"}},
}
_log = logging.getLogger(__name__)


@router.get(
    "/{uid}",
    summary="Download an object",
    response_class=FileResponse,
    responses={200: {"content": _OBJECTS}, **OF_A_FILE},
    dependencies=[audited(AuditedAct.IMAGES_READ)],
)
def download(parts: Parts, uid: ArtifactUid) -> FileResponse:
    """The bytes exactly as they are sent to the destinations."""
    artifact = _artifact(parts, uid)
    name = uid + _SUFFIXES.get(artifact.media_type, ".bin")
    path = _file(parts, uid, artifact.object_key, artifact.sha256)
    _log.info("object downloaded", extra={"uid": uid, "kind": artifact.kind})
    return FileResponse(path, media_type=artifact.media_type, filename=name)


@router.get(
    "/{uid}/preview.png",
    summary="A picture of an object",
    response_class=FileResponse,
    responses={200: {"content": {"image/png": {"schema": _FILE}}}, **OF_A_FILE},
    dependencies=[audited(AuditedAct.IMAGES_READ)],
)
def preview(parts: Parts, uid: ArtifactUid) -> FileResponse:
    """The picture as PNG, for objects that are pictures."""
    artifact = _artifact(parts, uid)
    if not artifact.preview_key:
        raise ProblemError(404, f"Object {uid} is not a picture. Download it instead.")
    named_by = Path(artifact.preview_key).stem  # of a picture there is no digest but the name of its file
    return FileResponse(_file(parts, uid, artifact.preview_key, named_by), media_type="image/png")


def _artifact(parts: ApiParts, uid: str) -> StoredArtifact:
    with parts.database.read() as connection:
        return study_views.artifact(connection, uid)


def _file(parts: ApiParts, uid: str, object_key: str, sha256: str) -> Path:
    """Return the file of an object or of its picture when its bytes are those that were made."""
    path = parts.open_object(object_key)
    if not path.is_file():
        _log.error("object is missing from the object store", extra={"object_key": object_key})
        raise ProblemError(
            404,
            "The object is recorded but its file is gone. Check the data folder; analysing again makes it anew.",
            kind=OBJECT_LOST,
        )
    if is_damaged(path, sha256):
        _log.error("object is damaged", extra={"uid": uid, "object_key": object_key})
        raise ProblemError(
            404,
            "The file of the object is damaged and not handed out. Check the disk; analysing again makes it anew.",
            kind=OBJECT_LOST,
        )
    return path
