"""Events at a receiver of another make, which verifies each: what is told, once by its id, whatever fails there."""

from __future__ import annotations

import contextlib
import json
import re
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydicom.dataset import Dataset
from sqlalchemy import insert, select, update

from dicom_node.core.entities import JobState, StudyState
from dicom_node.core.outputs.event_types import EVENT_TYPES, EventType
from dicom_node.deliver.dispatch.outage import BackOff
from dicom_node.deliver.dispatch.outbox import DestinationWorker, OutboxPolicy
from dicom_node.deliver.kinds.kind import Caller
from dicom_node.index import jobs
from dicom_node.index.database import Database
from dicom_node.index.decided import actions
from dicom_node.index.notices import Subscriber
from dicom_node.index.outbox import destinations, notifications
from dicom_node.index.outbox.deliveries import Claimant
from dicom_node.index.tables import deliveries, events, results, studies
from dicom_node.index.tables import notifications as rows_of
from dicom_node.index.transitions import Change, move_study
from dicom_node.index.views.lists import counts
from dicom_node.storage.spool import Spool
from tests.integration.step_by_step_node import Site, site
from tests.peers.process import Process, free_port, listens, wait_until
from tests.peers.webhook_receiver import SECRET, WebhookReceiver, running_webhook_receiver
from tests.support.needs import REPOSITORY
from tests.support.results.arrivals import START, STUDY, after, arrive, claimed, cut_study, instance
from tests.support.results.rows import SOMEBODY, owe_events
from tests.support.studies.data_factories import small_chest_ct
from tests.unit.test_destination_kinds import destination

BACK_OFF = BackOff(0.1, 60.0)
CALLER = Caller("AINODE", 1.0)


@pytest.fixture(scope="module")
def shared_receiver() -> Iterator[WebhookReceiver]:
    with running_webhook_receiver() as one:
        yield one


@pytest.fixture
def receiver(shared_receiver: WebhookReceiver) -> WebhookReceiver:
    shared_receiver.reset()
    return shared_receiver


def hook(receiver: WebhookReceiver, **changes: Any) -> dict[str, Any]:
    return {"name": "hook", "kind": "webhook", "url": receiver.url, "secret": SECRET} | changes


# --- what is told ---


@pytest.fixture(scope="module")
def images() -> list[Dataset]:
    made: list[Dataset] = small_chest_ct()[0]
    for one in made:
        one.AccessionNumber = "ACC-0815"
    return made


def withdraw(one: Site, study: str, why: str) -> None:
    with one.database.write() as connection:
        actions.withdraw_study(connection, study, (why, None), SOMEBODY, datetime.now(UTC))


def test_a_receiver_hears_of_a_result_of_what_replaces_it_and_of_its_withdrawal_in_order(
    receiver: WebhookReceiver, tmp_path: Path, images: list[Dataset]
) -> None:
    with site(tmp_path / "node", [hook(receiver)]) as one:
        one.run(images[:-1])
        one.run(images[-1:])
        withdraw(one, str(images[0].StudyInstanceUID), "It is of Doe^Jane.")
        one.deliver()
        keys = [row.job_key for row in sorted(one.rows(results), key=lambda row: row.sequence)]
    told = receiver.taken()
    heard = [(event["type"], event["data"]["result"]) for event in told]
    assert heard[:3] == [("result.made", keys[0]), ("result.superseded", keys[0]), ("result.made", keys[1])]
    assert sorted(heard[3:]) == sorted(("result.withdrawn", key) for key in keys)
    assert all(set(event["data"]) == set(EVENT_TYPES[EventType(event["type"])].facts) for event in told)
    first = told[0]["data"]
    assert first["study_instance_uid"] == images[0].StudyInstanceUID
    assert (first["route"], first["state"], first["sequence"], first["revision"]) == ("chest", "DONE", 1, 1)
    assert first["model"]["name"] == "ct-lung-density"
    assert first["findings"]["evaluated"] >= first["findings"]["present"]
    assert [request["fault"] for request in receiver.requests()] == [""] * 5
    said = json.dumps(receiver.requests())
    for secret in (images[0].PatientID, images[0].PatientName, "ACC-0815", "Doe^Jane", SECRET):
        assert str(secret) not in said


