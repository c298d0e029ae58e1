"""Parameters of the API, checked before anything is done with them."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path
from pydantic import AfterValidator, StringConstraints

from dicom_node.index.views import Cursor
from dicom_node.uids import is_valid_uid


def _uid(text: str) -> str:
    if not is_valid_uid(text):
        raise ValueError("not a UID: digits and single dots, at most 64 characters")
    return text


def _cursor(text: str) -> str:
    Cursor.parse(text)
    return text


StudyUid = Annotated[str, Path(alias="uid", max_length=64, description="Study Instance UID"), AfterValidator(_uid)]
ArtifactUid = Annotated[
    str,
    Path(alias="uid", max_length=64, description="SOP Instance UID, or the UID of a FHIR report"),
    AfterValidator(_uid),
]
JobKey = Annotated[str, Path(pattern=r"^[0-9a-f]{64}$", description="Key of the analysis, as in a result")]
DeliveryId = Annotated[int, Path(alias="id", ge=1, le=2**62, description="Number of the delivery")]
CursorText = Annotated[str, StringConstraints(max_length=96), AfterValidator(_cursor)]
