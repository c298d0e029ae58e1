"""Arrivals, jobs and results as the index gets them: nouns made in code, with names for UIDs."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from sqlalchemy import Connection

from dicom_node.core.entities import (
    Artifact,
    ArtifactKind,
    Instance,
    InstanceRole,
    JobOutcome,
    JobState,
    SendingPeer,
    StudyState,
)
from dicom_node.core.uids import derived_uid
from dicom_node.index import jobs
from dicom_node.index.database import Database
from dicom_node.index.jobs import ClaimedJob
from dicom_node.index.received.arrivals import add_instance
from dicom_node.index.studies import NewJob, add_jobs, load_study
from dicom_node.index.transitions import Change, move_study
from dicom_node.index.versions import Added

START = datetime(2026, 3, 14, 9, 30, tzinfo=UTC)
STUDY = derived_uid("test-study")
MODALITY = SendingPeer("CT1", "AINODE", "10.1.2.20")


def after(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def instance(
    name: str = "1",
    *,
    at_s: float = 0.0,
    study: str = STUDY,
    series: str = "1",
    content: str = "",
    role: InstanceRole = InstanceRole.SOURCE,
    sender: SendingPeer = MODALITY,
    attributes: Mapping[str, str] | None = None,
) -> Instance:
    """Return an image named `name`; other `content` under the same name is another version."""
    digest = sha256(content or name)
    return Instance(
        sop_instance_uid=derived_uid("test-instance", name),
        sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        study_instance_uid=study,
        series_instance_uid=derived_uid("test-series", series),
        sha256=digest,
        size_bytes=526336,
        object_key=f"{digest[:2]}/{digest}.dcm",
        role=role,
        attributes={"modality": "CT", "body_part_examined": "CHEST"} if attributes is None else attributes,
        received_at=after(at_s),
        sender=sender,
    )


def arrive(database: Database, *arrivals: Instance) -> list[Added]:
    """Enter instances, each in a transaction of its own."""
    added = []
    for one in arrivals:
        with database.write() as connection:
            added.append(add_instance(connection, one))
    return added


def cut(
    connection: Connection, routes: Iterable[str] = ("chest-ct",), *, at_s: float = 60.0, study: str = STUDY
) -> None:
    """Queue a job for each route and call the study complete."""
    found = load_study(connection, study, lock=True)
    assert found is not None
    due = [
        NewJob(
            route=route,
            model="ct-lung-density",
            series_instance_uid=found.series[0].series_instance_uid,
            study_partial=False,
            decision={},
            reason="Complete.",
        )
        for route in routes
    ]
    add_jobs(connection, found, due, after(at_s))
    move_study(connection, study, StudyState.COMPLETE, Change(after(at_s)))


def cut_study(
    database: Database, routes: Iterable[str] = ("chest-ct",), *, at_s: float = 60.0, study: str = STUDY
) -> None:
    with database.write() as connection:
        cut(connection, routes, at_s=at_s, study=study)


def claim(database: Database, owner: str = "host:1", *, at_s: float = 61.0, lease_s: float = 60.0) -> ClaimedJob | None:
    with database.write() as connection:
        return jobs.claim(connection, owner, after(at_s), lease_s)


def claimed(database: Database, owner: str = "host:1", *, at_s: float = 61.0, lease_s: float = 60.0) -> ClaimedJob:
    job = claim(database, owner, at_s=at_s, lease_s=lease_s)
    assert job is not None
    return job


def artifact(name: str, kind: ArtifactKind, order: int) -> Artifact:
    digest = sha256(name)
    return Artifact(
        uid=derived_uid("test-artifact", name),
        kind=kind,
        media_type="application/fhir+json" if kind is ArtifactKind.FHIR_BUNDLE else "application/dicom",
        object_key=f"{digest[:2]}/{digest}.result",
        sha256=digest,
        size_bytes=100,
        order=order,
        sop_class_uid="" if kind is ArtifactKind.FHIR_BUNDLE else "1.2.840.10008.5.1.4.1.1.7",
    )


def outcome(name: str = "a", *, state: JobState = JobState.DONE, at_s: float = 70.0) -> JobOutcome:
    """Return a result with a picture, its report and its bundle."""
    return JobOutcome(
        state=state,
        artifacts=(
            artifact(f"{name}-sc", ArtifactKind.SECONDARY_CAPTURE, 0),
            artifact(f"{name}-sr", ArtifactKind.STRUCTURED_REPORT, 1),
            artifact(f"{name}-fhir", ArtifactKind.FHIR_BUNDLE, 2),
        ),
        summary={"finished_at": after(at_s).isoformat()},
    )


@contextmanager
def opened_database(url: str) -> Iterator[Database]:
    """Open and migrate a database; closed at the end."""
    database = Database(url)
    try:
        database.migrate()
        yield database
    finally:
        database.close()


@cache
def migrated_sqlite() -> bytes:
    """Return the file of an empty index, migrated once."""
    with TemporaryDirectory() as folder:
        file = Path(folder) / "index.sqlite"
        with opened_database(f"sqlite:///{file}"):
            pass
        # Closed, it has no log beside it.
        return file.read_bytes()