def test_what_does_not_arrive_elsewhere_is_told_and_nothing_of_the_patient_that_was_in_the_answer(
    receiver: WebhookReceiver, tmp_path: Path, images: list[Dataset]
) -> None:
    """The other destination is a second receiver, gone for good; a third takes FHIR and nothing else."""
    with running_webhook_receiver() as gone:
        gone.answer({"status": 410})
        others = [
            hook(gone, name="gone"),
            {"name": "ehr", "kind": "fhir", "url": receiver.url.partition("?")[0], "patient": "match"},
        ]
        with site(tmp_path / "node", [*others, hook(receiver)]) as one:
            one.run(images)
            parked = [row for row in one.rows(deliveries) if row.state == "PARKED"]
            with one.database.read() as connection:
                why = destinations.suspension_of(connection, "gone")
        assert gone.types() == []
    told = receiver.taken()
    assert why is not None
    assert "HTTP 410" in why.reason
    assert sorted(event["type"] for event in told) == [
        "delivery.parked", "destination.suspended", "result.made"
    ]  # fmt: skip
    by_type = {event["type"]: event["data"] for event in told}
    assert by_type["destination.suspended"] == {"destination": "gone"}
    assert [by_type["delivery.parked"][key] for key in ("destination", "kind", "delivery")] == [
        "ehr", "FHIR", parked[0].id,
    ]  # fmt: skip


def failing_study(index: Database, name: str = "1", route: str = "chest-ct") -> str:
    """A study whose only analysis is given up."""
    study = f"{STUDY}.{name}"
    arrive(index, instance(name, study=study, attributes={"modality": "CT", "accession_number": "ACC-0815"}))
    cut_study(index, (route,), study=study)
    job = claimed(index)
    with index.write() as connection:
        jobs.finish(connection, job, JobState.FAILED, ("", "ANALYSIS_FAILED", "It broke at Doe^Jane."), after(70))
    return study


def test_a_study_that_fails_and_one_that_nobody_wants_are_told(receiver: WebhookReceiver, told: Told) -> None:
    failing_study(told.index)
    arrive(told.index, instance("2"))
    with told.index.write() as connection:
        move_study(connection, STUDY, StudyState.COMPLETE, Change(after(80)))
        move_study(connection, STUDY, StudyState.NOT_ANALYSED, Change(after(80)), reason="No route wants Doe^Jane.")
    told.drain()
    assert [(event["type"], event["data"].get("reasons")) for event in receiver.taken()] == [
        ("analysis.failed", None), ("study.failed", ["ANALYSIS_FAILED"]), ("study.not_analysed", []),
    ]  # fmt: skip
    assert "Doe" not in json.dumps(receiver.requests())


def test_the_accession_number_is_told_where_the_settings_ask_for_it(receiver: WebhookReceiver, told: Told) -> None:
    failing_study(told.index, "1")
    told.subscribe(Subscriber("hook", (), ("accession_number",)))
    failing_study(told.index, "2")
    told.drain()
    assert [event["data"].get("accession_number") for event in receiver.taken()] == [None, None, *["ACC-0815"] * 2]


def test_a_destination_that_a_route_names_hears_of_that_route_only(receiver: WebhookReceiver, told: Told) -> None:
    told.subscribe(Subscriber("hook", ("chest-ct",)))
    failing_study(told.index, "1", "chest-ct")
    failing_study(told.index, "2", "research")
    told.drain()
    assert [event["data"]["route"] for event in receiver.taken() if event["type"] == "analysis.failed"] == ["chest-ct"]
    assert receiver.types().count("study.failed") == 2


def test_an_event_is_there_if_and_only_if_the_change_is(told: Told) -> None:
    arrive(told.index, instance("1"))
    with contextlib.suppress(ZeroDivisionError), told.index.write() as connection:
        move_study(connection, STUDY, StudyState.COMPLETE, Change(START))
        move_study(connection, STUDY, StudyState.NOT_ANALYSED, Change(START))
        _ = 1 / 0
    assert told.states() == []
    with told.index.write() as connection:
        move_study(connection, STUDY, StudyState.COMPLETE, Change(START))
        move_study(connection, STUDY, StudyState.NOT_ANALYSED, Change(START))
    assert told.states() == ["PENDING"]


def test_nothing_is_composed_for_nobody(told: Told) -> None:
    told.subscribe()
    failing_study(told.index)
    assert told.states() == []


# --- the outbox ---


