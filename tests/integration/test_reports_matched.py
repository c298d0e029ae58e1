"""Reports find their study and nobody else's, are read in a process of their own, and go when they shall: on SQLite and
on PostgreSQL."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import select, update

from dicom_node.assist.reports.reading import ReadingOptions, ReportSweep, TextReader
from dicom_node.core.assessment.concordance import ConcordanceGroup, ConcordanceVerdict, concordance_by
from dicom_node.core.assessment.report_reading import ReportedPresence, ReportReading
from dicom_node.core.entities import OrderNumber, PatientNumber, ReportMatch, ReportStatus, StatedReport
from dicom_node.core.errors import WorkerDied
from dicom_node.core.metrics.table import CONCORDANCE
from dicom_node.core.metrics.tally import TALLY
from dicom_node.core.uids import derived_uid
from dicom_node.index.database import SCHEMA_HEAD, Database
from dicom_node.index.received.patients import add_move, note_whose
from dicom_node.index.reports.compared import ComparedFilter, compared_findings
from dicom_node.index.reports.kept import counted_reports, keep_report, pending_reports
from dicom_node.index.tables import reports, results, studies
from tests.support.results.arrivals import STUDY, arrive, instance, migrated_sqlite, opened_database
from tests.support.results.seeded import CHEST_CT, CHEST_XR, XR_MODEL, seed

ANNA = PatientNumber("4711", "HOSP")
OTHER = derived_uid("other-study")
OPTIONS = ReadingOptions(patient_authority="HOSP")
STATED = datetime(2026, 11, 20, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def reader() -> Iterator[TextReader]:
    """The reader of texts, in its process."""
    one = TextReader()
    yield one
    one.close()


@pytest.fixture
def rows(tmp_path: Path) -> Iterator[Database]:
    """An empty index in SQLite, for what no database does otherwise."""
    file = tmp_path / "rows.sqlite"
    file.write_bytes(migrated_sqlite())
    with opened_database(f"sqlite:///{file}") as database:
        yield database


def stated(text: str = "No pneumonia.", number: str = "F1", **more: object) -> StatedReport:
    said = {"accession_number": "A1", "patients": (ANNA,), "status": ReportStatus.FINAL, "stated_at": STATED, **more}
    return StatedReport(source="hl7", number=OrderNumber(value=number), text=text, **said)  # type: ignore[arg-type]


def came(index: Database, *, study: str = STUDY, accession: str = "A1", patient: PatientNumber = ANNA) -> None:
    image = instance(study, study=study, attributes={"modality": "DX", "accession_number": accession})
    arrive(index, replace(image, patient=patient))


def keep(index: Database, *told: StatedReport) -> None:
    with index.write() as connection:
        for one in told:
            keep_report(connection, one, datetime.now(UTC))


def row(index: Database) -> tuple[str, str | None, str, str]:
    with index.read() as connection:
        query = select(reports.c.match, reports.c.study_instance_uid, reports.c.reason, reports.c.text)
        return tuple(connection.execute(query).one())  # type: ignore[return-value]


def look_again(index: Database) -> None:
    with index.write() as connection:
        connection.execute(update(reports).where(reports.c.next_look_at.is_not(None)).values(next_look_at=STATED))


def says(presence: ReportedPresence = ReportedPresence.ABSENT, finding: str = "pneumonia") -> ReportReading:
    return ReportReading(language="en", rules="0", said={finding: presence})


def differing() -> float:
    return TALLY.numbers().get((CONCORDANCE.name, ("other", "model_only")), 0)


def sweep(index: Database, **options: float) -> ReportSweep:
    """Return a sweep with a reader that says the same of every text, for what is not about reading."""
    return ReportSweep(index, lambda _: says(), replace(OPTIONS, **options))  # type: ignore[arg-type]


# --- whose it is ----------------------------------------------------------------------------------------------------


def test_a_report_is_of_the_study_with_its_accession_number_and_patient(index: Database, reader: TextReader) -> None:
    came(index)
    came(index, study=OTHER, accession="A2")
    keep(index, stated("FINDINGS: No pneumonia."))
    ReportSweep(index, reader.read, OPTIONS).run()
    assert row(index) == (ReportMatch.MATCHED, STUDY, "", "")


def test_a_study_instance_uid_goes_before_an_accession_number(rows: Database) -> None:
    came(rows)
    came(rows, study=OTHER, accession="A2")
    keep(rows, stated(study_instance_uid=OTHER))
    sweep(rows).run()
    assert row(rows)[:2] == (ReportMatch.MATCHED, OTHER)


@pytest.mark.parametrize(
    ("told", "why"),
    [
        ({"patients": (PatientNumber("4712", "HOSP"),)}, "No study of the patient is here."),
        ({"patients": (PatientNumber("4711", "ELSEWHERE"),)}, "No study of the patient is here."),
        ({"accession_number": "A9"}, "The patient's studies that are here have another accession number."),
        ({"study_instance_uid": STUDY, "patients": (PatientNumber("4711", "ELSEWHERE"),)}, "is of another patient"),
        ({"study_instance_uid": "1.2.3", "accession_number": ""}, "The study that it names is not here."),
    ],
)
def test_a_report_of_another_patient_issuer_or_number_is_unmatched_and_says_why(
    rows: Database, told: dict[str, object], why: str
) -> None:
    came(rows)
    keep(rows, stated(**told))
    sweep(rows).run()
    match, study, reason, _ = row(rows)
    assert (match, study) == (ReportMatch.UNMATCHED, None)
    assert why in reason


def test_two_studies_with_one_accession_number_leave_a_report_unmatched(rows: Database) -> None:
    came(rows)
    came(rows, study=OTHER)
    keep(rows, stated())
    sweep(rows).run()
    assert row(rows)[2] == "2 studies of the patient have its accession number."


def test_a_report_that_came_before_its_study_is_matched_later(rows: Database) -> None:
    keep(rows, stated())
    sweep(rows).run()
    assert row(rows)[0] == ReportMatch.UNMATCHED
    came(rows)
    sweep(rows).run()
    assert row(rows)[0] == ReportMatch.UNMATCHED  # it is not its turn yet
    look_again(rows)
    sweep(rows).run()
    assert row(rows)[:2] == (ReportMatch.MATCHED, STUDY)


def test_a_patient_who_was_merged_has_the_reports_of_both_numbers(rows: Database) -> None:
    came(rows)
    with rows.write() as connection:
        add_move(connection, ANNA, PatientNumber("5000", "HOSP"), STATED)
    keep(rows, stated(patients=(PatientNumber("5000", "HOSP"),)))
    sweep(rows).run()
    assert row(rows)[:2] == (ReportMatch.MATCHED, STUDY)


def test_images_that_name_no_issuer_are_of_the_sites_own(rows: Database) -> None:
    came(rows, patient=PatientNumber("4711", ""))
    keep(rows, stated())
    sweep(rows).run()
    assert row(rows)[0] == ReportMatch.MATCHED


# --- what becomes of its text ---------------------------------------------------------------------------------------


def test_a_text_is_kept_as_long_as_the_site_says_and_the_reading_stays(index: Database) -> None:
    came(index)
    keep(index, stated("No pneumonia."))
    sweep(index, keep_text_days=30).run()
    assert row(index)[3] == "No pneumonia."
    with index.write() as connection:
        connection.execute(update(reports).values(received_at=datetime.now(UTC) - timedelta(days=31)))
    sweep(index, keep_text_days=30).run()
    assert row(index)[3] == ""
    with index.read() as connection:
        assert connection.execute(select(reports.c.reading)).scalar_one()["said"] == {"pneumonia": "ABSENT"}


def test_a_text_goes_with_the_results_of_its_study(rows: Database) -> None:
    came(rows)
    keep(rows, stated())
    sweep(rows, keep_text_days=30).run()
    with rows.write() as connection:
        connection.execute(update(studies).values(results_deleted_at=STATED))
    sweep(rows, keep_text_days=30).run()
    assert row(rows)[3] == ""


def test_a_report_of_no_study_is_forgotten_after_its_time(rows: Database) -> None:
    keep(rows, stated())
    sweep(rows).run()
    with rows.write() as connection:
        connection.execute(update(reports).values(received_at=datetime.now(UTC) - timedelta(days=31)))
    sweep(rows).run()
    with rows.read() as connection:
        assert sum(counted_reports(connection).values()) == 0


def test_a_correction_is_read_anew_and_one_that_comes_while_its_report_is_read_is_not_lost(rows: Database) -> None:
    came(rows)
    keep(rows, stated("Pneumonia."))

    def read_slowly(text: str) -> ReportReading:
        if text == "Pneumonia.":
            later = STATED + timedelta(hours=1)
            keep(rows, stated("No pneumonia.", status=ReportStatus.CORRECTED, stated_at=later))
            return says(ReportedPresence.PRESENT)
        return says()

    running = ReportSweep(rows, read_slowly, OPTIONS)
    running.run()
    assert row(rows)[0] == ReportMatch.WAITING
    running.run()
    with rows.read() as connection:
        kept = connection.execute(select(reports.c.status, reports.c.reading)).one()
    assert (kept.status, kept.reading["said"]) == (ReportStatus.CORRECTED, {"pneumonia": "ABSENT"})


def test_a_text_that_ends_its_reader_costs_that_report_alone(rows: Database, caplog: pytest.LogCaptureFixture) -> None:
    came(rows)
    keep(rows, stated("bad secretword", number="F1"), stated("good", number="F2"))

    def read(text: str) -> ReportReading:
        if text.startswith("bad"):
            raise WorkerDied("It ran out of memory.")
        return says()

    with caplog.at_level(logging.DEBUG):
        for _ in range(4):
            ReportSweep(rows, read, OPTIONS).run()
            look_again(rows)
    with rows.read() as connection:
        counted = counted_reports(connection)
        assert not pending_reports(connection, datetime.now(UTC), 10)
    assert (counted[ReportMatch.UNREADABLE], counted[ReportMatch.MATCHED]) == (1, 1)
    assert "secretword" not in caplog.text


def test_the_reader_is_another_process_and_a_hostile_text_is_read_there(reader: TextReader) -> None:
    assert reader.read("no " * 600 + "pneumonia").said["pneumonia"] is ReportedPresence.ABSENT
    assert reader.read("Keine Pneumonie.").language == "de"


# --- how models compare --------------------------------------------------------------------------------------------


def worked(index: Database, objects: Path) -> Database:
    """Enter a morning's work, whose patients are known."""
    with index.write() as connection:
        seed(connection, objects)
        note_whose(connection, {CHEST_XR: ANNA, CHEST_CT: ANNA})
    return index


