"""What a STOW-RS answer means for one instance."""

import httpx
import pytest

from dicom_node.core.errors import CredentialsRefused, DeliveryDeferred, DeliveryRefused
from dicom_node.deliver.senders.dicomweb import error_in, failure_reason, warning_reason

UID = "1.2.3"


def answer(status, failed=None, headers=None):
    if failed is None:
        return httpx.Response(status, headers={"Location": "/elsewhere"} if status == 301 else headers)
    items = [
        {"00081155": {"vr": "UI", "Value": [uid]}, "00081197": {"vr": "US", "Value": [reason]}}
        for uid, reason in failed.items()
    ]
    return httpx.Response(status, json={"00081198": {"vr": "SQ", "Value": items}}, headers=headers)


def error(response):
    return error_in(response, UID, "https://pacs.local", "SR")


@pytest.mark.parametrize("status", [200, 202])
def test_success_without_a_failed_instance_is_delivered(status):
    assert error(answer(status)) is None
    assert error(answer(status, failed={"9.9": 0xC000})) is None


@pytest.mark.parametrize("status", [200, 202, 409])
def test_a_failed_instance_counts_more_than_the_http_status(status):
    assert isinstance(error(answer(status, failed={UID: 0xC000})), DeliveryRefused)
    assert isinstance(error(answer(status, failed={UID: 0xA700})), DeliveryDeferred)


def test_a_conflict_because_it_is_there_already_is_delivered():
    response = answer(409, failed={UID: 0x0111})
    assert error(response) is None
    assert failure_reason(response, UID) == 0x0111


@pytest.mark.parametrize("status", [301, 400, 404, 406, 409, 413, 415, 422])
def test_what_a_person_must_change_first_is_parked(status):
    assert isinstance(error(answer(status)), DeliveryRefused)


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_login_is_no_fault_of_the_object(status):
    found = error(answer(status))
    assert isinstance(found, CredentialsRefused)
    assert f"answered HTTP {status}" in str(found)


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503])
def test_trouble_that_passes_is_tried_again(status):
    found = error(answer(status))
    assert isinstance(found, DeliveryDeferred)
    assert f"https://pacs.local answered HTTP {status}" in str(found)


def test_the_server_may_say_when_to_come_back():
    found = error(answer(503, headers={"Retry-After": "120"}))
    assert isinstance(found, DeliveryDeferred)
    assert found.retry_after_s == 120


@pytest.mark.parametrize("body", ["", "<xml/>", "[]", "[1]", '{"00081198": 5}', '{"00081198": {"Value": [1]}}', "null"])
def test_a_body_that_is_no_dicom_json_leaves_the_http_status_to_speak(body):
    assert error(httpx.Response(200, text=body)) is None
    assert isinstance(error(httpx.Response(409, text=body)), DeliveryRefused)


def test_a_warning_of_a_server_that_stored_it_is_read_of_this_instance_alone():
    items = [
        {"00081155": {"vr": "UI", "Value": [uid]}, "00081196": {"vr": "US", "Value": [reason]}}
        for uid, reason in (("9.9", 0xB000), (UID, 0xB006))
    ]
    response = httpx.Response(202, json={"00081199": {"vr": "SQ", "Value": items}})
    assert error(response) is None
    assert warning_reason(response, UID) == 0xB006
    assert warning_reason(answer(200), UID) is None
