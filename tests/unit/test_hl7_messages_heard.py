"""Messages are cut by their own separators, whatever writes them; what cannot be read is refused with what to do."""

from __future__ import annotations

import pytest

from dicom_node.core.entities import Code, OrderNumber, PatientNumber
from dicom_node.orders.acknowledgement import Speaker, acknowledgements
from dicom_node.orders.hl7_message import MessageRefused, read_header, read_message
from dicom_node.orders.order_messages import orders_in
from dicom_node.orders.patient_messages import patient_news
from tests.support.hl7.messages import merge, message, order, pid

NODE = Speaker("AINODE", "SITE")


def test_line_ends_byte_order_marks_and_blanks_around_a_message_mean_nothing() -> None:
    plain = order("A1").encode()
    for odd in (plain.replace(b"\r", b"\n"), plain.replace(b"\r", b"\r\n"), b"\xef\xbb\xbf" + plain, b"\r\n " + plain):
        assert [one.name for one in read_message(odd).segments] == ["MSH", "PID", "ORC", "OBR"]


def test_separators_are_those_that_the_message_names() -> None:
    text = "MSH#*!%?#HIS#HOSPITAL#AINODE##20261120##ADT*A08#7#P#2.3\rPID#1##47%F%11***HOSP!9***NAT\r"
    found = read_message(text.encode())
    patient = found.first("PID")
    assert patient is not None
    assert found.kind == ("ADT", "A08")
    assert [patient.component(one, 1) for one in patient.repetitions(3)] == ["47#11", "9"]


@pytest.mark.parametrize(
    "head", ["MSH|||A", "MSH|^^^^|A|", "MSHA^~\\&A", "MSH|^|HIS|", "MSH", "PID|1", "", "GET / HTTP"]
)
def test_what_has_no_header_is_refused(head: str) -> None:
    with pytest.raises(MessageRefused) as refused:
        read_message(f"{head}\rPID|1\r".encode())
    assert refused.value.is_final


@pytest.mark.parametrize(
    ("stated", "codec"),
    [
        ("UNICODE UTF-8", "utf-8"),
        ("8859/1", "latin-1"),
        ("8859/2", "iso8859_2"),
        ("8859/15", "iso8859_15"),
        ("", "utf-8"),
    ],
)
def test_letters_are_read_as_the_message_says(stated: str, codec: str) -> None:
    text = message("ADT^A08", pid("1", name="Müller^Jörg"), more=f"||||||{stated}")
    news = patient_news(read_message(text.encode(codec)), "HOSP")
    assert news.name == "Müller^Jörg"


def test_letters_in_another_character_set_than_stated_are_never_guessed() -> None:
    text = message("ADT^A08", pid("1", name="Müller^Jörg"))
    with pytest.raises(MessageRefused, match="not written in utf-8"):
        read_message(text.encode("latin-1"))
    assert read_message(text.replace("UNICODE UTF-8", "").encode("latin-1"), "latin-1").segments
    for unknown in ("ISO IR87", "KLINGON"):
        with pytest.raises(MessageRefused, match="MSH-18"):
            read_message(text.replace("UNICODE UTF-8", unknown).encode())
    with pytest.raises(MessageRefused):
        read_message(text.encode("utf-16"))


def test_escapes_are_undone_and_control_characters_dropped() -> None:
    text = message("ADT^A08", pid("1", name="O\\T\\Hara^A\\X41\\\\.br\\b\\X00\\c\\E\\d"))
    assert patient_news(read_message(text.encode()), "HOSP").name == "O&Hara^AA b c d"


def test_a_name_in_three_spellings_goes_into_the_groups_of_dicom() -> None:
    text = message("ADT^A08", pid("1", name="山田^太郎^^^^^L^I~Yamada^Tarou^^^^^L^A~やまだ^たろう^^^^^L^P"))
    assert patient_news(read_message(text.encode()), "HOSP").name == "Yamada^Tarou=山田^太郎=やまだ^たろう"


