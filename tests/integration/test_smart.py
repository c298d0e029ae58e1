"""Signing in by SMART Backend Services at a real OAuth server, before a real FHIR server and a real web PACS."""

from __future__ import annotations

import contextlib
import logging
import re
import ssl
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from dicom_node.core.entities import ArtifactKind, DeliveryState
from dicom_node.core.errors import (
    DeliveryDeferred,
    DeliveryError,
    DestinationAway,
    SignInRefused,
    SourceRefused,
    SourceUnavailable,
)
from dicom_node.deliver.connections import oauth_server, smart
from dicom_node.deliver.connections.signing_keys import SigningKey, jwk_set, write_new_key
from dicom_node.deliver.connections.web import authentication, web_client
from dicom_node.deliver.dispatch import outbox
from dicom_node.deliver.dispatch.outage import BackOff
from dicom_node.deliver.dispatch.outbox import DestinationWorker, OutboxPolicy
from dicom_node.deliver.kinds.dicomweb import DicomWebDestination
from dicom_node.deliver.kinds.fhir import FhirDestination
from dicom_node.deliver.kinds.kind import Caller
from dicom_node.deliver.kinds.webhook import WebhookDestination
from dicom_node.deliver.outgoing import Outgoing, OutgoingEvent, Sent
from dicom_node.index.database import Database
from dicom_node.index.decided import actions
from dicom_node.index.outbox import destinations
from dicom_node.index.tables import deliveries
from dicom_node.retrieve.kinds import make_sources
from dicom_node.retrieve.source import Source, StudyQuery
from dicom_node.roles.settings import SiteSettings
from tests.integration.sent_objects import outgoing
from tests.integration.step_by_step_node import site
from tests.integration.test_drawn_out_answers import SECRET, TAKEN, WAYS, drawing_out, ended
from tests.integration.test_outbox import Owed, names
from tests.integration.test_send_fhir import stored
from tests.peers.certificates import Certificates, Identity, make_certificates
from tests.peers.fhir_server import FhirServer
from tests.peers.oauth_server import OAuthServer, running_oauth_server
from tests.peers.orthanc import Orthanc, running_orthanc
from tests.peers.process import free_port, wait_until
from tests.support.results.arrivals import opened_database
from tests.support.results.fhir_examples import PATIENT_ID, PATIENT_SYSTEM
from tests.support.results.rows import SOMEBODY
from tests.support.studies.data_factories import small_chest_ct

POLICY = OutboxPolicy("host:1", BackOff(0.5, 60.0))
CALLER = Caller("AINODE", 60, knows_patient_systems=True)


@pytest.fixture(scope="module")
def running_gate() -> Iterator[OAuthServer]:
    with running_oauth_server() as server:
        yield server


@pytest.fixture
def gate(running_gate: OAuthServer, fhir_server: FhirServer) -> OAuthServer:
    """The FHIR server behind an OAuth server; it knows the patient, and no client yet."""
    running_gate.reset()
    running_gate.set(target=fhir_server.url.removesuffix("/fhir/R4"))
    fhir_server.add_patient(PATIENT_SYSTEM, PATIENT_ID)
    return running_gate


class Registered:
    """A key that the OAuth server knows, and the EHR that is signed in to with it."""

    def __init__(self, gate: OAuthServer, folder: Path, kind: str = "ec") -> None:
        self.gate, self.folder, self.file = gate, folder, folder / "node.key"
        self.key = write_new_key(self.file, kind)  # type: ignore[arg-type]
        self.register(self.key)

    def register(self, *keys: SigningKey) -> None:
        self.gate.set(jwks=jwk_set(keys))

    def ehr(self, **settings: Any) -> FhirDestination:
        url = f"{self.gate.url}/fhir/R4"
        values = {"url": url, "client_id": "ainode", "private_key": self.file, **settings}
        return FhirDestination(name="ehr", kind="fhir", **values)

    def sent(self, **settings: Any) -> DeliveryError | None:
        (sent,) = self.ehr(**settings).sender(CALLER).send([stored(self.folder)])
        return sent.error


