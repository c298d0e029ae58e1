"""Delivery by STOW-RS to a real web PACS, and to servers in trouble."""

from __future__ import annotations

import socket
import time

import httpx
import pytest
from pydicom import dcmread

from dicom_node.core.errors import CredentialsRefused, DeliveryDeferred, DeliveryRefused
from dicom_node.deliver.senders.dicomweb import DicomWebSender
from tests.integration.sent_objects import SOP_CLASSES, outgoing
from tests.peers.orthanc import Orthanc
from tests.peers.process import free_port


@pytest.fixture
def results(tmp_path):
    return [outgoing(tmp_path, kind.lower(), kind) for kind in SOP_CLASSES]


def test_all_kinds_of_result_arrive_unchanged_and_twice_is_harmless(orthanc, results):
    sender = DicomWebSender(orthanc.dicomweb_url + "/", None, 60)
    for _ in range(2):
        assert [(sent.artifact_uid, sent.error) for sent in sender.send(results)] == [
            (item.artifact.uid, None) for item in results
        ]
    stored = {dataset.SOPInstanceUID: dataset for dataset in orthanc.wait_for(3)}
    assert len(stored) == 3
    for item in results:
        assert stored[item.artifact.uid] == dcmread(item.path)


def test_bytes_that_are_no_dicom_are_parked_and_the_rest_goes_on(orthanc, results):
    results[0].path.write_bytes(b"this is no DICOM file" * 100)
    sent = list(DicomWebSender(orthanc.dicomweb_url, None, 60).send(results))
    assert isinstance(sent[0].error, DeliveryRefused)
    assert [one.error for one in sent[1:]] == [None, None]


@pytest.fixture
def locked_orthanc(tmp_path):
    folder = tmp_path / "locked"
    folder.mkdir()
    pacs = Orthanc(folder, {"AuthenticationEnabled": True, "RegisteredUsers": {"node": "right"}})
    pacs.http.auth = ("node", "right")
    try:
        pacs.start()
        yield pacs
    finally:
        pacs.kill9()
        pacs.http.close()


def test_the_right_password_opens_and_a_wrong_one_is_parked(locked_orthanc, results):
    url = locked_orthanc.dicomweb_url
    (refused,) = DicomWebSender(url, httpx.BasicAuth("node", "wrong"), 60).send(results[:1])
    (stored,) = DicomWebSender(url, httpx.BasicAuth("node", "right"), 60).send(results[:1])
    assert isinstance(refused.error, CredentialsRefused)
    assert "HTTP 401" in str(refused.error)
    assert "Check token, username and password" in str(refused.error)
    assert stored.error is None


def test_a_dead_port_defers_all(results):
    sent = list(DicomWebSender(f"http://127.0.0.1:{free_port()}/dicom-web", None, 2).send(results))
    assert [one.artifact_uid for one in sent] == [item.artifact.uid for item in results]
    assert all(isinstance(one.error, DeliveryDeferred) and "cannot be reached" in str(one.error) for one in sent)


def test_a_server_that_never_answers_is_given_up_within_the_time_limit(results):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        started = time.monotonic()
        sent = list(DicomWebSender(f"http://127.0.0.1:{listener.getsockname()[1]}", None, 0.5).send(results))
    assert time.monotonic() - started < 60
    assert all("no answer for 0.5 s" in str(one.error) for one in sent)


def test_a_wrong_path_says_what_to_check(orthanc, results):
    (sent,) = DicomWebSender(f"{orthanc.http_url}/nowhere", None, 60).send(results[:1])
    assert isinstance(sent.error, DeliveryRefused)
    assert "Check url of this destination" in str(sent.error)


def test_secrets_in_the_address_stay_out_of_messages(results):
    (sent,) = DicomWebSender(f"http://me:secret@127.0.0.1:{free_port()}?key=secret", httpx.BasicAuth("a", "b"), 1).send(
        results[:1]
    )
    assert "secret" not in str(sent.error)
