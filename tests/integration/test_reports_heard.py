"""Reports through the HL7 door, as interface engines of several makes send them over a real socket."""

from __future__ import annotations

import base64
import logging
import socket
from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import delete, select

from dicom_node.assist.texts.reader import TextToRead, read
from dicom_node.core.assessment.report_reading import ReportedPresence
from dicom_node.core.entities import ReportMatch, ReportStatus
from dicom_node.fhir.hl7.message import build_message
from dicom_node.fhir.options import FhirOptions
from dicom_node.index.database import Database
from dicom_node.index.tables import reports
from dicom_node.orders.acknowledgement import Acknowledger
from dicom_node.orders.inbox import Inbox, InboxOptions
from dicom_node.receive.mllp import MllpListener, MllpOptions, SenderOption
from tests.integration.test_hl7_listener import LOOPBACK
from tests.support.hl7.messages import message, pid, report
from tests.support.hl7.peers import code, send
from tests.support.results.analysis_examples import context, radiograph_analysis
from tests.support.results.arrivals import migrated_sqlite, opened_database

Told = Callable[..., str]


@pytest.fixture(scope="module")
def listening(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Database, MllpListener]]:
    file = tmp_path_factory.mktemp("heard") / "node.sqlite"
    file.write_bytes(migrated_sqlite())
    options = InboxOptions(speaker=Acknowledger("AINODE"), patient_authority="HOSP", takes_reports=True)
    with opened_database(f"sqlite:///{file}") as database:
        inbox = Inbox(database, options, lambda: None)
        senders = (SenderOption(network=LOOPBACK),)
        listener = MllpListener(socket.create_server(("127.0.0.1", 0)), MllpOptions(senders=senders), inbox)
        listener.start()
        yield database, listener
        listener.stop()
        listener.join()


@pytest.fixture
def rows(listening: tuple[Database, MllpListener]) -> Database:
    """An index without reports."""
    with listening[0].write() as connection:
        connection.execute(delete(reports))
    return listening[0]


@pytest.fixture
def tell(rows: Database, listening: tuple[Database, MllpListener]) -> Told:
    """Send messages to a listener that takes reports; return the answers."""
    return lambda text: send(listening[1].port, text)


def kept(database: Database) -> list[tuple[str, str, str]]:
    with database.read() as connection:
        query = select(reports.c.status, reports.c.match, reports.c.text).order_by(reports.c.received_at)
        return [tuple(row) for row in connection.execute(query)]


def the_text(database: Database) -> str:
    ((_, _, text),) = kept(database)
    return text


# --- shapes of several makes ----------------------------------------------------------------------------------------


def test_a_report_with_a_line_in_each_obx_is_one_text(rows: Database, tell: Told) -> None:
    assert code(tell(report("A1", "FINDINGS: Clear lungs.", "No effusion.", "IMPRESSION: Normal chest."))) == "AA"
    assert kept(rows) == [
        (ReportStatus.FINAL, ReportMatch.WAITING, "FINDINGS: Clear lungs.\nNo effusion.\nIMPRESSION: Normal chest.")
    ]


def test_formatted_text_in_one_obx_keeps_its_lines_and_loses_its_formatting(rows: Database, tell: Told) -> None:
    text = r"\H\Befund:\N\ Kein Erguss.\.br\\.br\Beurteilung:\X0D0A\Pneumonie rechts \T\ Erguss links."
    assert code(tell(report("A1", f"OBX|1|FT|RAD^Befund^L||{text}||||||F"))) == "AA"
    assert the_text(rows) == "Befund:  Kein Erguss.\n\nBeurteilung:\nPneumonie rechts & Erguss links."


def test_repetitions_are_lines_and_a_bare_caret_is_none(rows: Database, tell: Told) -> None:
    tell(report("A1", "OBX|1|ST|RAD^Report^L||No pneumonia ^ see above.~Small effusion.||||||F"))
    assert the_text(rows) == "No pneumonia ^ see above.\nSmall effusion."


