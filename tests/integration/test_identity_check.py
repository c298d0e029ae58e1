"""Whose study a PACS has is asked before a result goes there: another patient's holds it, whatever answers else does
not; against real PACSs, over DIMSE and over the web."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset, dcmread
from pynetdicom import AE, AllStoragePresentationContexts, evt
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind, Verification
from sqlalchemy import insert, select, update

from dicom_node.core.entities import ArtifactKind, DeliveryState, JobState, PatientNumber, StudyState
from dicom_node.core.uids import derived_uid
from dicom_node.deliver.dispatch.identity_check import identity_check
from dicom_node.deliver.dispatch.outbox import DestinationWorker, OutboxPolicy
from dicom_node.deliver.kinds import destinations_of
from dicom_node.deliver.kinds.kind import caller_of
from dicom_node.index.database import Database
from dicom_node.index.decided import actions
from dicom_node.index.outbox.destinations import suspension_of
from dicom_node.index.outbox.withdrawals import withdraw_results
from dicom_node.index.received.patients import add_move
from dicom_node.index.tables import artifacts, deliveries, events, peer_capabilities
from dicom_node.index.transitions import Change, record
from dicom_node.roles.settings import SiteSettings
from dicom_node.storage.spool import Spool
from tests.integration.sent_objects import SOP_CLASSES, dicom_file
from tests.integration.test_outbox import BACK_OFF, KINDS, MODEL
from tests.integration.test_retrieve_hostile import answer, web_server
from tests.peers.dcmtk import Receiver
from tests.peers.orthanc import Orthanc, running_orthanc
from tests.support.results.arrivals import opened_database
from tests.support.results.rows import SOMEBODY, Rows, key_of


def study_of(name: str) -> str:
    return derived_uid("study", name)


def patient_of(name: str) -> dict[str, str]:
    return {"PatientID": f"OLD-{name}", "PatientName": "DOE^JANE", "PatientBirthDate": "19700131"}


class Owing:
    """A node that owes results to the destination `pacs`, each about the patient of its study."""

    def __init__(self, folder: Path, database: Database) -> None:
        self.folder, self.database, self.spool = folder, database, Spool(folder / "spool")
        #: What the objects of a result say otherwise of the patient.
        self.corrected: dict[str, dict[str, str]] = {}

    def add(self, study: str, *results: str) -> None:
        """Owe a picture and its report for each of the results of a study."""
        with self.database.write() as connection:
            rows = Rows(connection, self.folder, datetime.now(UTC))
            rows.study(study_of(study), StudyState.REPORTED, 10)
            for result in results or (study,):
                rows.result(study_of(study), result, MODEL, JobState.DONE)
                for kind in KINDS:
                    self._object(rows, study, result, kind)

    def _object(self, rows: Rows, study: str, result: str, kind: ArtifactKind) -> None:
        path = dicom_file(self.folder, f"{result}-{kind}", SOP_CLASSES[kind])
        made = dcmread(path)
        made.StudyInstanceUID = study_of(study)
        made.SeriesInstanceUID = derived_uid("series", f"{result}-{kind}")
        for keyword, value in (patient_of(study) | self.corrected.get(result, {})).items():
            setattr(made, keyword, value)
        made.save_as(path, enforce_file_format=True)
        uid = derived_uid("test", f"{result}-{kind}")
        stored = self.spool.put([path.read_bytes()], ".result")
        rows.connection.execute(insert(artifacts).values(
            uid=uid, job_key=key_of(result), kind=kind, media_type="application/dicom", description="",
            sop_class_uid=SOP_CLASSES[kind], series_instance_uid=made.SeriesInstanceUID, object_key=stored.key,
            sha256=stored.sha256, size_bytes=stored.size_bytes, preview_key="", send_order=KINDS.index(kind),
            output_keys=[],
        ))  # fmt: skip
        rows.delivery(result, uid, "pacs", DeliveryState.PENDING, attempts=0)

    def deliver(self, there: dict[str, Any], timeout_s: float = 60.0) -> None:
        """Deliver to this destination until nothing is due, as a node does that has just started."""
        worker = self.worker(there, timeout_s)
        while worker.deliver_once():
            pass

    def worker(self, there: dict[str, Any], timeout_s: float = 60.0) -> DestinationWorker:
        settings = SiteSettings.model_validate(
            {"destination": [{"name": "pacs"} | there], "delivery": {"timeout_s": timeout_s}}
        )
        (pacs,), caller = destinations_of(settings), caller_of(settings)
        policy = OutboxPolicy(
            "host:1", BACK_OFF, None, partial(pacs.reach, caller), identity_check=identity_check(pacs, settings)
        )
        return DestinationWorker("pacs", partial(pacs.sender, caller), self.database, self.spool, policy)

    def states(self, result: str) -> set[str]:
        with self.database.read() as connection:
            query = select(deliveries.c.state).where(deliveries.c.job_key == key_of(result))
            return set(connection.execute(query).scalars())

    def notes(self) -> str:
        with self.database.read() as connection:
            return " ".join(connection.execute(select(deliveries.c.note)).scalars())

    def told(self, kind: str) -> list[str]:
        with self.database.read() as connection:
            return list(connection.execute(select(events.c.text).where(events.c.kind == kind)).scalars())

    def retry(self, study: str) -> None:
        with self.database.write() as connection:
            actions.retry_study(connection, study_of(study), SOMEBODY, datetime.now(UTC))

    def let_wait_be_over(self) -> None:
        with self.database.write() as connection:
            connection.execute(update(deliveries).values(next_attempt_at=datetime.now(UTC) - timedelta(seconds=1)))


@pytest.fixture
def owing(tmp_path: Path) -> Iterator[Owing]:
    (tmp_path / "node").mkdir()
    with opened_database(f"sqlite:///{tmp_path / 'node' / 'index.sqlite'}") as database:
        yield Owing(tmp_path / "node", database)


@pytest.fixture(scope="module")
def pacs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    """One PACS for all tests here; each has studies of its own."""
    with running_orthanc(tmp_path_factory.mktemp("orthanc")) as one:
        yield one


def over_dimse(pacs: Orthanc | Receiver) -> dict[str, Any]:
    port = pacs.dicom_port if isinstance(pacs, Orthanc) else pacs.port
    return {"kind": "dicom", "ae_title": pacs.aet, "host": "127.0.0.1", "port": port}


def over_the_web(pacs: Orthanc) -> dict[str, Any]:
    return {"kind": "dicomweb", "url": pacs.dicomweb_url}


WAYS = pytest.mark.parametrize("way", [over_dimse, over_the_web])
Way = Callable[[Orthanc], dict[str, Any]]


def archive(pacs: Orthanc, folder: Path, name: str, **changes: str) -> None:
    """Let the PACS have an image of a study."""
    image = dcmread(dicom_file(folder, f"image-{name}"))
    image.StudyInstanceUID = study_of(name)
    for keyword, value in (patient_of(name) | changes).items():
        setattr(image, keyword, value)
    pacs.upload_dataset(image)


def merge(pacs: Orthanc, old: str, new: str) -> None:
    """Give a patient of the archive another ID, in place and without a word to anybody."""
    (patient,) = pacs.post("/tools/find", {"Level": "Patient", "Query": {"PatientID": old}})
    kept = ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"]
    body = {"Replace": {"PatientID": new}, "Force": True, "KeepSource": False, "Keep": kept}
    pacs.post(f"/patients/{patient}/modify", body)


def reports_of(pacs: Orthanc, name: str) -> list[Dataset]:
    query = {"Level": "Instance", "Query": {"StudyInstanceUID": study_of(name), "Modality": "OT"}}
    there = [pacs.dataset(one) for one in pacs.post("/tools/find", query)]
    return [one for one in there if one.SOPInstanceUID != derived_uid("test", f"image-{name}")]


# --- the patient was corrected or merged in the archive ---


@WAYS
def test_a_study_that_was_merged_in_the_archive_has_its_result_held_until_that_is_settled(
    pacs: Orthanc, owing: Owing, tmp_path: Path, way: Way
) -> None:
    name = f"merged-{way.__name__}"
    archive(pacs, tmp_path, name)
    owing.add(name, name, f"{name}-2")
    merge(pacs, f"OLD-{name}", f"NEW-{name}")
    owing.deliver(way(pacs))
    assert owing.states(name) == owing.states(f"{name}-2") == {DeliveryState.PARKED}
    assert not reports_of(pacs, name)
    held = owing.told("held")
    assert len(held) == 2, "one line for each result"
    assert all("IDENTITY_CHANGED" in line and "what differs: PatientID." in line for line in held)
    assert not [one for one in (f"NEW-{name}", f"OLD-{name}", "DOE") if one in " ".join([*held, owing.notes()])]

    owing.retry(name)
    owing.deliver(way(pacs))
    assert owing.states(name) == {DeliveryState.PARKED}, "a retry asks again, and the archive is as it was"
    merge(pacs, f"NEW-{name}", f"OLD-{name}")
    owing.retry(name)
    owing.deliver(way(pacs))
    assert owing.states(name) == owing.states(f"{name}-2") == {DeliveryState.SENT}
    assert {one.PatientID for one in reports_of(pacs, name)} == {f"OLD-{name}"}


@WAYS
def test_an_archive_that_has_not_followed_a_merge_yet_gets_the_result_when_it_has(
    pacs: Orthanc, owing: Owing, tmp_path: Path, way: Way
) -> None:
    name = f"lagging-{way.__name__}"
    archive(pacs, tmp_path, name)
    owing.corrected[name] = {"PatientID": f"NEW-{name}"}
    owing.add(name)
    with owing.database.write() as connection:
        add_move(connection, PatientNumber(f"OLD-{name}"), PatientNumber(f"NEW-{name}"), datetime.now(UTC))
    owing.deliver(way(pacs))
    assert owing.states(name) == {DeliveryState.PENDING}
    assert "number from before a merge" in owing.notes()
    assert not reports_of(pacs, name)
    merge(pacs, f"OLD-{name}", f"NEW-{name}")
    owing.let_wait_be_over()
    owing.deliver(way(pacs))
    assert owing.states(name) == {DeliveryState.SENT}
    assert {one.PatientID for one in reports_of(pacs, name)} == {f"NEW-{name}"}


@WAYS
def test_what_the_node_itself_has_sent_does_not_say_whose_the_study_is(pacs: Orthanc, owing: Owing, way: Way) -> None:
    """An earlier result was filed under the number that the images had before they were corrected, and no image is
    there: who keeps only results must get the one that is right."""
    name = f"own-{way.__name__}"
    owing.corrected[f"{name}-2"] = {"PatientID": f"CORRECTED-{name}"}
    owing.add(name, f"{name}-1", f"{name}-2")
    for _ in range(2):  # one result each, and nothing remembered from one to the other
        owing.worker(way(pacs)).deliver_once()
    assert owing.states(f"{name}-1") == owing.states(f"{name}-2") == {DeliveryState.SENT}
    assert {one.PatientID for one in reports_of(pacs, name)} == {f"OLD-{name}", f"CORRECTED-{name}"}


@WAYS
def test_one_who_corrects_a_name_alone_gets_the_result_and_the_timeline_says_so(
    pacs: Orthanc, owing: Owing, tmp_path: Path, way: Way
) -> None:
    name = f"married-{way.__name__}"
    archive(pacs, tmp_path, name, PatientName="MÜLLER^JANE", SpecificCharacterSet="ISO_IR 192")
    owing.add(name)
    owing.deliver(way(pacs))
    assert owing.states(name) == {DeliveryState.SENT}
    assert owing.told("identity") == ["pacs has this patient with another PatientName. The result is sent as it is."]


@WAYS
def test_another_name_with_another_birth_date_is_another_patient(
    pacs: Orthanc, owing: Owing, tmp_path: Path, way: Way
) -> None:
    name = f"other-{way.__name__}"
    archive(pacs, tmp_path, name, PatientName="ROE^RICHARD", PatientBirthDate="19550505")
    owing.add(name)
    owing.deliver(way(pacs))
    assert owing.states(name) == {DeliveryState.PARKED}
    assert "what differs: PatientName, PatientBirthDate." in owing.told("held")[0]


@WAYS
def test_the_same_patient_written_otherwise_and_a_study_that_is_not_there_get_their_results(
    pacs: Orthanc, owing: Owing, tmp_path: Path, way: Way
) -> None:
    name, unknown = f"same-{way.__name__}", f"unknown-{way.__name__}"
    archive(pacs, tmp_path, name, PatientName="Doe^Jane^^^", IssuerOfPatientID="HOSPITAL")
    owing.add(name)
    owing.add(unknown)
    owing.deliver(way(pacs))
    assert owing.states(name) == owing.states(unknown) == {DeliveryState.SENT}
    assert owing.told("identity") == owing.told("held") == []


def test_one_who_is_in_the_archive_twice_gets_the_result_where_he_is_the_same(
    pacs: Orthanc, owing: Owing, tmp_path: Path
) -> None:
    """What was sent before a merge makes the archive have the study under both."""
    archive(pacs, tmp_path, "twice")
    image = dcmread(dicom_file(tmp_path, "image-of-another"))
    image.StudyInstanceUID, image.PatientID = study_of("twice"), "NEW-7"
    pacs.upload_dataset(image)
    owing.add("twice")
    owing.deliver(over_dimse(pacs))
    assert owing.states("twice") == {DeliveryState.SENT}
    assert owing.told("identity") == ["pacs has this study under another patient, too. The result is sent as it is."]


def test_a_destination_that_is_not_to_be_asked_is_not(pacs: Orthanc, owing: Owing, tmp_path: Path) -> None:
    archive(pacs, tmp_path, "unasked", PatientID="NEW-7")
    owing.add("unasked")
    owing.deliver(over_dimse(pacs) | {"check_identity": "none"})
    assert owing.states("unasked") == {DeliveryState.SENT}


def test_what_is_held_is_owed_no_more_once_its_result_is_withdrawn(pacs: Orthanc, owing: Owing, tmp_path: Path) -> None:
    """Corrected images came: nothing is left for a person to see to, and nothing to be sent by a retry."""
    archive(pacs, tmp_path, "corrected", PatientID="NEW-7")
    owing.add("corrected")
    owing.deliver(over_dimse(pacs))
    assert owing.states("corrected") == {DeliveryState.PARKED}
    with owing.database.write() as connection:
        withdraw_results(connection, study_of("corrected"), "Corrected.", Change(datetime.now(UTC)))
    assert owing.states("corrected") == set()


def test_what_was_tried_before_it_was_held_may_be_there_and_is_taken_back_with_its_result(
    pacs: Orthanc, owing: Owing, tmp_path: Path
) -> None:
    archive(pacs, tmp_path, "tried", PatientID="NEW-7")
    owing.add("tried")
    with owing.database.write() as connection:
        connection.execute(update(deliveries).values(attempts=1))
    owing.deliver(over_dimse(pacs))
    with owing.database.write() as connection:
        withdraw_results(connection, study_of("tried"), "Corrected.", Change(datetime.now(UTC)))
    with owing.database.read() as connection:
        rows = connection.execute(select(deliveries.c.state, deliveries.c.may_have_arrived)).all()
    assert {(row.state, row.may_have_arrived) for row in rows} == {(DeliveryState.DISCARDED, True)}


# --- who cannot be asked ---


def asked_in_vain(owing: Owing, there: dict[str, Any], why: str, caplog: pytest.LogCaptureFixture) -> None:
    """Everything is sent, and told once is why it goes unasked."""
    with caplog.at_level(logging.WARNING):
        owing.add("first")
        owing.add("second")
        owing.deliver(there)
        owing.deliver(there)
    assert owing.states("first") == owing.states("second") == {DeliveryState.SENT}
    (line,) = owing.told("identity")
    assert line.startswith("pacs cannot be asked whose study it has; results are sent to it unasked. ")
    assert why in line
    assert [one.message for one in caplog.records] == ["destination cannot be asked whose study it has"]


def test_a_receiver_without_queries_gets_everything_and_that_is_told_once(
    owing: Owing, storescp: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    asked_in_vain(owing, over_dimse(storescp), "does not accept Study Root", caplog)


def test_an_orthanc_that_lets_the_node_store_and_not_ask_gets_everything(
    owing: Owing, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It takes the presentation context, and aborts at the query."""
    (tmp_path / "orthanc").mkdir()
    with running_orthanc(tmp_path / "orthanc", DicomAlwaysAllowFind=False) as strict:
        asked_in_vain(owing, over_dimse(strict), "cuts C-FIND off. Allow this node to query there.", caplog)