class Told:
    """A node whose webhook is told; events are made by studies that fail."""

    def __init__(self, index: Database, spool: Spool, receiver: WebhookReceiver) -> None:
        self.index, self.spool = index, spool
        self.workers: list[DestinationWorker] = []
        self.there = destination("webhook", url=receiver.url, secret=SECRET)
        self.subscribe(Subscriber("hook"))

    def subscribe(self, *listening: Subscriber) -> None:
        with self.index.write() as connection:
            notifications.subscribe(connection, listening)

    def worker(self, there: Any = None, caller: Caller = CALLER, owner: str = "host:1") -> DestinationWorker:
        there = there or self.there
        policy = OutboxPolicy(owner, BACK_OFF, None, partial(there.reach, caller), tells_events=True)
        one = DestinationWorker("hook", partial(there.sender, caller), self.index, self.spool, policy)
        self.workers.append(one)
        return one

    def drain(self) -> None:
        worker = self.worker()
        while worker.deliver_once():
            pass

    def states(self) -> list[str]:
        with self.index.read() as connection:
            return list(connection.execute(select(rows_of.c.state).order_by(rows_of.c.id)).scalars())

    def rows(self) -> Any:
        with self.index.read() as connection:
            return connection.execute(select(rows_of).order_by(rows_of.c.id)).all()

    def add(self, *urgencies: int) -> None:
        """Owe one event for each urgency, each of a study of its own."""
        with self.index.write() as connection:
            owe_events(connection, "hook", urgencies)

    def add_again(self, event: Any) -> None:
        """Owe an event once more, under another id."""
        values = {**event._mapping, "id": event.id + 1, "event_id": "evt_other", "attempts": 0}
        with self.index.write() as connection:
            connection.execute(insert(rows_of).values(**values | {"state": "PENDING"}))

    def wait_until_told(self) -> None:
        wait_until(lambda: set(self.states()) == {"SENT"}, 60, "every event to arrive")


@pytest.fixture
def told(tmp_path: Path, index: Database, receiver: WebhookReceiver) -> Iterator[Told]:
    one = Told(index, Spool(tmp_path / "spool"), receiver)
    yield one
    for worker in one.workers:
        worker.stop()
        with contextlib.suppress(RuntimeError):  # never started
            worker.join(30)


def test_events_leave_in_the_order_of_their_urgency(receiver: WebhookReceiver, told: Told) -> None:
    told.add(2, 3, 0, 2)
    told.drain()
    assert [event["data"]["n"] for event in receiver.taken()] == [3, 1, 4, 2]


def test_what_precedes_an_urgent_event_of_its_study_goes_before_it(receiver: WebhookReceiver, told: Told) -> None:
    told.add(0)
    study = failing_study(told.index)
    with told.index.write() as connection:
        connection.execute(update(rows_of).where(rows_of.c.study_instance_uid == study).values(urgency=3))
        connection.execute(update(rows_of).where(rows_of.c.type == "study.failed").values(urgency=0))
    told.drain()
    assert receiver.types() == ["result.made", "analysis.failed", "study.failed"]


@pytest.mark.parametrize(
    "answer",
    [{"status": 500}, {"status": 503}, {"garbage": True}, {"hang": True}, {"drop": True}],
    ids=lambda answer: str(next(iter(answer.values()))) + next(iter(answer)),
)
def test_an_event_that_was_not_answered_is_sent_again_under_its_id_and_taken_once(
    receiver: WebhookReceiver, told: Told, answer: dict[str, object]
) -> None:
    receiver.answer(answer)
    told.add(2, 2)
    told.worker().start()
    told.wait_until_told()
    requests = receiver.requests()
    assert sorted({request["id"] for request in requests}) == ["evt_1", "evt_2"]
    assert len(requests) == 3
    assert len(receiver.taken()) == 2
    assert [request["fault"] for request in requests] == ["", "", ""]
    (first, again) = (one for one in requests if one["id"] == requests[0]["id"])
    assert first["body"] == again["body"]
    assert again["repeated"] == ("drop" in answer)


