"""A node that tells a receiver of another make: killed while it tells, and from a C-STORE to the event."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dicom_node.index.database import Database
from tests.acceptance.sent_phantoms import SentPhantom
from tests.peers.node import Node
from tests.peers.process import wait_until
from tests.peers.webhook_receiver import SECRET, WebhookReceiver, running_webhook_receiver
from tests.support.campaign import amount
from tests.support.results.rows import owe_events

pytestmark = [pytest.mark.campaign, pytest.mark.timeout(amount(600, campaign=3600))]

KILLS = amount(2, campaign=30)
#: So many events are told between two kills.
BETWEEN = 5


@pytest.fixture
def receiver() -> Iterator[WebhookReceiver]:
    with running_webhook_receiver() as one:
        yield one


@pytest.fixture
def told_node(node: Callable[..., Node], receiver: WebhookReceiver) -> Node:
    hook = {"name": "hook", "kind": "webhook", "url": receiver.url, "secret": SECRET}
    route = {"name": "ct", "model": "ct-lung-density", "quiet_period_s": 1.0, "when": {"modality": "CT"}}
    return node(destination=[hook], route=[route])


def test_killing_a_node_while_it_tells_loses_no_event_and_each_is_taken_once(
    told_node: Node, receiver: WebhookReceiver
) -> None:
    receiver.answer(delay_ms=40)
    database = Database(f"sqlite:///{told_node.data_dir / 'node.sqlite'}")
    with database.write() as connection:
        owed = owe_events(connection, "hook", [2] * (KILLS + 2) * BETWEEN)
    database.close()
    for _ in range(KILLS):
        seen = len(receiver.requests())
        wait_until(lambda seen=seen: len(receiver.requests()) >= seen + BETWEEN, 60, "some events", 0.01)  # type: ignore[misc]
        told_node.kill9()
        told_node.start()
    wait_until(lambda: len(receiver.taken()) == len(owed), 120, "every event")
    told_node.wait_until_settled()
    requests = receiver.requests()
    assert sorted(event["id"] for event in receiver.taken()) == sorted(owed)
    assert {request["fault"] for request in requests} == {""}
    assert len(requests) <= len(owed) + KILLS, "what was taken is sent again only where a kill hid the answer"


def test_a_study_that_is_sent_is_an_event_a_moment_later_and_names_no_patient(
    told_node: Node, receiver: WebhookReceiver, tmp_path: Path
) -> None:
    phantom = SentPhantom.written(tmp_path, "told")
    assert phantom.send(told_node)
    wait_until(lambda: bool(receiver.taken()), 240, "an event", 0.2)
    (event,) = receiver.taken()
    assert (event["type"], event["data"]["study_instance_uid"]) == ("result.made", phantom.study_instance_uid)
    assert event["data"]["model"]["version"]
    (request,) = receiver.requests()
    assert phantom.patient_id not in request["body"]
    with told_node.api() as api:
        timeline = api.get(f"/api/studies/{phantom.study_instance_uid}/timeline").text
    assert "hook was told: result.made." in timeline
