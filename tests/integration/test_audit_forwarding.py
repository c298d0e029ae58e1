"""The audit trail at those who collect it: rsyslog over TLS with certificates on both sides, and a FHIR server."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dicom_node.core.audit import AuditedAct, AuditedEvent
from dicom_node.core.principal import Principal
from dicom_node.deliver.audit_forwarding import AuditForwarding, audit_forwardings
from dicom_node.index.database import Database
from dicom_node.people.audit.trail import open_audit
from dicom_node.roles.settings import SiteSettings
from tests.peers.certificates import Certificates, Identity, make_certificates
from tests.peers.fhir_server import FhirServer
from tests.peers.process import wait_until
from tests.peers.rsyslog import Rsyslog, running_rsyslog
from tests.support.results.arrivals import STUDY, opened_database
from tests.support.validators.audit_message import faults


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def shared_rsyslog(tmp_path_factory: pytest.TempPathFactory, certificates: Certificates) -> Iterator[Rsyslog]:
    with running_rsyslog(tmp_path_factory.mktemp("rsyslog"), certificates) as one:
        yield one


@pytest.fixture
def rsyslog(shared_rsyslog: Rsyslog) -> Rsyslog:
    shared_rsyslog.forget()
    return shared_rsyslog


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with opened_database(f"sqlite:///{tmp_path / 'node.sqlite'}") as one:
        yield one


def settings(folder: Path, **audit: Any) -> SiteSettings:
    return SiteSettings.model_validate({
        "node": {"data_dir": str(folder), "ae_title": "AINODE"}, "audit": audit,
        "destination": [{"name": "arr", "kind": "fhir", "url": audit.pop("url", "http://127.0.0.1:1/fhir"),
                         "patient": "logical"}],
    })  # fmt: skip


def tls(rsyslog: Rsyslog, ca: Path, identity: Identity) -> dict[str, Any]:
    return {
        "host": "localhost", "port": rsyslog.port, "ca": str(ca), "certificate": str(identity.certificate),
        "private_key": str(identity.private_key),
    }  # fmt: skip


def act(folder: Path, database: Database, count: int) -> None:
    trail = open_audit(settings(folder), database)
    for _ in range(count):
        trail.record(
            AuditedEvent(act=AuditedAct.WITHDRAWAL, actor=Principal("zoë"), address="10.0.0.7",
                         study_instance_uid=STUDY, patient_id="P-17", detail={"why": "x" * 9000})
        )  # fmt: skip
    trail.close()


def forwarding(folder: Path, database: Database, owner: str = "host:1", **audit: Any) -> AuditForwarding:
    (one,) = audit_forwardings(settings(folder, **audit), database, owner)
    return one


def numbers(rsyslog: Rsyslog) -> list[str]:
    """The numbers of the records that came, as the messages say them."""
    return [line[-1].partition('type="record" value="')[2].partition('"')[0] for line in rsyslog.kept()]


def test_a_repository_gets_every_record_once_though_it_was_away(
    rsyslog: Rsyslog, certificates: Certificates, database: Database, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    one = forwarding(tmp_path, database, syslog=tls(rsyslog, certificates.ca, certificates.modality))
    other = forwarding(tmp_path, database, "host:2", syslog=tls(rsyslog, certificates.ca, certificates.modality))
    act(tmp_path, database, 3)
    one.run()
    other.run()
    wait_until(lambda: len(rsyslog.kept()) == 3, 30, "three messages")
    rsyslog.stop()
    act(tmp_path, database, 2)
    for _ in range(3):
        one.run()
    assert [r.getMessage() for r in caplog.records if r.levelno == logging.ERROR] == ["audit repository takes nothing"]
    rsyslog.start()
    one.run()
    wait_until(lambda: len(rsyslog.kept()) >= 5, 30, "the other two")
    one.close()
    assert numbers(rsyslog) == ["MQ==", "Mg==", "Mw==", "NA==", "NQ=="]
    priority, version, at, _, application, _, message_id, message = rsyslog.kept()[-1]
    assert (priority, version, application, message_id) == ("85", "1", "dicom-node", "DICOM+RFC3881")
    assert at.startswith("20")
    xml = message.removeprefix("\ufeff").encode()
    assert faults(xml) == []
    assert 'UserID="zoë"'.encode() in xml


@pytest.mark.parametrize("who", ["rogue", "nobody"])
def test_a_repository_that_refuses_the_certificate_has_nothing_and_is_owed_everything(
    rsyslog: Rsyslog, certificates: Certificates, database: Database, tmp_path: Path, who: str
) -> None:
    wrong = tls(rsyslog, certificates.ca, certificates.rogue)
    if who == "nobody":
        wrong = {key: value for key, value in wrong.items() if key not in {"certificate", "private_key"}}
    act(tmp_path, database, 2)
    forwarding(tmp_path, database, syslog=wrong).run()
    right = forwarding(tmp_path, database, syslog=tls(rsyslog, certificates.ca, certificates.modality))
    right.run()
    right.close()
    wait_until(lambda: len(rsyslog.kept()) >= 2, 30, "both messages")
    assert numbers(rsyslog) == ["MQ==", "Mg=="]


def test_a_repository_with_a_certificate_of_somebody_else_is_told_nothing(
    rsyslog: Rsyslog, certificates: Certificates, database: Database, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    act(tmp_path, database, 1)
    theirs = certificates.ca.with_name("rogue-ca.pem")
    forwarding(tmp_path, database, syslog=tls(rsyslog, theirs, certificates.modality)).run()
    assert "certificate verify failed" in str(vars(caplog.records[-1])["why"])
    assert rsyslog.kept() == []


def test_datagrams_are_sent_where_the_site_wants_it(rsyslog: Rsyslog, database: Database, tmp_path: Path) -> None:
    act(tmp_path, database, 1)
    forwarding(tmp_path, database, syslog={"host": "127.0.0.1", "port": rsyslog.udp_port, "protocol": "udp"}).run()
    wait_until(lambda: len(rsyslog.kept()) == 1, 30, "a datagram")
    assert faults(rsyslog.kept()[0][-1].removeprefix("\ufeff").encode()) == []


def test_a_fhir_server_gets_every_record_once_though_it_failed_meanwhile(
    fhir_server: FhirServer, database: Database, tmp_path: Path
) -> None:
    act(tmp_path, database, 3)
    one = forwarding(tmp_path, database, fhir="arr", url=fhir_server.url)
    fhir_server.set(fail={"status": 503, "count": 1})
    one.run()
    one.run()
    found = fhir_server.http.get(f"{fhir_server.url}/AuditEvent?_count=50").json()["entry"]
    told = [entry["resource"]["entity"][1]["detail"][0]["valueString"] for entry in found]
    assert sorted(told) == ["1", "2", "3"]
    assert {entry["resource"]["type"]["code"] for entry in found} == {"110103"}