def test_a_server_that_names_a_time_is_left_in_peace_for_it(receiver: WebhookReceiver, told: Told) -> None:
    receiver.answer({"status": 429, "headers": {"Retry-After": "2"}})
    told.add(2, 2, 2)
    told.worker().start()
    told.wait_until_told()
    first, *others = (request["at"] for request in receiver.requests())
    assert min(others) - first >= 2000
    assert len(receiver.taken()) == len(others) == 3


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ({"status": 301, "headers": {"Location": "http://127.0.0.1:9/elsewhere"}}, "Redirects are not followed"),
        ({"status": 401}, "Check secret"),
        ({"status": 410}, "gone for good"),
    ],
)
def test_an_address_that_takes_nothing_suspends_the_destination_and_parks_nothing(
    receiver: WebhookReceiver, told: Told, answer: dict[str, object], said: str
) -> None:
    receiver.answer(answer)
    told.add(2, 2)
    told.drain()
    assert told.states() == ["PENDING", "PENDING"]
    with told.index.read() as connection:
        why = destinations.suspension_of(connection, "hook")
        (counted,) = counts(connection).destinations
    assert why is not None
    assert said in why.reason
    assert "for=tests" not in why.reason
    assert (counted.destination, counted.pending, counted.parked) == ("hook", 2, 0)
    assert len(receiver.requests()) == 1
    with told.index.write() as connection:
        actions.retry_destination(connection, "hook", SOMEBODY, datetime.now(UTC))
    told.drain()
    assert told.states() == ["SENT", "SENT"]


def test_an_event_that_the_receiver_will_never_take_is_parked_and_holds_up_no_other(
    receiver: WebhookReceiver, told: Told
) -> None:
    failing_study(told.index)
    receiver.answer({"status": 400})
    told.drain()
    assert told.states() == ["PARKED", "SENT"]
    with told.index.read() as connection:
        lines = connection.execute(select(events.c.text).where(events.c.kind == "parked")).scalars().all()
        (counted,) = counts(connection).destinations
    assert counted.parked == 1
    assert len(lines) == 1
    assert "Event analysis.failed parked for hook" in lines[0]
    with told.index.write() as connection:
        actions.retry_destination(connection, "hook", SOMEBODY, datetime.now(UTC))
    told.drain()
    assert told.states() == ["SENT", "SENT"]


def test_a_later_event_of_a_study_waits_for_the_earlier_one(receiver: WebhookReceiver, told: Told) -> None:
    failing_study(told.index)
    receiver.answer({"status": 500})
    worker = told.worker()
    worker.deliver_once()
    assert not worker.deliver_once() or receiver.types() == ["analysis.failed"]
    worker.start()
    told.wait_until_told()
    assert receiver.types() == ["analysis.failed", "study.failed"]


def test_what_a_sender_died_with_is_sent_by_another_under_the_same_id(receiver: WebhookReceiver, told: Told) -> None:
    told.add(2)
    with told.index.write() as connection:
        dead = notifications.claim_batch(connection, "hook", Claimant("dead:1", 600.0), datetime.now(UTC))
        assert dead is not None
        notifications.begin_attempt(connection, dead)
    worker = told.worker()
    assert not worker.deliver_once()
    with told.index.write() as connection:
        assert jobs.free_leases_of(connection, ["dead:1"], datetime.now(UTC)) == 1
    assert worker.deliver_once()
    assert (told.states(), [event["id"] for event in receiver.taken()]) == (["SENT"], ["evt_1"])
    with told.index.write() as connection:
        notifications.mark_parked(connection, dead, "Too late.", datetime.now(UTC))
    assert told.states() == ["SENT"]


def test_two_workers_send_each_event_once(receiver: WebhookReceiver, told: Told) -> None:
    told.add(*[2] * 12)
    for number in (1, 2):
        told.worker(owner=f"host:{number}").start()
    told.wait_until_told()
    assert len(receiver.requests()) == len(receiver.taken()) == 12


def test_a_receiver_that_was_not_there_gets_everything_when_it_is(told: Told, receiver: WebhookReceiver) -> None:
    nobody = destination("webhook", url=f"http://127.0.0.1:{free_port()}", secret=SECRET)
    told.add(2, 2)
    assert not told.worker(nobody).deliver_once()
    assert [(row.state, row.attempts) for row in told.rows()] == [("PENDING", 0)] * 2
    told.drain()
    assert len(receiver.taken()) == 2


# --- the signature ---


