"""What programs that follow the node read of it, as the code writes it: the sidecar of a file."""

from __future__ import annotations

from pathlib import Path

from dicom_node.core.artifact_kinds import SEGMENTATION
from dicom_node.core.entities import (
    AboutResult,
    Artifact,
    ArtifactKind,
    JobState,
    MediaType,
    ObjectName,
    ResultState,
)
from dicom_node.core.uids import derived_uid
from dicom_node.deliver.outgoing import Outgoing
from dicom_node.deliver.senders import sidecar

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
