"""The nouns of the node: frozen dataclasses, standard library only, no input or output.

Times are aware `datetime`s in UTC. UIDs are plain strings. Names follow the DICOM keyword in snake_case.
"""

from __future__ import annotations

from dicom_node.core.entities.findings import Code, Finding, Measurement, ModelIdentity, Presence, Region, Withheld
from dicom_node.core.entities.outgoing import (
    AboutResult,
    Artifact,
    ArtifactKind,
    Destination,
    JobOutcome,
    MediaType,
    ObjectName,
    Route,
)
from dicom_node.core.entities.received import Instance, PatientNumber, SendingPeer, Series, Study
from dicom_node.core.entities.reports import ReportMatch, ReportStatus, StatedReport
from dicom_node.core.entities.stated import OrderContext, OrderNumber, Purpose, StatedPatient, StatedRequest
from dicom_node.core.entities.states import (
    CommitmentState,
    DecisionState,
    DeletionState,
    DeliveryState,
    DestinationState,
    InstanceRole,
    JobStage,
    JobState,
    KeptKind,
    ObjectState,
    Proof,
    ResultState,
    ReviewState,
    StudyState,
)

__all__ = [
    "AboutResult",
    "Artifact",
    "ArtifactKind",
    "Code",
    "CommitmentState",
    "DecisionState",
    "DeletionState",
    "DeliveryState",
    "Destination",
    "DestinationState",
    "Finding",
    "Instance",
    "InstanceRole",
    "JobOutcome",
    "JobStage",
    "JobState",
    "KeptKind",
    "Measurement",
    "MediaType",
    "ModelIdentity",
    "ObjectName",
    "ObjectState",
    "OrderContext",
    "OrderNumber",
    "PatientNumber",
    "Presence",
    "Proof",
    "Purpose",
    "Region",
    "ReportMatch",
    "ReportStatus",
    "ResultState",
    "ReviewState",
    "Route",
    "SendingPeer",
    "Series",
    "StatedPatient",
    "StatedReport",
    "StatedRequest",
    "Study",
    "StudyState",
    "Withheld",
]
