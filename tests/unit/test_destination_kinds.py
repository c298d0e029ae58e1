"""The kinds of destination: each has its settings, its sender, and its line in the table."""

from __future__ import annotations

import base64
import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import httpx
import pytest
from pydantic import ValidationError

from dicom_node.config.incoming import DicomTlsSettings
from dicom_node.core.entities import MediaType
from dicom_node.core.outputs.capability_match import in_words
from dicom_node.deliver import kinds
from dicom_node.deliver.connections.mllp import MllpPeer
from dicom_node.deliver.connections.web import authentication
from dicom_node.deliver.kinds import AnyDestination
from dicom_node.deliver.kinds.kind import Caller, DestinationKind
from dicom_node.deliver.senders.dicom import DicomSender
from dicom_node.deliver.senders.dicomweb import DicomWebSender
from dicom_node.deliver.senders.fhir import FhirSender
from dicom_node.deliver.senders.folder import FolderSender
from dicom_node.deliver.senders.hl7 import Hl7Sender
from dicom_node.deliver.senders.webhook import WebhookSender
from dicom_node.dimse.negotiation import Remote, Tls
from dicom_node.fhir.hl7.receiver import Receiver
from dicom_node.retrieve import kinds as source_kinds
from dicom_node.retrieve.kinds import AnySource
from dicom_node.retrieve.kinds.kind import SourceKind
from dicom_node.roles.settings import SiteSettings

CALLER = Caller("AINODE", 5)
SECRET = f"whsec_{base64.b64encode(b'0123456789abcdef01234567').decode()}"
DICOM = {"ae_title": "PACS", "host": "pacs.local"}


def destination(kind: str, **values: Any) -> Any:
    return SiteSettings.model_validate({"destination": [{"name": "there", "kind": kind, **values}]}).destination[0]


@pytest.mark.parametrize(
    ("configured", "sender"),
    [
        (destination("dicom", **DICOM, port=11112), DicomSender(Remote("pacs.local", 11112, "PACS", "AINODE", 5))),
        (destination("dicomweb", url="https://pacs.local/dicom-web"),
         DicomWebSender("https://pacs.local/dicom-web", None, 5)),
        (destination("fhir", url="https://ehr.local/fhir"), FhirSender("https://ehr.local/fhir", None, 5)),
        (destination("folder", path="out"), FolderSender(Path("out"))),
        (destination("webhook", url="https://events.local", secret=SECRET),
         WebhookSender("https://events.local", (b"0123456789abcdef01234567",), None, 5)),
        (destination("hl7", host="ris.local", accession="OBR-3", withdrawal="W", receiving_application="RIS"),
         Hl7Sender(MllpPeer("ris.local", 2575, 5),
                   Receiver(applications=("", "RIS"), accession="OBR-3", withdrawal="W"))),
    ],
)  # fmt: skip
def test_every_kind_has_its_sender(configured: DestinationKind, sender: object) -> None:
    assert configured.sender(CALLER) == sender


def test_what_a_destination_takes_and_is_remembered_under_follows_from_its_kind() -> None:
    there = [
        destination("dicom", **DICOM),
        destination("dicomweb", url="https://pacs.local"),
        destination("fhir", url="https://ehr.local"),
        destination("folder", path="out"),
        destination("hl7", host="ris.local"),
        destination("webhook", url="https://events.local", secret=SECRET),
    ]

    assert [one.takes for one in there] == [
        {MediaType.DICOM}, {MediaType.DICOM}, {MediaType.FHIR}, {MediaType.ANY}, {MediaType.HL7}, set()
    ]  # fmt: skip
    assert [one.address for one in there] == ["PACS@pacs.local:104", "https://pacs.local", "", "", "", ""]
    assert [one.probe(CALLER) is not None for one in there] == [True, False, False, False, False, False]
    assert [one.identity_query(CALLER) is not None for one in there] == [True, True, False, False, False, False]
    assert [one.told_in_events for one in there] == [None, None, None, None, None, ()]


def test_a_receiver_of_messages_is_shown_its_own_certificate_else_that_of_the_node(tmp_path: Path) -> None:
    key = tmp_path / "ris.key"
    key.touch(0o600)
    own = DicomTlsSettings(certificate=Path("node.pem"), private_key=Path("node.key"), ca=Path("node-ca.pem"))
    caller = Caller("AINODE", 5, own)
    secure = {"host": "ris.local", "tls": True}
    shown = {
        "client_certificate": "ris.pem",
        "client_certificate_key": str(key),
        "ca": "ris-ca.pem",
        "tls_server_name": "*",
    }
    assert destination("hl7", **secure).sender(caller).peer.tls == Tls(
        "ris.local", Path("node-ca.pem"), Path("node.pem"), Path("node.key")
    )
    assert destination("hl7", **secure, **shown).sender(caller).peer.tls == Tls(
        "*", Path("ris-ca.pem"), Path("ris.pem"), key
    )
    assert destination("hl7", host="ris.local").sender(caller).peer.tls is None