def test_one_that_was_taught_to_answer_is_asked_again_after_a_while(
    pacs: Orthanc, owing: Owing, tmp_path: Path
) -> None:
    archive(pacs, tmp_path, "taught", PatientID="NEW-7")
    address = f"{pacs.aet}@127.0.0.1:{pacs.dicom_port}"
    long_ago = (datetime.now(UTC) - timedelta(hours=2)).isoformat()
    with owing.database.write() as connection:
        connection.execute(insert(peer_capabilities).values(
            destination="pacs", address=address, refused={StudyRootQueryRetrieveInformationModelFind: long_ago},
        ))  # fmt: skip
    owing.add("taught")
    owing.deliver(over_dimse(pacs))
    assert owing.states("taught") == {DeliveryState.PARKED}
    with owing.database.read() as connection:
        assert connection.execute(select(peer_capabilities.c.refused)).scalar_one() == {}


# --- answers that say nothing, or come too late ---


class Answering:
    """A PACS whose answers to C-FIND are `respond`'s, one (status, match) after another."""

    def __init__(self, respond: Callable[[Dataset], Iterator[tuple[int, Dataset | None]]]) -> None:
        self._respond = respond
        self.asked = 0

    @contextmanager
    def serving(self) -> Iterator[dict[str, Any]]:
        entity = AE("ODD")
        entity.supported_contexts = AllStoragePresentationContexts
        entity.add_supported_context(Verification)
        entity.add_supported_context(StudyRootQueryRetrieveInformationModelFind)
        handlers: Any = [(evt.EVT_C_FIND, self._find), (evt.EVT_C_STORE, lambda _: 0x0000)]
        server: Any = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
        try:
            yield {"kind": "dicom", "ae_title": "ODD", "host": "127.0.0.1", "port": server.server_address[1]}
        finally:
            server.shutdown()

    def _find(self, event: Any) -> Iterator[tuple[int, Dataset | None]]:
        self.asked += 1
        yield from self._respond(event.identifier)