@pytest.mark.parametrize(
    "about", ["18748-4&IMP^Diagnostic imaging report^LN", "19005-8^Impression^LN", "IMP^BEURTEILUNG^L"]
)
def test_an_obx_that_is_the_conclusion_is_read_as_one(rows: Database, tell: Told, about: str) -> None:
    tell(report("A1", "Possible opacity at the base.", f"OBX|2|TX|{about}||No pneumonia.||||||F"))
    assert the_text(rows) == "Possible opacity at the base.\n\nIMPRESSION:\nNo pneumonia."


def test_what_follows_the_question_is_not_taken_for_it(rows: Database, tell: Told) -> None:
    question = "OBX|1|TX|REA^Reason for study^L||Pneumonia?||||||F"
    tell(report("A1", question, "OBX|2|TX|GDT^Report^L||Left lower lobe pneumonia.||||||F"))
    assert read(TextToRead(the_text(rows))).said["pneumonia"] is ReportedPresence.PRESENT


def test_a_text_beside_a_document_is_taken_and_the_document_left(rows: Database, tell: Told) -> None:
    pdf = base64.b64encode(b"%PDF-1.4").decode()
    document = f"OBX|2|ED|PDF^Report^L||^application^pdf^Base64^{pdf}||||||F"
    assert code(tell(report("A1", "No pneumonia.", document))) == "AA"
    assert the_text(rows) == "No pneumonia."


@pytest.mark.parametrize(
    ("observation", "what"),
    [
        ("OBX|1|ED|PDF^Report^L||^application^pdf^Base64^JVBERi0=||||||F", "a document (ED)"),
        ("OBX|1|RP|PDF^Report^L||https://ris.example/1.pdf||||||F", "a pointer to a document (RP)"),
        (r"OBX|1|FT|R^Report^L||{\E\rtf1 No pneumonia}||||||F", "is RTF, HTML or XML"),
        ("OBX|1|TX|R^Report^L||<html><body>No pneumonia||||||F", "is RTF, HTML or XML"),
        ("OBX|1|NM|R^Report^L||5||||||F", "no text of a report"),
        ("OBX|1|TX|R^Report^L||" + "x" * 105_000 + "||||||F", "longer than"),
    ],
)
def test_what_nobody_here_reads_is_refused_with_what_to_do(
    rows: Database, tell: Told, observation: str, what: str
) -> None:
    answer = tell(report("A1", observation))
    assert code(answer) == "AR"
    assert what in answer
    assert "x" * 100 not in answer
    assert kept(rows) == []


@pytest.mark.parametrize(
    ("sent", "place"),
    [
        (report("", "No pneumonia."), "OBR^1^18"),
        (report("A1", "No pneumonia.", status=""), "OBR^1^25"),
        (report("A1", "No pneumonia.", status="Q"), "OBR^1^25"),
        (report("A1", "No pneumonia.", patient=""), "PID^1^3"),
        (message("ORU^R01", pid("1")), "OBR"),
        (message("ORU^R30", pid("1")), "MSH^1^9"),
    ],
)
def test_a_report_that_says_too_little_is_refused_with_the_field(
    rows: Database, tell: Told, sent: str, place: str
) -> None:
    answer = tell(sent)
    assert code(answer) == "AR"
    assert place in answer
    assert kept(rows) == []


def test_a_study_is_named_by_zds_or_by_an_obx(rows: Database, tell: Told) -> None:
    tell(report("", "No pneumonia.", study="1.2.826.0.1.9"))
    tell(report("", "No pneumonia.", "OBX|2|HD|113014^DICOM Study^DCM||^1.2.826.0.1.8^ISO||||||F", filler="F2^RIS"))
    with rows.read() as connection:
        assert set(connection.execute(select(reports.c.stated_study_uid)).scalars()) == {
            "1.2.826.0.1.9",
            "1.2.826.0.1.8",
        }


