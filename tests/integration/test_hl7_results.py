"""Results on their way to a receiver of HL7 v2, through the whole node: replaced, taken back, put off, parked."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import hl7
from pydicom.dataset import Dataset

from dicom_node.fhir.hl7.grammar import value
from dicom_node.index.decided import actions
from dicom_node.index.tables import deliveries, results
from tests.integration.step_by_step_node import Site, site
from tests.peers.mllp import Hl7Receiver, running_receiver
from tests.support.results.hl7_grammar import complaints
from tests.support.results.rows import SOMEBODY
from tests.support.studies.data_factories import small_chest_ct

WHY = "Analysed under the wrong protocol."


def ris(receiver: Hl7Receiver, **changes: Any) -> dict[str, Any]:
    return {"name": "ris", "kind": "hl7", "host": "127.0.0.1", "port": receiver.port} | changes


@cache
def study() -> list[Dataset]:
    return small_chest_ct()[0]


@contextmanager
def node(folder: Path, *destinations: Mapping[str, Any]) -> Iterator[Site]:
    """A node whose only other destination gets no DICOM object, so that none is made."""
    nothing = {"secondary_capture": False, "segmentation": "off", "sr_sop_class": "off"}
    files = {"name": "files", "kind": "folder", "path": str(folder / "out"), "outputs": nothing}
    with site(folder / "node", [files, *destinations]) as one:
        yield one


def withdraw(one: Site, images: Sequence[Dataset]) -> None:
    with one.database.write() as connection:
        actions.withdraw_study(connection, str(images[0].StudyInstanceUID), (WHY, None), SOMEBODY, datetime.now(UTC))


def rerun(one: Site, images: Sequence[Dataset]) -> None:
    with one.database.write() as connection:
        actions.rerun_study(connection, str(images[0].StudyInstanceUID), None, SOMEBODY, datetime.now(UTC))


def states(one: Site) -> list[str]:
    return [row.state for row in one.rows(deliveries) if row.destination == "ris"]


def standings(one: Site) -> list[str]:
    return [row.standing for row in sorted(one.rows(results), key=lambda row: row.sequence)]


def statuses(message: hl7.Message) -> set[str]:
    return {str(value(row, 11)) for row in message.segments("OBX")}


def filler(message: hl7.Message) -> str:
    return str(value(message.segment("OBR"), 3))


def test_a_result_arrives_once_and_a_rerun_with_the_same_answer_is_the_same_message(tmp_path: Path) -> None:
    images = study()
    with running_receiver() as receiver, node(tmp_path, ris(receiver)) as one:
        one.run(images)
        rerun(one, images)
        one.settle()
        assert states(one) == ["SENT"]
    first, again = receiver.received
    assert first == again
    assert complaints(first, tmp_path) == []
    assert value(receiver.live()[0].segment("PID"), 3).split("^")[0] == images[0].PatientID


def test_a_late_image_replaces_what_the_receiver_has(tmp_path: Path) -> None:
    images = study()
    with running_receiver() as receiver, node(tmp_path, ris(receiver, replacement="C")) as one:
        one.run(images[:-1])
        one.run(images[-1:])
        assert standings(one) == ["SUPERSEDED", "CURRENT"]
    first, second = receiver.messages()
    assert filler(first) == filler(second)
    assert (statuses(first), statuses(second)) == ({"P"}, {"C"})
    assert "ai-replaces" in str(second)
    assert len(receiver.live()) == 1


def test_a_withdrawn_result_is_taken_back_and_what_follows_is_another(tmp_path: Path) -> None:
    images = study()
    with running_receiver() as receiver, node(tmp_path, ris(receiver, withdrawal="W")) as one:
        one.run(images[:-1])
        one.run(images[-1:])
        withdraw(one, images)
        rerun(one, images)
        one.settle()
        assert standings(one) == ["WITHDRAWN", "WITHDRAWN", "CURRENT"]
        assert states(one) == ["SENT"] * 4
        told = [text for text in one.told("sent") if text.endswith("to ris.")]
        assert told[-2:] == ["Withdrawal (ORU) sent to ris.", "ORU sent to ris."]
    _, second, taken_back, after = receiver.messages()
    assert filler(taken_back) == filler(second) != filler(after)
    assert statuses(taken_back) == {"P", "W"}
    assert WHY in str(taken_back)
    (live,) = receiver.live()
    assert filler(live) == filler(after)


def test_a_corrected_patient_leaves_nothing_of_the_wrong_one_but_that_it_was_wrong(tmp_path: Path) -> None:
    wrong, right = study(), deepcopy(study())
    for image in right:
        image.PatientID = "OTHER-7"
    with running_receiver() as receiver:
        with node(tmp_path / "first", ris(receiver)) as one:
            one.run(wrong)
            withdraw(one, wrong)
            one.deliver()
        with node(tmp_path / "second", ris(receiver)) as one:
            one.run(right)
    numbers = [value(one.segment("PID"), 3).split("^")[0] for one in receiver.messages()]
    assert numbers == [wrong[0].PatientID, wrong[0].PatientID, "OTHER-7"]
    assert [value(one.segment("PID"), 3).split("^")[0] for one in receiver.live()] == ["OTHER-7"]


def test_a_result_that_was_never_sent_is_not_taken_back(tmp_path: Path) -> None:
    images = study()
    with running_receiver() as receiver, node(tmp_path, ris(receiver)) as one:
        one.receive(images)
        one.analyse()
        withdraw(one, images)
        one.deliver()
        assert states(one) == []
    assert receiver.received == []


# --- receivers that do not obey ------------------------------------------------------------------------------------


def test_what_a_later_result_has_overtaken_is_not_sent_behind_it(tmp_path: Path) -> None:
    images = study()
    with running_receiver("AE", "AE") as receiver, node(tmp_path, ris(receiver)) as one:
        one.run(images[:-1])
        one.receive(images[-1:])
        one.analyse()
        for _ in range(3):
            one.deliver()
        assert sorted(states(one)) == ["DISCARDED", "SENT"]
    (live,) = receiver.live()
    assert "ai-replaces" in str(live)
    assert receiver.received[-1] == str(live)


def test_a_dropped_or_unanswered_message_is_the_same_message_again(tmp_path: Path) -> None:
    with running_receiver("drop", "garbage", "another", "AE") as receiver:
        with node(tmp_path, ris(receiver)) as one:
            one.run(study())
            for _ in range(4):
                one.deliver()
            assert states(one) == ["SENT"]
        assert len(receiver.received) == 5
        assert len(receiver.messages()) == 1


def test_a_message_that_is_dropped_and_then_withdrawn_is_taken_back(tmp_path: Path) -> None:
    images = study()
    with running_receiver("drop") as receiver, node(tmp_path, ris(receiver)) as one:
        one.run(images)
        withdraw(one, images)
        one.deliver()
        assert sorted(states(one)) == ["DISCARDED", "SENT"]
    assert len(receiver.messages()) == 2
    assert receiver.live() == []


def test_a_message_that_arrived_and_was_refused_when_it_came_again_is_taken_back(tmp_path: Path) -> None:
    with running_receiver("drop", "AR") as receiver, node(tmp_path, ris(receiver)) as one:
        one.run(study())
        one.deliver()
        assert states(one) == ["PARKED"]
        withdraw(one, study())
        one.deliver()
        assert sorted(states(one)) == ["DISCARDED", "SENT"]
    assert receiver.live() == []


def test_errors_without_end_park_it_and_it_waits_for_a_person(tmp_path: Path) -> None:
    with running_receiver(*["AE"] * 5) as receiver, node(tmp_path, ris(receiver)) as one:
        one.run(study())
        for attempt in range(2, 6):
            assert states(one) == ["PENDING"], attempt
            one.deliver()
        (row,) = (row for row in one.rows(deliveries) if row.destination == "ris")
        assert (row.state, row.attempts) == ("PARKED", 5)
        assert "It was tried 5 times." in row.note
        one.deliver()
    assert len(receiver.received) == 5


def test_a_rejected_message_is_parked_at_once(tmp_path: Path) -> None:
    with running_receiver("AR") as receiver, node(tmp_path, ris(receiver)) as one:
        one.run(study())
        (row,) = (row for row in one.rows(deliveries) if row.destination == "ris")
        assert row.state == "PARKED"
        assert "Jane" not in row.note
    assert len(receiver.received) == 1


# --- what goes to whom -----------------------------------------------------------------------------------------------


def test_the_pdf_goes_to_who_wants_it_and_a_folder_gets_no_message(tmp_path: Path) -> None:
    with (
        running_receiver() as plain,
        running_receiver() as with_pdf,
        node(tmp_path, ris(with_pdf, name="ehr", pdf=True), ris(plain)) as one,
    ):
        one.run(study())
        assert one.kinds_of("ehr") == one.kinds_of("ris") == ["ORU"]
        assert one.kinds_of("files") == ["FHIR"]
    (document,) = [row for row in with_pdf.live()[0].segments("OBX") if value(row, 2) == "ED"]
    data = value(document, 5).split("^")[4]
    assert base64.b64decode(data)[:5] == b"%PDF-"
    # Its component of 65536 characters and more is one of 199 to hl7apy.
    assert complaints(with_pdf.received[0].replace(data, "JVBERg=="), tmp_path) == []
    assert "|ED|" not in plain.received[0]


def test_a_receiver_that_is_added_later_gets_the_result_at_a_rerun(tmp_path: Path) -> None:
    images = study()
    with running_receiver() as receiver, node(tmp_path) as one:
        one.run(images)
        one.configure([ris(receiver)])
        rerun(one, images)
        one.settle()
        assert one.kinds_of("ris") == ["ORU"]
    assert len(receiver.live()) == 1