def match(asked: Dataset, **changes: str) -> Dataset:
    found = Dataset()
    found.QueryRetrieveLevel, found.StudyInstanceUID = "STUDY", asked.StudyInstanceUID
    for keyword, value in (patient_of("one") | changes).items():
        setattr(found, keyword, value)
    return found


def test_answers_about_other_studies_count_neither_for_nor_against(owing: Owing) -> None:
    def whatever_it_has(asked: Dataset) -> Iterator[tuple[int, Dataset | None]]:
        yield 0xFF00, match(asked, StudyInstanceUID="1.2.3", PatientID="SOMEBODY-ELSE")
        yield 0xFF00, match(asked)
        yield 0x0000, None

    with Answering(whatever_it_has).serving() as there:
        owing.add("one")
        owing.deliver(there)
    assert owing.states("one") == {DeliveryState.SENT}


def test_one_that_answers_with_other_studies_only_cannot_be_asked(owing: Owing) -> None:
    def whatever_it_has(asked: Dataset) -> Iterator[tuple[int, Dataset | None]]:
        yield 0xFF00, match(asked, StudyInstanceUID="1.2.3", PatientID="SOMEBODY-ELSE")
        yield 0x0000, None

    with Answering(whatever_it_has).serving() as there:
        owing.add("one")
        owing.deliver(there)
    assert owing.states("one") == {DeliveryState.SENT}
    assert "answers with other studies than the one it was asked for" in owing.told("identity")[0]