def test_groups_of_one_message_are_reports_of_their_own_and_one_without_text_is_none(
    rows: Database, tell: Told
) -> None:
    head = "OBR|{0}||F{0}^RIS|XR^X^L||||||||||||||A{0}||||20261120120000||RAD|F"
    text = "OBX|1|TX|R^Report^L||Report {0}.||||||F"
    segments = [head.format(1), text.format(1), head.format(2), head.format(3), text.format(3)]
    assert code(tell(message("ORU^R01", pid("4711^^^HOSP"), *segments))) == "AA"
    assert sorted(text for _, _, text in kept(rows)) == ["Report 1.", "Report 3."]


# --- states --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["P", "R", "A", "S", "I"])
def test_what_is_not_final_is_acknowledged_and_not_kept(rows: Database, tell: Told, status: str) -> None:
    assert code(tell(report("A1", "Possible pneumonia.", status=status))) == "AA"
    assert kept(rows) == []


def test_a_correction_takes_the_place_of_the_report_and_an_older_state_that_comes_late_does_not(
    rows: Database, tell: Told
) -> None:
    tell(report("A1", "Pneumonia.", at="20261120120000+0100"))
    tell(report("A1", "No pneumonia.", status="C", at="20261120113000+0000"))
    tell(report("A1", "Pneumonia, sent late.", at="20261120121000+0100"))
    assert kept(rows) == [(ReportStatus.CORRECTED, ReportMatch.WAITING, "No pneumonia.")]


def test_a_cancelled_report_says_nothing_any_more_and_stays_cancelled(rows: Database, tell: Told) -> None:
    tell(report("A1", "Pneumonia.", at="20261120120000"))
    assert code(tell(report("A1", status="X", at="20261120130000"))) == "AA"
    tell(report("A1", "Pneumonia.", at="20261120120000", control_id="again"))
    assert kept(rows) == [(ReportStatus.CANCELLED, ReportMatch.CANCELLED, "")]


def test_a_line_that_was_deleted_is_no_part_of_a_report(rows: Database, tell: Told) -> None:
    tell(report("A1", "No pneumonia.", "OBX|2|TX|R^Report^L||Pneumonia.||||||D"))
    assert the_text(rows) == "No pneumonia."


# --- what is the node's own ----------------------------------------------------------------------------------------


def test_the_nodes_own_result_that_comes_back_is_acknowledged_and_not_kept(rows: Database, tell: Told) -> None:
    options = FhirOptions(patient_system="urn:oid:2.16.1")
    own = build_message(radiograph_analysis(), context(), (), options, "2.25.1")
    final = "\r".join(_final(line) for line in own.split("\r"))
    assert "RIS" in final
    assert code(tell(final)) == "AA"
    assert kept(rows) == []


def _final(line: str) -> str:
    """Return a segment as a RIS that files everything as final sends it on, under a procedure of its own."""
    fields = line.split("|")
    if fields[0] == "MSH":
        fields[2] = "RIS"
    if fields[0] == "OBR":
        fields[4], fields[25] = "XRCH^Chest radiograph^L", "F"
    if fields[0] == "OBX":
        fields[11] = "F"
    return "|".join(fields)


def test_own_words_inside_a_report_of_a_person_are_left_out(rows: Database, tell: Told) -> None:
    own = "OBX|1|TX|ai-notice^AI result, not verified^99AINODE||AI result, NOT VERIFIED. Pneumonia.||||||F"
    tell(report("A1", own, "No pneumonia."))
    assert the_text(rows) == "No pneumonia."


# --- nobody else ---------------------------------------------------------------------------------------------------


def test_no_word_of_a_report_is_in_a_log(tell: Told, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        tell(report("A1", "Secretword pneumonia."))
        tell(report("A1", r"{\E\rtf1 Secretword"))
    said = " ".join(f"{one.getMessage()} {vars(one)}" for one in caplog.records)
    assert "Secretword" not in said
    assert "4711" not in said


def test_a_node_that_was_not_asked_to_takes_no_reports(rows: Database) -> None:
    inbox = Inbox(rows, InboxOptions(speaker=Acknowledger("AINODE"), patient_authority="HOSP"), lambda: None)
    taken = inbox.take(report("A1", "No pneumonia.").encode(), lambda _: "utf-8")
    assert taken.outcome == "refused"
    assert "reports.hl7" in taken.why
