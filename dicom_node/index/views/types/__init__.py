"""What the read side of the index answers with: JSON-ready frozen dataclasses, no patient name or ID in any.

Descriptions and AE titles in them come from peers: whoever shows them treats them as plain text.
"""

from __future__ import annotations

from dicom_node.index.views.types.deliveries import ChangeToken, Counts, DeliveryView, DestinationCounts, OpenEvent
from dicom_node.index.views.types.results import (
    ArtifactView,
    JobLine,
    JobProgress,
    JobView,
    KeptArtifact,
    KeptDicomObject,
    ResultView,
    ReviewView,
    StoredArtifact,
)
from dicom_node.index.views.types.studies import (
    DeletionView,
    DeliveryCounts,
    HoldView,
    InstanceVersion,
    OrderView,
    PatientStudy,
    RouteState,
    SeriesView,
    StatedRequestView,
    StudyLine,
    StudyPage,
    StudyView,
    TimelineEntry,
    VersionedInstance,
    VersionPage,
)

__all__ = [
    "ArtifactView",
    "ChangeToken",
    "Counts",
    "DeletionView",
    "DeliveryCounts",
    "DeliveryView",
    "DestinationCounts",
    "HoldView",
    "InstanceVersion",
    "JobLine",
    "JobProgress",
    "JobView",
    "KeptArtifact",
    "KeptDicomObject",
    "OpenEvent",
    "OrderView",
    "PatientStudy",
    "ResultView",
    "ReviewView",
    "RouteState",
    "SeriesView",
    "StatedRequestView",
    "StoredArtifact",
    "StudyLine",
    "StudyPage",
    "StudyView",
    "TimelineEntry",
    "VersionPage",
    "VersionedInstance",
]