@pytest.mark.parametrize("status", [0xA700, 0xC001])
def test_a_query_that_fails_is_an_attempt_that_failed_and_nothing_is_sent(owing: Owing, status: int) -> None:
    def overloaded(_: Dataset) -> Iterator[tuple[int, Dataset | None]]:
        yield status, None

    odd = Answering(overloaded)
    with odd.serving() as there:
        owing.add("one")
        owing.deliver(there)
        assert owing.states("one") == {DeliveryState.PENDING}
        assert f"0x{status:04X}" in owing.notes()
        assert 'check_identity = "none"' in owing.notes()
        assert odd.asked == 1
        odd._respond = lambda asked: iter([(0xFF00, match(asked)), (0x0000, None)])
        owing.let_wait_be_over()
        owing.deliver(there)
    assert owing.states("one") == {DeliveryState.SENT}
    assert owing.told("held") == []


def test_a_query_that_is_not_answered_ends_in_time_and_is_an_attempt_that_failed(owing: Owing) -> None:
    is_over = threading.Event()

    def silent(_: Dataset) -> Iterator[tuple[int, Dataset | None]]:
        is_over.wait()
        yield 0x0000, None

    with Answering(silent).serving() as there:
        owing.add("one")
        # Long enough for the association, which a busy machine makes slowly: a PACS that is away is another thing.
        owing.deliver(there, timeout_s=3)
        is_over.set()
    assert owing.states("one") == {DeliveryState.PENDING}
    assert "does not say whose study it has" in owing.notes()
    assert len(owing.told("deferred")) == len(KINDS)


