"""The features of a result, kept in the transaction in which the result is entered."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from sqlalchemy import Connection, and_, delete, insert, select

from dicom_node.core.drift.features import MODEL_NAME, STATION
from dicom_node.core.entities import JobOutcome
from dicom_node.index.database import insert_of
from dicom_node.index.jobs import ClaimedJob
from dicom_node.index.tables import drift_features, drift_streams, instances, results

_NAMED = ("name", "version", "digest")


def keep_features(connection: Connection, job: ClaimedJob, job_key: str, outcome: JobOutcome, at: datetime) -> None:
    """Keep what was told of an analysis, in the place of what its study had before by the same route. Where no model
    was asked there is nothing to keep."""
    model = outcome.summary.get("model")
    if not outcome.features or not isinstance(model, Mapping):
        return
    features = dict(outcome.features)
    parts = [_ae_title(connection, job), str(features.pop(STATION, "")), str(features.pop(MODEL_NAME, ""))]
    name, version, digest = (str(model.get(one, ""))[:64] for one in _NAMED)
    stream = {
        "route": job.route, "scanner": " / ".join(one for one in parts if one)[:160], "ae_title": parts[0],
        "model": name, "model_version": version, "model_digest": digest,
    }  # fmt: skip
    calibrated = model.get("calibrated") is True
    same = and_(results.c.study_instance_uid == job.study_instance_uid, results.c.route == job.route)
    before = select(results.c.job_key).where(same)
    connection.execute(delete(drift_features).where(drift_features.c.job_key.in_(before)))
    number = _number_of(connection, stream, at, calibrated=calibrated)
    row = {"job_key": job_key, "stream_id": number, "at": at, "features": features}
    connection.execute(insert(drift_features).values(row))


def _ae_title(connection: Connection, job: ClaimedJob) -> str:
    """Return who sent the series that was analysed."""
    mine = instances.c.study_instance_uid == job.study_instance_uid
    query = select(instances.c.calling_ae_title).where(mine)
    of_series = query.where(instances.c.series_instance_uid == job.series_instance_uid)
    return str(connection.execute(of_series.order_by(instances.c.id).limit(1)).scalar() or "")


def _number_of(connection: Connection, stream: Mapping[str, str], at: datetime, *, calibrated: bool) -> int:
    mine = and_(*(drift_streams.c[name] == value for name, value in stream.items()))
    query = select(drift_streams.c.id).where(mine)
    number = connection.execute(query).scalar()
    if number is None:
        midnight = at.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        fresh = {
            "began_at": midnight, "calibrated": calibrated, "reference_results": 0, "looked_on": "", "estimate": {},
            "agreement": {},
        }  # fmt: skip
        connection.execute(insert_of(connection)(drift_streams).values({**stream, **fresh}).on_conflict_do_nothing())
        number = connection.execute(query).scalar_one()
    return int(number)


def forget_features(connection: Connection, study_instance_uid: str) -> None:
    """Let what was kept of a study's results go with them."""
    mine = select(results.c.job_key).where(results.c.study_instance_uid == study_instance_uid)
    connection.execute(delete(drift_features).where(drift_features.c.job_key.in_(mine)))
