"""Signed events: the table of their types, the signature, what a receiver's answer means, what the settings take."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from dicom_node.core.errors import (
    CredentialsRefused,
    DeliveryDeferred,
    DeliveryRefused,
    DestinationAway,
    DestinationBusy,
)
from dicom_node.core.outputs.event_types import EVENT_TYPES, FACTS, EventType
from dicom_node.deliver.kinds.webhook import keys_in
from dicom_node.deliver.senders.webhook import error_in, signature_headers
from tests.unit.test_destination_kinds import destination

URL = "https://events.local/hook"
ONE, OTHER = (f"whsec_{base64.b64encode(bytes([number] * 24)).decode()}" for number in (1, 2))


def webhook(**values: Any) -> Any:
    return destination("webhook", **{"url": URL, "secret": ONE} | values)


def test_every_type_of_event_is_in_the_table_with_facts_that_are_explained() -> None:
    assert list(EVENT_TYPES) == list(EventType)
    told = {fact for one in EVENT_TYPES.values() for fact in one.facts}
    assert told | {"accession_number"} == set(FACTS)


def test_the_signature_is_the_one_of_the_scheme() -> None:
    """The example of the scheme's own libraries."""
    (key,) = keys_in("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    signed = signature_headers("msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}', [key])
    assert signed == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


def test_two_secrets_of_a_rotation_give_two_signatures() -> None:
    old, new = (signature_headers("evt_1", 1, b"{}", keys_in(one))["webhook-signature"] for one in (OTHER, ONE))
    both = signature_headers("evt_1", 1, b"{}", keys_in(f"{ONE}\n{OTHER}"))["webhook-signature"]
    assert both == f"{new} {old}"


@pytest.mark.parametrize(
    ("status", "wish", "kind"),
    [
        (301, None, CredentialsRefused),
        (307, None, CredentialsRefused),
        (400, None, DeliveryRefused),
        (401, None, CredentialsRefused),
        (403, None, CredentialsRefused),
        (404, None, CredentialsRefused),
        (405, None, CredentialsRefused),
        (408, None, DeliveryDeferred),
        (410, None, CredentialsRefused),
        (413, None, DeliveryRefused),
        (429, 20.0, DestinationBusy),
        (429, None, DeliveryDeferred),
        (500, None, DeliveryDeferred),
        (503, None, DestinationAway),
        (503, 5.0, DestinationBusy),
    ],
)
def test_an_answer_is_about_the_event_or_about_the_address_or_passes(
    status: int, wish: float | None, kind: type[Exception]
) -> None:
    error = error_in(status, wish, "https://events.local")
    assert type(error) is kind
    assert f"HTTP {status}" in str(error)


@pytest.mark.parametrize("status", [200, 202, 204])
def test_what_was_taken_is_no_error(status: int) -> None:
    assert error_in(status, None, "there") is None


@pytest.mark.parametrize(
    "secret",
    ["", "whsec_", "plain", ONE.removeprefix("whsec_"), "whsec_c2hvcnQ=", f"{ONE}\n{OTHER}\n{ONE}", f"{ONE}!",
     f"whsec_{base64.b64encode(bytes(65)).decode()}"],
)  # fmt: skip
def test_what_is_no_secret_is_refused_and_not_repeated(secret: str) -> None:
    with pytest.raises(ValidationError) as refused:
        webhook(secret=secret)
    assert len(secret) < 10 or secret not in str(refused.value)


def test_a_secret_may_stand_in_a_file_and_two_of_them_do_during_a_rotation(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text(f"{ONE}\n{OTHER}\n")
    there = webhook(secret=None, secret_file=file)
    assert keys_in(there.secret.get_secret_value()) == (bytes([1] * 24), bytes([2] * 24))
    with pytest.raises(ValidationError, match="secret is set as well"):
        webhook(secret_file=file)


def test_a_webhook_without_a_secret_is_refused() -> None:
    with pytest.raises(ValidationError, match="it is missing, and so is secret"):
        webhook(secret=None)


@pytest.mark.parametrize("url", ["http://events.local", "http://10.0.0.1:8080/hook", "http://[2001:db8::1]/"])
def test_events_leave_the_machine_over_https_unless_the_settings_say_otherwise(url: str) -> None:
    with pytest.raises(ValidationError, match="https:// only"):
        webhook(url=url)
    assert webhook(url=url, plain_http=True).url == url


@pytest.mark.parametrize("url", ["http://127.0.0.1:8080/hook", "http://localhost/", "http://[::1]:9/", URL])
def test_events_within_the_machine_need_no_tls(url: str) -> None:
    assert webhook(url=url).url == url


def test_nothing_of_the_patient_can_be_asked_for_but_the_accession_number() -> None:
    assert webhook(include=["accession_number"]).told_in_events == ("accession_number",)
    with pytest.raises(ValidationError, match="include"):
        webhook(include=["patient_name"])