def test_a_pacs_that_is_away_costs_no_attempt(owing: Owing, storescp: Receiver) -> None:
    storescp.process.kill9()
    owing.add("one")
    owing.deliver(over_dimse(storescp))
    with owing.database.read() as connection:
        rows = connection.execute(select(deliveries.c.state, deliveries.c.attempts)).all()
    assert {tuple(row) for row in rows} == {(DeliveryState.PENDING, 0)}


def test_results_of_one_study_that_go_together_ask_once(owing: Owing) -> None:
    odd = Answering(lambda asked: iter([(0xFF00, match(asked)), (0x0000, None)]))
    with odd.serving() as there:
        owing.add("one", "one", "one-2", "one-3")
        owing.deliver(there)
    assert owing.states("one-3") == {DeliveryState.SENT}
    assert odd.asked == 1


# --- servers on the web ---


def answering(status: int, body: bytes = b"", **headers: str) -> Callable[[Any], None]:
    """A server that answers so to a query, and takes whatever is stored."""

    def handle(request: Any) -> None:
        if request.command == "POST":
            request.rfile.read(int(request.headers["Content-Length"]))
            answer(request, 200, b"{}", Content_Type="application/dicom+json")
        else:
            answer(request, status, body, Content_Type="application/dicom+json", **headers)

    return handle


