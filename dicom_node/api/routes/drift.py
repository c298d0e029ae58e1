"""What has changed in inputs and outputs of models."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Depends, Query
from pydantic import Field

from dicom_node.api.access import Reads
from dicom_node.api.addresses import V1
from dicom_node.api.answers.paging import PAGED, ListPages, TextPageQuery
from dicom_node.api.answers.problems import described
from dicom_node.api.audited import audited
from dicom_node.api.parts import Parts
from dicom_node.core.audit import AuditedAct
from dicom_node.index.drift.streams import DriftView, drift_views

router = APIRouter(prefix=V1, dependencies=[Reads], responses=described(401, 422, 429, 503))


class DriftQuery(TextPageQuery):
    """How much to say of each stream."""

    every: bool = Field(False, description="Every comparison of the last look, also of what does not drift.")


@router.get(
    "/drift",
    tags=["node"],
    summary="What drifts",
    responses={**PAGED, **described(404)},
    dependencies=[audited(AuditedAct.QUERY)],
)
def get_drift(
    parts: Parts, pages: Annotated[ListPages, Depends()], asked: Annotated[DriftQuery, Query()]
) -> Sequence[DriftView]:
    """Each route, scanner and model version with what differs from its reference, as of the last look."""
    with parts.database.read() as connection:
        found = drift_views(connection, every=asked.every)
    return pages.cut_whole(found, asked.limit, asked.cursor, _cursor)


def _cursor(one: DriftView) -> str:
    named = "\n".join((one.route, one.scanner, one.model, one.model_version, one.began_at.isoformat()))
    return hashlib.sha256(named.encode()).hexdigest()[:32]
