"""A large index, as arrivals, analyses and deliveries leave it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from sqlalchemy import insert

from dicom_node.core.entities import DeliveryState, InstanceRole, JobState, StudyState
from dicom_node.index.database import Database
from dicom_node.index.tables import artifacts, deliveries, instances, jobs, results, studies, study_patients

_NOW = datetime.now(UTC)
_ROWS_PER_INSERT = 20_000


def fill(database: Database, count: int, per_study: int) -> None:
    """Put studies with images, an analysis, a result and a delivery each into an empty index."""
    for start in range(0, count, 1000):
        numbers = range(start, min(start + 1000, count))
        with database.write() as connection:
            connection.execute(insert(studies), [_study(number) for number in numbers])
            connection.execute(insert(study_patients), [
                {"study_instance_uid": f"1.2.3.{number}", "patient_id": f"PAT-{number // 3}", "issuer": ""}
                for number in numbers
            ])  # fmt: skip
            connection.execute(insert(jobs), [_job(number) for number in numbers])
            connection.execute(insert(results), [_result(number) for number in numbers])
            connection.execute(insert(artifacts), [_artifact(number) for number in numbers])
            connection.execute(insert(deliveries), [_delivery(number) for number in numbers])
    for start in range(0, count * per_study, _ROWS_PER_INSERT):
        end = min(start + _ROWS_PER_INSERT, count * per_study)
        with database.write() as connection:
            connection.execute(insert(instances), [_instance(one // per_study, one) for one in range(start, end)])


def _study(number: int) -> dict[str, object]:
    at = _NOW - timedelta(minutes=number)
    return {
        "study_instance_uid": f"1.2.3.{number}", "revision": 1, "state": StudyState.REPORTED.value, "reason": "",
        "first_received_at": at, "last_received_at": at, "updated_at": at,
    }  # fmt: skip


def _job(number: int) -> dict[str, object]:
    at = _NOW - timedelta(minutes=number)
    return {
        "study_instance_uid": f"1.2.3.{number}", "revision": 1, "route": "chest-ct", "model": "ct-lung-density",
        "state": JobState.DONE.value, "decision": {"reason": "x" * 2000}, "not_before": at, "created_at": at,
        "priority": ("STAT", "HIGH", "ROUTINE", "ROUTINE")[number % 4], "job_key": f"{number:064x}", "finished_at": at,
    }  # fmt: skip


def _result(number: int) -> dict[str, object]:
    findings = [{"label": "Nodule", "presence": "PRESENT", "probability": 0.7, "measurements": []}] * 10
    return {
        "job_key": f"{number:064x}", "study_instance_uid": f"1.2.3.{number}", "revision": 1, "route": "chest-ct",
        "model": "ct-lung-density", "state": JobState.DONE.value, "sequence": 1, "summary": {"findings": findings},
        "created_at": _NOW - timedelta(minutes=number),
    }  # fmt: skip


def _artifact(number: int) -> dict[str, object]:
    return {
        "uid": f"1.2.4.{number}", "job_key": f"{number:064x}", "kind": "SR", "media_type": "application/dicom",
        "object_key": str(number), "sha256": "", "size_bytes": 1, "send_order": 1,
    }  # fmt: skip


def _delivery(number: int) -> dict[str, object]:
    at = _NOW - timedelta(minutes=number)
    refused = number % 50 == 0
    return {
        "artifact_uid": f"1.2.4.{number}", "job_key": f"{number:064x}", "destination": "pacs", "attempts": 1,
        "state": (DeliveryState.PARKED if refused else DeliveryState.COMMITTED).value, "next_attempt_at": at,
        "note": f"0xA900 from the archive for 1.2.4.{number}" if refused else "", "created_at": at, "sent_at": at,
    }  # fmt: skip


def _instance(study: int, number: int) -> dict[str, object]:
    return {
        "sop_instance_uid": f"1.2.3.{study}.1.{number}", "study_instance_uid": f"1.2.3.{study}",
        "series_instance_uid": f"1.2.3.{study}.1", "sop_class_uid": "1.2.840.10008.5.1.4.1.1.2",
        "transfer_syntax_uid": "1.2.840.10008.1.2.1", "sha256": f"{number:064x}", "size_bytes": 525_000,
        "object_key": f"{number % 256:02x}/{number:064x}.dcm", "role": InstanceRole.SOURCE.value,
        "attributes": {
            "modality": "MR" if study % 100 == 7 else "CT", "study_description": f"CT Thorax {study % 10}",
            "accession_number": f"ACC-{study}", "station_name": f"CT-{study % 5}", "study_date": "20260314",
        },
        "received_at": _NOW, "calling_ae_title": "CT1", "called_ae_title": "AINODE", "source_host": "10.1.2.3",
    }  # fmt: skip
