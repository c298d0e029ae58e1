"""Which studies have a number: an accession number, a patient's, or a UID. Read-only, by indexes."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import Connection, select

from dicom_node.core.entities import PatientNumber
from dicom_node.core.search_key import SearchKeys, normalised
from dicom_node.core.uids import is_valid_uid
from dicom_node.index.received.patients import numbers_of_patient
from dicom_node.index.tables import instances, orders, studies, study_keys

#: Whoever looks for one study is not served by more.
_MOST = 1000


def with_accession(connection: Connection, keys: SearchKeys, number: str) -> set[str]:
    """Return the studies whose images have this accession number, and those that an order names with it."""
    number = normalised(number)
    ordered = (
        select(studies.c.study_instance_uid)
        .join(orders, orders.c.study_instance_uid == studies.c.study_instance_uid)
        .where(orders.c.accession_number == number)
    )
    return _with_keys(connection, [keys.of_accession(number)]) | set(connection.scalars(ordered.limit(_MOST)))


def of_patient(connection: Connection, keys: SearchKeys, value: str, issuer: str = "", authority: str = "") -> set[str]:
    """Return the studies of whoever has or had a patient's number. Without an `issuer` it may be anybody's who has such
    a number; `authority` gave out those that name nobody. Merges are followed."""
    known = numbers_of_patient(connection, PatientNumber(normalised(value), issuer or authority))
    wanted = {keys.of_patient(one)[1] for one in known}
    if not issuer:
        wanted.add(keys.of_patient_id(value))
    return _with_keys(connection, wanted)


def with_uid(connection: Connection, text: str) -> set[str]:
    """Return the study that has this UID, or that holds an object with it."""
    if not is_valid_uid(text):
        return set()
    of_object = select(instances.c.study_instance_uid).where(instances.c.sop_instance_uid == text)
    of_study = select(studies.c.study_instance_uid).where(studies.c.study_instance_uid == text)
    return set(connection.scalars(of_study)) | set(connection.scalars(of_object))


def named(connection: Connection, keys: SearchKeys, text: str, authority: str) -> set[str]:
    """Return the studies of which this is the accession number, the patient's number or the UID."""
    return (
        with_accession(connection, keys, text)
        | of_patient(connection, keys, text, authority=authority)
        | with_uid(connection, text)
    )


def _with_keys(connection: Connection, search_keys: Collection[str]) -> set[str]:
    query = select(study_keys.c.study_instance_uid).where(study_keys.c.search_key.in_(search_keys))
    return set(connection.scalars(query.limit(_MOST)))