@pytest.mark.parametrize(
    "hostile",
    [
        "PID|1||" + "~" * 900_000,
        "PID|1||" + "^" * 900_000,
        "PID|1||" + "\\" * 900_000,
        "PID" + "|" * 900_000,
        "PID|1||" + "\\" + "a" * 65 + "\\" * 800_000,
    ],
)
def test_a_million_separators_are_nothing_but_a_message_without_a_number(hostile: str) -> None:
    with pytest.raises(MessageRefused):
        patient_news(read_message((message("ADT^A08") + hostile + "\r").encode()), "HOSP")


def test_a_message_of_very_many_segments_is_refused() -> None:
    with pytest.raises(MessageRefused, match="more than 500 segments"):
        read_message((message("ADT^A08") + "NTE|1\r" * 400_000).encode())


def test_two_messages_in_one_frame_are_refused() -> None:
    with pytest.raises(MessageRefused, match="two message headers"):
        read_message((order("A1") + order("A2")).encode())


# --- orders --------------------------------------------------------------------------------------------------------


def test_an_order_is_read_with_its_numbers_procedure_indication_and_priority() -> None:
    (found,) = orders_in(read_message(order("A77").encode()), "OBR-18", "HOSP")
    context = found.context
    assert (context.accession_number, context.priority, context.reason) == ("A77", "stat", "Cough for six weeks")
    assert context.placer is not None
    assert (context.placer.value, context.placer.authority) == ("PA77", "HIS")
    assert context.procedure is not None
    assert (context.procedure.value, context.procedure.meaning) == ("CTCH", "CT chest")
    assert context.requested_at == "2026-11-20T08:30+01:00"
    assert not context.is_cancelled


def test_what_identifies_is_taken_whole_or_not_at_all() -> None:
    long = "9" * 65
    text = order("A1", placer=f"{long}^HIS").replace("CTCH^CT chest^L", f"{long}^CT chest^L")
    (found,) = orders_in(read_message(text.encode()), "OBR-18", "HOSP")
    assert found.context.placer is None
    assert found.context.filler == OrderNumber(value="FA1", authority="RIS")
    assert found.context.procedure == Code("", "", "CT chest")
    foreign = order("A1", placer=f"P1^{long}")
    assert orders_in(read_message(foreign.encode()), "OBR-18", "HOSP")[0].context.placer is None
    with pytest.raises(MessageRefused, match="accession number"):
        orders_in(read_message(order(long, placer="P1").encode()), "OBR-18", "HOSP")


def test_an_imaging_order_names_its_study_and_its_accession_number_in_ipc() -> None:
    text = message(
        "OMI^O23^OMI_O23", pid("4711"), "ORC|NW|P9^HIS|F9", "TQ1|1||||||20261121||R", "OBR|1|P9^HIS||CTCH^CT chest^L",
        "IPC|A9^HIS|RP9|1.2.3.4|SPS9|CT",
    )  # fmt: skip
    (found,) = orders_in(read_message(text.encode()), "OBR-18", "HOSP")
    assert (found.context.accession_number, found.context.study_instance_uid) == ("A9", "1.2.3.4")
    assert (found.context.priority, found.context.requested_at) == ("routine", "2026-11-21")


def test_orders_of_one_message_keep_their_own_segments() -> None:
    text = message("ORM^O01", pid("1"), "ORC|NW|P1", "OBR|1|P1||X^First^L" + "|" * 14 + "A1", "ORC|CA|P2")
    found = orders_in(read_message(text.encode()), "OBR-18", "HOSP")
    assert [(one.context.accession_number, one.context.is_cancelled) for one in found] == [("A1", False), ("", True)]


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (message("ORM^O01", pid("1"), "ORC|NW|P1", "OBR|1|P1||X^First^L"), "OBR-18"),
        (message("ORM^O01", pid("1"), "ORC|NW", "OBR|1"), "ORC-2"),
        (message("ORM^O01", pid("1")), "ORC"),
        (message("ORM^O01", "ORC|NW|P1"), "PID"),
        (message("ORM^O01", pid(""), "ORC|NW|P1"), "PID-3"),
    ],
)
def test_an_order_that_lacks_what_is_needed_says_where(text: str, place: str) -> None:
    with pytest.raises(MessageRefused) as refused:
        orders_in(read_message(text.encode()), "OBR-18", "HOSP")
    assert refused.value.place == place


# --- patients ------------------------------------------------------------------------------------------------------


