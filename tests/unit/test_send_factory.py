"""Which sender a configured destination gets."""

from pathlib import Path

import httpx
import pytest

from dicom_node.config.outgoing import DestinationSettings
from dicom_node.core.errors import SettingsError
from dicom_node.deliver.factory import authentication, make_sender
from dicom_node.deliver.kinds.dicom import DicomSender
from dicom_node.deliver.kinds.dicomweb import DicomWebSender
from dicom_node.deliver.kinds.fhir import FhirSender
from dicom_node.deliver.kinds.folder import FolderSender
from dicom_node.dimse.negotiation import Remote


def destination(kind, **values):
    return DestinationSettings.model_validate({"name": "there", "kind": kind, **values})


@pytest.mark.parametrize(
    ("configured", "kind"),
    [
        (destination("dicom", ae_title="PACS", host="pacs.local"), DicomSender),
        (destination("dicomweb", url="https://pacs.local/dicom-web"), DicomWebSender),
        (destination("fhir", url="https://ehr.local/fhir"), FhirSender),
        (destination("folder", path="out"), FolderSender),
    ],
)
def test_every_kind_of_destination_has_its_sender(configured, kind):
    assert isinstance(make_sender(configured, "AINODE", 5), kind)


def test_a_dicom_destination_keeps_who_calls_whom():
    configured = destination("dicom", ae_title="PACS", host="pacs.local", port=11112)
    assert make_sender(configured, "AINODE", 5) == DicomSender(Remote("pacs.local", 11112, "PACS", "AINODE", 5))


def test_a_folder_destination_keeps_its_path():
    assert make_sender(destination("folder", path="out"), "AINODE", 5) == FolderSender(Path("out"))


@pytest.mark.parametrize(
    ("values", "header"),
    [
        ({"token": "secret"}, "Bearer secret"),
        ({"username": "node", "password": "pass"}, "Basic bm9kZTpwYXNz"),
        ({}, None),
    ],
)
def test_the_login_is_sent_as_configured(values, header):
    auth = authentication(destination("dicomweb", url="https://pacs.local", **values))
    request = httpx.Request("GET", "https://pacs.local")
    if auth is not None:
        request = next(auth.sync_auth_flow(request))
    assert request.headers.get("Authorization") == header


@pytest.mark.parametrize("kind", ["fhir", "dicomweb"])
@pytest.mark.parametrize(
    "url", ["pacs.local/dicom-web", "ftp://pacs.local", "https://", "https://me:secret@pacs.local", "http://pacs:port"]
)
def test_an_address_that_cannot_be_one_is_refused_without_its_secrets(kind, url):
    with pytest.raises(SettingsError, match="Destination 'there': url") as raised:
        make_sender(destination(kind, url=url), "AINODE", 5)
    assert "secret" not in str(raised.value)