@pytest.fixture
def registered(gate: OAuthServer, tmp_path: Path) -> Registered:
    return Registered(gate, tmp_path)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fresh token may be refused, and a failure is not remembered: tests have no time to let either age."""
    monkeypatch.setattr(smart, "_YOUNG_S", 0.0)
    monkeypatch.setattr(smart, "_FAILED_FOR_S", 0.0)


def whys(error: DeliveryError | None, kind: type[DeliveryError]) -> str:
    assert type(error) is kind, repr(error)
    return str(error)


# --- a token ---


@pytest.mark.parametrize(("kind", "algorithm"), [("rsa", "RS384"), ("ec", "ES384")])
def test_a_report_arrives_for_a_token_that_everything_shares(
    gate: OAuthServer, fhir_server: FhirServer, tmp_path: Path, kind: str, algorithm: str
) -> None:
    one = Registered(gate, tmp_path, kind)
    ehr = one.ehr()
    for _ in range(2):
        assert one.sent() is None
    assert ehr.check(CALLER, ehr.wanted("auto")).text.count("signed in: client ainode") == 1
    ehr.reach(CALLER)

    (asked,) = gate.asked()
    assert (asked["alg"], asked["kid"], asked["status"]) == (algorithm, one.key.kid, 200)
    claims = asked["claims"]
    assert (claims["iss"], claims["sub"], claims["aud"]) == ("ainode", "ainode", f"{gate.url}/oauth/token")
    assert 0 < claims["exp"] - claims["iat"] <= 300
    assert set(asked["scope"].split()) >= {"system/Patient.rs", "system/DiagnosticReport.crus"}
    assert len(fhir_server.all("DiagnosticReport")) == 1


def test_a_server_whose_date_no_calendar_holds_signs_the_node_in_all_the_same(registered: Registered) -> None:
    registered.gate.set(dateSaid="Mon, 01 Jan 99999999999999999999 00:00:00 GMT")
    assert registered.sent() is None


def test_each_assertion_has_a_number_of_its_own_and_the_server_lets_none_pass_twice(
    registered: Registered, impatient: None
) -> None:
    tokens = smart.tokens_of(registered.ehr(), lambda: True)
    for _ in range(3):
        tokens.instead_of(tokens.current())
    asked = registered.gate.asked()
    assert len({one["claims"]["jti"] for one in asked}) == len(asked) == 4
    assert {one["status"] for one in asked} == {200}


def test_many_threads_ask_for_one_token(registered: Registered) -> None:
    ehr, together = registered.ehr(), threading.Barrier(8)

    def current(_: int) -> str:
        together.wait(60)
        return smart.tokens_of(ehr, lambda: True).current()

    with ThreadPoolExecutor(8) as threads:
        assert len(set(threads.map(current, range(8)))) == 1
    assert len(registered.gate.asked()) == 1


def test_a_token_near_its_end_is_not_used_any_more(registered: Registered) -> None:
    registered.gate.set(tokenSeconds=2)
    assert registered.sent() is None

    def is_renewed() -> bool:
        assert registered.sent() is None
        return len(registered.gate.asked()) > 1

    wait_until(is_renewed, 60, "another token")
    assert {one["status"] for one in registered.gate.passed()} <= {200, 201, 404}


def test_the_token_endpoint_and_the_scopes_of_the_settings_go_before_those_of_the_server(
    registered: Registered,
) -> None:
    registered.gate.set(smart={"token_endpoint": None}, scopes=["system/Patient.rs"])
    settings = {"token_url": f"{registered.gate.url}/oauth/token", "scopes": "system/Patient.rs"}
    registered.ehr(**settings).reach(CALLER)
    assert [one["scope"] for one in registered.gate.asked()] == ["system/Patient.rs"]


def test_a_server_of_smart_1_is_asked_in_its_own_words_and_the_doctor_tells_what_it_grants(
    registered: Registered,
) -> None:
    scopes = ["system/Patient.read", "system/DiagnosticReport.write"]
    smart_1 = {"scopes_supported": ["system/*.read", "system/*.write"], "capabilities": ["permission-v1"]}
    registered.gate.set(smart=smart_1, scopes=scopes)
    told = registered.ehr().check(CALLER, registered.ehr().wanted("auto")).text
    assert set(registered.gate.asked()[0]["scope"].split()) > {*scopes, "system/Observation.read"}
    assert f"granted {' '.join(scopes)}" in told


# --- refused ---


def test_after_a_401_one_other_token_is_fetched_and_the_request_is_sent_again(
    registered: Registered, impatient: None, fhir_server: FhirServer
) -> None:
    registered.ehr().reach(CALLER)
    registered.gate.set(refuseKnown=True)
    assert registered.sent() is None
    assert [one["status"] for one in registered.gate.asked()] == [200, 200]
    assert [one["status"] for one in registered.gate.passed()].count(401) == 1
    assert len(fhir_server.all("DiagnosticReport")) == 1


def test_a_server_that_lets_no_token_in_refuses_the_sign_in_after_one_other(
    registered: Registered, impatient: None
) -> None:
    registered.ehr().reach(CALLER)
    registered.gate.set(refuseAll=True)
    with pytest.raises(SignInRefused, match="401 to a token that was just fetched"):
        registered.ehr().reach(CALLER)
    assert len(registered.gate.asked()) == 2


def test_a_token_that_was_just_fetched_is_not_fetched_again(registered: Registered) -> None:
    registered.gate.set(refuseAll=True)
    for _ in range(3):
        assert "401" in whys(registered.sent(), SignInRefused)
    assert len(registered.gate.asked()) == 1


@pytest.mark.parametrize("transactions", [True, False])
def test_a_client_that_is_removed_in_the_midst_of_a_report_leaves_nothing_out_of_it(
    registered: Registered, impatient: None, fhir_server: FhirServer, *, transactions: bool
) -> None:
    fhir_server.set(transactions=transactions)
    registered.gate.set(revokeAfterWrite=True)
    refused = registered.sent()
    assert isinstance(refused, SignInRefused)
    assert refused.may_have_arrived
    registered.gate.set(refuseAll=False, fault=None)
    assert registered.sent() is None
    (study,) = fhir_server.all("ImagingStudy")
    assert study["series"]
    assert len(fhir_server.all("DiagnosticReport")) == 1


def test_what_was_written_before_the_client_was_removed_is_taken_back_when_it_is_withdrawn(
    registered: Registered, impatient: None, fhir_server: FhirServer, tmp_path: Path
) -> None:
    gate, images = registered.gate, small_chest_ct()[0]
    there = {"name": "ehr", "kind": "fhir", "url": f"{gate.url}/fhir/R4", "patient": "logical"}
    gate.set(revokeAfterWrite=True)
    with site(tmp_path / "node", [there | {"client_id": "ainode", "private_key": registered.file}]) as node:
        node.run(images)
        assert [one["status"] for one in fhir_server.all("DiagnosticReport")] == ["preliminary"]
        assert [row.state for row in node.rows(deliveries)] == [DeliveryState.PENDING]
        with node.database.write() as connection:
            study = str(images[0].StudyInstanceUID)
            actions.withdraw_study(connection, study, ("Wrong protocol.", None), SOMEBODY, datetime.now(UTC))
            destinations.resume(connection, "ehr", datetime.now(UTC))
        gate.set(refuseAll=False, fault=None)
        node.deliver()
    assert [one["status"] for one in fhir_server.all("DiagnosticReport")] == ["entered-in-error"]


def test_what_is_granted_after_a_403_counts_without_waiting_for_the_end_of_the_token(
    registered: Registered, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(smart, "_DOUBTED_AFTER_S", 0.0)
    registered.gate.set(forbid=True)
    assert "403" in str(registered.sent())
    registered.gate.set(forbid=False)
    assert registered.sent() is None
    assert len(registered.gate.asked()) > 1


@pytest.mark.parametrize(
    ("control", "told"),
    [
        ({"jwks": {"keys": []}}, r"HTTP 40[01] \(invalid_client\). Register the client there with the public key KID"),
        (
            {"fault": {"status": 400, "error": "invalid_scope"}},
            r"\(invalid_scope\). Grant it there system/Patient.rs sys",
        ),
        ({"fault": {"status": 400, "error": "invalid_grant"}}, r"\(invalid_grant\). Allow it client_credentials"),
        ({"fault": {"status": 400, "error": "unauthorized_client"}}, r"\(unauthorized_client\). Allow it"),
        ({"fault": {"status": 400, "error": "DOE, JANE"}}, r"HTTP 400. Check token_url"),
        ({"fault": {"status": 404}}, "HTTP 404. Check token_url"),
        ({"jwks": {"keys": []}, "clockShift": -400}, "clock is [0-9]+ s ahead of the server's: set both by NTP"),
    ],
)
def test_a_refused_sign_in_says_what_to_do(registered: Registered, control: dict[str, Any], told: str) -> None:
    registered.gate.set(**control)
    with pytest.raises(SignInRefused, match=told.replace("KID", registered.key.kid)) as caught:
        registered.ehr().reach(CALLER)
    assert "DOE" not in str(caught.value)
    answer = registered.ehr().check(CALLER, registered.ehr().wanted("auto"))
    assert not answer.ok
    assert answer.advice


def test_a_server_that_does_not_say_where_to_sign_in_refuses_it(
    registered: Registered, fhir_server: FhirServer
) -> None:
    with pytest.raises(SignInRefused, match=r"HTTP 404 to the question where to sign in .* set token_url"):
        registered.ehr(url=fhir_server.url).reach(CALLER)


@pytest.mark.parametrize("fault", ["gone", "readable by all", "no key"])
def test_a_key_that_cannot_be_used_suspends_and_one_that_can_flows_without_a_restart(
    registered: Registered, impatient: None, fault: str
) -> None:
    ehr, content = registered.ehr(), registered.file.read_bytes()
    if fault == "gone":
        registered.file.unlink()
    elif fault == "no key":
        registered.file.write_bytes(b"-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n")
    else:
        registered.file.chmod(0o644)
    with pytest.raises(SignInRefused, match=str(registered.file)) as caught:
        ehr.reach(CALLER)
    assert "c2VjcmV0" not in str(caught.value)
    registered.file.write_bytes(content)
    registered.file.chmod(0o600)
    ehr.reach(CALLER)


# --- away ---


@pytest.mark.parametrize(
    "control",
    [
        {"fault": {"status": 503, "retryAfter": 7}},
        {"fault": {"status": 500, "error": "server_error"}},
        {"fault": {"status": 429}},
        {"fault": {"status": 400, "error": "temporarily_unavailable"}},
        {"fault": "garbage"},
        {"fault": "silence"},
        {"fault": "endless"},
        {"answer": {}},
        {"answer": {"access_token": "a b", "token_type": "Bearer"}},
        {"answer": {"access_token": "abc", "token_type": "mac"}},
        {"answer": {"access_token": ["abc"], "token_type": "Bearer"}},
        {"smart": {"token_endpoint": None}},
        {"smart": {"token_endpoint": "http://127.0.0.1:9/token"}},
        {"smart": {"token_endpoint": "http://a..b/token"}},
    ],
    ids=str,
)
def test_a_server_that_gives_no_token_now_is_away_and_nothing_is_refused(
    registered: Registered, monkeypatch: pytest.MonkeyPatch, control: dict[str, Any]
) -> None:
    monkeypatch.setattr(smart, "_FAILED_FOR_S", 0.0)
    if control.get("fault") == "silence":
        monkeypatch.setattr(oauth_server, "_ANSWERED_WITHIN_S", 0.3)
    registered.gate.set(**control)
    with pytest.raises(DestinationAway, match="gives no token now") as away:
        registered.ehr().reach(CALLER)
    assert away.value.retry_after_s == (7 if "retryAfter" in str(control) else None)
    registered.gate.set(fault=None, answer=None, smart={})
    monkeypatch.undo()
    wait_until(lambda: is_let_in(registered), 60, "to be let in, with nobody's help")


def is_let_in(registered: Registered) -> bool:
    with contextlib.suppress(DestinationAway):
        registered.ehr().reach(CALLER)
        return True
    return False


def test_a_server_that_is_not_there_is_away(registered: Registered) -> None:
    for settings in (
        {"url": f"http://127.0.0.1:{free_port()}/fhir"},
        {"token_url": f"http://127.0.0.1:{free_port()}/"},
    ):
        assert "gives no token now" in whys(registered.sent(**settings), DestinationAway)


# --- another key ---


def test_the_next_key_signs_as_soon_as_the_server_knows_no_other(registered: Registered, impatient: None) -> None:
    coming = registered.folder / "next.key"
    following = write_new_key(coming, "rsa")
    registered.register(registered.key, following)
    assert registered.sent(next_private_key=coming) is None
    registered.register(following)
    registered.gate.set(refuseKnown=True)
    assert registered.sent(next_private_key=coming) is None
    asked = registered.gate.asked()
    assert [(one["kid"], one["status"] == 200) for one in asked] == [
        (registered.key.kid, True), (registered.key.kid, False), (following.kid, True)
    ]  # fmt: skip


# --- the outbox, before a web PACS ---


@pytest.fixture(scope="module")
def pacs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    with running_orthanc(tmp_path_factory.mktemp("pacs")) as started:
        yield started


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with opened_database(f"sqlite:///{tmp_path / 'index.sqlite'}") as opened:
        yield opened


@pytest.fixture
def owed(tmp_path: Path, database: Database) -> Iterator[Owed]:
    (tmp_path / "node").mkdir()
    one = Owed(tmp_path / "node", database)
    yield one
    for worker in one.workers:
        worker.stop()
        with contextlib.suppress(RuntimeError):  # never started
            worker.join(30)


@pytest.fixture
def archive(registered: Registered, pacs: Orthanc) -> DicomWebDestination:
    registered.gate.set(target=pacs.http_url)
    return DicomWebDestination(
        name="pacs", kind="dicomweb", url=f"{registered.gate.url}/dicom-web", client_id="ainode",
        private_key=registered.file,
    )  # fmt: skip


def suspended(owed: Owed) -> destinations.Suspension | None:
    with owed.database.read() as connection:
        return destinations.suspension_of(connection, "pacs")


def test_a_refused_sign_in_suspends_parks_nothing_and_what_was_owed_flows_when_it_is_mended(
    owed: Owed, registered: Registered, archive: DicomWebDestination, monkeypatch: pytest.MonkeyPatch, impatient: None
) -> None:
    monkeypatch.setattr(outbox, "_ASK_SUSPENDED_S", 0.2)
    registered.register()
    owed.add(*names(3))
    owed.worker(archive.sender(CALLER), partial(archive.reach, CALLER)).start()
    wait_until(lambda: suspended(owed) is not None, 60, "suspended")
    found = suspended(owed)
    assert found is not None
    assert "invalid_client" in found.reason
    assert owed.states() == {DeliveryState.PENDING: 6}
    assert owed.attempts() == [0] * 6

    registered.register(registered.key)
    wait_until(owed.is_delivered, 60, "everything delivered, with nobody's help")
    assert suspended(owed) is None


def test_a_body_that_was_answered_by_401_is_sent_again_whole(
    owed: Owed, registered: Registered, archive: DicomWebDestination, pacs: Orthanc, impatient: None
) -> None:
    archive.reach(CALLER)
    owed.add("again")
    there = len(pacs.get("/instances"))
    registered.gate.set(refuseKnown=True)
    while owed.worker(archive.sender(CALLER)).deliver_once():
        pass
    assert owed.is_delivered()
    assert len(pacs.get("/instances")) == there + 2
    stow = [one["status"] for one in registered.gate.passed() if one["method"] == "POST"]
    assert stow == [401, 200, 200]


def test_a_report_that_was_refused_before_is_not_blamed_for_a_sign_in_that_is_refused_now(
    owed: Owed, registered: Registered, archive: DicomWebDestination, impatient: None
) -> None:
    """Otherwise a batch refused in two nights would be parked in the second."""
    owed.add(*names(2))
    worker = owed.worker(archive.sender(CALLER))
    registered.gate.set(forbid=True)
    assert not worker.deliver_once()
    registered.gate.set(forbid=False)
    assert worker.deliver_once()  # another one, so that the first is suspected
    registered.gate.set(refuseAll=True)
    assert not worker.deliver_once()
    assert set(owed.states()) == {DeliveryState.PENDING, DeliveryState.SENT}
    assert suspended(owed) is not None


def test_a_destination_whose_certificates_cannot_be_read_is_away_and_parks_nothing(
    owed: Owed, registered: Registered, caplog: pytest.LogCaptureFixture
) -> None:
    away = DicomWebDestination(
        name="pacs",
        kind="dicomweb",
        url="https://127.0.0.1:9",
        ca=registered.folder / "none.pem",
        check_identity="none",
    )
    owed.add("s000")
    owed.workers.append(DestinationWorker("pacs", partial(away.sender, CALLER), owed.database, owed.spool, POLICY))
    assert not owed.workers[0].deliver_once()
    assert (owed.states(), owed.attempts()) == ({DeliveryState.PENDING: 2}, [0, 0])
    (told,) = (record for record in caplog.records if record.message == "destination takes nothing")
    assert "Check ca " in told.__dict__["why"]
    assert not [record for record in caplog.records if record.exc_info]


# --- secrets ---


def test_no_log_line_no_message_and_no_repr_holds_a_secret(
    registered: Registered, caplog: pytest.LogCaptureFixture, impatient: None, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    for name in ("httpx", "httpcore", "dicom_node"):
        caplog.set_level(logging.DEBUG, logger=name)
    ehr, told = registered.ehr(), []

    def also(action: Callable[[], object]) -> None:
        try:
            told.append(repr(action()))
        except DeliveryError as error:
            chain: BaseException | None = error
            while chain is not None:
                told.append(f"{chain} {chain!r} {chain.__dict__}")
                chain = chain.__cause__ or chain.__context__

    also(registered.sent)
    registered.gate.set(refuseKnown=True)
    also(registered.sent)
    for control in ({"fault": {"status": 400, "error": "invalid_client"}}, {"fault": "garbage"}, {"fault": None}):
        registered.gate.set(refuseKnown=True, **control)
        also(lambda: ehr.reach(CALLER))
        also(lambda: ehr.check(CALLER, ehr.wanted("auto")))
        also(lambda: (ehr, ehr.sender(CALLER), authentication(ehr), web_client(ehr, 5)))
        also(lambda: vars(smart.tokens_of(ehr, lambda: True)))
    secrets = registered.gate.secrets()
    assert len(secrets) > 5
    everything = "\n".join(
        [*told, *(f"{record.getMessage()} {record.__dict__}" for record in caplog.records), *capsys.readouterr()]
    )
    assert not [one for one in secrets if one in everything]
    assert "PRIVATE KEY" not in everything


# --- certificates ---


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def running_tls_gate(certificates: Certificates) -> Iterator[OAuthServer]:
    with running_oauth_server(certificates) as server:
        yield server


@dataclass(frozen=True)
class OverTls:
    """An EHR and a PACS behind one server that wants a certificate of the node, and a token."""

    registered: Registered
    certificates: Certificates
    pacs: Orthanc
    ehr: FhirServer

    def web(self, kind: str, **settings: Any) -> FhirDestination | DicomWebDestination:
        """Return the destination; it trusts the right authority and shows the right certificate unless said else."""
        gate, shown = self.registered.gate, self.certificates.modality
        gate.set(target=self.pacs.http_url if kind == "dicomweb" else self.ehr.url.removesuffix("/fhir/R4"))
        values: dict[str, Any] = {
            "name": "there", "kind": kind, "client_id": "ainode", "private_key": self.registered.file,
            "url": f"{gate.url}/{'dicom-web' if kind == 'dicomweb' else 'fhir/R4'}", "ca": self.certificates.ca,
            "client_certificate": shown.certificate, "client_certificate_key": shown.private_key, **settings,
        }  # fmt: skip
        return DicomWebDestination(**values) if kind == "dicomweb" else FhirDestination(**values)

    def item(self, kind: str) -> Outgoing:
        folder = self.registered.folder
        return outgoing(folder, "mask", ArtifactKind.SEGMENTATION) if kind == "dicomweb" else stored(folder)

    def sent(self, one: FhirDestination | DicomWebDestination) -> DeliveryError | None:
        try:
            (sent,) = one.sender(CALLER).send([self.item(one.kind)])
        except DeliveryError as error:
            return error
        return sent.error


@pytest.fixture
def over_tls(
    running_tls_gate: OAuthServer, certificates: Certificates, pacs: Orthanc, fhir_server: FhirServer, tmp_path: Path
) -> OverTls:
    running_tls_gate.reset()
    fhir_server.add_patient(PATIENT_SYSTEM, PATIENT_ID)
    for identity in (certificates.modality, certificates.rogue):
        identity.private_key.chmod(0o600)
    return OverTls(Registered(running_tls_gate, tmp_path), certificates, pacs, fhir_server)


@pytest.mark.parametrize("kind", ["fhir", "dicomweb"])
def test_results_go_to_a_server_of_an_own_authority_that_wants_the_nodes_certificate(
    over_tls: OverTls, kind: str
) -> None:
    one = over_tls.web(kind)
    assert over_tls.sent(one) is None
    one.reach(CALLER)
    answer = one.check(CALLER, one.wanted("auto"))
    assert answer.ok, answer
    if isinstance(one, DicomWebDestination):
        query = one.identity_query(CALLER)
        assert query is not None
        assert list(query.whose("1.2.3")) == []


def same_file(identity: Identity) -> dict[str, Any]:
    return {"client_certificate": identity.certificate, "client_certificate_key": identity.private_key}


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("another authority", "shows a certificate that does not hold: .*Check who signed it"),
        ("the system's", "shows a certificate that does not hold: .*Check who signed it"),
        ("nothing shown", "client_certificate"),
        ("no file", "cannot be called: No such file or directory. Check ca .*, client_certificate "),
        ("no certificate", "cannot be called: .*Check ca "),
    ],
)
@pytest.mark.parametrize("kind", ["fhir", "dicomweb"])
def test_a_wrong_certificate_is_told_by_sender_probe_query_and_doctor_and_parks_nothing(
    over_tls: OverTls, kind: str, fault: str, told: str
) -> None:
    rogue, junk = over_tls.certificates.rogue, over_tls.registered.folder / "junk.pem"
    junk.write_text("no certificate", encoding="ascii")
    settings: dict[str, dict[str, Any]] = {
        "another authority": {"ca": rogue.certificate},
        "the system's": {"ca": None},
        "nothing shown": {"client_certificate": None, "client_certificate_key": None},
        "no file": {"client_certificate": Path("none.pem")},
        "no certificate": {"ca": junk},
    }
    # With a token of before, so that it is this server that is called first, and not the one that gives tokens.
    for sign_in in ({}, {"client_id": "", "private_key": None}):
        one = over_tls.web(kind, **settings[fault], **sign_in)
        assert re.search(told, whys(over_tls.sent(one), DestinationAway))
        with pytest.raises(DestinationAway, match=told):
            one.reach(CALLER)
        answer = one.check(CALLER, one.wanted("auto"))
        assert not answer.ok
        assert re.search(told, f"{answer.text}. {answer.advice}")
        if isinstance(one, DicomWebDestination):
            query = one.identity_query(CALLER)
            assert query is not None
            with pytest.raises(DestinationAway, match=told):
                query.whose("1.2.3")


@pytest.mark.parametrize("kind", ["fhir", "dicomweb"])
def test_a_server_that_hangs_up_on_a_certificate_is_told_to_be_looked_at_for_it(over_tls: OverTls, kind: str) -> None:
    """As Node.js does, where OpenSSL itself would say why."""
    for sign_in in ({}, {"client_id": "", "private_key": None}):
        one = over_tls.web(kind, **same_file(over_tls.certificates.rogue), **sign_in)
        error = over_tls.sent(one)
        assert isinstance(error, DeliveryDeferred)
        assert "certificates" in str(error)
        assert "certificate" in one.check(CALLER, one.wanted("auto")).advice


def events_over_tls(certificates: Certificates, url: str, timeout_s: float = 60, **settings: Any) -> Sent:
    shown = certificates.modality
    values = {
        "ca": certificates.ca,
        "client_certificate": shown.certificate,
        "client_certificate_key": shown.private_key,
    }
    hook = WebhookDestination(name="hook", kind="webhook", url=url, secret=SECRET, **values | settings)
    (sent,) = hook.sender(Caller("AINODE", timeout_s)).send([OutgoingEvent("evt_1", "{}")])
    return sent


@pytest.fixture
def wants_a_certificate(certificates: Certificates) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=certificates.ca)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(certificates.server.certificate, certificates.server.private_key)
    for identity in (certificates.modality, certificates.rogue):
        identity.private_key.chmod(0o600)
    return context


def test_events_go_to_a_receiver_of_an_own_authority_that_wants_the_nodes_certificate(
    certificates: Certificates, wants_a_certificate: ssl.SSLContext
) -> None:
    with drawing_out(TAKEN, wants_a_certificate) as receiver:
        assert events_over_tls(certificates, receiver.url).error is None
        for wrong in (same_file(certificates.rogue), {"ca": None}, {"ca": certificates.rogue.certificate}):
            assert isinstance(events_over_tls(certificates, receiver.url, **wrong).error, DeliveryDeferred)


def test_an_answer_that_is_drawn_out_over_tls_is_not_waited_for(
    certificates: Certificates, wants_a_certificate: ssl.SSLContext
) -> None:
    with drawing_out(WAYS["headers"], wants_a_certificate) as receiver:
        sent = ended(partial(events_over_tls, certificates, receiver.url, timeout_s=1.0), receiver)
    assert "no answer for 1 s" in str(sent.error)  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", ["dicomweb", "orthanc"])
def test_a_source_is_called_with_the_certificates_of_its_settings(over_tls: OverTls, kind: str) -> None:
    def source(**settings: Any) -> Source:
        gate = over_tls.registered.gate
        one = {"name": "there", "kind": kind, "url": gate.url, "ca": over_tls.certificates.ca, **settings}
        return make_sources(SiteSettings.model_validate({"source": [one]}))["there"]

    shown = same_file(over_tls.certificates.modality)
    for settings, told in (({}, "client_certificate"), ({"ca": Path("none.pem")}, "Check ca none.pem")):
        with pytest.raises(SourceUnavailable, match=told):
            source(**settings).find_studies(StudyQuery(patient_id="P"), 1)
    with pytest.raises(SourceRefused, match="401"):  # TLS came about; there is no token for sources
        source(**shown).find_studies(StudyQuery(patient_id="P"), 1)