def test_a_merge_pairs_numbers_of_one_authority() -> None:
    news = patient_news(read_message(merge("OLD^^^HOSP~N1^^^NAT", "N2^^^NAT~NEW^^^HOSP").encode()), "HOSP")
    assert {(prior.value, now.value) for prior, now in news.moves} == {("OLD", "NEW"), ("N1", "N2")}


def test_the_number_that_is_given_up_survives_nowhere_though_the_patient_is_listed_with_it() -> None:
    text = merge("OLD^^^HOSP", "OLD^^^HOSP~NEW^^^HOSP~OLDER^^^HOSP")
    old, new = (PatientNumber(one, "HOSP") for one in ("OLD", "NEW"))
    assert patient_news(read_message(text.encode()), "HOSP").moves == ((old, new),)
    itself = patient_news(read_message(merge("OLD", "OLD").encode()), "HOSP")
    assert itself.moves == ((old, old),)


def test_a_number_without_an_authority_is_of_the_sites_own() -> None:
    ((prior, now),) = patient_news(read_message(merge("OLD", "NEW^^^HOSP").encode()), "HOSP").moves
    assert (prior.authority, now.authority) == ("HOSP", "HOSP")


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (merge("OLD^^^OTHER", "NEW^^^HOSP"), "PID-3"),
        (merge("", "NEW^^^HOSP"), "MRG-1"),
        (message("ADT^A40", pid("1")), "MRG"),
        (message("ADT^A40", pid("1"), "MRG|2", pid("3"), "MRG|4"), "PID"),
        (message("ADT^A37", pid("1")), "MSH-9"),
        (message("ADT^A03", pid("1")), "MSH-9"),
    ],
)
def test_what_cannot_be_followed_is_refused_with_the_place(text: str, place: str) -> None:
    with pytest.raises(MessageRefused) as refused:
        patient_news(read_message(text.encode()), "HOSP")
    assert refused.value.place == place


# --- answers -------------------------------------------------------------------------------------------------------


def answers(more: str, refused: MessageRefused | None = None) -> list[str]:
    header = read_header(message("ADT^A08", more=more).encode())
    return [read_message(one).segments[1].value(1) for one in acknowledgements(header, refused, NODE)]


def test_each_mode_of_acknowledgement_gets_its_codes() -> None:
    final, passing = MessageRefused("No.", code="102"), MessageRefused("Later.", code="207", is_final=False)
    assert (answers(""), answers("", final), answers("", passing)) == (["AA"], ["AR"], ["AE"])
    assert (answers("|||AL|NE"), answers("|||AL|NE", final), answers("|||AL|NE", passing)) == (["CA"], ["CR"], ["CE"])
    assert (answers("|||AL|AL"), answers("|||NE|NE"), answers("|||ER|SU")) == (["CA", "AA"], [], ["AA"])
    assert (answers("|||ER|SU", final), answers("|||NE|AL", passing)) == (["CR"], ["AE"])


def test_an_answer_names_a_message_and_a_sender_with_letters_of_their_own() -> None:
    header = read_header("MSH|^~\\&|KÄS|HÔP|A||20261120||ADT^A08|Ñ1|P|2.5.1||||||UNICODE UTF-8\r".encode())
    assert header.value(3) == "KÄS"
    (answer,) = acknowledgements(header, None, NODE)
    found = read_message(answer)
    assert (found.header.value(5), found.segments[1].value(2)) == ("KÄS", "Ñ1")


def test_an_answer_names_the_message_and_says_what_is_wrong_where() -> None:
    header = read_header(b"MSH|^~\\&|H\\S\\IS|A|B|C|20261120||ADT^A08|X\\F\\1|P|2.3\r")
    (answer,) = acknowledgements(header, MessageRefused("Give a | number.", code="101", place="PID-3"), NODE)
    found = read_message(answer)
    assert (found.header.value(3), found.header.value(5), found.header.value(12)) == ("AINODE", "H^IS", "2.3")
    assert (found.segments[1].value(1), found.segments[1].value(2)) == ("AR", "X|1")
    error = found.first("ERR")
    assert error is not None
    assert [error.value(2, part) for part in (1, 3)] == ["PID", "3"]
    assert (error.value(3), error.value(8)) == ("101", "Give a | number.")
