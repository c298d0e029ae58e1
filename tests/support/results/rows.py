"""Writes rows into an index the way the node does, one call for each."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image
from sqlalchemy import Connection, insert

from dicom_node.core.entities import DecisionState, DeliveryState, JobState, ModelIdentity, ReviewState, StudyState
from dicom_node.core.principal import Principal, UserRole
from dicom_node.index.tables import (
    artifacts,
    associations,
    deliveries,
    events,
    instances,
    jobs,
    notifications,
    results,
    studies,
)
from dicom_node.index.transitions import Change, insert_review

NOW = datetime(2026, 3, 14, 9, 30, tzinfo=UTC)
SOMEBODY = Principal("somebody", frozenset({UserRole.OPERATOR}))


def key_of(name: str) -> str:
    """Return the job key that the result `name` has."""
    return hashlib.sha256(name.encode()).hexdigest()


def owe_events(connection: Connection, destination: str, urgencies: Sequence[int]) -> list[str]:
    """Owe a destination one event for each urgency, each of a study of its own; return their ids."""
    for number, urgency in enumerate(urgencies, start=1):
        body = {"type": "result.made", "timestamp": "2026-03-14T09:30:00Z", "data": {"n": number}}
        connection.execute(insert(notifications).values(
            event_id=f"evt_{number}", destination=destination, type="result.made", study_instance_uid=f"1.{number}",
            urgency=urgency, body=json.dumps(body), next_attempt_at=NOW, created_at=NOW, **{"state": "PENDING"},
        ))  # fmt: skip
    return [f"evt_{number}" for number in range(1, len(urgencies) + 1)]


class Rows:
    """Writes rows into an index; object files go below `objects`."""

    def __init__(self, connection: Connection, objects: Path, now: datetime = NOW) -> None:
        self.connection = connection
        self.objects = objects
        self.now = now
        self._number = 0

    def ago(self, seconds: float) -> datetime:
        return self.now - timedelta(seconds=seconds)

    def study(self, uid: str, state: StudyState, age_s: float, reason: str = "", revision: int = 1) -> None:
        at = self.ago(age_s)
        self._add(
            studies,
            study_instance_uid=uid,
            revision=revision,
            state=state.value,
            reason=reason,
            first_received_at=at,
            last_received_at=at + timedelta(seconds=20),
            updated_at=at + timedelta(seconds=60),
        )

    def series(self, study: str, uid: str, number: int, role: str = "SOURCE", **attributes: str) -> None:
        for index in range(number):
            self._instance(study, uid, f"{uid}.{index + 1}", role, attributes)

    def superseded(self, study: str, series: str, index: int) -> None:
        self._instance(study, series, f"{series}.{index}", "SOURCE", {"modality": "CT"}, is_used=False)

    def _instance(
        self, study: str, series: str, uid: str, role: str, attributes: Mapping[str, str], *, is_used: bool = True
    ) -> None:
        digest = hashlib.sha256(f"{uid}{is_used}".encode()).hexdigest()
        self._add(
            instances,
            sop_instance_uid=uid,
            study_instance_uid=study,
            series_instance_uid=series,
            sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
            transfer_syntax_uid="1.2.840.10008.1.2.1",
            sha256=digest,
            size_bytes=526336,
            object_key=digest,
            role=role,
            superseded_at=None if is_used else self.now,
            attributes=dict(attributes),
            received_at=self.now,
            calling_ae_title="CT1",
            called_ae_title="AINODE",
            source_host="10.1.2.20",
        )

    def association(
        self, study: str, age_s: float, number: int, sender: str = "CT1", outcome: str = "released"
    ) -> None:
        opened = self.ago(age_s)
        self._number += 1
        self._add(
            associations,
            association_id=f"association-{self._number}",
            study_instance_uid=study,
            receiver_id="receiver-1",
            calling_ae_title=sender,
            called_ae_title="AINODE",
            source_host="10.1.2.20",
            opened_at=opened,
            seen_at=opened,
            closed_at=opened + timedelta(seconds=20) if outcome else None,
            outcome=outcome,
            instances=number,
        )

    def job(self, study: str, route: str, model: str, state: JobState, age_s: float, **more: Any) -> None:
        ended = state not in (JobState.QUEUED, JobState.RUNNING)
        values = {
            "revision": 1,
            "decision": {},
            "attempts": 1,
            "not_before": self.ago(age_s),
            "started_at": self.ago(age_s - 1),
            "finished_at": self.ago(age_s - 9) if ended else None,
        }
        row = {"study_instance_uid": study, "route": route, "model": model, "state": state.value}
        self._add(jobs, **row, created_at=self.ago(age_s), **values | more)

    def result(self, study: str, name: str, model: ModelIdentity, state: JobState, **more: Any) -> None:
        values = {"revision": 1, "route": name, "sequence": 1, "summary": {}, "created_at": self.ago(60)}
        self._add(
            results,
            job_key=key_of(name),
            study_instance_uid=study,
            model=model.name,
            state=state.value,
            **values | more,
        )

    def accepted(self, study: str, name: str, model: ModelIdentity, reviewer: str, age_s: float) -> None:
        """Enter that a person has accepted the result `name`."""
        who = {"reviewer_account": reviewer, "reviewer_name": reviewer}
        none = dict.fromkeys(("reviewer_organization", "reviewer_identifier", "text", "digest"), "")
        change = Change(self.ago(age_s), ("reviewed", f"{reviewer} accepted the result."))
        insert_review(
            self.connection, key_of(name), DecisionState.DECIDED, change, study_instance_uid=study, revision=1,
            route=name, model=model.name, review_state=ReviewState.ACCEPTED, reasons=[], findings=[], **who, **none,
        )  # fmt: skip

    def artifact(self, name: str, uid: str, kind: str, description: str, picture: Image.Image | None = None) -> None:
        self._number += 1
        body = b'{"resourceType": "Bundle"}' if kind == "FHIR" else bytes(128) + b"DICM"
        (self.objects / uid).write_bytes(body)
        preview_key = "" if picture is None else self._keep(picture)
        self._add(
            artifacts,
            uid=uid,
            job_key=key_of(name),
            kind=kind,
            media_type="application/fhir+json" if kind == "FHIR" else "application/dicom",
            description=description,
            object_key=uid,
            sha256=hashlib.sha256(body).hexdigest(),
            size_bytes=len(body),
            preview_key=preview_key,
            send_order=self._number,
        )

    def _keep(self, picture: Image.Image) -> str:
        """Keep a picture under the digest that names it, as the spool does."""
        encoded = BytesIO()
        picture.save(encoded, format="png")
        key = f"{hashlib.sha256(encoded.getvalue()).hexdigest()}.png"
        (self.objects / key).write_bytes(encoded.getvalue())
        return key

    def delivery(self, name: str, uid: str, destination: str, state: DeliveryState, **more: Any) -> None:
        sent = state in (DeliveryState.SENT, DeliveryState.COMMITTED)
        values = {"attempts": 1, "note": "", "next_attempt_at": self.ago(50), "created_at": self.ago(60)}
        self._add(
            deliveries,
            artifact_uid=uid,
            job_key=key_of(name),
            destination=destination,
            state=state.value,
            sent_at=self.ago(50) if sent else None,
            **values | more,
        )

    def event(self, study: str, age_s: float, kind: str, text: str, **detail: Any) -> None:
        self._add(events, study_instance_uid=study, at=self.ago(age_s), kind=kind, text=text, detail=detail)

    def _add(self, table: Any, **values: Any) -> None:
        self.connection.execute(insert(table).values(values))
