"""What programs that follow the node read of it, as the code writes it: events, and the sidecar of a file."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from dicom_node.core.entities import (
    AboutResult,
    Artifact,
    ArtifactKind,
    JobState,
    MediaType,
    ObjectName,
    ResultState,
)
from dicom_node.core.outputs.artifact_kinds import SEGMENTATION
from dicom_node.core.outputs.event_types import EVENT_TYPES, FACTS, EventType
from dicom_node.core.uids import derived_uid
from dicom_node.deliver.outgoing import Outgoing
from dicom_node.deliver.senders import sidecar
from dicom_node.deliver.senders.webhook import signature_headers
from dicom_node.index.notices import Notice, json_of

_STUDY = derived_uid("example", "study")
_EARLIER = ObjectName(ArtifactKind.SEGMENTATION, derived_uid("example", "earlier"))
_ABOUT = AboutResult(
    study_instance_uid=_STUDY, revision=2, route="chest-ct", model="ct-lung-density", model_version="1.2.0",
    model_digest="5e" * 32, result="c7" * 32, sequence=2, state=JobState.DONE, reason="",
    standing=ResultState.CURRENT, replaces=(_EARLIER,),
)  # fmt: skip


def sidecar_example() -> str:
    """The sidecar of a segmentation that replaces an earlier one."""
    artifact = Artifact(
        uid=derived_uid("example", "mask"), kind=ArtifactKind.SEGMENTATION, media_type=MediaType.DICOM, object_key="",
        sha256="3f" * 32, size_bytes=183_206, order=1, description="Segmentation: Lung", sop_class_uid=SEGMENTATION,
        series_instance_uid=derived_uid("example", "series"),
    )  # fmt: skip
    name = sidecar.file_name(ObjectName(artifact.kind, artifact.uid))
    return f"```json\n{sidecar.text(Outgoing(artifact, Path()), _ABOUT, name, ())}```"


def event_table() -> str:
    """Every type of event: when it happens, and what it tells."""
    rows = [
        f"| `{name}` | {one.when} | {', '.join(f'`{fact}`' for fact in one.facts)} |"
        for name, one in EVENT_TYPES.items()
    ]
    return "\n".join(["| type | when | `data` |", "|---|---|---|", *rows])


def fact_table() -> str:
    """What the keys of `data` mean."""
    return "\n".join(["| key | meaning |", "|---|---|", *(f"| `{key}` | {means} |" for key, means in FACTS.items())])


def event_example() -> str:
    """One request as a receiver gets it: headers and body."""
    facts = {
        "study_instance_uid": _STUDY, "revision": 2, "route": "chest-ct",
        "model": {"name": "ct-lung-density", "version": "1.2.0"}, "result": "c7" * 32, "sequence": 2, "state": "DONE",
        "reason": "", "findings": {"evaluated": 2, "present": 0},
    }  # fmt: skip
    assert tuple(facts) == EVENT_TYPES[EventType.RESULT_MADE].facts
    notice = Notice(type=EventType.RESULT_MADE, facts=facts)
    body = json_of(notice, facts, datetime(2026, 3, 14, 9, 30, tzinfo=UTC))
    headers = signature_headers("evt_0f3c5b6d7e8a49b1a2c3d4e5f6071829", 1773480600, body.encode(), [bytes(24)])
    lines = [
        "POST /hook HTTP/1.1",
        "Content-Type: application/json",
        *(f"{key}: {one}" for key, one in headers.items()),
    ]
    return "```http\n" + "\n".join([*lines, "", body]) + "\n```"
