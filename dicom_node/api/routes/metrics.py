"""What the node measures of itself, for a monitoring system that has a key; `[metrics]` serves the same without one."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Header, Response

from dicom_node.api.access import Reads
from dicom_node.api.answers.problems import described
from dicom_node.api.parts import Parts

router = APIRouter(tags=["health"], dependencies=[Reads], responses=described(401, 422, 429, 503))
_TEXT: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/plain": {"schema": {"type": "string"}}, "application/openmetrics-text": {}}}
}


@router.get("/metrics", summary="Metrics, as Prometheus reads them", response_class=Response, responses=_TEXT)
def get_metrics(parts: Parts, accept: Annotated[str, Header()] = "") -> Response:
    """What this process has counted since its start, and what is so at this moment; nothing of patients. In the text
    format of Prometheus, or in that of OpenMetrics where it is asked for."""
    body, media_type = parts.metrics.text(accept)
    return Response(body, media_type=media_type)
