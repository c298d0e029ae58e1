"""The tables, nothing else, in modules by what they are about. `migrations/` creates them; a test holds both
against each other.

Times are UTC. Texts that come from enums hold the enum's value.
"""

from __future__ import annotations

from dicom_node.index.tables.alarms import alarm_messages, alarm_signs, alarms, self_tests, watched_hours
from dicom_node.index.tables.analysis import artifacts, events, jobs, results, review_locks, reviews
from dicom_node.index.tables.drift import drift_comparisons, drift_features, drift_streams, stopped_routes
from dicom_node.index.tables.operation import (
    damaged_objects,
    deletions,
    disk_samples,
    held_studies,
    model_decisions,
    node_identity,
    route_edits,
    scrub_places,
    study_holds,
    suspended_routes,
)
from dicom_node.index.tables.outbox import deliveries, destinations, notifications, peer_capabilities, subscribers
from dicom_node.index.tables.people import accounts, api_keys, audit_positions, audit_records, sessions
from dicom_node.index.tables.received import (
    associations,
    commitments,
    hl7_messages,
    instances,
    orders,
    patient_moves,
    report_searches,
    reports,
    retrievals,
    stated_patients,
    stated_requests,
    studies,
    study_keys,
    study_patients,
)
from dicom_node.index.tables.schema import UtcDateTime, metadata

__all__ = [
    "UtcDateTime",
    "accounts",
    "alarm_messages",
    "alarm_signs",
    "alarms",
    "api_keys",
    "artifacts",
    "associations",
    "audit_positions",
    "audit_records",
    "commitments",
    "damaged_objects",
    "deletions",
    "deliveries",
    "destinations",
    "disk_samples",
    "drift_comparisons",
    "drift_features",
    "drift_streams",
    "events",
    "held_studies",
    "hl7_messages",
    "instances",
    "jobs",
    "metadata",
    "model_decisions",
    "node_identity",
    "notifications",
    "orders",
    "patient_moves",
    "peer_capabilities",
    "report_searches",
    "reports",
    "results",
    "retrievals",
    "review_locks",
    "reviews",
    "route_edits",
    "scrub_places",
    "self_tests",
    "sessions",
    "stated_patients",
    "stated_requests",
    "stopped_routes",
    "studies",
    "study_holds",
    "study_keys",
    "study_patients",
    "subscribers",
    "suspended_routes",
    "watched_hours",
]