@pytest.fixture
def site(index: Database, tmp_path: Path) -> Database:
    return worked(index, tmp_path)


@pytest.fixture
def morning(rows: Database, tmp_path: Path) -> Database:
    return worked(rows, tmp_path)


def test_models_are_held_against_the_report_of_their_study(site: Database) -> None:
    before = differing()
    keep(site, stated(study_instance_uid=CHEST_XR))
    sweep(site).run()
    (one,) = compared_findings(site, ComparedFilter(model=XR_MODEL.name))
    assert (one.study_instance_uid, one.finding, one.verdict) == (CHEST_XR, "Pneumonia", ConcordanceVerdict.MODEL_ONLY)
    assert differing() == before + 1
    (line,) = concordance_by([one], [ConcordanceGroup.MODEL])
    assert (line.model_only, line.kappa) == (1, None)


def test_nothing_of_a_result_changes_when_a_report_differs(morning: Database) -> None:
    def everything() -> list[object]:
        with morning.read() as connection:
            return [tuple(row) for row in connection.execute(select(results).order_by(results.c.job_key))]

    before = everything()
    keep(morning, stated(study_instance_uid=CHEST_XR))
    sweep(morning).run()
    assert everything() == before


def test_the_report_that_was_stated_last_counts(morning: Database) -> None:
    later = STATED + timedelta(days=1)
    keep(morning, stated("later", number="F2", study_instance_uid=CHEST_XR, stated_at=later))
    keep(morning, stated("first", number="F1", study_instance_uid=CHEST_XR))

    def read(text: str) -> ReportReading:
        return says(ReportedPresence.PRESENT if text == "later" else ReportedPresence.ABSENT)

    ReportSweep(morning, read, OPTIONS).run()
    (one,) = compared_findings(morning, ComparedFilter())
    assert one.verdict is ConcordanceVerdict.AGREE


def test_a_cancelled_report_is_not_compared(morning: Database) -> None:
    keep(morning, stated(study_instance_uid=CHEST_XR))
    sweep(morning).run()
    keep(morning, stated("", status=ReportStatus.CANCELLED, stated_at=STATED + timedelta(hours=1)))
    assert list(compared_findings(morning, ComparedFilter())) == []


def test_withdrawn_and_shadow_results_are_not_compared(morning: Database) -> None:
    keep(morning, stated(study_instance_uid=CHEST_XR))
    sweep(morning).run()
    with morning.write() as connection:
        connection.execute(update(results).where(results.c.study_instance_uid == CHEST_XR).values(shadow_of="live"))
    assert list(compared_findings(morning, ComparedFilter())) == []


def test_an_index_from_before_there_were_reports_is_brought_up_to_them(index: Database) -> None:
    config = Config()
    config.set_main_option("script_location", "dicom_node.index:migrations")
    came(index)
    with index.write() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "0023")
    index.migrate()
    assert index.schema_version() == SCHEMA_HEAD
    keep(index, stated())
    sweep(index).run()
    assert row(index)[0] == ReportMatch.MATCHED
