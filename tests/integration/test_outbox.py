"""The outbox and a destination that goes away and comes back: noticed in seconds, drained in order, nothing twice."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import httpx
import pytest
from pynetdicom import AE, StoragePresentationContexts
from sqlalchemy import insert, select, update

from dicom_node.core.entities import ArtifactKind, DeliveryState, JobState, ModelIdentity, StudyState
from dicom_node.core.errors import CredentialsRefused, DeliveryDeferred, DeliveryError, DestinationAway
from dicom_node.core.uids import derived_uid
from dicom_node.deliver.dispatch.outage import BackOff
from dicom_node.deliver.dispatch.outbox import DestinationWorker, OutboxPolicy, remember
from dicom_node.deliver.kinds.kind import Caller
from dicom_node.deliver.outgoing import Outgoing, Sent
from dicom_node.index.database import Database
from dicom_node.index.decided import actions
from dicom_node.index.outbox import destinations
from dicom_node.index.outbox.deliveries import Claimant, next_due
from dicom_node.index.outbox.withdrawals import end_unsent
from dicom_node.index.tables import artifacts, deliveries, events
from dicom_node.index.tables import destinations as destinations_table
from dicom_node.storage.spool import Spool
from tests.integration.sent_objects import SOP_CLASSES, dicom_file
from tests.peers.dcmtk import Receiver, running_storescp
from tests.peers.process import free_port, wait_until
from tests.support.results.rows import SOMEBODY, Rows, key_of
from tests.unit.test_destination_kinds import destination

KINDS = (ArtifactKind.SECONDARY_CAPTURE, ArtifactKind.STRUCTURED_REPORT)
MODEL = ModelIdentity(name="m", version="1", digest="0" * 64, manufacturer="", device_uid="2.25.1")
#: As by default, at ten times the speed.
BACK_OFF = BackOff(0.5, 60.0)


class Owed:
    """A node that owes results to the destination `pacs`; what it sends is real DICOM."""

    def __init__(self, folder: Path, database: Database) -> None:
        self.folder, self.database, self.spool = folder, database, Spool(folder / "spool")
        self.workers: list[DestinationWorker] = []

    def add(self, *names: str, urgency: int = 2) -> None:
        """Owe a picture and its report for each of the studies."""
        with self.database.write() as connection:
            rows = Rows(connection, self.folder, datetime.now(UTC))
            for name in names:
                study = derived_uid("study", name)
                rows.study(study, StudyState.REPORTED, 10)
                rows.result(study, name, MODEL, JobState.DONE)
                for kind in KINDS:
                    self._object(rows, name, kind, urgency)

    def _object(self, rows: Rows, name: str, kind: ArtifactKind, urgency: int) -> None:
        path = dicom_file(self.folder, f"{name}-{kind}", SOP_CLASSES[kind])
        uid = derived_uid("test", f"{name}-{kind}")
        stored = self.spool.put([path.read_bytes()], ".result")
        rows.connection.execute(insert(artifacts).values(
            uid=uid, job_key=key_of(name), kind=kind, media_type="application/dicom", description="",
            sop_class_uid=SOP_CLASSES[kind], series_instance_uid="", object_key=stored.key, sha256=stored.sha256,
            size_bytes=stored.size_bytes, preview_key="", send_order=KINDS.index(kind), output_keys=[],
        ))  # fmt: skip
        rows.delivery(name, uid, "pacs", DeliveryState.PENDING, attempts=0, urgency=urgency)

    def worker(self, sender: object, reach: object = None, back_off: BackOff = BACK_OFF) -> DestinationWorker:
        policy = OutboxPolicy("host:1", back_off, None, reach)  # type: ignore[arg-type]
        one = DestinationWorker("pacs", lambda: sender, self.database, self.spool, policy)  # type: ignore[arg-type, return-value]
        self.workers.append(one)
        return one

    def dicom_worker(self, port: int, aet: str = "STORESCP") -> DestinationWorker:
        pacs = destination("dicom", ae_title=aet, host="127.0.0.1", port=port)
        caller = Caller("AINODE", 10.0)
        return self.worker(pacs.sender(caller), partial(pacs.reach, caller))

    def states(self) -> dict[str, int]:
        with self.database.read() as connection:
            found = connection.execute(select(deliveries.c.state)).scalars().all()
        return {state: found.count(state) for state in set(found)}

    def is_delivered(self) -> bool:
        return set(self.states()) == {DeliveryState.SENT}

    def sent_order(self) -> list[str]:
        """The studies in the order in which their reports arrived."""
        query = select(deliveries.c.job_key).where(deliveries.c.state == DeliveryState.SENT)
        with self.database.read() as connection:
            keys = connection.execute(query.order_by(deliveries.c.sent_at, deliveries.c.id)).scalars()
            return list(dict.fromkeys(keys))

    def attempts(self) -> list[int]:
        with self.database.read() as connection:
            return list(connection.execute(select(deliveries.c.attempts).order_by(deliveries.c.id)).scalars())


@pytest.fixture
def owed(tmp_path: Path, index: Database) -> Iterator[Owed]:
    (tmp_path / "node").mkdir()
    one = Owed(tmp_path / "node", index)
    yield one
    for worker in one.workers:
        worker.stop()
        with contextlib.suppress(RuntimeError):  # never started
            worker.join(30)


class Switch:
    """A destination in this process: what it answers, by job, and what it took, in order."""

    def __init__(self, error: DeliveryError | None = None) -> None:
        self.error = error
        self.poison: dict[str, DeliveryError] = {}
        self.took: list[str] = []
        self.tried = 0
        self.asked = 0

    def send(self, items: Sequence[Outgoing]) -> Iterator[Sent]:
        for item in items:
            self.tried += 1
            error = self.poison.get(item.artifact.uid, self.error)
            if error is None:
                self.took.append(item.artifact.uid)
            yield Sent(item.artifact.uid, error, "stored")

    def reach(self) -> None:
        self.asked += 1
        if self.error is not None:
            raise self.error


def names(count: int, first: int = 0) -> list[str]:
    return [f"s{number:03}" for number in range(first, first + count)]


def uid(name: str, kind: ArtifactKind = ArtifactKind.SECONDARY_CAPTURE) -> str:
    return derived_uid("test", f"{name}-{kind}")


# --- a real PACS -----------------------------------------------------------------------------------------------------


def test_a_pacs_that_was_away_while_results_were_made_gets_all_of_them_soon_after_its_return(
    owed: Owed, tmp_path: Path
) -> None:
    port = free_port()
    worker = owed.dicom_worker(port)
    worker.start()
    for name in names(15):
        owed.add(name)
        worker.wake()  # as every finished job does
        time.sleep(0.1)
    assert owed.states() == {DeliveryState.PENDING: 30}
    assert owed.attempts() == [0] * 30

    with running_storescp(tmp_path / "storescp", port=port) as pacs:
        wait_until(owed.is_delivered, 60, "everything delivered")
        pacs.wait_for(30)
        assert _stored(pacs) == 30


def test_what_piled_up_is_drained_without_a_pause_urgent_studies_first(owed: Owed, tmp_path: Path) -> None:
    owed.add(*names(60))
    owed.add("stat", urgency=0)
    with running_storescp(tmp_path / "storescp") as pacs:
        owed.dicom_worker(pacs.port).start()
        wait_until(owed.is_delivered, 60, "everything delivered")
        assert _stored(pacs) == 122
    assert owed.sent_order() == [key_of(name) for name in ("stat", *names(60))]


def _stored(pacs: Receiver) -> int:
    return pacs.process.log.read_text(encoding="utf-8").count("Received Store Request")


# --- what is believed of a destination --------------------------------------------------------------------------------


def test_while_a_destination_is_away_new_work_neither_fails_nor_lengthens_the_pause(owed: Owed) -> None:
    away = Switch(DestinationAway("Nobody there."))
    worker = owed.worker(away, away.reach)
    owed.add(*names(3))
    worker.start()
    wait_until(lambda: away.tried > 0, 30, "the first attempt")
    for name in names(30, first=3):
        owed.add(name)
        worker.wake()
    away.error = None
    wait_until(owed.is_delivered, 60, "everything delivered")
    assert owed.attempts() == [1] * 66
    assert len(away.took) == len(set(away.took)) == 66


def test_one_object_that_the_destination_cannot_take_does_not_hold_the_others(owed: Owed) -> None:
    there = Switch()
    there.poison[uid("s000")] = DeliveryDeferred("0xA700")
    owed.add(*names(20))
    worker = owed.worker(there, there.reach)
    while worker.deliver_once():
        pass
    assert owed.states() == {DeliveryState.PENDING: 2, DeliveryState.SENT: 38}


def test_several_objects_that_it_cannot_take_hold_the_others_only_once(owed: Owed) -> None:
    there = Switch()
    there.poison = {uid(name): DeliveryDeferred("0xA700") for name in names(2)}
    owed.add(*names(20))
    worker = owed.worker(there, there.reach, BackOff(0.1, 600.0))
    worker.start()
    wait_until(lambda: owed.states().get(DeliveryState.SENT) == 36, 30, "all others delivered")


def test_a_destination_that_is_full_is_left_in_peace_and_then_gets_everything(owed: Owed) -> None:
    full = Switch(DeliveryDeferred("Out of resources."))
    full.poison = {}
    owed.add(*names(10))
    worker = owed.worker(full, lambda: None)
    worker.start()
    wait_until(lambda: full.tried >= 3, 30, "attempts")
    assert full.tried < 10
    full.error = None
    wait_until(owed.is_delivered, 60, "everything delivered")


@pytest.mark.parametrize("wish_s", [365 * 86400.0, float("inf"), 1e300])
def test_a_destination_that_wants_to_be_left_alone_for_a_year_gets_an_hour(owed: Owed, wish_s: float) -> None:
    busy = Switch(DeliveryDeferred("Later.", retry_after_s=wish_s))
    owed.add("s000")
    owed.worker(busy).deliver_once()
    with owed.database.read() as connection:
        latest = max(connection.execute(select(deliveries.c.next_attempt_at)).scalars())
    assert latest <= datetime.now(UTC) + timedelta(hours=1)


def test_a_clock_that_was_set_back_by_a_day_stops_nothing(owed: Owed) -> None:
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    owed.add(*names(2))
    with owed.database.write() as connection:
        connection.execute(update(deliveries).values(next_attempt_at=tomorrow))
    there = Switch()
    worker = owed.worker(there)
    while worker.deliver_once():
        pass
    assert owed.is_delivered()


# --- credentials ------------------------------------------------------------------------------------------------------

REFUSED = CredentialsRefused("https://ehr.local answered HTTP 401.")


def suspended(owed: Owed) -> destinations.Suspension | None:
    with owed.database.read() as connection:
        return destinations.suspension_of(connection, "pacs")


def test_a_refused_login_suspends_the_destination_and_parks_nothing(
    owed: Owed, caplog: pytest.LogCaptureFixture
) -> None:
    owed.add(*names(5))
    ehr = Switch(REFUSED)
    worker = owed.worker(ehr, ehr.reach)
    for _ in range(3):
        assert not worker.deliver_once()
    assert owed.states() == {DeliveryState.PENDING: 10}
    assert owed.attempts() == [0] * 10
    found = suspended(owed)
    assert found is not None
    assert found.reason == str(REFUSED)
    assert [one.levelname for one in caplog.records if one.message == "destination suspended"] == ["ERROR"]


@pytest.mark.parametrize("kind", [CredentialsRefused, DestinationAway])
def test_what_was_begun_when_the_destination_went_is_known_to_be_there_when_it_is_withdrawn(
    owed: Owed, kind: type[DeliveryDeferred]
) -> None:
    """Else nothing would take back a report whose last part was not written; what was not tried is owed no more."""
    owed.add("s000")
    why = kind("The token is not known any more.")
    why.may_have_arrived = True
    assert not owed.worker(Switch(why)).deliver_once()
    assert (suspended(owed) is not None) == (kind is CredentialsRefused)
    assert owed.states() == {DeliveryState.PENDING: 2}
    with owed.database.write() as connection:
        end_unsent(connection, deliveries.c.destination == "pacs", datetime.now(UTC))
        left = connection.execute(select(deliveries.c.state, deliveries.c.may_have_arrived)).all()
    assert [tuple(one) for one in left] == [(DeliveryState.DISCARDED, True)]


def test_a_suspended_destination_gets_nothing_until_the_operator_asks(owed: Owed) -> None:
    owed.add(*names(2))
    ehr = Switch(REFUSED)
    worker = owed.worker(ehr, ehr.reach)
    worker.start()
    wait_until(lambda: suspended(owed) is not None, 30, "suspended")
    ehr.error, tried = None, ehr.tried
    worker.wake()
    time.sleep(2.5)  # two looks at the database
    assert (ehr.tried, ehr.asked) == (tried, 0)

    with owed.database.write() as connection:
        assert len(actions.retry_destination(connection, "pacs", SOMEBODY, datetime.now(UTC))) == 4
    wait_until(owed.is_delivered, 30, "everything delivered")
    assert suspended(owed) is None


def test_a_node_that_starts_with_a_good_login_ends_the_suspension_by_itself(owed: Owed) -> None:
    owed.add(*names(3))
    with owed.database.write() as connection:
        assert destinations.suspend(connection, "pacs", "401", datetime.now(UTC))
    ehr = Switch()
    owed.worker(ehr, ehr.reach).start()
    wait_until(owed.is_delivered, 30, "everything delivered")
    assert suspended(owed) is None


def test_one_report_that_is_forbidden_while_others_are_taken_is_parked_and_holds_nobody(owed: Owed) -> None:
    owed.add(*names(4))
    ehr = Switch()
    ehr.poison = {uid("s000", kind): CredentialsRefused("HTTP 403.") for kind in KINDS}
    worker = owed.worker(ehr)
    assert not worker.deliver_once()
    assert suspended(owed) is not None
    while worker.deliver_once():
        pass
    assert owed.states() == {DeliveryState.SENT: 6, DeliveryState.PARKED: 2}
    assert suspended(owed) is None


def test_an_outage_of_weeks_passes_over_no_more_batches_than_one_statement_takes(owed: Owed) -> None:
    owed.add("s000")
    tried: set[str] = set()
    for number in range(40_000):
        remember(tried, f"{number:064d}")
    assert f"{39_999:064d}" in tried
    assert len(tried) <= 32_766  # SQLITE_MAX_VARIABLE_NUMBER
    claimant = Claimant("host:1", 600.0, 600.0)
    with owed.database.read() as connection:
        assert next_due(connection, "pacs", claimant, datetime.now(UTC), tried) == key_of("s000")


def test_a_pacs_that_does_not_know_the_calling_title_suspends(owed: Owed) -> None:
    owed.add("s000")
    pacs = AE("STORESCP")
    pacs.require_calling_aet = ["SOMEBODY"]
    pacs.supported_contexts = StoragePresentationContexts
    server = pacs.start_server(("127.0.0.1", 0), block=False)
    assert server is not None
    try:
        assert not owed.dicom_worker(server.server_address[1]).deliver_once()
    finally:
        server.shutdown()
    found = suspended(owed)
    assert found is not None
    assert "does not know calling AE title AINODE" in found.reason


@pytest.mark.parametrize(("status", "error"), [(401, CredentialsRefused), (403, CredentialsRefused),
                                               (502, DestinationAway), (503, DestinationAway)])  # fmt: skip
@pytest.mark.parametrize("kind", ["fhir", "dicomweb"])
def test_a_web_destination_is_asked_for_little(
    kind: str, status: int, error: type[DeliveryError], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(httpx.HTTPTransport, "handle_request", lambda *_: httpx.Response(status))
    with pytest.raises(error, match=str(status)):
        destination(kind, url="https://there.local/root").reach(Caller("AINODE", 5))


def test_the_operators_wish_for_a_destination_frees_what_is_parked_and_is_told(owed: Owed) -> None:
    owed.add("s000")
    with owed.database.write() as connection:
        connection.execute(update(deliveries).values(state=DeliveryState.PARKED))
        assert len(actions.retry_destination(connection, "pacs", SOMEBODY, datetime.now(UTC))) == 2
        told = connection.execute(select(events).where(events.c.kind == "operator")).one()
        assert actions.retry_destination(connection, "another", SOMEBODY, datetime.now(UTC)) == []
        assert connection.execute(select(destinations_table)).all() == []
    assert (told.actor, "pacs" in told.text) == ("somebody", True)
    assert owed.states() == {DeliveryState.PENDING: 2}
