"""A registration moves a patient: studies follow as if their images were corrected, on SQLite and on PostgreSQL."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import insert, select, update

from dicom_node.core.entities import (
    DeliveryState,
    Destination,
    JobState,
    MediaType,
    OrderContext,
    OrderNumber,
    PatientNumber,
    StatedPatient,
)
from dicom_node.core.uids import derived_uid
from dicom_node.index.database import SCHEMA_HEAD, Database
from dicom_node.index.received.orders import keep_order, order_of_study
from dicom_node.index.received.patient_corrections import PatientChange, follow_patient
from dicom_node.index.received.patients import (
    number_in_use,
    number_of_study,
    numbers_of_patient,
    stated_patient_of,
)
from dicom_node.index.results import save_result
from dicom_node.index.tables import deliveries, events, jobs, patient_moves, results, studies
from tests.support.results.arrivals import STUDY, after, arrive, claimed, cut_study, instance, outcome

HOSP = "HOSP"
PACS = Destination(name="pacs", takes=frozenset({MediaType.DICOM}))
A, B, C = (PatientNumber(one, HOSP) for one in "ABC")
OTHER = derived_uid("other-study")


def came(index: Database, number: PatientNumber = A, study: str = STUDY, name: str = "1") -> None:
    arrive(index, replace(instance(name, study=study), patient=PatientNumber(number.value)))


def reported(index: Database, study: str = STUDY, key: str = "key") -> None:
    cut_study(index, study=study)
    job = claimed(index)
    with index.write() as connection:
        assert save_result(connection, job, key, outcome(key), [PACS])


def tell(
    index: Database, *moves: tuple[PatientNumber, PatientNumber], stated: StatedPatient | None = None, at_s: float = 100
) -> None:
    change = PatientChange(moves=moves, stated=[stated] if stated else [], authority=HOSP)
    with index.write() as connection:
        follow_patient(connection, change, after(at_s))


def stated(index: Database, study: str = STUDY) -> StatedPatient | None:
    with index.read() as connection:
        return stated_patient_of(connection, study, HOSP)


def seen(index: Database, study: str = STUDY) -> tuple[str, int, list[str]]:
    """State and revision of a study, and how its results stand."""
    with index.read() as connection:
        row = connection.execute(select(studies).where(studies.c.study_instance_uid == study)).one()
        mine = select(results.c.standing).where(results.c.study_instance_uid == study)
        return row.state, row.revision, list(connection.execute(mine).scalars())


def park(index: Database, state: DeliveryState = DeliveryState.PARKED) -> None:
    with index.write() as connection:
        connection.execute(update(deliveries).values(state=state))  # as the outbox leaves them


def states(index: Database) -> set[str]:
    with index.read() as connection:
        return set(connection.execute(select(deliveries.c.state)).scalars())


def test_a_merge_withdraws_the_result_and_opens_the_next_revision_under_the_surviving_number(index: Database) -> None:
    came(index)
    reported(index)
    came(index, C, OTHER, "2")
    tell(index, (A, B), stated=StatedPatient(number=B, name="Muster^Erika", birth_date="19600102"))
    assert seen(index) == ("RECEIVING", 2, ["WITHDRAWN"])
    found = stated(index)
    assert found is not None
    assert (found.number, found.name, found.is_moved) == (B, "Muster^Erika", True)
    assert seen(index, OTHER) == ("RECEIVING", 1, [])
    assert stated(index, OTHER) is None
    with index.read() as connection:
        kinds = list(connection.execute(select(events.c.kind).where(events.c.study_instance_uid == STUDY)).scalars())
    assert kinds.count("patient-corrected") == kinds.count("withdrawn") == 1


def test_the_same_merge_once_more_changes_nothing(index: Database) -> None:
    came(index)
    reported(index)
    for _ in range(2):
        tell(index, (A, B))
    assert seen(index) == ("RECEIVING", 2, ["WITHDRAWN"])


def test_merges_are_followed_along_a_chain_and_what_came_before_each_moves_on(index: Database) -> None:
    came(index)
    tell(index, (A, B))
    tell(index, (B, C))
    with index.read() as connection:
        assert number_in_use(connection, A) == C
        assert numbers_of_patient(connection, B) == {A, B, C}
    reported(index)
    tell(index, (C, PatientNumber("D", HOSP)))
    assert seen(index) == ("RECEIVING", 2, ["WITHDRAWN"])


@pytest.mark.parametrize(("first", "second"), [((A, B), (B, A)), ((A, B), (A, C))])
def test_a_merge_that_leads_back_or_elsewhere_is_refused_and_changes_nothing(
    index: Database, first: tuple[PatientNumber, PatientNumber], second: tuple[PatientNumber, PatientNumber]
) -> None:
    tell(index, first)
    with pytest.raises(ValueError, match="before"):
        tell(index, second, stated=StatedPatient(number=C, name="X"))
    with index.read() as connection:
        assert number_in_use(connection, A) == B


def test_numbers_of_another_issuer_are_other_patients(index: Database) -> None:
    arrive(index, replace(instance(), patient=PatientNumber("A", "ELSEWHERE")))
    reported(index)
    tell(index, (A, B))
    assert seen(index) == ("REPORTED", 1, ["CURRENT"])
    tell(index, (PatientNumber("A", "ELSEWHERE"), PatientNumber("B", "ELSEWHERE")))
    assert seen(index)[2] == ["WITHDRAWN"]


def test_an_answer_that_was_on_its_way_when_the_patient_was_merged_is_kept_and_not_sent(index: Database) -> None:
    came(index)
    cut_study(index)
    job = claimed(index)
    tell(index, (A, B))
    with index.write() as connection:
        assert save_result(connection, job, "key", outcome(), [PACS])
    assert seen(index) == ("RECEIVING", 2, ["WITHDRAWN"])
    assert states(index) == set()


def test_an_analysis_that_waits_when_the_patient_is_merged_is_set_aside(index: Database) -> None:
    came(index)
    cut_study(index)
    tell(index, (A, B))
    with index.read() as connection:
        assert connection.execute(select(jobs.c.state)).scalars().all() == [JobState.SUPERSEDED]


def test_a_study_that_is_still_coming_is_only_told(index: Database) -> None:
    came(index)
    tell(index, (A, B))
    assert seen(index) == ("RECEIVING", 1, [])


def test_a_merge_between_a_late_image_and_its_analysis_leaves_nothing_under_the_old_number(index: Database) -> None:
    """The next revision is open and not cut, so no further one opens; what the one before has told is withdrawn."""
    came(index)
    reported(index)
    came(index, name="late")
    tell(index, (A, B))
    assert seen(index) == ("RECEIVING", 2, ["WITHDRAWN"])
    assert states(index) == set()


def test_an_answer_on_its_way_is_not_sent_though_a_late_image_came_before_the_merge(index: Database) -> None:
    came(index)
    cut_study(index)
    job = claimed(index)
    came(index, name="late")
    tell(index, (A, B))
    with index.write() as connection:
        assert save_result(connection, job, "key", outcome(), [PACS])
    assert seen(index) == ("RECEIVING", 2, ["WITHDRAWN"])
    assert states(index) == set()


def test_what_is_parked_is_tried_again_when_the_patient_is_told_of_once_more(index: Database) -> None:
    came(index)
    reported(index)
    me = StatedPatient(number=A, name="Muster^Erika")
    for _ in ("for the first time", "once more"):
        park(index)
        tell(index, stated=me)
        assert states(index) == {"PENDING"}
    assert seen(index) == ("REPORTED", 1, ["CURRENT"])


def test_corrected_demographics_make_anew_what_is_not_there_yet_and_leave_what_has_arrived(index: Database) -> None:
    came(index)
    reported(index)
    tell(index, stated=StatedPatient(number=A, name="Muster^Erika", birth_date="19600102"))
    assert seen(index) == ("REPORTED", 1, ["CURRENT"])
    tell(index, stated=StatedPatient(number=A, birth_date="19600201"))
    assert seen(index) == ("RECEIVING", 2, ["WITHDRAWN"])
    found = stated(index)
    assert found is not None
    assert (found.name, found.birth_date, found.is_moved) == ("Muster^Erika", "19600201", False)


def test_corrected_demographics_leave_what_has_arrived(index: Database) -> None:
    came(index)
    reported(index)
    tell(index, stated=StatedPatient(number=A, birth_date="19600102"))
    park(index, DeliveryState.SENT)
    tell(index, stated=StatedPatient(number=A, birth_date="19600201"))
    assert seen(index) == ("REPORTED", 1, ["CURRENT"])


def test_images_that_come_corrected_are_of_whom_they_name_then(index: Database) -> None:
    came(index)
    arrive(index, replace(instance("1", content="corrected", at_s=30), patient=C))
    with index.read() as connection:
        assert number_of_study(connection, STUDY, HOSP) == C


def test_an_index_from_before_keeps_its_studies_and_learns_whose_they_are_when_an_image_comes_again(
    index: Database,
) -> None:
    arrive(index, instance())
    config = Config()
    config.set_main_option("script_location", "dicom_node.index:migrations")
    with index.write() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "0011")
    assert index.schema_version() == "0011"
    index.migrate()
    assert index.schema_version() == SCHEMA_HEAD
    reported(index)
    tell(index, (A, B))
    assert seen(index) == ("REPORTED", 1, ["CURRENT"])
    came(index)
    with index.read() as connection:
        assert number_of_study(connection, STUDY, HOSP) == A
        assert stated_patient_of(connection, STUDY, HOSP) == StatedPatient(number=B, is_moved=True)


# --- orders --------------------------------------------------------------------------------------------------------


def order(number: str, accession: str = "ACC", **more: object) -> OrderContext:
    return replace(
        OrderContext(accession_number=accession, placer=OrderNumber(value=number, authority="HIS"), reason="Cough"),
        **more,
    )


def test_an_order_is_that_of_a_study_only_if_it_is_the_one_and_of_the_same_patient(index: Database) -> None:
    def found(*numbers: PatientNumber, accession: str = "ACC") -> OrderContext | None:
        with index.read() as connection:
            return order_of_study(connection, STUDY, accession, numbers)

    with index.write() as connection:
        keep_order(connection, order("P1"), [A], after(0))
        keep_order(connection, order("P9"), [C], after(0))
    mine = found(A)
    assert mine is not None
    assert (mine.placer, mine.reason) == (OrderNumber(value="P1", authority="HIS"), "Cough")
    assert found(B) is None
    assert found(A, accession="") is None
    with index.write() as connection:
        keep_order(connection, order("P2"), [A], after(0))
    assert found(A) is None
    with index.write() as connection:
        keep_order(connection, order("P2", is_cancelled=True), [A], after(1))
    assert found(A) == mine
    with index.write() as connection:
        keep_order(connection, order("P3", "OTHER", study_instance_uid=STUDY), [A], after(1))
    by_uid = found(A)
    assert by_uid is not None
    assert by_uid.placer == OrderNumber(value="P3", authority="HIS")


def test_an_order_that_names_another_study_is_not_this_ones_though_they_share_the_accession_number(
    index: Database,
) -> None:
    """One accession number may stand for two procedures, each with its own Study Instance UID (IHE RAD-4)."""

    def reason(study: str) -> str | None:
        with index.read() as connection:
            found = order_of_study(connection, study, "ACC", [A])
        return found.reason if found else None

    def keep(one: OrderContext) -> None:
        with index.write() as connection:
            keep_order(connection, one, [A], after(0))

    came(index)
    chest = order("P1", study_instance_uid=STUDY, reason="chest")
    keep(chest)
    assert (reason(STUDY), reason(OTHER)) == ("chest", None)
    abdomen = order("P2", study_instance_uid=OTHER, reason="abdomen")
    keep(abdomen)
    assert (reason(STUDY), reason(OTHER)) == ("chest", "abdomen")
    keep(replace(chest, is_cancelled=True))
    assert (reason(STUDY), reason(OTHER)) == (None, "abdomen")
    assert reason(derived_uid("made-up-by-the-modality")) == "abdomen", "the node has no such study: a UID not used"


def test_a_number_that_comes_again_for_another_patient_keeps_nothing_of_the_first_ones_order(index: Database) -> None:
    with index.write() as connection:
        keep_order(connection, order("P1", reason="HIV", priority="stat"), [A], after(0))
        keep_order(connection, order("P1", "ACC2", reason=""), [B], after(1))
    with index.read() as connection:
        assert order_of_study(connection, STUDY, "ACC", [A]) is None
        found = order_of_study(connection, STUDY, "ACC2", [B])
    assert found is not None
    assert (found.reason, found.priority) == ("", "")


def test_a_chain_of_merges_is_followed_to_its_end_however_long_it_is(index: Database) -> None:
    chain = [PatientNumber(f"N{place}", HOSP) for place in range(71)]
    rows = [
        {
            "prior_id": one.value,
            "prior_authority": HOSP,
            "patient_id": later.value,
            "authority": HOSP,
            "moved_at": after(0),
        }
        for one, later in pairwise(chain)
    ]
    with index.write() as connection:
        connection.execute(insert(patient_moves), rows)
    with index.read() as connection:
        assert number_in_use(connection, chain[0]) == chain[-1]
    with pytest.raises(ValueError, match="before"):
        tell(index, (chain[-1], chain[0]))
