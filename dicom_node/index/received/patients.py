"""Whose studies are: the number that images name, and by the word of a registration the one that is in use now."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime
from enum import StrEnum

from sqlalchemy import Connection, and_, delete, exists, insert, select, text, tuple_

from dicom_node.core.entities import PatientNumber, StatedPatient
from dicom_node.index.database import insert_of, is_among
from dicom_node.index.tables import patient_moves, stated_patients, study_patients

# --- whose a study is ---------------------------------------------------------------------------------------------


def note_whose(connection: Connection, whose: Mapping[str, PatientNumber]) -> None:
    """Note the number that the images of studies name, by Study Instance UID."""
    if not whose:
        return
    known = select(study_patients).where(is_among(study_patients.c.study_instance_uid, whose))
    same = {row.study_instance_uid: PatientNumber(row.patient_id, row.issuer) for row in connection.execute(known)}
    rows = [
        {"study_instance_uid": uid, "patient_id": one.value, "issuer": one.authority}
        for uid, one in sorted(whose.items())
        if same.get(uid) != one
    ]
    if rows:
        statement = insert_of(connection)(study_patients)
        new = {name: statement.excluded[name] for name in ("patient_id", "issuer")}
        connection.execute(statement.on_conflict_do_update(index_elements=["study_instance_uid"], set_=new), rows)


def number_of_study(connection: Connection, study_instance_uid: str, authority: str) -> PatientNumber | None:
    """Return the number that a study's images name; `authority` gave it out where they name none."""
    mine = study_patients.c.study_instance_uid == study_instance_uid
    row = connection.execute(select(study_patients).where(mine)).one_or_none()
    return PatientNumber(row.patient_id, row.issuer or authority) if row else None


def studies_of(connection: Connection, numbers: Collection[PatientNumber], authority: str) -> list[str]:
    """Return the studies whose images name one of these numbers, in the order of their UIDs."""
    given = [(one.value, issuer) for one in numbers for issuer in {one.authority, *_unsaid(one, authority)}]
    mine = tuple_(study_patients.c.patient_id, study_patients.c.issuer).in_(given)
    query = select(study_patients.c.study_instance_uid).where(mine)
    return list(connection.execute(query.order_by(study_patients.c.study_instance_uid)).scalars())


def _unsaid(number: PatientNumber, authority: str) -> tuple[str, ...]:
    return ("",) if number.authority == authority else ()


# --- which number is in use ---------------------------------------------------------------------------------------


def number_in_use(connection: Connection, number: PatientNumber) -> PatientNumber:
    """Return the number that a patient has now: this one, or the last of those that it was moved to."""
    while (later := _moved_to(connection, number)) is not None:  # `add_move` lets no circle come to be
        number = later
    return number


def prior_numbers(connection: Connection, number: PatientNumber) -> set[PatientNumber]:
    """Return the numbers that were moved to this one, those before them too."""
    found: set[PatientNumber] = set()
    fresh = {number}
    while fresh:
        now = tuple_(patient_moves.c.patient_id, patient_moves.c.authority)
        query = select(patient_moves).where(now.in_([(one.value, one.authority) for one in fresh]))
        fresh = {PatientNumber(row.prior_id, row.prior_authority) for row in connection.execute(query)} - found
        found |= fresh
    return found


def numbers_of_patient(connection: Connection, number: PatientNumber) -> set[PatientNumber]:
    """Return every number by which the patient is known who has or had this one."""
    now = number_in_use(connection, number)
    return {now, *prior_numbers(connection, now)}


def take_turns(connection: Connection) -> None:
    """Let no other transaction add moves until this one ends: two that look at once would miss a circle.

    On SQLite whoever writes is alone anyway.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(text("LOCK TABLE patient_moves IN SHARE ROW EXCLUSIVE MODE"))


def add_move(connection: Connection, prior: PatientNumber, now: PatientNumber, at: datetime) -> bool:
    """Note that `prior` is `now` from now on; `False`: it is known, or both are the same patient's already.

    Raises `ValueError` for what would lead back (a circle) and for a number that was given up for another patient's.
    """
    if _moved_to(connection, prior) is not None or prior == now:
        if number_in_use(connection, prior) == number_in_use(connection, now):
            return False
        raise ValueError("The prior number was merged into another patient's before.")
    if number_in_use(connection, now) == prior:
        raise ValueError("The surviving number was merged into the prior one before; a merge is not taken back.")
    connection.execute(
        insert(patient_moves).values(
            prior_id=prior.value, prior_authority=prior.authority, patient_id=now.value, authority=now.authority,
            moved_at=at,
        )
    )  # fmt: skip
    return True


def _moved_to(connection: Connection, number: PatientNumber) -> PatientNumber | None:
    mine = and_(patient_moves.c.prior_id == number.value, patient_moves.c.prior_authority == number.authority)
    row = connection.execute(select(patient_moves.c.patient_id, patient_moves.c.authority).where(mine)).one_or_none()
    return PatientNumber(row.patient_id, row.authority) if row else None


# --- who a patient is ---------------------------------------------------------------------------------------------


class Statement(StrEnum):
    """What a statement was: the first on a patient, another than before, or the same again."""

    FIRST = "FIRST"
    CHANGED = "CHANGED"
    SAME = "SAME"


def keep_statement(connection: Connection, stated: StatedPatient, at: datetime) -> Statement:
    """Note what a registration says of a patient; what it leaves out stays. Tell what of it is new."""
    before = statement_on(connection, stated.number)
    said = {
        name: getattr(stated, name) or (getattr(before, name) if before else "")
        for name in ("name", "birth_date", "sex")
    }
    row = {"patient_id": stated.number.value, "authority": stated.number.authority, **said, "stated_at": at}
    statement = insert_of(connection)(stated_patients).values(row)
    new = {name: row[name] for name in (*said, "stated_at")}
    connection.execute(statement.on_conflict_do_update(index_elements=["patient_id", "authority"], set_=new))
    if before is None:
        return Statement.FIRST
    is_new = any(getattr(before, name) not in ("", value) for name, value in said.items())
    return Statement.CHANGED if is_new else Statement.SAME


def statement_on(connection: Connection, number: PatientNumber) -> StatedPatient | None:
    """Return what was stated of the patient with this number, if anything was."""
    mine = and_(stated_patients.c.patient_id == number.value, stated_patients.c.authority == number.authority)
    row = connection.execute(select(stated_patients).where(mine)).one_or_none()
    if row is None:
        return None
    return StatedPatient(number=number, name=row.name, birth_date=row.birth_date, sex=row.sex)


def stated_patient_of(connection: Connection, study_instance_uid: str, authority: str) -> StatedPatient | None:
    """Return who a study's patient is by the word of a registration; `None` where nothing was said of them."""
    named = number_of_study(connection, study_instance_uid, authority)
    if named is None:
        return None
    now = number_in_use(connection, named)
    stated = statement_on(connection, now)
    if stated is None:
        return None if now == named else StatedPatient(number=now, is_moved=True)
    return StatedPatient(
        number=now, name=stated.name, birth_date=stated.birth_date, sex=stated.sex, is_moved=now != named
    )


def forget_statements(connection: Connection, before: datetime) -> int:
    """Forget what was stated too long ago of patients who were never moved; return how many rows went."""
    now = and_(patient_moves.c.patient_id == stated_patients.c.patient_id,
               patient_moves.c.authority == stated_patients.c.authority)  # fmt: skip
    old = and_(stated_patients.c.stated_at < before, ~exists().where(now))
    return connection.execute(delete(stated_patients).where(old)).rowcount