def test_the_library_refuses_what_was_changed_or_signed_by_another_or_is_old(
    receiver: WebhookReceiver, told: Told
) -> None:
    told.add(2)
    told.drain()
    (sent,) = receiver.requests()
    names = ("webhook-id", "webhook-timestamp", "webhook-signature")
    headers = {name: sent["headers"][name] for name in names}

    def posted(body: str, **changes: str) -> int:
        changed = headers | {f"webhook-{name}": value for name, value in changes.items()}
        return httpx.post(receiver.url, content=body.encode(), headers=changed).status_code

    assert posted(sent["body"]) == 204
    assert receiver.requests()[-1]["repeated"]
    assert len(receiver.taken()) == 1
    assert posted(sent["body"].replace("made", "mode")) == 400
    assert posted(sent["body"], id="evt_2") == 400
    assert posted(sent["body"], timestamp=str(int(time.time()) - 3600)) == 400
    assert len(receiver.taken()) == 1


def test_during_a_rotation_a_receiver_with_either_secret_verifies(receiver: WebhookReceiver, told: Told) -> None:
    other = "whsec_" + "QUJDREVGR0hJSktMTU5PUFFSU1RVVldY"
    rotating = destination("webhook", url=receiver.url, secret=f"{other}\n{SECRET}")
    told.add(2, 2)
    worker = told.worker(rotating)
    assert worker.deliver_once()
    receiver.answer(secret=other)
    assert worker.deliver_once()
    assert [request["fault"] for request in receiver.requests()] == ["", ""]


# --- the receiver of the documentation ---


@pytest.fixture
def documented(tmp_path: Path) -> Iterator[str]:
    """The address of the receiver that the page shows, run as the page says."""
    page = (REPOSITORY / "docs" / "how-to" / "connect-a-webhook.md").read_text(encoding="utf-8")
    (program,) = re.findall(r"```python receiver.py\n(.*?)```", page, re.DOTALL)
    (tmp_path / "receiver.py").write_text(program, encoding="utf-8")
    (tmp_path / "webhook-secret").write_text(f"{SECRET}\n", encoding="utf-8")
    port = free_port()
    command = [sys.executable, str(tmp_path / "receiver.py"), "webhook-secret", str(port)]
    running = Process(command, tmp_path / "receiver.log")
    try:
        wait_until(lambda: listens(port), 30, "the receiver to listen")
        yield f"http://127.0.0.1:{port}/hook"
    finally:
        running.kill9()


def test_the_receiver_of_the_page_takes_each_event_once_and_nothing_that_was_tampered_with(
    documented: str, told: Told, tmp_path: Path
) -> None:
    there = destination("webhook", url=documented, secret=SECRET)
    assert there.check(CALLER, there.wanted("auto")).ok
    told.add(2)
    worker = told.worker(there)
    assert worker.deliver_once()
    with told.index.write() as connection:
        connection.execute(update(rows_of).values(attempts=0, **{"state": "PENDING"}))
    assert worker.deliver_once()
    (event,) = told.rows()
    assert event.note == "HTTP 204"
    stranger = destination("webhook", url=documented, secret="whsec_" + "QUJDREVGR0hJSktMTU5PUFFSU1RVVldY")
    told.add_again(event)
    assert told.worker(stranger).deliver_once()
    assert told.states() == ["SENT", "PARKED"]
    printed = [line for line in (tmp_path / "receiver.log").read_text().splitlines() if line.startswith("{")]
    assert [json.loads(line) for line in printed] == [json.loads(event.body)]


# --- the doctor, and the schema ---


@pytest.mark.parametrize(("path", "ok", "said"), [("", True, "none was sent"), (None, False, "cannot be reached")])
def test_the_doctor_looks_whether_it_answers_and_sends_no_event(
    receiver: WebhookReceiver, path: str | None, ok: bool, said: str
) -> None:
    url = receiver.url if path is not None else f"http://127.0.0.1:{free_port()}/?key=secret"
    there = destination("webhook", url=url, secret=SECRET)
    answer = there.check(CALLER, there.wanted("auto"))
    assert (answer.ok, said in answer.text) == (ok, True)
    assert "key=secret" not in answer.text
    assert receiver.requests() == []


def test_a_node_that_was_upgraded_tells_what_happens_from_its_next_start(index: Database, told: Told) -> None:
    from alembic import command  # noqa: PLC0415 - half a second
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", "dicom_node.index:migrations")
    failing_study(index, "1")
    with index.write() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "0011")
    index.migrate()
    assert told.states() == []
    told.subscribe(Subscriber("hook"))
    failing_study(index, "2")
    assert told.states() == ["PENDING", "PENDING"]
    with index.read() as connection:
        assert len(connection.execute(select(studies.c.state)).all()) == 2