FLOOD = json.dumps([{"0020000D": {"vr": "UI", "Value": [f"1.2.{number}"]}} for number in range(40_000)]).encode()


@pytest.mark.parametrize(
    ("handle", "why"),
    [
        (answering(404), "HTTP 404"),
        (answering(405), "HTTP 405"),
        (answering(403), "HTTP 403"),
        (answering(501), "HTTP 501"),
        (answering(302, Location="http://127.0.0.1:9/"), "HTTP 302"),
        (answering(200, b"<html>Please log in</html>"), "not JSON"),
        (answering(200, b"[" * 100_000), "not JSON"),
        (answering(200, FLOOD), "more than can be about one study"),
        (answering(200, FLOOD[:200].rpartition(b",")[0] + b"]"), "other studies than the one it was asked for"),
    ],
)  # fmt: skip
def test_a_server_that_knows_no_queries_of_studies_gets_everything(
    owing: Owing, caplog: pytest.LogCaptureFixture, handle: Callable[[Any], None], why: str
) -> None:
    with web_server(handle) as url:
        asked_in_vain(owing, {"kind": "dicomweb", "url": url}, why, caplog)


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'[1, null, "text"]'])
def test_a_server_that_names_nothing_does_not_have_the_study(owing: Owing, body: bytes) -> None:
    with web_server(answering(200, body)) as url:
        owing.add("one")
        owing.deliver({"kind": "dicomweb", "url": url})
    assert owing.states("one") == {DeliveryState.SENT}
    assert owing.told("identity") == []


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_server_in_trouble_is_tried_again_and_nothing_is_sent(owing: Owing, status: int) -> None:
    with web_server(answering(status)) as url:
        owing.add("one")
        owing.deliver({"kind": "dicomweb", "url": url})
    assert owing.states("one") == {DeliveryState.PENDING}
    assert f"HTTP {status} to QIDO-RS" in owing.notes()


def test_a_server_that_does_not_let_the_node_in_is_suspended(owing: Owing) -> None:
    with web_server(answering(401)) as url:
        owing.add("one")
        owing.deliver({"kind": "dicomweb", "url": url})
    with owing.database.read() as connection:
        assert suspension_of(connection, "pacs")
    assert owing.states("one") == {DeliveryState.PENDING}


def test_a_server_that_minds_what_it_is_asked_beside_the_study_is_asked_without(owing: Owing) -> None:
    other = [{"0020000D": {"Value": [study_of("one")]}, "00100020": {"Value": ["ANOTHER"]}}]

    def strict(request: Any) -> None:
        answering(400 if "includefield" in request.path else 200, json.dumps(other).encode())(request)

    with web_server(strict) as url:
        owing.add("one")
        owing.deliver({"kind": "dicomweb", "url": url})
    assert owing.states("one") == {DeliveryState.PARKED}


# --- what is not asked about ---


def test_what_takes_back_goes_to_the_patient_who_shows_it(pacs: Orthanc, owing: Owing, tmp_path: Path) -> None:
    archive(pacs, tmp_path, "taken-back", PatientID="NEW-7")
    owing.add("taken-back")
    with owing.database.write() as connection:
        connection.execute(update(deliveries).values(is_withdrawal=True))
        record(connection, study_of("taken-back"), datetime.now(UTC), ("withdrawn", "The result was withdrawn."))
    owing.deliver(over_dimse(pacs))
    assert owing.states("taken-back") == {DeliveryState.SENT}
    assert owing.told("held") == []
