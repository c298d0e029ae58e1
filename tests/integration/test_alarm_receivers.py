"""Alarms at those who are told: a mail server over TLS, and a receiver of webhooks that verifies each."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from dicom_node.core.alarms.telling import AlarmMessage
from dicom_node.core.errors import (
    CredentialsRefused,
    DeliveryDeferred,
    DeliveryError,
    DeliveryRefused,
    DestinationAway,
    SettingsError,
)
from dicom_node.deliver.alarms.email import EmailAlarm
from dicom_node.operate.backup.outcome import BackupOutcome, note_failed, note_made
from dicom_node.roles.settings import load_settings
from tests.peers.certificates import Certificates, Identity, make_certificates
from tests.peers.mail_server import PASSWORD, USER, MailServer, running_mail_server
from tests.peers.node import Node
from tests.peers.process import wait_until
from tests.peers.webhook_receiver import SECRET, running_webhook_receiver

_TOLD: Mapping[str, object] = {
    "alarm": 7, "step": "raised", "rule": "disk_full", "severity": "critical", "title": "The disk is full",
    "subject": "data", "text": "3 MB are free.", "since": "2026-03-14T09:30:00Z", "at": "2026-03-14T09:31:00Z",
    "advice": "Make room.", "acknowledged_by": "",
}  # fmt: skip
_ROLES = ("--role", "index", "--role", "deliver")
_MESSAGE = AlarmMessage(id="alm_1", node="AINODE", link="https://ai.hospital.example/#/node", alarms=[_TOLD])


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("tls"))


def showing(identity: Identity) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(identity.certificate, identity.private_key)
    return context


@pytest.fixture(params=["starttls", "implicit"])
def server(request: pytest.FixtureRequest, certificates: Certificates) -> Iterator[tuple[MailServer, str]]:
    with running_mail_server(showing(certificates.server), is_implicit=request.param == "implicit") as one:
        yield one, request.param


@pytest.fixture
def by_starttls(certificates: Certificates) -> Iterator[MailServer]:
    with running_mail_server(showing(certificates.server)) as one:
        yield one


def receiver(server: MailServer, certificates: Certificates, **more: Any) -> EmailAlarm:
    values: dict[str, Any] = {
        "name": "ward", "kind": "email", "host": "localhost", "port": server.port, "ca": certificates.ca,
        "username": USER, "password": PASSWORD, "sender": "ai@hospital.example", "to": ("it@hospital.example",),
    }  # fmt: skip
    return EmailAlarm(**values | more)


def test_people_are_told_by_mail_under_tls_what_since_when_and_what_to_do(
    server: tuple[MailServer, str], certificates: Certificates
) -> None:
    mail_server, tls = server
    receiver(mail_server, certificates, tls=tls).send(_MESSAGE, 10)
    (mail,) = mail_server.taken
    assert (mail.is_encrypted, mail.user, mail.sender, mail.to) == (
        True, USER, "ai@hospital.example", ("it@hospital.example",)
    )  # fmt: skip
    assert mail.message["Subject"] == "[AINODE] critical: The disk is full (data)"
    assert mail.message["Message-ID"] == "<alm_1@hospital.example>"
    text = mail.message.get_content()
    for words in ("3 MB are free.", "Since: 2026-03-14T09:30:00Z", "To do: Make room.", _MESSAGE.link):
        assert words in text


def test_whose_certificate_does_not_hold_is_told_nothing(
    server: tuple[MailServer, str], certificates: Certificates, tmp_path: Path
) -> None:
    mail_server, tls = server
    others = certificates.rogue.certificate  # signed nothing
    for changes in ({"ca": others}, {"ca": None}, {"host": "127.0.0.2"}):
        with pytest.raises(DestinationAway, match=r"certificate|refused"):
            receiver(mail_server, certificates, tls=tls, **changes).send(_MESSAGE, 10)
    assert mail_server.taken == []
    assert {"AUTH", "MAIL", "DATA"}.isdisjoint(mail_server.commands)


def test_a_server_without_starttls_is_told_nothing(by_starttls: MailServer, certificates: Certificates) -> None:
    by_starttls.offers_starttls = False
    with pytest.raises(CredentialsRefused, match="no STARTTLS"):
        receiver(by_starttls, certificates).send(_MESSAGE, 10)
    assert {"AUTH", "MAIL", "DATA"}.isdisjoint(by_starttls.commands)


@pytest.mark.parametrize(
    ("answers", "changes", "expected"),
    [
        ({}, {"password": "wrong"}, (CredentialsRefused, "535")),
        ({"MAIL": "451 XQZNAME is busy"}, {}, (DeliveryDeferred, "answered 451")),
        ({"DATA": "554 XQZNAME never"}, {}, (DeliveryRefused, "answered 554")),
        ({}, {"to": ("nobody@a.example",)}, (DeliveryRefused, "nobody@a.example .550")),
        ({"MAIL": ""}, {}, (DeliveryError, "Mail server localhost")),
    ],
)
def test_what_a_server_refuses_is_told_by_its_number_alone(
    by_starttls: MailServer, certificates: Certificates, answers: dict[str, str], changes: dict[str, Any],
    expected: tuple[type[DeliveryError], str],
) -> None:  # fmt: skip
    fault, told = expected
    by_starttls.answers = answers
    with pytest.raises(fault, match=told) as raised:
        receiver(by_starttls, certificates, **changes).send(_MESSAGE, 10)
    assert "XQZNAME" not in str(raised.value)
    assert "wrong" not in str(raised.value)
    assert by_starttls.taken == []


def test_nobody_is_told_twice_because_another_address_is_wrong(
    by_starttls: MailServer, certificates: Certificates
) -> None:
    to = ("it@hospital.example", "nobody@hospital.example")
    receiver(by_starttls, certificates, to=to).send(_MESSAGE, 10)
    assert [mail.to for mail in by_starttls.taken] == [("it@hospital.example",)]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ('tls = "none"', "by TLS only"),
        ('sender = "a@b\\nBcc: c@d"', "is no address"),
        ('to = ["it@a.example, other@b.example"]', "is no address"),
        ('username = "alarms"', "password_file is missing"),
        ('quiet_hours = "22-6"', "write them as 22:00-06:30"),
        ('rules = ["disk_ful"]', "there is no rule disk_ful"),
        ('severity = "grave"', "severity"),
    ],
)
def test_a_receiver_that_cannot_work_is_refused_with_its_line(tmp_path: Path, changes: str, told: str) -> None:
    values = {"name": '"ward"', "kind": '"email"', "host": '"mail.example"', "sender": '"a@b.example"',
              "to": '["c@d.example"]'}  # fmt: skip
    key, _, value = changes.partition(" = ")
    lines = "\n".join(f"{name} = {one}" for name, one in {**values, key: value}.items())
    (tmp_path / "node.toml").write_text(f"[[alarm]]\n{lines}\n", encoding="utf-8")
    with pytest.raises(SettingsError, match=told):
        load_settings(tmp_path / "node.toml")


# --- a node and both of them -----------------------------------------------------------------------------------------


def test_a_node_tells_by_mail_and_webhook_what_is_wrong_and_that_it_is_over_and_no_death_repeats_it(
    node: Callable[..., Node], certificates: Certificates, tmp_path: Path
) -> None:
    (tmp_path / "password").write_text(PASSWORD, encoding="utf-8")
    with running_mail_server(showing(certificates.server)) as mails, running_webhook_receiver() as hook:
        mail = {"name": "it", "kind": "email", "host": "localhost", "port": mails.port, "ca": str(certificates.ca),
                "username": USER, "password_file": str(tmp_path / "password"), "sender": "ai@a.example",
                "to": ["it@a.example"]}  # fmt: skip
        web = {"name": "hook", "kind": "webhook", "url": hook.url, "secret": SECRET}
        one = node(start=False, alarm=[mail, web], alarms={"every_s": 1}, viewer={"public_url": "https://ai.example"})
        one.data_dir.mkdir()
        note_failed(one.data_dir, "The disk is full.")
        one.start(None, *_ROLES)
        wait_until(lambda: mails.taken and hook.taken(), 60, "the alarm at both")
        one.kill9()
        one.start(None, *_ROLES)
        note_made(one.data_dir, BackupOutcome(folder="/backups"))
        wait_until(lambda: len(mails.taken) > 1 and len(hook.taken()) > 1, 60, "its end at both")
        assert one.stop() == 0
        subjects = [mail.message["Subject"] for mail in mails.taken]
        events = hook.taken()
        assert [request["fault"] for request in hook.requests()] == ["", ""]
    title = "A backup failed, or is overdue"
    assert subjects == [f"[AINODE] warning: {title}", f"[AINODE] warning: over: {title}"]
    assert [event["type"] for event in events] == ["alarm.raised", "alarm.cleared"]
    (alarm,) = events[0]["data"]["alarms"]
    assert events[0]["data"]["link"] == "https://ai.example/#/node"
    assert (alarm["rule"], alarm["severity"]) == ("backup_failed", "warning")
    assert "The disk is full." in alarm["text"]