def test_a_receiver_of_messages_gets_a_pdf_only_where_it_wants_one() -> None:
    plain, with_pdf = (destination("hl7", host="ris.local", pdf=pdf).wanted("auto").outputs for pdf in (False, True))
    assert in_words(plain) == ("ORU",)
    assert in_words(with_pdf) == ("PDF", "ORU")


@pytest.mark.parametrize(("kind", "values"), [("dicom", DICOM), ("dicomweb", {"url": "https://pacs.local"})])
def test_an_archive_is_asked_whose_study_it_has_unless_it_is_not_to_be(kind: str, values: dict[str, Any]) -> None:
    assert destination(kind, **values).check_identity == "auto"
    assert destination(kind, **values, check_identity="none").identity_query(CALLER) is None
    with pytest.raises(ValidationError, match="check_identity"):
        destination(kind, **values, check_identity="always")


@pytest.mark.parametrize(
    ("package", "base", "table"),
    [(kinds, DestinationKind, AnyDestination), (source_kinds, SourceKind, AnySource)],
)
def test_every_kind_that_has_a_module_has_its_line_in_the_table(package: Any, base: type, table: Any) -> None:
    assert kinds_without_a_line(package, base, table) == []


def kinds_without_a_line(package: Any, base: type, table: Any) -> list[str]:
    """Names of the kinds defined in the modules of a package and left out of its table."""
    modules = [
        importlib.import_module(f"{package.__name__}.{one.name}") for one in pkgutil.iter_modules(package.__path__)
    ]
    found = {value for module in modules for value in vars(module).values() if isinstance(value, type)}
    of_a_kind = {one for one in found if issubclass(one, base) and get_args(one.model_fields["kind"].annotation)}
    union, _discriminator = get_args(table)
    return sorted(one.__name__ for one in of_a_kind - set(get_args(union)))


@pytest.mark.parametrize(
    ("values", "header"),
    [
        ({"token": "secret"}, "Bearer secret"),
        ({"username": "node", "password": "pass"}, "Basic bm9kZTpwYXNz"),
        ({}, None),
    ],
)
def test_the_login_is_sent_as_configured(values: dict[str, str], header: str | None) -> None:
    auth = authentication(destination("dicomweb", url="https://pacs.local", **values))
    request = httpx.Request("GET", "https://pacs.local")
    if auth is not None:
        request = next(auth.sync_auth_flow(request))
    assert request.headers.get("Authorization") == header


@pytest.mark.parametrize("kind", ["fhir", "dicomweb"])
@pytest.mark.parametrize(
    "url",
    ["pacs.local/dicom-web", "ftp://pacs.local", "https://", "https://me:secret@pacs.local", "http://pacs:port", ""],
)
def test_an_address_that_cannot_be_one_is_refused_without_its_secrets(kind: str, url: str) -> None:
    with pytest.raises(ValidationError, match="it must begin with https://") as refused:
        destination(kind, url=url)
    assert "secret" not in str(refused.value)


def test_reading_settings_loads_nothing_that_a_sender_needs() -> None:
    heavy = ("httpx", "pynetdicom", "pydicom", "pyorthanc", "sqlalchemy", "numpy", "hl7")
    code = f"import sys, dicom_node.roles.settings; print([one for one in {heavy} if one in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("kind", "values", "ways"),
    [
        ("dicomweb", {"url": "https://pacs.local"}, "auto, none, query"),
        ("fhir", {"url": "https://ehr.local"}, "auto, none, query"),
        ("folder", {"path": "out"}, "auto, none, query"),
    ],
)
def test_a_kind_that_cannot_commit_itself_is_not_asked_to(kind: str, values: dict[str, str], ways: str) -> None:
    with pytest.raises(ValidationError, match=f"verify = 'commitment' cannot be done for kind = '{kind}'.*: {ways}"):
        destination(kind, **values, verify="commitment")


@pytest.mark.parametrize(
    ("verify", "asks_to_commit", "queries"),
    [("auto", True, True), ("commitment", True, False), ("query", False, True)],
)
def test_a_pacs_is_asked_as_its_settings_say(verify: str, asks_to_commit: bool, queries: bool) -> None:
    questions = destination("dicom", **DICOM, verify=verify).proof_questions(CALLER)
    assert (questions.commit is not None, questions.has is not None) == (asks_to_commit, queries)


@pytest.mark.parametrize("kind", ["dicom", "dicomweb", "folder"])
def test_who_is_not_to_be_asked_for_proof_is_not(kind: str) -> None:
    values = {"dicom": DICOM, "dicomweb": {"url": "https://pacs.local"}, "folder": {"path": "out"}}[kind]
    assert destination(kind, **values, verify="none").proof_questions(CALLER) is None
